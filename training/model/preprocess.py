"""How pictures are prepared for a model: one description, which training, labels, evaluation and export all follow.

It is open_clip's preprocess_cfg: mean, std, interpolation, resize_mode, fill_color.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fistful.bow.store.model_folder import CONFIG_FILE, read_open_clip_config
from fistful.errors import UsageError

from ..train_config import TrainConfig
from .model import chosen_config

if TYPE_CHECKING:
    from .weights import Pretrained

RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear", "random")
"""open_clip's; random concerns its own training alone, evaluation takes it for bicubic."""
KNOWN = ("mean", "std", "interpolation", "resize_mode", "fill_color")
TIMM_FILE = "config.json"
"""What timm writes beside its weights."""


def default_preprocess() -> dict[str, Any]:
    """Return open_clip's defaults, written out."""
    import open_clip

    return {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }


def preprocess_of(config: TrainConfig, pretrained: Pretrained | None) -> dict[str, Any]:
    """Return how a run prepares pictures: as the weights were trained, else as the folder of --model says, else as open_clip does.

    Raises:
        UsageError: If that is something that training cannot do.
    """
    said: Mapping[str, Any] = {}
    where = f"--model {config.model.model}"
    folder = Path(config.model.model)
    if (folder / CONFIG_FILE).is_file():
        said = read_open_clip_config(folder).get("preprocess_cfg") or {}
    if pretrained is not None:
        where = f"--init {config.model.init}"
        if pretrained.preprocess_cfg is not None:
            said = pretrained.preprocess_cfg
        elif pretrained.vision_cfg is None:
            said = _timm_says(chosen_config(config, pretrained)["vision_cfg"].get("timm_model_name")) or said
    found = default_preprocess() | {key: value for key, value in said.items() if key in KNOWN and value is not None}
    _check(found, said, where)
    return found


def beside_weights(path: Path) -> dict[str, Any] | None:
    """Return what timm's config.json beside a file of weights says of pictures; None if there is none."""
    try:
        about = json.loads((path.parent / TIMM_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    said = about.get("pretrained_cfg") if isinstance(about, dict) else None
    return _from_timm(said) if isinstance(said, dict) else None


def _timm_says(name: str | None) -> dict[str, Any] | None:
    """Return how timm prepares pictures for the weights that it has of an architecture; None where it has none."""
    if name is None:
        return None
    import timm

    found = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return None if found is None else _from_timm(found.to_dict())


def _from_timm(said: Mapping[str, Any]) -> dict[str, Any]:
    """Translate timm's words; its crop_pct has none in open_clip, whose pictures are resized to the very size."""
    mode = {"squash": "squash", "border": "longest"}.get(said.get("crop_mode", ""), "shortest")
    interpolation = said.get("interpolation") if said.get("interpolation") in INTERPOLATIONS else None
    numbers = {key: list(said[key]) for key in ("mean", "std") if said.get(key)}
    return {**numbers, "interpolation": interpolation, "resize_mode": mode}


def _check(found: Mapping[str, Any], said: Mapping[str, Any], where: str) -> None:
    """Refuse what training cannot do as the model says."""
    for key, known in (("resize_mode", RESIZE_MODES), ("interpolation", INTERPOLATIONS)):
        if found[key] not in known:
            raise UsageError(f"{where}: its preprocess_cfg says {key} {found[key]!r}, expected one of {', '.join(known)}")
    if said.get("mode", "RGB") != "RGB":
        raise UsageError(f"{where}: its preprocess_cfg says mode {said['mode']!r}, expected RGB")
    for key in ("mean", "std"):
        numbers = found[key]
        fine = isinstance(numbers, list | tuple) and len(numbers) == 3 and all(isinstance(n, int | float) for n in numbers)
        if not fine or (key == "std" and min(numbers) <= 0):
            raise UsageError(f"{where}: its preprocess_cfg says {key} {numbers!r}, expected three numbers, of a std above 0")
    fill = found.get("fill_color", 0)
    if not isinstance(fill, int) or not 0 <= fill <= 255:
        raise UsageError(f"{where}: its preprocess_cfg says fill_color {fill!r}, expected a whole number, 0 to 255")
