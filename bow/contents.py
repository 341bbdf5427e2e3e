"""Pictures by their content: copies of one picture have one number, whatever they are called and wherever they lie.

Also small pictures of them, which tell near copies (bow/near_copies.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from fistful.errors import DataError

from .draw import number_of_key
from .store.dead_letters import Refused
from .store.folders import local_file
from .store.images import decode_image
from .store.index import unit_name

THREADS = 4
"""SHA-256 and decoding leave the interpreter's lock; a core hashes some 1.5 GB a second, more than disks read."""


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

    def note(row: int, data: bytes) -> None:
        found[row] = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")

    _read_pictures((shards, shard_of, offsets, sizes), note, update)
    return found


def _read_pictures(
    places: tuple[Sequence[Path], np.ndarray, np.ndarray, np.ndarray], note: Callable[[int, bytes], None], update: Callable[[int], None]
) -> None:
    """Call `note` with each picture's number and file, shard by shard in several threads."""
    shards, shard_of, offsets, sizes = places
    order = np.argsort(shard_of, kind="stable")
    ends = np.searchsorted(shard_of[order], np.arange(len(shards) + 1))

    def read_shard(number: int) -> int:
        rows = order[ends[number] : ends[number + 1]]
        try:
            with local_file(shards[number]) as place, open(place, "rb", buffering=0) as file:
                for row, offset, size in zip(rows.tolist(), offsets[rows].tolist(), sizes[rows].tolist(), strict=True):
                    note(row, os.pread(file.fileno(), size, offset))
        except FileNotFoundError:
            raise DataError(f"{shards[number]}: missing, though the index names it; fistful verify tells what else changed") from None
        return len(rows)

    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for n in pool.map(read_shard, range(len(shards))):
            done += n
            update(done)


def index_contents(folder: Path, index: pa.Table) -> np.ndarray:
    """Return `picture_contents` of a data folder's samples; 0 for those without a picture.

    Args:
        folder: A data folder.
        index: Its index, as bow.store.index.read_index gives it.

    Raises:
        DataError: If a shard is missing.
    """
    found = np.zeros(index.num_rows, np.uint64)
    rows = np.flatnonzero(index["image_size"].to_numpy())
    found[rows] = picture_contents(*_places(folder, index, rows))
    return found


def index_thumbnails(folder: Path, index: pa.Table, rows: np.ndarray) -> np.ndarray:
    """Return `bow.near_copies.thumbnail`s of some of a data folder's pictures, uint8 (n, SIDE, SIDE); black where one cannot be decoded.

    Args:
        folder: A data folder.
        index: Its index.
        rows: Samples with a picture.

    Raises:
        DataError: If a shard is missing.
    """
    from .near_copies import SIDE, thumbnail

    found = np.zeros((len(rows), SIDE, SIDE), np.uint8)

    def note(row: int, data: bytes) -> None:
        with contextlib.suppress(Refused):  # what embeds refuses it too, and says why
            found[row] = thumbnail(decode_image(data, 4 * SIDE))

    _read_pictures(_places(folder, index, rows), note, lambda _: None)
    return found


def _places(folder: Path, index: pa.Table, rows: np.ndarray) -> tuple[list[Path], np.ndarray, np.ndarray, np.ndarray]:
    """Return shards, and for each picture its shard, offset and size."""
    units, shard_of = np.unique([number_of_key(key) >> 32 for key in index["key"].take(pa.array(rows)).to_pylist()], return_inverse=True)
    shards = [folder / unit_name("shards", int(unit), "tar") for unit in units]
    return shards, shard_of, *(index[name].to_numpy()[rows] for name in ("image_offset", "image_size"))
