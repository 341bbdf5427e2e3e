"""A model's folder: what its files are called, and where it lies. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fistful.errors import DataError, UsageError

from .files import hash_file, read_json
from .folders import folder_at
from .identity import canonical_json, sha256_hex
from .manifest import CONFIG, MANIFEST

CONFIG_FILE = "open_clip_config.json"
"""open_clip's description of a model."""
WEIGHTS_FILE = "open_clip_model.safetensors"
"""Weights as open_clip reads them."""
OWN_WEIGHTS_FILE = "fistful.safetensors"
"""Tensors that open_clip has no place for."""
OWN_FILE = "fistful.json"
"""What only we say of a model; written last."""
STUDENT_FILE = "student.safetensors"
"""Weights of a student, which has no image tower."""
CARD_FILE = "README.md"
"""What it is, for people and for the hub."""
FOLDER, BEST_FOLDER = "model", "best"
"""Of a run: the last model, and the best of those evaluated."""


def read_open_clip_config(folder: Path) -> dict[str, Any]:
    """Return open_clip's description of a model, which others may have written: model_cfg, and perhaps preprocess_cfg.

    Raises:
        DataError: If it is none.
    """
    config = read_json(folder / CONFIG_FILE)
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict):
        raise DataError(f"{folder / CONFIG_FILE}: has no model_cfg, expected an open_clip configuration")
    if not isinstance(model.get("vision_cfg"), dict) or not isinstance(model.get("embed_dim"), int):
        raise DataError(f"{folder / CONFIG_FILE}: its model_cfg has no vision_cfg, or no embed_dim; expected an open_clip configuration")
    if not isinstance(config.get("preprocess_cfg") or {}, dict):
        raise DataError(f"{folder / CONFIG_FILE}: its preprocess_cfg is no object, expected an open_clip configuration")
    return config


def fingerprint_of(folder: Path) -> str:
    """Return SHA-256 over names, sizes and hashes of the files that make up a model: configuration, weights, tokenizer, vocabulary."""
    kinds = (".safetensors", ".json", ".bin", ".pth", ".pt", ".parquet", ".txt", ".model")
    return sha256_hex(canonical_json({p.name: hash_file(p) for p in folder.iterdir() if p.suffix in kinds}))


def is_student(folder: Path) -> bool:
    """Return whether a model's folder is that of a student (`fistful distill`)."""
    return (folder / STUDENT_FILE).exists()


def is_tuned(folder: Path) -> bool:
    """Return whether a model's folder has only what another model was tuned by (`fistful train --tune`)."""
    return (folder / OWN_FILE).exists() and "tuned" in read_json(folder / OWN_FILE)


def split_pair(spec: str) -> tuple[str, str] | None:
    """Return what STUDENT+TEACHER or TUNED+BASE names; None for any other spec.

    Pictures are embedded with a student's teacher; a tuned model is put beside what it was tuned from.

    Raises:
        UsageError: If the second is missing, stands first, or belongs to a model that needs none.
    """
    pairs = [(spec[:place], spec[place + 1 :]) for place, sign in enumerate(spec) if sign == "+"]
    if not pairs or Path(spec).exists():
        return None
    found = next((pair for pair in pairs if _names(is_student, pair[0]) or _names(is_tuned, pair[0])), None)
    if found is None:
        for first, second in pairs:
            for kind, name in ((is_student, "student"), (is_tuned, "tuned model")):
                if _names(kind, second):
                    raise UsageError(f"{spec}: the {name} stands first; {second}+{first}")
            if _names(_is_model, first):
                raise UsageError(f"{spec}: {first} is a whole model, which needs no other beside it; leave +{second} out")
    if found is not None and not found[1]:
        raise UsageError(f"{spec}: has nothing behind +; expected STUDENT+TEACHER, or TUNED+BASE")
    return found


def _is_model(folder: Path) -> bool:
    return (folder / OWN_FILE).exists() or (folder / CONFIG_FILE).exists()


def _names(kind: Callable[[Path], bool], spec: str) -> bool:
    return bool(spec) and any(map(kind, (Path(spec) / FOLDER, Path(spec))))


def find_folder(spec: str) -> Path | None:
    """Return the folder of a model that a spec names, None if it names a function; of STUDENT+TEACHER it is the teacher's.

    Raises:
        UsageError: If it is a folder without a model, or a run that is not finished.
    """
    if (parts := split_pair(spec)) is not None:
        first = find_folder(parts[0])
        return first if first is not None and is_tuned(first) else find_folder(parts[1])
    path = folder_at(spec.removeprefix("local-dir:"))
    for folder in (path / FOLDER, path):
        if (folder / OWN_FILE).exists() or (folder / CONFIG_FILE).exists():
            whole = (folder / OWN_FILE).exists() or not (folder.parent / "metrics.jsonl").exists()  # a run writes this file last
            if folder.name == FOLDER and not whole and not (folder.parent / MANIFEST).exists():
                raise UsageError(f"{spec}: training is not finished (its model is not whole); the same fistful train goes on")
            return folder
    config = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    if isinstance(config, dict) and config.get("verb") in ("train", "distill"):
        raise UsageError(f"{spec}: training is not finished (no model yet); the same fistful {config['verb']} goes on")
    if path.exists():
        raise UsageError(f"{spec}: has no model (neither {OWN_FILE} nor {CONFIG_FILE}); expected a run folder or an open_clip folder")
    if ":" not in spec.partition(" ")[0]:
        raise UsageError(f"{spec}: no such folder; expected a run folder, an open_clip folder, or package.module:function")
    return None
