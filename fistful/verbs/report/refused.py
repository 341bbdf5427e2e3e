"""Pictures that got no label: why, and, where their tars are at hand, what they look like."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.draw import mix_all
from fistful.bow.store.dead_letters import DEAD_LETTER_SCHEMA, Refused
from fistful.bow.store.identity import sha256_hex
from fistful.bow.store.tables import read_table
from fistful.bow.store.tar_samples import PICTURES, TarSample, read_tar_samples

from ...errors import UsageError
from .inputs import DataFolder
from .report_config import ReportConfig
from .sample_pictures import MAX_FILES, SALT, Picture, thumbnail


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A refused picture."""

    place: str
    reason: str
    detail: str
    name: str | None
    picture: Picture | None


@dataclasses.dataclass(frozen=True, slots=True)
class Refusals:
    """Refused pictures of a folder."""

    by_reason: tuple[tuple[str, int], ...]
    examples: tuple[Refusal, ...]


def refused_of(data: DataFolder, truth: dict[str, str], config: ReportConfig) -> Refusals:
    """Count refused pictures and draw some.

    Raises:
        UsageError: If the folder of the pictures is named but not there.
    """
    if config.images and not Path(config.images).is_dir():
        raise UsageError(f"--images {config.images}: no such folder; expected the folder of tars that fistful label read")
    chosen = _draw(data.path, config.samples, config.seed)
    pictures: dict[str, dict[str, Picture]] = {}
    for name in {row["file"] for row in chosen} if config.images else set():
        keys = {row["place"] for row in chosen if row["file"] == name}
        pictures[name] = _pictures(Path(config.images or "").absolute(), name, keys)
    counts = Counter(data.stats.get("refused", {}))
    return Refusals(
        by_reason=tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        examples=tuple(
            Refusal(row["place"], row["reason"], row["detail"], truth.get(row["place"]), pictures.get(row["file"], {}).get(row["place"]))
            for row in chosen
        ),
    )


def _draw(folder: Path, n: int, seed: int) -> list[dict[str, Any]]:
    """Draw n dead letters; those without a label first, as others say nothing of the labeller."""
    rows: list[dict[str, Any]] = []
    for path in sorted((folder / "dead_letters").glob("*.parquet"))[:MAX_FILES]:
        rows += read_table(path, DEAD_LETTER_SCHEMA).select(["reason", "file", "place", "detail"]).to_pylist()
    draws = [int(mix_all(seed, SALT, int(sha256_hex(f"{row['file']}/{row['place']}".encode(errors="replace"))[:16], 16))) for row in rows]
    order = np.lexsort((np.array(draws, np.uint64), np.array([row["reason"] != "no_label" for row in rows], bool)))
    return [rows[i] for i in order[:n]]


def _pictures(folder: Path, name: str, keys: set[str]) -> dict[str, Picture]:
    """Return the pictures of some samples of a tar; those that cannot be read are left out."""
    pictures: dict[str, Picture] = {}
    tar = (folder / name).resolve()
    if tar.suffix != ".tar" or not tar.is_relative_to(folder.resolve()) or not tar.is_file():
        return pictures
    with open(tar, "rb") as file:
        for sample in read_tar_samples(file, lambda sample: sample, contents=PICTURES):
            # a refusal needs no word here: label has told of it already
            if isinstance(sample, TarSample) and sample.key in keys and sample.picture:
                _add(pictures, sample.key, sample.contents[sample.picture])
    return pictures


def _add(pictures: dict[str, Picture], key: str, data: bytes) -> None:
    try:
        pictures[key] = thumbnail(data)
    except Refused:
        return
