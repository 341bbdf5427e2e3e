"""What a student learns from: n-grams of captions beside what its teacher made of them, both read from disk as they are needed."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fistful.bow.ngrams import NgramReader, NgramTable, hash_word
from fistful.bow.ragged import Ragged
from fistful.bow.store.files import atomic_file

from .data.order import permute

CAPTIONS_AT_ONCE = 4_096
HELD_OUT = 64
"""One sample of so many is held out, by a hash of its key: how near the student comes to its teacher is measured on their captions."""
MOST_HELD_OUT = 4_096
"""Captions that this is measured on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lessons:
    """Captions of which both the student and the teacher see something."""

    rows: np.ndarray
    """int32: the rows of the table of one caption after the other, on disk."""
    offsets: np.ndarray
    """int64: where each caption's begin, and the end of the last."""
    targets: tuple[np.ndarray, ...]
    """float32 (n, D) of each unit, on disk: the teacher's embeddings."""
    starts: np.ndarray
    """int64: how many captions come before each unit."""
    shown: np.ndarray
    """int64: the captions that are learnt from."""
    held_out: np.ndarray
    """int64: those that the student is measured on."""

    def ngrams(self, captions: np.ndarray) -> Ragged:
        """Return the rows of some captions."""
        return Ragged(self.offsets, self.rows).pick(captions)

    def teacher(self, captions: np.ndarray) -> np.ndarray:
        """Return the teacher's embeddings of some captions, float32 (n, D)."""
        out = np.empty((len(captions), self.targets[0].shape[1]), np.float32)
        units = np.searchsorted(self.starts, captions, side="right") - 1
        for unit in np.unique(units).tolist():
            here = units == unit
            out[here] = self.targets[unit][captions[here] - self.starts[unit]]
        return out

    def batch(self, step: int, size: int, seed: int) -> np.ndarray:
        """Return the captions of a step: a pure function of seed and place, each epoch in another order."""
        return self.at(np.arange(step * size, (step + 1) * size), seed)

    def at(self, places: np.ndarray, seed: int) -> np.ndarray:
        """Return the captions at some places of the endless order, int64; places before 0 are those of the epoch before the first."""
        n = len(self.shown)
        epochs, found = places // n + 1, np.empty(len(places), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            found[here] = self.shown[permute(places[here] % n, n, seed, epoch)]
        return found


def read_lessons(
    units: Sequence[Path], excluded: Sequence[Path], table: NgramTable, reader: NgramReader, cache: Path
) -> tuple[Lessons, list[str]]:
    """Return the lessons, and the table's n-grams written out.

    Args:
        units: Files of embeddings of captions, parquet; beside each lie its numbers, npy.
        excluded: For each of the first ones a file with the keys of its samples that are left out.
        table: The n-grams that have a row.
        reader: Finds them.
        cache: A folder to write.
    """
    finder, targets = table.finder(), tuple(np.load(path.with_suffix(".npy"), mmap_mode="r") for path in units)
    named, lengths = _Named(len(table.keys)), array("q", [0])
    held_out, learnt = [], []
    left_out = dict(enumerate(pq.read_table(path)["key"].combine_chunks() for path in excluded))
    with atomic_file(cache, "rows.bin") as file:
        for unit, part, target in _parts(units, targets):
            keys = reader.keys(part["caption"])
            named.note(finder.sorted_keys, finder.order, keys, reader)
            rows = finder.rows(keys)
            lengths.frombytes(rows.lengths().astype(np.int64).tobytes())
            file.write(rows.values.astype(np.int32).tobytes())
            is_left_out = pc.is_in(part["key"], left_out.get(unit, pa.array([], pa.string()))).to_numpy(zero_copy_only=False)
            of_use = (rows.lengths() > 0) & target.any(axis=1) & ~is_left_out
            held = np.fromiter((hash_word(key) % HELD_OUT == 0 for key in part["key"].to_pylist()), bool, len(of_use))
            held_out.append(of_use & held)
            learnt.append(of_use & ~held)
    n_rows = file.size // 4
    found = Lessons(
        rows=np.memmap(cache / "rows.bin", np.int32, "r", shape=(n_rows,)) if n_rows else np.zeros(0, np.int32),
        offsets=np.cumsum(np.frombuffer(lengths, np.int64)),
        targets=targets,
        starts=np.cumsum([0, *(len(target) for target in targets)])[:-1],
        shown=np.flatnonzero(np.concatenate(learnt)),
        held_out=np.flatnonzero(np.concatenate(held_out))[:MOST_HELD_OUT],
    )
    return found, named.texts


def _parts(units: Sequence[Path], targets: Sequence[np.ndarray]) -> Iterator[tuple[int, pa.RecordBatch, np.ndarray]]:
    """Yield the number of a unit, captions with their keys, and the teacher's embeddings of them."""
    for unit, (path, target) in enumerate(zip(units, targets, strict=True)):
        start = 0
        with pq.ParquetFile(path) as file:
            for part in file.iter_batches(CAPTIONS_AT_ONCE, columns=["key", "caption"]):
                yield unit, part, target[start : start + part.num_rows]
                start += part.num_rows


class _Named:
    """The texts of the table's n-grams, found where they are first met."""

    def __init__(self, n: int) -> None:
        self.texts = [""] * n
        self._missing = np.ones(n, bool)

    def note(self, sorted_keys: np.ndarray, order: np.ndarray, keys: Ragged, reader: NgramReader) -> None:
        """Write down those that are met here for the first time."""
        if not self._missing.any() or not len(keys.values):
            return
        found, first = np.unique(keys.values, return_index=True)
        places = np.minimum(np.searchsorted(sorted_keys, found), len(sorted_keys) - 1)
        rows = order[places]
        new = (sorted_keys[places] == found) & self._missing[rows]
        for row, text in zip(rows[new].tolist(), reader.texts_at(keys, first[new]), strict=True):
            self.texts[row] = text
        self._missing[rows[new]] = False
