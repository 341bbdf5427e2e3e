"""What a step computes: a batch through the towers, its losses, and their gradients. Shapes: B samples, D embedding, C channels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .data.loader import Batch, Text
from .losses import Objective, Seen
from .model.model import Model, normalise
from .model.places import see, see_frozen
from .train_config import TrainConfig

Objectives = Mapping[str, tuple[float, Objective]]
"""By name, each with its weight."""
Embedded = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""Images (B, D), texts (B, D), channels (B, C), the pictures' places (B, N, C); None for what nothing looks at."""


class Towers(nn.Module):
    """A model's towers as one function of a batch's pictures and texts; what DistributedDataParallel wraps."""

    def __init__(self, model: Model, config: TrainConfig, preprocess: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self._config = model, config
        device = model.scale_parameter.device
        self._mean, self._std = (torch.tensor(preprocess[name], dtype=torch.float32, device=device) for name in ("mean", "std"))

    def forward(self, images: torch.Tensor, text: Text) -> Embedded:
        """Send samples through the towers; float32 comes out, whatever the towers' precision."""
        config, model = self._config, self.model
        frozen = config.model.train_image == "none"
        ready = images.float() if frozen else normalise(images, self._mean, self._std)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.run.precision == "bf16"):
            places_BNC = channels_BC = None
            if frozen or config.has_fusion:
                places_BNC, channels_BC, image_BD = see_frozen(model, ready) if frozen else see(model, ready)
            elif config.has_head:
                channels_BC, image_BD = model.image_both(ready)
            else:
                image_BD = model.encode_image(ready)
            text_BD = model.encode_text(text) if config.has_text else None
        asked = config.has_text, config.has_text, config.has_head or config.has_fusion, config.has_fusion
        used = (part if is_asked else None for part, is_asked in zip((image_BD, text_BD, channels_BC, places_BNC), asked, strict=True))
        return tuple(None if tensor is None else tensor.float() for tensor in used)  # pyright: ignore[reportReturnType]


def compute_gradients(towers: nn.Module, model: Model, batch: Batch, objectives: Objectives, n_parts: int) -> dict[str, torch.Tensor]:
    """Compute the weighted losses of a batch by name, and their gradients; in parts if so asked.

    In parts, embeddings of all samples are computed first, without a graph; the losses say how they should
    change; then each part is computed again and told so (GradCache, Gao et al. 2021, arXiv 2101.06983).

    Args:
        towers: The model's `Towers`, or these in DistributedDataParallel, which then averages the gradients over the processes.
        model: What the losses look at beside embeddings: scale, bias, word head.
        batch: This process' share.
        objectives: What is minimised.
        n_parts: Into how many parts the batch is cut.
    """
    if n_parts == 1:
        return _backward(model, compute_losses(model, batch, towers(batch.images, batch.text), objectives))
    before = read_buffers(model)
    found, random, device = [], [], batch.images.device
    with torch.no_grad():
        for images, text in batch.parts(n_parts):
            random.append(get_random_state(device))
            found.append(towers(images, text))
    write_buffers(model, before)
    whole: Any = [None if kind[0] is None else torch.cat(kind).requires_grad_() for kind in zip(*found, strict=True)]
    with _apart(towers):
        losses = _backward(model, compute_losses(model, batch, tuple(whole), objectives))
    edges = batch.edges(n_parts)
    for (start, stop), (images, text), state in zip(edges, batch.parts(n_parts), random, strict=True):
        is_last = (start, stop) == edges[-1]
        set_random_state(device, state)  # dropout drops the same again
        with contextlib.nullcontext() if is_last else _apart(towers):
            again = towers(images, text)
            wanted = [(now, all_.grad[start:stop]) for now, all_ in zip(again, whole, strict=True) if now is not None and now.requires_grad]
            wanted += _all_that_learn(towers) if is_last else []
            if wanted:
                _go_back(model, *zip(*wanted, strict=True))
    return losses


