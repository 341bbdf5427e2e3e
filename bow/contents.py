"""Pictures by their content: copies of one picture have one number, whatever they are called and wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from fistful.errors import DataError

from .draw import number_of_key
from .store.index import unit_name

THREADS = 4
"""SHA-256 leaves the interpreter's lock; a core hashes some 1.5 GB a second, more than disks read."""


def picture_contents(
    shards: Sequence[Path],
    shard_of: np.ndarray,
    offsets: np.ndarray,
    sizes: np.ndarray,
    update: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Return a number for each of n pictures, uint64: the first 8 bytes of the SHA-256 of its file.

    Args:
        shards: Files that pictures lie in.
        shard_of: Which of them each picture lies in.
        offsets: Where it begins there.
        sizes: Its bytes.
        update: Told how many are done.

    Raises:
        DataError: If a shard is missing.
    """
    found = np.zeros(len(shard_of), np.uint64)
    order = np.argsort(shard_of, kind="stable")
    ends = np.searchsorted(shard_of[order], np.arange(len(shards) + 1))

    def hash_shard(number: int) -> int:
        rows = order[ends[number] : ends[number + 1]]
        try:
            handle = os.open(shards[number], os.O_RDONLY)
        except FileNotFoundError:
            raise DataError(f"{shards[number]}: missing, though the index names it; fistful verify tells what else changed") from None
        try:
            for row, offset, size in zip(rows.tolist(), offsets[rows].tolist(), sizes[rows].tolist(), strict=True):
                found[row] = int.from_bytes(hashlib.sha256(os.pread(handle, size, offset)).digest()[:8], "big")
        finally:
            os.close(handle)
        return len(rows)

    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for n in pool.map(hash_shard, range(len(shards))):
            done += n
            update(done)
    return found


def index_contents(folder: Path, index: pa.Table) -> np.ndarray:
    """Return `picture_contents` of a data folder's samples; 0 for those without a picture.

    Args:
        folder: A data folder.
        index: Its index, as bow.store.index.read_index gives it.

    Raises:
        DataError: If a shard is missing.
    """
    found = np.zeros(index.num_rows, np.uint64)
    sizes = index["image_size"].to_numpy()
    rows = np.flatnonzero(sizes)
    units, shard_of = np.unique([number_of_key(key) >> 32 for key in index["key"].take(pa.array(rows)).to_pylist()], return_inverse=True)
    shards = [folder / unit_name("shards", int(unit), "tar") for unit in units]
    found[rows] = picture_contents(shards, shard_of, index["image_offset"].to_numpy()[rows], sizes[rows])
    return found
