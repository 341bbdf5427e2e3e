"""Features of the frozen tower for many data folders that hold the same photos: each photo goes through the tower once.

The trainer keeps features by data folder; here they are looked up by the photo's own name and written where it looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fistful.bow.store import manifest
from fistful.bow.store.files import atomic_file
from fistful.bow.store.index import read_index
from fistful.training.data.features import KIND, Part
from fistful.training.data.reading import read_samples
from fistful.training.distributed import Ranks
from fistful.training.frozen import decided_by, features_of, list_parts
from fistful.training.job import identity_of, plan_job
from fistful.training.train_config import TrainConfig, changed
from fistful.training.trainer import make_trainer


class KnownPhotos:
    """Features by source key."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self._folder, self._config = folder, config
        self._decided = ""
        self._known: dict[str, np.ndarray] = {}

    def learn(self, data: Path, run: Path) -> None:
        """Let the trainer compute the features of a data folder, as for a run, and remember them."""
        config = changed(self._config, epochs=0.0, steps=1, batch_size=1)
        job = plan_job((str(data),), run, config, None, Ranks())
        manifest.claim(run, "train", *identity_of(job))
        trainer = make_trainer(job)
        features_of(trainer, self._folder, lambda: False)
        self._decided = decided_by(trainer)
        self.remember(data)

    def remember(self, data: Path) -> None:
        """Remember the features that the trainer computed of a data folder."""
        keys = _picture_keys(data)
        for part in self._parts(data):
            if not all(keys[row] in self._known for row in part.rows.tolist()):
                self._known |= zip((keys[row] for row in part.rows.tolist()), np.load(part.path), strict=True)

    def write(self, data: Path) -> None:
        """Write the features of a data folder of known photos where the trainer looks for them."""
        keys = _picture_keys(data)
        for part in self._parts(data):
            if not part.path.exists() and all(keys[row] in self._known for row in part.rows.tolist()):
                with atomic_file(part.path.parent, part.path.name) as file:
                    rows = np.stack([self._known[keys[row]] for row in part.rows.tolist()]).astype(KIND)
                    np.lib.format.write_array(file, rows, allow_pickle=False)  # pyright: ignore[reportArgumentType]

    def _parts(self, data: Path) -> list[Part]:
        return list_parts(read_samples((str(data),)), self._folder, self._decided)


def _picture_keys(data: Path) -> list[str]:
    """Return the source keys of the samples that have a picture, as the trainer counts them."""
    index = read_index(data)
    return [key for key, size in zip(index["source_key"].to_pylist(), index["image_size"].to_pylist(), strict=True) if size > 0]
