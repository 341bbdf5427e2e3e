"""Towers that somebody else trained, and files of weights read without running what is in them."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch

from fistful.errors import DataError, UsageError

UNREADABLE = (RuntimeError, OSError, ValueError, EOFError, pickle.UnpicklingError)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """Towers somebody else trained."""

    image: dict[str, torch.Tensor]
    """Tensors of the image tower, named as in open_clip's (a timm tower's begin with `trunk.`)."""
    vision_cfg: dict[str, Any] | None = None
    """open_clip's description of the image tower; None where `--model` has to say."""
    model_cfg: dict[str, Any] | None = None
    """open_clip's description of the whole model, where the weights have one."""
    text: dict[str, torch.Tensor] | None = None
    """Tensors of the transformer, named as in open_clip's model without `visual.`; None where there is none."""
    preprocess_cfg: dict[str, Any] | None = None
    """mean, std, interpolation, resize_mode that the image tower is used to; None, or what is left out: open_clip's."""
    saw_imagenet_labels: bool | None = None
    """Whether the image tower was trained with ImageNet's labels; None where nobody knows."""

    def fingerprint(self) -> str:
        """Return SHA-256 over names and content of the tensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted({**(self.text or {}), **{f"visual.{k}": v for k, v in self.image.items()}}.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of weights, running nothing that is in it.

    Raises:
        DataError: If it cannot be read.
    """
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        found = type(error).__name__  # torch's advice to run what is in the file would be a bad one
        raise DataError(f"--init {path}: not readable weights ({found}); expected a state dict as torch.save writes it") from None
    found = found.get("state_dict", found.get("model", found)) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise DataError(f"--init {path}: holds no tensors by name, expected a state dict as timm writes it")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        UsageError: If it is missing.
        DataError: If it is broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; is the folder a model that fistful train wrote?") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable safetensors ({error})") from None
