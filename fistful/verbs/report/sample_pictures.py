"""A few samples with their pictures: a fixed, seeded choice, whatever the size of the data."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.draw import mix_all, number_of_key
from fistful.bow.ragged import Ragged
from fistful.bow.store.columns import BROKEN_PARQUET, check_damage
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.folders import parquet_source, read_part
from fistful.bow.store.images import decode_image, read_header
from fistful.bow.store.index import INDEX_SCHEMA, LABELLED_SCHEMA, unit_name
from fistful.bow.store.tables import ROW_GROUP
from fistful.bow.vocabulary import Vocabulary

from ...errors import DataError
from .inputs import DataFolder, Material

MAX_FILES = 32
"""Index files looked into: a choice from so many units is varied enough."""
MAX_FOLDERS = 4
MAX_WORDS = 40
"""Words of a bag shown."""
THUMBNAIL = 144
"""Longest side of a picture on the page, in pixels."""
MAX_SHOWN = 30_000_000
"""Pixels of the largest picture decoded for the page: four times as many bytes are in memory then."""
SALT = 0x52455054
"""Keeps this draw apart from all others with the same seed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A word of a bag."""

    text: str
    dropped: bool = False
    share: float | None = None
    """Of a pseudo-word: the probability that the picture's bag has it, as measured on captioned pictures."""
    right: bool | None = None
    """Whether the picture's true name has it; None where that is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A picture for the page."""

    uri: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, slots=True)
class ShownSample:
    """A picture beside its words."""

    key: str
    picture: Picture | None
    why_not: str
    """Why there is no picture."""
    captions: tuple[str, ...]
    words: tuple[Word, ...]
    n_more: int
    """Words that are not shown."""


@dataclasses.dataclass(frozen=True, slots=True)
class FolderSamples:
    """The samples of a data folder."""

    name: str
    samples: tuple[ShownSample, ...]


def samples_of(material: Material, n: int, seed: int) -> tuple[FolderSamples, ...]:
    """Build the section, a part a data folder."""
    found = [_part(data, data.vocabulary, n, seed) for data in material.data[:MAX_FOLDERS] if data.vocabulary is not None]
    return tuple(part for part in found if part is not None and part.samples)


def _part(data: DataFolder, vocabulary: Vocabulary, n: int, seed: int) -> FolderSamples | None:
    rows = draw_rows(data.path, n, seed)
    if not rows:
        return None
    ids = [np.array(row["words"], np.int64) for row in rows]
    bags = Ragged(np.concatenate([[0], np.cumsum([len(bag) for bag in ids])]), np.concatenate([*ids, np.zeros(0, np.int64)]))
    if len(bags.values) and int(bags.values.max()) >= len(vocabulary):
        raise DataError(f"{data.path}: its index has words that vocabulary.parquet does not; fistful verify {data.path} tells what changed")
    numbers = np.array([number_of_key(row["key"]) for row in rows], np.uint64)
    thinned, _ = vocabulary.thin(bags, numbers, int(data.options().get("seed", 0)))
    samples = []
    for row, bag, left in zip(rows, ids, thinned, strict=True):
        kept = set(left.tolist())
        words = tuple(Word(vocabulary.words[i], dropped=i not in kept) for i in bag.tolist())
        samples.append(sample_of(data.path, row, words))
    return FolderSamples(data.name, tuple(samples))


def sample_of(folder: Path, row: dict[str, Any], words: tuple[Word, ...]) -> ShownSample:
    """Put a row of the index and its words beside its picture."""
    picture, why_not = picture_of(folder, row)
    return ShownSample(row["key"], picture, why_not, tuple(row["captions"][:3]), words[:MAX_WORDS], max(0, len(words) - MAX_WORDS))


def index_files(folder: Path, seed: int) -> list[Path]:
    """Return a data folder's index files in a seeded order."""
    paths = sorted((folder / "index").glob("*.parquet"), key=lambda path: int(path.stem))
    order = np.argsort(mix_all(seed, SALT, np.arange(len(paths))), kind="stable")
    return [paths[i] for i in order]


def draw_rows(folder: Path, n: int, seed: int) -> list[dict[str, Any]]:
    """Draw n rows of a data folder's index; return them by key."""
    tables = [open_index(path) for path in index_files(folder, seed)[:MAX_FILES]]
    sizes = [table.metadata.num_rows for table in tables]
    files = np.repeat(np.arange(len(tables)), sizes)
    places = np.concatenate([*(np.arange(size) for size in sizes), np.zeros(0, np.int64)]).astype(np.int64)
    chosen = np.argsort(mix_all(seed, SALT, files, places), kind="stable")[:n] if n else np.zeros(0, np.int64)
    rows = []
    for i in np.unique(files[chosen]):
        wanted = np.sort(places[chosen[files[chosen] == i]])
        columns = [name for name in tables[i].schema_arrow.names if name != "extra"]
        for group in np.unique(wanted // ROW_GROUP):
            inside = wanted[wanted // ROW_GROUP == group] - group * ROW_GROUP
            rows += tables[i].read_row_group(int(group), columns=columns).take(pa.array(inside)).to_pylist()
    return sorted(rows, key=lambda row: row["key"])


def open_index(path: Path) -> pq.ParquetFile:
    """Open an index file.

    Raises:
        DataError: If it is none.
    """
    try:
        table = pq.ParquetFile(parquet_source(path))
    except BROKEN_PARQUET as error:
        raise DataError(f"{path}: not a readable parquet file ({check_damage(error, path)})") from None
    if table.schema_arrow.names not in (INDEX_SCHEMA.names, LABELLED_SCHEMA.names):
        raise DataError(f"{path}: columns are {table.schema_arrow.names}, expected {INDEX_SCHEMA.names}")
    return table


def picture_of(folder: Path, row: dict[str, Any]) -> tuple[Picture | None, str]:
    """Read a sample's picture from its shard; or say why there is none."""
    if not row["image"]:
        return None, "no picture"
    unit = int(row["key"].split("_")[0])
    try:
        return thumbnail(read_part(folder / unit_name("shards", unit, "tar"), row["image_offset"], row["image_size"])), ""
    except FileNotFoundError:
        return None, "its shard is not here"
    except Refused as refused:
        return None, f"unreadable ({refused.reason})"


def thumbnail(data: bytes, side: int = THUMBNAIL) -> Picture:
    """Decode a picture and encode it small: nothing of the original file but its pixels gets on the page.

    Raises:
        Refused: If it cannot be decoded.
    """
    header = read_header(data)
    if header.width * header.height > MAX_SHOWN:
        raise Refused("huge_image", f"{header.width} x {header.height} pixels")
    image = decode_image(data)
    image.thumbnail((side, side))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(jpeg, "JPEG", quality=80)
    image.quantize(64).save(png, "PNG", optimize=True)
    kind, best = min((("png", png.getvalue()), ("jpeg", jpeg.getvalue())), key=lambda found: len(found[1]))
    return Picture(f"data:image/{kind};base64,{base64.b64encode(best).decode()}", *image.size)
