"""Features of a frozen image tower: computed once for each data folder and tower, then read instead of pictures.

They lie in FOLDER/ID/00000.npy, one file for each unit of the data, rows in the order of the index.
ID is made of all that decides them, so several runs can share a folder.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fistful.bow.store.files import atomic_file
from fistful.bow.store.identity import canonical_json, sha256_hex, versions_of
from fistful.errors import Interrupted
from fistful.progress import progress_bar

from ..model.model import Model, normalise
from ..model.tokens import ROWS
from .pictures import Pictures
from .samples import Samples

if TYPE_CHECKING:
    from ..loop import Trainer

KIND = np.float16
"""Half the space; a feature's rounding, 1 in 2,000, is far below what separates pictures."""
OPEN_TABLES = 200
"""Units mapped at a time: each holds a file open, and systems commonly allow 1,024. One that is still read stays until it was."""
FORMAT = 2
"""Part of every key: another way to compute features leaves older files behind."""
PACKAGES = ("torch", "timm", "open_clip_torch", "pillow", "simplejpeg")
"""Whose versions decide what comes out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """The samples of one unit of one data folder."""

    folder: int
    unit: int
    rows: np.ndarray
    path: Path


class Features:
    """Features by row; those of broken pictures are replaced as pictures are."""

    def __init__(self, parts: list[Part], n_rows: int, pictures: Pictures) -> None:
        self._table = functools.lru_cache(OPEN_TABLES)(lambda number: np.load(parts[number].path, mmap_mode="r", allow_pickle=False))
        self._part, self._place = np.empty(n_rows, np.int32), np.empty(n_rows, np.int64)
        for number, part in enumerate(parts):
            self._part[part.rows], self._place[part.rows] = number, np.arange(len(part.rows))
        self._pictures = pictures

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, or those in the place of broken ones, and their features, (n, F)."""
        found = self._read(rows)
        broken = np.isnan(found[:, 0])
        if broken.any():
            rows = rows.copy()
            rows[broken] = [self._pictures.get(int(row))[0] for row in rows[broken]]
            found[broken] = self._read(rows[broken])
        return rows, found

    def _read(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), self._table(0).shape[1]), KIND)
        parts = self._part[rows]
        for number in np.unique(parts):
            here = parts == number
            out[here] = self._table(number)[self._place[rows[here]]]
        return out


def features_of(trainer: Trainer, folder: Path, stopped: Callable[[], bool]) -> Features:
    """Compute what is not there yet, each rank some units, and open all.

    Raises:
        Interrupted: If `stopped` says so between two units; what is there stays.
    """
    model, samples, pictures, ranks = trainer.model, trainer.samples, trainer.loader.pictures, trainer.ranks
    parts = list_parts(samples, folder, decided_by(trainer))
    model.eval()
    mine = parts[ranks.rank :: ranks.size]
    with progress_bar("features", sum(len(part.rows) for part in mine), trainer.config.progress and ranks.rank == 0) as update:
        done = 0
        for part in mine:
            if stopped():
                raise Interrupted(f"{trainer.run}: stopped while computing features; the same command goes on from there")
            if not part.path.exists():
                _write(part, _compute(trainer, part, lambda n, done=done: update(done + n, "pictures")))
            done += len(part.rows)
    ranks.wait()
    return Features(parts, len(samples), pictures)


def decided_by(trainer: Trainer) -> str:
    """Return SHA-256 over all that decides features but the data: tower, preparation and decoding of pictures, device, threads, versions.

    Precision is not among it: features are computed in float32 whatever the run's.
    """
    config = trainer.config
    how = {"decode": config.decode, "device": config.device, "threads": config.threads, "kind": KIND.__name__, "format": FORMAT}
    return sha256_hex(canonical_json({**how, "tower": tower_digest(trainer.model, trainer.preprocess), "versions": versions_of(*PACKAGES)}))


def tower_digest(model: Model, preprocess: dict[str, Any]) -> str:
    """Return SHA-256 over the image tower's shape, weights and preparation of pictures, without what is trained."""
    digest = hashlib.sha256(canonical_json({"vision_cfg": model.shape.model_cfg["vision_cfg"], "preprocess": preprocess}))
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    for name, tensor in sorted(model.image_tower.state_dict(keep_vars=True).items()):
        if id(tensor) not in trained:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def list_parts(samples: Samples, folder: Path, decided: str) -> list[Part]:
    """Return the units of the data and where their features lie."""
    parts = []
    for number, fingerprint in enumerate(samples.fingerprints):
        name = sha256_hex(f"{decided} {fingerprint}".encode())[:16]
        rows = np.flatnonzero(samples.folder == number)
        units = samples.unit[rows]
        parts += [Part(folder=number, unit=int(u), rows=rows[units == u], path=folder / name / f"{u:05d}.npy") for u in np.unique(units)]
    return parts


def _compute(trainer: Trainer, part: Part, update: Callable[[int], None]) -> np.ndarray:
    """Return features (n, F); NaN where a picture is broken."""
    pictures, found = trainer.loader.pictures, []
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(trainer.config.decoders) as decoders, torch.inference_mode():

        def load(start: int) -> list[np.ndarray | None]:
            return list(decoders.map(pictures.picture, part.rows[start : start + ROWS].tolist()))

        batch = ahead.submit(load, 0)
        for start in range(0, len(part.rows), ROWS):
            images = batch.result()
            if start + ROWS < len(part.rows):
                batch = ahead.submit(load, start + ROWS)
            found.append(_of_batch(trainer, images))
            update(start + len(images))
    return np.concatenate(found)


def _of_batch(trainer: Trainer, images: list[np.ndarray | None]) -> np.ndarray:
    size, preprocess = trainer.loader.size, trainer.preprocess
    filled = np.zeros((ROWS, size, size, 3), np.uint8)
    for place, image in enumerate(images):
        if image is not None:
            filled[place] = image
    batch = normalise(torch.from_numpy(filled).to(trainer.device), preprocess["mean"], preprocess["std"])
    out = trainer.model.frozen_features(batch).float().cpu().numpy()[: len(images)].astype(KIND)
    out[[place for place, image in enumerate(images) if image is None]] = np.nan
    return out


def _write(part: Part, features: np.ndarray) -> None:
    with atomic_file(part.path.parent, part.path.name) as file:
        np.lib.format.write_array(file, features, allow_pickle=False)  # pyright: ignore[reportArgumentType]
