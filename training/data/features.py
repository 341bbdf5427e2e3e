"""Features of a frozen image tower: computed once for each data folder and tower, then read instead of pictures.

They lie in FOLDER/ID/00000.npy, one file for each unit of the data, rows in the order of the index.
ID is made of all that decides them, so several runs can share a folder.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from .pictures import Pictures

KIND = np.float16
"""Half the space; a feature's rounding, 1 in 2,000, is far below what separates pictures."""
OPEN_TABLES = 200
"""Units mapped at a time: each holds a file open, and systems commonly allow 1,024. One that is still read stays until it was."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """The samples of one unit of one data folder, and the file of their features."""

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
