"""The index: a row a sample, our own truth about what lies in the shards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fistful.errors import UsageError

from .tables import join_tables, read_table

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


def unit_name(folder: str, unit: int, extension: str) -> str:
    """Return the path of a unit's file in a data folder.

    >>> unit_name("shards", 7, "tar")
    'shards/00007.tar'
    """
    return f"{folder}/{unit:05d}.{extension}"


def read_index(folder: Path) -> pa.Table:
    """Read all index files of a data folder, in the order of the units.

    Raises:
        UsageError: If the folder has no index.
    """
    paths = sorted((folder / "index").glob("*.parquet"), key=lambda p: int(p.stem))
    if not paths:
        raise UsageError(f"{folder}: has no index/*.parquet; expected a folder that fistful bags wrote")
    return join_tables([read_table(path, INDEX_SCHEMA) for path in paths], INDEX_SCHEMA)
