"""Rows of different length in two arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different length: row i is values[offsets[i]:offsets[i + 1]]."""

    offsets: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.values[start:stop]

    def lengths(self) -> np.ndarray:
        """Return the length of each row, int64."""
        return np.diff(self.offsets)

    def rows(self) -> np.ndarray:
        """Return the row number of each value, int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())

    def take(self, keep: np.ndarray) -> Ragged:
        """Return the same rows with only the values where the boolean mask is true."""
        kept_before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        return Ragged(kept_before[self.offsets], self.values[keep])

    def pick(self, rows: np.ndarray) -> Ragged:
        """Return some of the rows, in the order asked for."""
        ends = np.concatenate([[0], np.cumsum(self.offsets[rows + 1] - self.offsets[rows])])
        return Ragged(ends, self.values[self.places(rows)])

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return where the values of some rows stand, row after row."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]  # not of all rows: there may be millions
        ends = np.concatenate([[0], np.cumsum(lengths)])
        return np.repeat(self.offsets[rows] - ends[:-1], lengths) + np.arange(ends[-1])

    @staticmethod
    def of_lists(lists: Any) -> Ragged:
        """Return an Arrow array of lists of word ids, which may be a slice, as int64."""
        offsets = lists.offsets.to_numpy().astype(np.int64)
        return Ragged(offsets - offsets[0], lists.flatten().to_numpy().astype(np.int64))

    @staticmethod
    def stack(parts: Sequence[Ragged]) -> Ragged:
        """Return the rows of several, one after the other."""
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths() for part in parts)])
        return Ragged(np.cumsum(lengths), np.concatenate([part.values for part in parts]))

    def join_rows(self, groups: np.ndarray) -> Ragged:
        """Return longer rows: group i holds the rows groups[i] to groups[i + 1]."""
        return Ragged(self.offsets[groups], self.values)
