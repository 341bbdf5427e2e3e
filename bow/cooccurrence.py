"""In how many captions two words stand together: exact counts as sorted streams (`sorted_counts`), in the memory of a block.

A pair is the number first << 32 | second of two word ids, first <= second; a word with itself says how many captions hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .ragged import Ragged
from .sorted_counts import Counts
from .store.tables import ROW_GROUP, read_groups, table_file

PAIRS_SCHEMA = pa.schema([("first", pa.uint32()), ("second", pa.uint32()), ("n", pa.int64())])

MOST_WORDS = 1_000
"""Different words of a caption that are paired: the first ones of longer texts, whose pairs would grow by the square."""


def cut_bags(bags: Ragged) -> tuple[Ragged, int]:
    """Return bags of MOST_WORDS words at most, and how many were longer."""
    n_longer = int((bags.lengths() > MOST_WORDS).sum())
    if not n_longer:
        return bags, 0
    places = np.arange(len(bags.values)) - np.repeat(bags.offsets[:-1], bags.lengths())
    return bags.take(places < MOST_WORDS), n_longer


def pairs_of(bags: Ragged) -> Iterator[np.ndarray]:
    """Yield the pairs of words of each bag, each word with itself too, as uint64 in no order.

    Args:
        bags: Rows of different word ids, below 2**32.

    >>> [hex(pair) for part in pairs_of(Ragged(np.array([0, 2, 3]), np.array([7, 5, 5]))) for pair in part]
    ['0x700000007', '0x500000005', '0x500000005', '0x500000007']
    """
    words, ends = bags.values.astype(np.uint64), np.repeat(bags.offsets[1:], bags.lengths())
    places, back = np.arange(len(words)), 0
    while len(places):
        one, other = words[places], words[places + back]
        yield np.minimum(one, other) << np.uint64(32) | np.maximum(one, other)
        back += 1
        places = places[places + back < ends[places]]


def write_pairs(folder: Path, name: str, blocks: Iterable[Counts]) -> dict[str, Any]:
    """Write FOLDER/NAME atomically from a stream, and return its size and hash."""
    with table_file(folder, name, PAIRS_SCHEMA, ROW_GROUP) as file:
        for pairs, n in blocks:
            first, second = split_pairs(pairs)
            file.add(pa.table({"first": first, "second": second, "n": n}, schema=PAIRS_SCHEMA))
    return file.record()


def read_pairs(path: Path) -> Iterator[Counts]:
    """Yield the pairs of a file block by block.

    Raises:
        UsageError: If it is missing.
        DataError: If it is none of ours.
    """
    for group in read_groups(path, PAIRS_SCHEMA):
        if group.num_rows:
            first, second, n = (group[name].to_numpy() for name in PAIRS_SCHEMA.names)
            yield first.astype(np.uint64) << np.uint64(32) | second, n


def split_pairs(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two word ids of each pair, uint32."""
    return (pairs >> np.uint64(32)).astype(np.uint32), pairs.astype(np.uint32)
