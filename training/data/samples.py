"""Data folders as training sees them: arrays of what the index says, and the bytes of each picture."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.ragged import Ragged
from fistful.bow.store.folders import read_part
from fistful.bow.store.index import unit_name
from fistful.bow.vocabulary import Vocabulary
from fistful.errors import DataError

Shard = tuple[int, int]
"""Number of a data folder, and of a unit in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A shard in a bucket."""

    path: Path
    """The object."""
    local: Path
    """Where it lies on the disk when it was fetched (shard_cache.py)."""
    size: int
    sha256: str

    def is_whole(self) -> bool:
        """Return whether it lies on the disk; it is written there whole or not at all."""
        return self.local.is_file() and self.local.stat().st_size == self.size


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingSamples:
    """All samples with a picture, of all folders, one after the other."""

    folders: list[Path]
    weights: list[float]
    fingerprints: list[str]
    vocabulary: Vocabulary
    vocabulary_sha256: str
    word_options: dict[str, Any]
    """How captions became words, as the data folder's configuration says."""
    vocabulary_folder: Path
    """Where the vocabulary lies."""
    has_rule: bool
    """Whether the vocabulary's keep probabilities were chosen by anybody."""
    keys: pa.LargeStringArray
    captions: pa.LargeListArray
    bags: Ragged
    folder: np.ndarray
    """int32 number of each sample's folder."""
    unit: np.ndarray
    number: np.ndarray
    """uint64, what draws are keyed with."""
    pseudo: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    certainty: np.ndarray
    """float32, beside bags.values: how likely a word is right; 1 for words of captions."""
    likely: Ragged
    """Word ids, uint32, of the labels that are distributions, likeliest first; no words for all other samples."""
    likely_shares: np.ndarray
    """float32, beside likely.values: how likely the sample's bag has the word, above 0."""
    sizes: np.ndarray
    """How many words the bags of captioned samples have, rising, none empty; those of labels where no sample has a caption."""
    left_out: np.ndarray
    """bool: samples that --exclude names."""
    misses: tuple[int, int]
    """How many lines of --exclude name no sample, and how many lines it has."""
    shards: dict[Shard, Path]
    """The tars that are not ours."""
    stored: dict[Shard, Stored] = dataclasses.field(default_factory=dict)
    """The shards of folders that lie in a bucket."""

    def __len__(self) -> int:
        return len(self.number)

    def weight_of(self, rows: np.ndarray) -> np.ndarray:
        """Return how much each sample counts, float32: the mean certainty of its words; 1 without words."""
        lengths = self.bags.lengths()[rows]
        ends = np.concatenate([[0], np.cumsum(self.certainty[self.bags.places(rows)], dtype=np.float64)])
        stops = np.cumsum(lengths)
        sums = ends[stops] - ends[stops - lengths]
        return np.where(lengths > 0, sums / np.maximum(lengths, 1), 1.0).astype(np.float32)

    def shard(self, folder: int, unit: int) -> Path:
        """Return where the tar of a unit lies on the disk; one in a bucket only while it is needed."""
        if (stored := self.stored.get((folder, unit))) is not None:
            return stored.local
        return self.shards.get((folder, unit)) or self.folders[folder] / unit_name("shards", unit, "tar")

    def name(self, row: int) -> str:
        """Return what an error calls a sample."""
        return f"{self.folders[self.folder[row]]}: sample {self.keys[row].as_py()}"


@dataclasses.dataclass(frozen=True, slots=True)
class RunWords:
    """The words of a run."""

    sha256: str
    vocabulary: Vocabulary
    options: dict[str, Any]
    folder: Path
    """Where vocabulary.parquet lies."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One DATA of the command line, read."""

    path: Path
    weight: float
    fingerprint: str
    index: pa.Table
    """Samples with a picture, as bow.store.index describes them."""
    shards: list[Path] | None
    """Foreign tars by unit; None for a data folder."""
    likely: tuple[Ragged, np.ndarray] | None = None
    """The labels' distributions, rows as in the index; None where there are none."""


def read_picture(samples: TrainingSamples, row: int) -> bytes:
    """Return the bytes of a sample's picture, from any thread; fewer where the shard is cut off.

    The shard is opened for each picture, 4 us on a local disk where decoding takes hundreds: a table of open
    shards that threads share must never close what another one reads, and thousands of shards never fit in it.

    Raises:
        DataError: If the shard is missing or cannot be read.
    """
    folder, unit = int(samples.folder[row]), int(samples.unit[row])
    path, offset, size = samples.shard(folder, unit), int(samples.offset[row]), int(samples.size[row])
    try:
        if (stored := samples.stored.get((folder, unit))) is not None and not path.exists():  # it stands in for a broken picture
            path = stored.path
            return read_part(path, offset, size)
        with open(path, "rb", buffering=0) as shard:
            return os.pread(shard.fileno(), size, offset)
    except OSError as error:
        why = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise DataError(f"{path}: {why}; the index of {samples.folders[folder]} names it") from None


def expect_shards(samples: TrainingSamples, shards: set[Shard]) -> None:
    """Tell the system that all of these shards, (folder, unit), will be read, so that it reads them from one end to the other.

    A shard that cannot be opened is told of by who reads a picture of it.
    """
    for folder, unit in sorted(shards):
        with contextlib.suppress(OSError), open(samples.shard(folder, unit), "rb", buffering=0) as shard:
            os.posix_fadvise(shard.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
