"""One step: a batch in, changed weights out. Shapes: B samples, D embedding, C channels."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Mapping
from typing import Any

import torch

from .data.loader import Batch, Text
from .distributed import Ranks
from .losses import Objective, Seen
from .model.model import Model, normalise
from .optimise import clip_gradients, learning_rate
from .train_config import TrainConfig

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: more makes training unstable (Radford et al. 2021, section 2.5)."""

Objectives = Mapping[str, tuple[float, Objective]]
"""By name, each with its weight."""
Embedded = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""Images (B, D), texts (B, D), channels (B, C); None for what nothing looks at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What all steps of a run have in common."""

    config: TrainConfig
    device: str
    preprocess: dict[str, Any]
    """`mean` and `std` of the pictures' channels."""
    ranks: Ranks


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What came of a step."""

    values: dict[str, float | None]
    """What is to note: learning rate, losses, temperature; None for what is no number."""
    is_learnt: bool
    """False where the loss was no number, so that nothing was changed."""
    is_last: bool
    """Whether any rank was asked to stop."""


def step(
    model: Model, batch: Batch, objectives: Objectives, optimizer: torch.optim.Optimizer, setting: Setting, stop: threading.Event
) -> Taken:
    """Change the weights by one batch; a loss that is no number changes nothing."""
    config, ranks = setting.config, setting.ranks
    model.train()
    lr = learning_rate(config, batch.step)
    for group in optimizer.param_groups:
        group["lr"] = lr
    buffers = [buffer.clone() for buffer in model.buffers()]
    optimizer.zero_grad(set_to_none=True)
    parts = compute_gradients(model, batch, objectives, setting)
    ranks.average_gradients(model.parameters())
    norm = clip_gradients(config, model)
    of_this_rank = torch.stack([*parts.values(), norm, torch.tensor(float(stop.is_set()), device=norm.device)])
    *losses, norm_of_all, asked = ranks.mean(of_this_rank).tolist()
    loss = sum(losses)
    is_learnt = math.isfinite(loss) and math.isfinite(norm_of_all)
    if is_learnt:
        optimizer.step()
        with torch.no_grad():
            model.scale_parameter.clamp_(0, MAX_LOGIT_SCALE)
            ranks.average_buffers(model)
        for _, objective in objectives.values():
            objective.learnt()
    else:
        _put_back(model, buffers)
    noted = {"loss": loss, **(dict(zip(parts, losses, strict=True)) if len(parts) > 1 else {})}
    noted["temperature"] = float((-model.scale_parameter.detach()).exp())
    values = {"lr": lr, **{name: value if math.isfinite(value) else None for name, value in noted.items()}}
    return Taken(values, is_learnt, asked > 0)


def compute_gradients(model: Model, batch: Batch, objectives: Objectives, setting: Setting) -> dict[str, torch.Tensor]:
    """Compute the weighted losses of a batch by name, and their gradients; in parts if so asked.

    In parts, embeddings of all samples are computed first, without a graph; the losses say how they should
    change; then each part is computed again and told so (GradCache, Gao et al. 2021, arXiv 2101.06983).
    """
    n, device = setting.config.optimiser.accumulation, setting.device
    if n == 1:
        return _backward(compute_losses(model, batch, embed(model, batch.images, batch.text, setting), objectives, device))
    buffers = [buffer.clone() for buffer in model.buffers()]
    found, random = [], []
    with torch.no_grad():
        for images, text in batch.parts(n):
            random.append(get_random_state(device))
            found.append(embed(model, images, text, setting))
    _put_back(model, buffers)
    whole: Any = [None if kind[0] is None else torch.cat(kind).requires_grad_() for kind in zip(*found, strict=True)]
    losses = _backward(compute_losses(model, batch, tuple(whole), objectives, device))
    for (start, stop), (images, text), state in zip(batch.edges(n), batch.parts(n), random, strict=True):
        set_random_state(device, state)  # dropout drops the same again
        again = embed(model, images, text, setting)
        wanted = [(now, all_.grad[start:stop]) for now, all_ in zip(again, whole, strict=True) if now is not None and now.requires_grad]
        if wanted:
            tensors, gradients = zip(*wanted, strict=True)
            torch.autograd.backward(tensors, gradients)
    return losses


def embed(model: Model, images: torch.Tensor, text: Text, setting: Setting) -> Embedded:
    """Send samples through the towers; float32 comes out, whatever the towers' precision."""
    config, device = setting.config, setting.device
    images = images.to(device, non_blocking=True)
    frozen = config.model.train_image == "none"
    ready = images.float() if frozen else normalise(images, setting.preprocess["mean"], setting.preprocess["std"])
    with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=config.run.precision == "bf16"):
        if frozen or config.has_head:
            channels_BC, image_BD = model.finish(ready) if frozen else model.image_both(ready)
        else:
            channels_BC, image_BD = None, model.encode_image(ready)
        text_BD = model.encode_text(tuple(part.to(device) for part in text)) if config.has_text else None
    used = image_BD if config.has_text else None, text_BD, channels_BC if config.has_head else None
    return tuple(None if tensor is None else tensor.float() for tensor in used)  # pyright: ignore[reportReturnType]


def compute_losses(model: Model, batch: Batch, embedded: Embedded, objectives: Objectives, device: str) -> dict[str, torch.Tensor]:
    """Return the weighted losses of a batch by name."""
    image_BD, text_BD, channels_BC = embedded
    seen = Seen(
        number_B=torch.from_numpy(batch.rows).to(device),
        weight_B=batch.weights.to(device),
        image_BD=image_BD,
        text_BD=text_BD,
        channels_BC=channels_BC,
        bag_rows=batch.bag_rows.to(device),
        bag_words=batch.bag_words.to(device),
        bag_weights=batch.bag_weights.to(device),
    )
    return {name: weight * objective(model, seen) for name, (weight, objective) in objectives.items()}


def _backward(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    torch.stack(list(losses.values())).sum().backward()
    return {name: loss.detach() for name, loss in losses.items()}


def _put_back(model: Model, buffers: list[torch.Tensor]) -> None:
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)


def get_random_state(device: str) -> list[torch.Tensor]:
    """Return torch's random state on the CPU and, where that is another, on the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device != "cpu" else [])]


def set_random_state(device: str, state: list[torch.Tensor]) -> None:
    """Put back what `get_random_state` returned."""
    torch.set_rng_state(state[0])
    for on_device in state[1:]:
        torch.cuda.set_rng_state(on_device, device)
