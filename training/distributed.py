"""Processes that train together, as torchrun starts them; one alone needs nothing of this.

A rank sees its share of each batch; torch's DistributedDataParallel averages gradients, so that all ranks hold the same weights.
docs/decisions/0033-averaging.md has the reasons.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fistful import errors

TIMEOUT = datetime.timedelta(hours=2)
"""Ranks wait so long for the first, which evaluates alone; a rank that dies is noticed at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Number of the process on its machine, and of its GPU."""

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            distributed.barrier(group=None)

    def by_first(self, function: Callable[[], Any]) -> Any:
        """Let the first rank call a function; every rank returns its value, or raises its error.

        Args:
            function: Returns plain values.
        """
        if self.size == 1:
            return function()
        said: list[Any] = [None, "", ""]
        if self.rank == 0:
            try:
                said[0] = function()
            except errors.FistfulError as error:
                said[1:] = [type(error).__name__, str(error)]
        distributed.broadcast_object_list(said, src=0)
        if said[1]:
            raise getattr(errors, said[1])(said[2])
        return said[0]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the ranks."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
            values /= self.size
        return values

    def together(self, module: nn.Module, unreached: Iterable[str]) -> nn.Module:
        """Return a module whose backward pass averages gradients over the ranks while it still runs; alone, the module itself.

        Args:
            module: What is called in each step.
            unreached: Names of weights in it that get no gradient, which nobody need wait for.
        """
        if self.size == 1:
            return module
        buffers = (name for name, _ in module.named_buffers())  # a step averages them when it is over
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, [*unreached, *buffers])
        return DistributedDataParallel(module, gradient_as_bucket_view=True)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of all ranks, in their order; the gradient of each comes back to its own rank."""
        return rows if self.size == 1 else _Gather.apply(rows, self)  # pyright: ignore[reportReturnType]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        ctx.ranks, ctx.n = ranks, len(rows)
        parts = [torch.empty_like(rows) for _ in range(ranks.size)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        summed = gradient.clone()
        distributed.all_reduce(summed)
        return summed[ctx.ranks.rank * ctx.n : (ctx.ranks.rank + 1) * ctx.n], None


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the other processes that torchrun started, for the block; alone where it started none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(local)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(distributed.get_rank(), size, local)
    finally:
        distributed.destroy_process_group()
