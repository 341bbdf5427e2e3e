"""Which samples a run does not show: those that --exclude names, and those held out for labelling, with all copies of their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fistful.bow.contents import picture_contents
from fistful.bow.draw import held_out
from fistful.bow.store.files import atomic_file
from fistful.bow.store.identity import sha256_hex
from fistful.progress import progress_bar

from ..train_config import TrainConfig
from .samples import TrainingSamples

BY = "content"
"""What a hold-out is drawn by. Models whose lineage does not say so drew it by KEY, and learnt from copies of what they held out."""


def hidden_rows(config: TrainConfig, samples: TrainingSamples, cache: Path) -> np.ndarray:
    """Return which samples are not shown, bool (n).

    A pseudo-labelled sample is hidden only where it is a copy of a captioned one that is held out.

    Args:
        config: Its holdout counts.
        samples: All samples.
        cache: Folder in which the pictures' contents are kept, so that they are read once a run.

    Raises:
        DataError: If a shard is missing.
    """
    if not config.data.holdout:
        return samples.left_out
    contents = _contents(config, samples, cache)
    held = held_out(contents, config.data.holdout) & ~samples.pseudo
    return samples.left_out | np.isin(contents, contents[held])


def _contents(config: TrainConfig, samples: TrainingSamples, cache: Path) -> np.ndarray:
    path = cache / f"{sha256_hex(' '.join(samples.fingerprints).encode())[:16]}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)
    places, shard_of = np.unique(np.stack([samples.folder, samples.unit], axis=1), axis=0, return_inverse=True)
    shards = [samples.shard(folder, unit) for folder, unit in places.tolist()]
    with progress_bar("hold-out", len(samples), config.run.progress) as update:
        found = picture_contents(shards, shard_of.reshape(-1), samples.offset, samples.size, lambda n: update(n, "pictures"))
    with atomic_file(cache, path.name) as file:
        np.lib.format.write_array(file, found, allow_pickle=False)  # pyright: ignore[reportArgumentType]
    return found
