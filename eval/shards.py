"""Images out of the shards of a data folder."""

from __future__ import annotations

from pathlib import Path

from fistful.bow.store.index import unit_name


def image_bytes(folder: Path, key: str, offset: int, size: int) -> bytes:
    """Read a sample's image from its shard, by the place that the index gives."""
    with open(folder / unit_name("shards", int(key.split("_")[0]), "tar"), "rb") as shard:
        shard.seek(offset)
        return shard.read(size)
