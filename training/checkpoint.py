"""Checkpoints: plain tensors and one JSON text, written whole or not at all, read without running anything."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fistful.bow.store.files import write_bytes
from fistful.errors import DataError

FOLDER = "checkpoints"
BROKEN = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError)
"""What reading a broken checkpoint raises."""


def name_of(step: int) -> str:
    """Return a checkpoint's path in the run folder.

    >>> name_of(1000)
    'checkpoints/step-0000001000.pt'
    """
    return f"{FOLDER}/step-{step:010d}.pt"


def best_name(step: int) -> str:
    """Return the path of the weights that were the best at a step."""
    return f"{FOLDER}/best-{step:010d}.pt"


def save_checkpoint(
    run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, more: Mapping[str, torch.Tensor], about: Mapping[str, Any], keep: int
) -> None:
    """Write the checkpoint of step about["step"] and drop all but the newest `keep`.

    Args:
        run: The run folder.
        model: Its weights are written.
        optimizer: Its moments are written.
        more: Other tensors by name.
        about: Plain values.
        keep: How many checkpoints stay.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        tensors |= {f"optimizer.{names[id(parameter)]}.{key}": value for key, value in state.items()}
    tensors |= {f"more.{name}": tensor for name, tensor in more.items()}
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in sorted(tensors.items())}
    buffer = io.BytesIO()
    torch.save({"about": json.dumps(dict(about), sort_keys=True), "tensors": plain, "random": torch.get_rng_state()}, buffer)
    write_bytes(run, name_of(int(about["step"])), buffer.getvalue())
    for path in list_checkpoints(run)[:-keep]:
        path.unlink()
    _drop_worse(run, about.get("evaluated", []))


def save_weights(run: Path, name: str, model: nn.Module) -> None:
    """Write a model's weights alone."""
    buffer = io.BytesIO()
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in sorted(model.state_dict().items())}
    torch.save({"about": "{}", "tensors": plain}, buffer)
    write_bytes(run, name, buffer.getvalue())


def load_weights(run: Path, name: str, model: nn.Module) -> None:
    """Read what `save_weights` wrote.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        model.load_state_dict(_read(run / name)["tensors"])
    except BROKEN as error:
        raise DataError(f"{run / name}: cannot be read ({type(error).__name__}); remove {run} to train again") from None


def best_step(evaluated: list[list[float]], until: int) -> int | None:
    """Return the step of the best score until a step, the first of equals; None if nothing was evaluated.

    Args:
        evaluated: Pairs of step and score.
        until: A step.
    """
    seen = [(score, -step) for step, score in evaluated if step <= until]
    return -int(max(seen)[1]) if seen else None


def _drop_worse(run: Path, evaluated: list[list[float]]) -> None:
    """Drop weights that were the best once, unless a checkpoint that is kept still goes back to them."""
    wanted = {best_step(evaluated, int(path.stem.partition("-")[2])) for path in list_checkpoints(run)}
    for path in (run / FOLDER).glob("best-*.pt"):
        if int(path.stem.partition("-")[2]) not in wanted:
            path.unlink()


def list_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((run / FOLDER).glob("step-*.pt"))


def remove_all(run: Path) -> None:
    """Remove the checkpoints of a finished run, so that its bytes do not depend on when they were written."""
    if (run / FOLDER).exists():
        for path in (run / FOLDER).glob("*.pt"):
            path.unlink()
        (run / FOLDER).rmdir()


def load_newest(run: Path, belongs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the newest checkpoint that can be read, {} if there is none, and a line for each that cannot.

    Args:
        run: The run folder.
        belongs: Fields that the checkpoint must carry: the run's id and the data's fingerprints.

    Raises:
        DataError: If a checkpoint belongs to another run, or if there are some and none can be read.
    """
    problems = []
    for path in reversed(list_checkpoints(run)):
        try:
            checkpoint = _read(path)
        except BROKEN as error:
            problems.append(f"{path}: cannot be read ({type(error).__name__}), going back to the one before")
            continue
        for field, wanted in belongs.items():
            if checkpoint["about"].get(field) != wanted:
                found = checkpoint["about"].get(field)
                raise DataError(f"{path}: {field} is {found}, expected {wanted}; it belongs to another run, remove it")
        return checkpoint, problems
    if problems:
        raise DataError(f"{run / FOLDER}: none of {len(problems)} checkpoints can be read; remove the folder to start from step 0")
    return {}, problems


def _read(path: Path) -> dict[str, Any]:
    """Check every byte's CRC, then load: torch itself does not notice a changed weight."""
    with zipfile.ZipFile(path) as file:
        broken = file.testzip()
    if broken is not None:
        raise ValueError(f"{broken} does not match its CRC")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return {**checkpoint, "about": json.loads(checkpoint["about"])}


def restore(checkpoint: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Put model, optimizer and torch's random state back to where they were, and return the other tensors by name."""
    tensors: dict[str, torch.Tensor] = checkpoint["tensors"]
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state = optimizer.state_dict()
    order = {id(parameter): i for i, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix) and "." not in k.removeprefix(prefix)}
        if found:
            state["state"][order[id(parameter)]] = {key: _laid_out_as(parameter, value) for key, value in found.items()}
    optimizer.load_state_dict(state)
    torch.set_rng_state(checkpoint["random"])
    return {name.removeprefix("more."): tensor for name, tensor in tensors.items() if name.startswith("more.")}


def _laid_out_as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return a moment in its parameter's memory format: the fused optimiser goes through both in the order of memory."""
    return torch.empty_like(parameter.detach()).copy_(value) if value.shape == parameter.shape else value
