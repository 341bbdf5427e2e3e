"""Images out of the shards of a data folder."""

from __future__ import annotations

from pathlib import Path

from fistful.bow.store.folders import read_part
from fistful.bow.store.index import unit_name
from fistful.errors import DataError


def image_bytes(folder: Path, key: str, offset: int, size: int) -> bytes:
    """Read a sample's image from its shard, by the place that the index gives.

    Raises:
        DataError: If the shard is missing.
    """
    path = folder / unit_name("shards", int(key.split("_")[0]), "tar")
    try:
        return read_part(path, offset, size)
    except FileNotFoundError:
        raise DataError(f"{path}: missing, though the index names it; fistful verify {folder} tells what else changed") from None
