"""Exact counts of whole numbers of 64 bits as sorted streams, in the memory of a block: of pairs of words, or of n-grams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

Counts = tuple[np.ndarray, np.ndarray]
"""Different numbers, uint64 and rising, and how often each was counted, int64."""


def count_numbers(numbers: np.ndarray) -> Counts:
    """Count numbers in any order; they are sorted in place."""
    numbers.sort()
    starts = _starts(numbers)
    return numbers[starts], np.diff(starts, append=len(numbers))


def add_counts(parts: Sequence[Counts]) -> Counts:
    """Add up counts: integers only, so that any order of adding gives the same."""
    numbers, n = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    order = np.argsort(numbers, kind="stable")  # which is quick on parts that are sorted already
    numbers = numbers[order]
    starts = _starts(numbers)
    return numbers[starts], np.add.reduceat(n[order], starts) if len(starts) else n


def _starts(numbers: np.ndarray) -> np.ndarray:
    """Return where each different number begins among sorted ones."""
    begins = np.ones(len(numbers), bool)
    begins[1:] = numbers[1:] != numbers[:-1]
    return np.flatnonzero(begins)


def merge_counts(streams: Iterable[Iterator[Counts]]) -> Iterator[Counts]:
    """Add up streams of rising numbers into one such stream; of each stream one block is in memory."""
    held = [(block, stream) for stream in streams if (block := _next_block(stream)) is not None]
    while held:
        upto = min(numbers[-1] for (numbers, _), _ in held)  # no stream has any more of these than what is held
        parts, left = [], []
        for (numbers, n), stream in held:
            cut = int(np.searchsorted(numbers, upto, side="right"))
            parts.append((numbers[:cut], n[:cut]))
            block = (numbers[cut:], n[cut:]) if cut < len(numbers) else _next_block(stream)
            if block is not None:
                left.append((block, stream))
        held = left
        yield add_counts(parts)


def _next_block(stream: Iterator[Counts]) -> Counts | None:
    """Return the next block that is not empty, as that of a unit without one known word is; None at the end."""
    return next((block for block in stream if len(block[0])), None)
