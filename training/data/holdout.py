"""Which samples a run does not show: those that --exclude names, and those held out for labelling, with all copies of their pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fistful.bow.contents import picture_contents
from fistful.bow.draw import held_out
from fistful.bow.store.files import atomic_file
from fistful.bow.store.identity import sha256_hex
from fistful.progress import progress_bar

from ..train_config import TrainConfig
from .samples import Shard, TrainingSamples
from .shard_cache import fetched_ahead, room_of

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
    with progress_bar("hold-out", len(samples), config.run.progress) as update:
        found = _read_contents(config, samples, lambda n: update(n, "pictures"))
    with atomic_file(cache, path.name) as file:
        np.lib.format.write_array(file, found, allow_pickle=False)  # pyright: ignore[reportArgumentType]
    return found


def _read_contents(config: TrainConfig, samples: TrainingSamples, update: Callable[[int], None]) -> np.ndarray:
    """Read all pictures: those on the disk in one go, those in a bucket a shard at a time, as it comes."""
    places, shard_of = np.unique(np.stack([samples.folder, samples.unit], axis=1), axis=0, return_inverse=True)
    shards: list[Shard] = [(folder, unit) for folder, unit in places.tolist()]
    order = np.argsort(shard_of.reshape(-1), kind="stable")
    ends = np.searchsorted(shard_of.reshape(-1)[order], np.arange(len(shards) + 1))
    on_disk = [number for number, shard in enumerate(shards) if shard not in samples.stored]
    turns = [*([on_disk] if on_disk else []), *([number] for number, shard in enumerate(shards) if shard in samples.stored)]
    found, done = np.zeros(len(samples), np.uint64), 0
    with fetched_ahead(samples.stored, room_of(config), lambda turn: {shards[n] for n in turns[turn]}, range(len(turns))) as wait_for:
        for turn, numbers in enumerate(turns):
            wait_for(turn)
            rows = np.concatenate([order[ends[number] : ends[number + 1]] for number in numbers])
            paths, shard_of_row = [samples.shard(*shards[n]) for n in numbers], np.repeat(np.arange(len(numbers)), np.diff(ends)[numbers])
            places_of_rows = paths, shard_of_row, samples.offset[rows], samples.size[rows]
            found[rows] = picture_contents(*places_of_rows, lambda n, done=done: update(done + n))
            done += len(rows)
    return found
