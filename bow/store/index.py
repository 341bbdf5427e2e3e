"""The index: a row a sample, our own truth about what lies in the shards."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from fistful.errors import UsageError

from ..ragged import Ragged
from .folders import AT_ONCE, in_store
from .tables import column_names, join_tables, read_table

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source_key", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("words", pa.list_(pa.uint32())),
        ("scores", pa.list_(pa.float32())),
        ("pseudo", pa.bool_()),
        ("image", pa.string()),
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source", pa.string()),
        ("extra", pa.string()),
    ]
)
"""`image` is the member's name in the unit's tar, "" for a sample without one; `words` are ids of
the full bag in the order of first appearance; `width` and `height` are those of the stored pixels, before EXIF turns
them; `extra` is JSON."""


LIKELY = ("likely", "likely_shares")
LABELLED_SCHEMA = pa.schema([*INDEX_SCHEMA, (LIKELY[0], pa.list_(pa.uint32())), (LIKELY[1], pa.list_(pa.float16()))])
"""What fistful label writes: `likely` are the ids of each picture's likeliest words, likeliest first, of equals the smaller
first; `likely_shares` the calibrated probability that the picture's bag has each, above 0. `words` and `scores` are the
bag that follows from them, for tools that know no distributions."""


def unit_name(folder: str, unit: int, extension: str) -> str:
    """Return the path of a unit's file in a data folder.

    >>> unit_name("shards", 7, "tar")
    'shards/00007.tar'
    """
    return f"{folder}/{unit:05d}.{extension}"


def read_index(folder: Path) -> pa.Table:
    """Read the columns of INDEX_SCHEMA of all index files of a data folder, in the order of the units.

    Raises:
        UsageError: If the folder has no index.
    """
    return join_tables(_each(_index_files(folder), lambda path: read_table(path, INDEX_SCHEMA, LABELLED_SCHEMA)), INDEX_SCHEMA)


def read_likely(folder: Path) -> tuple[Ragged, np.ndarray] | None:
    """Read the likeliest words of each picture of a labelled folder.

    Returns:
        Word ids, int64, rows in the order of `read_index`, and their shares, float32, beside them; None for a
        folder without them, as fistful bags and earlier versions of fistful label wrote it.

    Raises:
        UsageError: If the folder has no index.
    """
    paths = _index_files(folder)
    if LIKELY[0] not in column_names(paths[0]):
        return None
    schema = pa.schema([LABELLED_SCHEMA.field(name) for name in LIKELY])
    table = join_tables(_each(paths, lambda path: read_table(path, LABELLED_SCHEMA).select(LIKELY)), schema)
    words, shares = (table[name].combine_chunks() for name in LIKELY)
    return Ragged.of_lists(words), shares.flatten().to_numpy().astype(np.float32)


def _each(paths: list[Path], read: Callable[[Path], pa.Table]) -> list[pa.Table]:
    """Read files, those of a store many at a time: each waits for several answers."""
    if not in_store(paths[0]):
        return [read(path) for path in paths]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [*pool.map(read, paths)]


def _index_files(folder: Path) -> list[Path]:
    paths = sorted((folder / "index").glob("*.parquet"), key=lambda p: int(p.stem))
    if not paths:
        raise UsageError(f"{folder}: has no index/*.parquet; expected a folder that fistful bags wrote")
    return paths
