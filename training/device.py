"""Where to compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from fistful.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]


def choose_device(asked: str) -> str:
    """Return cpu or cuda; auto is a GPU if there is one.

    Raises:
        UsageError: If a GPU is asked for and there is none, or something else.
    """
    import torch

    if asked not in get_args(Device):
        raise UsageError(f"--device {asked}: expected {', '.join(get_args(Device))}")
    if asked != "cpu" and torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UsageError("--device cuda: found no GPU that torch can use; use --device cpu")
    return "cpu"


def device_named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a result, with its (chosen) device only where it is a GPU, whose last digits differ from a CPU's."""
    return {name: value for name, value in values.items() if (name, value) != ("device", "cpu")}
