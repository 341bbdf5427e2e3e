"""Counts more numbers than fit into memory: parts of them are sorted, added up and put aside in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.sorted_counts import Counts, count_numbers, merge_counts

from .engine.merge import MERGED_AT_ONCE

AT_ONCE = 8_000_000
"""Numbers that are counted in one go, 64 MB: the pairs of words of some 400,000 captions, the n-grams of 200,000."""


class SortedCounter:
    """Counts numbers in bounded memory: what has come together is sorted and added up, and all but the last such part goes into files.

    Args:
        aside: A folder for these.
        write: Writes FOLDER/NAME from a stream of counts.
        read: Yields what it wrote.
    """

    def __init__(
        self,
        aside: Path,
        write: Callable[[Path, str, Iterable[Counts]], dict[str, Any]],
        read: Callable[[Path], Iterator[Counts]],
    ) -> None:
        self._aside, self._write, self._read = aside, write, read
        self._files: list[Path] = []
        self._n_files = 0
        self._waiting = np.empty(AT_ONCE, np.uint64)
        self._n = 0

    def add(self, numbers: np.ndarray) -> None:
        """Count some numbers, uint64 in any order."""
        while len(numbers):
            if self._n == len(self._waiting):
                self._put_aside(iter([self._counted()]))
            taken = numbers[: len(self._waiting) - self._n]
            self._waiting[self._n : self._n + len(taken)] = taken
            self._n += len(taken)
            numbers = numbers[len(taken) :]

    def finish(self) -> Iterator[Counts]:
        """Return all counts, rising; the files must stay until they are read."""
        return merge_counts([iter([self._counted()]), *map(self._read, self._files)])

    def _counted(self) -> Counts:
        n, self._n = self._n, 0
        return count_numbers(self._waiting[:n])

    def _put_aside(self, blocks: Iterator[Counts]) -> None:
        if len(self._files) == MERGED_AT_ONCE:
            full, self._files = self._files, []
            self._put_aside(merge_counts(map(self._read, full)))
            for path in full:
                path.unlink()
        name = f"{self._n_files}.parquet"
        self._n_files += 1
        self._write(self._aside, name, blocks)
        self._files.append(self._aside / name)