def _apart(towers: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Let gradients add up in each process while the block runs."""
    return towers.no_sync() if isinstance(towers, DistributedDataParallel) else contextlib.nullcontext()


def _all_that_learn(towers: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each weight that has a gradient by now, and zeros to add to it.

    Gradients are sent when a backward pass has come by each weight; the last part's comes by none that only the losses look at.
    """
    if isinstance(towers, DistributedDataParallel):
        for parameter in towers.parameters():
            if parameter.grad is not None:
                yield parameter, torch.zeros((), dtype=parameter.dtype, device=parameter.device).expand_as(parameter)


def rehearse(towers: nn.Module, model: Model, batch: Batch, objectives: Objectives, n_parts: int) -> None:
    """Go through a batch for nothing.

    DistributedDataParallel sends all gradients of its first backward pass at once; in the next forward pass it lays them out in the
    order in which they came. Sums over more than two processes round by what is sent together, so a run that goes on has to be past
    that, as the one before was.
    """
    before, random = read_buffers(model), get_random_state(batch.images.device)
    compute_gradients(towers, model, batch, objectives, n_parts)
    towers.zero_grad(set_to_none=True)
    with _apart(towers):
        towers(*next(batch.parts(n_parts)))
    write_buffers(model, before)
    set_random_state(batch.images.device, random)


def compute_losses(model: Model, batch: Batch, embedded: Embedded, objectives: Objectives) -> dict[str, torch.Tensor]:
    """Return the weighted losses of a batch by name."""
    image_BD, text_BD, channels_BC, places_BNC = embedded
    seen = Seen(
        number_B=batch.numbers,
        weight_B=batch.weights,
        image_BD=image_BD,
        text_BD=text_BD,
        channels_BC=channels_BC,
        bag_rows=batch.bag_rows,
        bag_words=batch.bag_words,
        bag_weights=batch.bag_weights,
        bag_starts=batch.bag_starts,
        places_BNC=places_BNC,
        readings=batch.readings,
    )
    return {name: weight * objective(model, seen) for name, (weight, objective) in objectives.items()}


def _go_back(model: Model, tensors: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor] | None = None) -> None:
    """Compute gradients; layers that are computed again do not count their batch in the statistics twice."""
    before = read_buffers(model) if model.recomputes else {}
    torch.autograd.backward(tensors, gradients)
    write_buffers(model, before)


def _backward(model: Model, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    _go_back(model, [torch.stack(list(losses.values())).sum()])
    return {name: loss.detach() for name, loss in losses.items()}


def read_buffers(model: nn.Module) -> dict[torch.dtype, torch.Tensor]:
    """Return a copy of a model's batch statistics, those of a kind one after the other: a network has hundreds of small ones."""
    kinds = {buffer.dtype for buffer in model.buffers()}
    return {kind: torch.cat([buffer.flatten() for buffer in model.buffers() if buffer.dtype == kind]) for kind in kinds}


def write_buffers(model: nn.Module, copied: Mapping[torch.dtype, torch.Tensor]) -> None:
    """Put back what `read_buffers` returned."""
    for kind, flat in copied.items():
        buffers = [buffer for buffer in model.buffers() if buffer.dtype == kind]
        parts = flat.split([buffer.numel() for buffer in buffers])
        latest = [part.view(buffer.shape) for part, buffer in zip(parts, buffers, strict=True)]
        torch._foreach_copy_(buffers, latest)  # pyright: ignore[reportPrivateImportUsage]


def get_random_state(device: torch.device) -> list[torch.Tensor]:
    """Return torch's random state on the CPU and, where that is another, on the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type != "cpu" else [])]


def set_random_state(device: torch.device, state: list[torch.Tensor]) -> None:
    """Put back what `get_random_state` returned."""
    torch.set_rng_state(state[0])
    for on_device in state[1:]:
        torch.cuda.set_rng_state(on_device, device)
