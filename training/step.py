"""One step: a batch in, changed weights out, without waiting for the device; what came of it is read some steps later."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .data.loader import Batch
from .distributed import Ranks
from .model.model import Model
from .optimise import clip_gradients, learning_rate, update
from .passes import Objectives, compute_gradients, read_buffers, write_buffers
from .train_config import TrainConfig

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: more makes training unstable (Radford et al. 2021, section 2.5)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What all steps of a run have in common."""

    config: TrainConfig
    device: str
    towers: nn.Module
    """The model's `Towers`; of several processes, in DistributedDataParallel."""
    ranks: Ranks


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """A step as the device left it: nobody has waited for its figures."""

    step: int
    rows: np.ndarray
    lr: float
    losses: tuple[str, ...]
    figures: torch.Tensor
    """The losses, the gradient's length, whether any rank was asked to stop, the temperature."""


@dataclasses.dataclass(frozen=True, slots=True)
class Noted:
    """What came of a step."""

    step: int
    rows: np.ndarray
    values: dict[str, float | None]
    """What is to note: learning rate, losses, temperature; None for what is no number."""
    is_learnt: bool
    """False where the loss was no number, so that nothing was changed."""
    is_last: bool
    """Whether any rank was asked to stop."""


def step(
    model: Model, batch: Batch, objectives: Objectives, optimizer: torch.optim.Optimizer, setting: Setting, stop: threading.Event
) -> Taken:
    """Change the weights by one batch; a loss that is no number changes nothing, which the device decides by itself."""
    config, ranks = setting.config, setting.ranks
    model.train()
    lr = learning_rate(config, batch.step)
    for group in optimizer.param_groups:
        group["lr"] = lr
    before = read_buffers(model)
    optimizer.zero_grad(set_to_none=True)
    parts = compute_gradients(setting.towers, model, batch, objectives, config.optimiser.accumulation)
    norm = clip_gradients(config, model)
    asked = torch.full((), float(stop.is_set()), device=norm.device)  # a tensor of a Python number would be copied, which waits
    figures = ranks.mean(torch.stack([*parts.values(), norm, asked]))
    skipped = 1.0 - figures.isfinite().all().float()
    update(optimizer, skipped)
    with torch.no_grad():
        model.scale_parameter.clamp_(0, MAX_LOGIT_SCALE)
        now = {kind: ranks.mean(flat) if kind.is_floating_point else flat for kind, flat in read_buffers(model).items()}
        write_buffers(model, {kind: torch.where(skipped > 0, before[kind], flat) for kind, flat in now.items()})
    for _, objective in objectives.values():
        objective.learnt(skipped)
    temperature = (-model.scale_parameter.detach()).exp()
    return Taken(batch.step, batch.rows, lr, tuple(parts), torch.cat([figures, temperature.reshape(1)]))


def read(taken: Sequence[Taken]) -> list[Noted]:
    """Wait until these steps are done, once, and return what came of each."""
    figures = torch.stack([one.figures for one in taken]).tolist() if taken else []
    return [_noted(one, values) for one, values in zip(taken, figures, strict=True)]


def _noted(taken: Taken, figures: Sequence[float]) -> Noted:
    *losses, norm, asked, temperature = figures
    loss = sum(losses)
    noted = {"loss": loss, **(dict(zip(taken.losses, losses, strict=True)) if len(losses) > 1 else {}), "temperature": temperature}
    values = {"lr": taken.lr, **{name: value if math.isfinite(value) else None for name, value in noted.items()}}
    return Noted(taken.step, taken.rows, values, math.isfinite(loss) and math.isfinite(norm), asked > 0)
