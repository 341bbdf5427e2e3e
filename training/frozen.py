"""A frozen image tower's features, computed once for each data folder and tower."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fistful.bow.store.files import atomic_file
from fistful.bow.store.identity import canonical_json, sha256_hex, versions_of
from fistful.errors import Interrupted
from fistful.progress import progress_bar

from .data.features import KIND, Features, Part
from .data.samples import Shard, TrainingSamples
from .data.shard_cache import fetched_ahead, room_of
from .model.model import Model, normalise
from .model.places import frozen_features
from .model.tokens import ROWS
from .trainer import Trainer

FORMAT = 2
"""Part of every key: another way to compute features leaves older files behind."""
PACKAGES = ("torch", "timm", "open_clip_torch", "pillow", "simplejpeg")
"""Whose versions decide what comes out."""


def features_of(trainer: Trainer, folder: Path, stopped: Callable[[], bool]) -> Features:
    """Compute what is not there yet, each rank some units, and open all.

    Raises:
        Interrupted: If `stopped` says so between two units; what is there stays.
    """
    job, model, samples, ranks = trainer.job, trainer.model, trainer.job.samples, trainer.job.ranks
    parts = list_parts(samples, folder, decided_by(trainer))
    model.eval()
    mine = parts[ranks.rank :: ranks.size]

    def needs(number: int) -> set[Shard]:
        row = mine[number].rows[0]
        return set() if mine[number].path.exists() else {(int(samples.folder[row]), int(samples.unit[row]))}

    ahead = fetched_ahead(samples.stored, room_of(job.config), needs, range(len(mine)))
    show = job.config.run.progress and ranks.rank == 0
    with progress_bar("features", sum(len(part.rows) for part in mine), show) as update, ahead as wait_for:
        done = 0
        for number, part in enumerate(mine):
            if stopped():
                raise Interrupted(f"{job.run}: stopped while computing features; the same command goes on from there")
            if not part.path.exists():
                wait_for(number)
                _write(part, _compute(trainer, part, lambda n, done=done: update(done + n, "pictures")))
            done += len(part.rows)
    ranks.wait()
    return Features(parts, len(samples), trainer.loader.pictures)


def decided_by(trainer: Trainer) -> str:
    """Return SHA-256 over all that decides features but the data: tower, preparation and decoding of pictures, device, threads, versions.

    Precision is not among it: features are computed in float32 whatever the run's.
    """
    decode, run = trainer.job.config.data.decode, trainer.job.config.run
    how = {"decode": decode, "device": run.device, "threads": run.threads, "kind": KIND.__name__, "format": FORMAT}
    how |= {} if trainer.model.fusion is None else {"places": True}
    tower = tower_digest(trainer.model, trainer.job.preprocess)
    return sha256_hex(canonical_json({**how, "tower": tower, "versions": versions_of(*PACKAGES)}))


def tower_digest(model: Model, preprocess: dict[str, Any]) -> str:
    """Return SHA-256 over the image tower's shape, weights and preparation of pictures, without what is trained."""
    digest = hashlib.sha256(canonical_json({"vision_cfg": model.shape.model_cfg["vision_cfg"], "preprocess": preprocess}))
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    for name, tensor in sorted(model.image_tower.state_dict(keep_vars=True).items()):
        if id(tensor) not in trained:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def list_parts(samples: TrainingSamples, folder: Path, decided: str) -> list[Part]:
    """Return the units of the data and where their features lie."""
    parts = []
    for number, fingerprint in enumerate(samples.fingerprints):
        name = sha256_hex(f"{decided} {fingerprint}".encode())[:16]
        rows = np.flatnonzero(samples.folder == number)
        units = samples.unit[rows]
        parts += [Part(rows=rows[units == u], path=folder / name / f"{u:05d}.npy") for u in np.unique(units)]
    return parts


def _compute(trainer: Trainer, part: Part, update: Callable[[int], None]) -> np.ndarray:
    """Return features (n, F); NaN where a picture is broken."""
    pictures, found = trainer.loader.pictures, []
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(trainer.job.config.run.decoders) as decoders, torch.inference_mode():

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
    size, preprocess = trainer.loader.size, trainer.job.preprocess
    filled = np.zeros((ROWS, size, size, 3), np.uint8)
    for place, image in enumerate(images):
        if image is not None:
            filled[place] = image
    batch = normalise(torch.from_numpy(filled).to(trainer.setting.device), preprocess["mean"], preprocess["std"])
    out = frozen_features(trainer.model, batch).float().cpu().numpy()[: len(images)].astype(KIND)
    out[[place for place, image in enumerate(images) if image is None]] = np.nan
    return out


def _write(part: Part, features: np.ndarray) -> None:
    with atomic_file(part.path.parent, part.path.name) as file:
        np.lib.format.write_array(file, features, allow_pickle=False)  # pyright: ignore[reportArgumentType]
