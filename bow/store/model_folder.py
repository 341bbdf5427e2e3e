"""A model's folder: what its files are called, and where it lies. No torch here."""

from __future__ import annotations

from pathlib import Path

from fistful.errors import UsageError

from .files import read_json
from .manifest import CONFIG

CONFIG_FILE = "open_clip_config.json"
"""open_clip's description of a model."""
WEIGHTS_FILE = "open_clip_model.safetensors"
"""Weights as open_clip reads them."""
OWN_WEIGHTS_FILE = "fistful.safetensors"
"""Tensors that open_clip has no place for."""
OWN_FILE = "fistful.json"
"""What only we say of a model; written last."""
FOLDER, BEST_FOLDER = "model", "best"
"""Of a run: the last model, and the best of those evaluated."""


def find_folder(spec: str) -> Path | None:
    """Return the folder of a model that a spec names, None if it names a function.

    Raises:
        UsageError: If it is a folder without a model, or a run that is not finished.
    """
    path = Path(spec.removeprefix("local-dir:"))
    for folder in (path / "model", path):
        if (folder / OWN_FILE).exists() or (folder / CONFIG_FILE).exists():
            whole = (folder / OWN_FILE).exists() or not (folder.parent / "metrics.jsonl").exists()  # a run writes this file last
            if folder.name == "model" and not whole and not (folder.parent / "manifest.json").exists():
                raise UsageError(f"{spec}: training is not finished (its model is not whole); the same fistful train goes on")
            return folder
    config = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    if isinstance(config, dict) and config.get("verb") == "train":
        raise UsageError(f"{spec}: training is not finished (no model yet); the same fistful train goes on")
    if path.exists():
        raise UsageError(f"{spec}: has no model (neither {OWN_FILE} nor {CONFIG_FILE}); expected a run folder or an open_clip folder")
    if ":" not in spec.partition(" ")[0]:
        raise UsageError(f"{spec}: no such folder; expected a run folder, an open_clip folder, or package.module:function")
    return None
