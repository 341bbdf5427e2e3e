"""How a table begins: what its columns are called, and which of them names pictures."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fistful.bow.store.columns import BROKEN_PARQUET
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.files import is_url, open_input, stamp_of
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.kinds import OTHER_IMAGES
from fistful.errors import UsageError

from .beginning import begin
from .delimited import names_of, table_text
from .documents import FILE_NAMES
from .jsonl import json_object
from .lines import decompressed, is_broken, read_blocks
from .pictures_in_parquet import holds_bytes, is_text_only, picture_column
from .source_options import NONE, SourceOptions, usual_name
from .units import Kind, Unit

HEAD_ROWS = 100
PICTURE_NAME = re.compile(rf"(.+\.(?:{'|'.join(sorted({*EXTENSIONS, *OTHER_IMAGES}))}))(#\d+)?", re.IGNORECASE | re.DOTALL)
"""A picture's file; Flickr's token files put the caption's number behind it."""
MOSTLY = 0.9
"""Share of the first values that must be names of pictures, where the column is not given."""

Holds = Literal["names", "web", "bytes"]


@dataclasses.dataclass(frozen=True, slots=True)
class PictureColumn:
    """The column of a table that says which picture a row is of."""

    name: str
    place: int
    """Its number, from 1."""
    holds: Holds
    """Names of files, addresses on the web, or the pictures themselves."""
    first: tuple[str, ...]
    """Its first values, where they are names."""
    has_caption: bool
    """Whether the table has a column of captions too."""
    columns: tuple[str, ...]
    """Names of all columns of the table."""


def picture_column_of(path: str, kind: Kind, options: SourceOptions) -> PictureColumn | None:
    """Return which column of a table says which picture a row is of; None where none does, or the table cannot be read."""
    if options.image == NONE:
        return None
    return _picture_column(path, kind, options, None if is_url(path) else stamp_of(Path(path)))


@functools.lru_cache(maxsize=64)  # whoever looks for tables of pictures asks first, and then whoever reads them
def _picture_column(path: str, kind: Kind, options: SourceOptions, _stamp: object) -> PictureColumn | None:
    names, rows = _head(path, kind, options)
    has_caption = options.caption in names or usual_name(names) is not None or options.by_number
    if kind == "parquet" and (inside := [name for name, value in (rows[0] if rows else {}).items() if value is BYTES]):
        return PictureColumn(inside[0], names.index(inside[0]) + 1, "bytes", (), has_caption, tuple(names))
    return _among(names, rows, options, has_caption)


def column_names(path: str, kind: Kind, options: SourceOptions) -> list[str]:
    """Return what a table's columns are called; [] where it cannot be read."""
    return _head(path, kind, options)[0]


def _head(path: str, kind: Kind, options: SourceOptions) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        return _parquet_head(path, options) if kind == "parquet" else _text_head(path, kind, options)
    except (*BROKEN_PARQUET, Refused, UsageError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and not is_broken(error):
            raise
        return [], []  # whoever reads the table says what is wrong with it


def table_sign(path: str, options: SourceOptions) -> str:
    """Return by what a text file seems to be a table: a column of pictures, or of captions beside others; "" where it does not."""
    found = picture_column_of(path, "tsv", SourceOptions(caption="2"))  # without a header
    if found is not None and found.first:
        return f"names pictures such as {found.first[0]!r} in its column {found.place}"
    found, names = picture_column_of(path, "csv", options), column_names(path, "csv", options)
    column = found.name if found is not None else usual_name(names) if len(names) > 1 else None
    return "" if column is None else f"has a column {column!r} in its first line"


def holds_pictures(path: str, options: SourceOptions) -> bool:
    """Return whether a parquet file holds pictures themselves."""
    found = picture_column_of(path, "parquet", options)
    return found is not None and found.holds == "bytes"


def _among(names: Sequence[str], rows: list[dict[str, Any]], options: SourceOptions, has_caption: bool) -> PictureColumn | None:
    if options.names_images:
        asked = options.image if options.image in names else _named_by_number(options.image, names)
        values = _values(rows, asked)
        return _column(names, asked, values, has_caption)
    usual = [name for name in [usual_name(names, FILE_NAMES)] if name is not None]
    fits: dict[str, PictureColumn] = {}
    for name in dict.fromkeys([*usual, *names]):
        values = _values(rows, name)
        if values and _share(values, lambda value: PICTURE_NAME.fullmatch(value) is not None) >= MOSTLY:
            fits[name] = _column(names, name, values, has_caption)
    if usual and usual[0] in fits:
        return fits[usual[0]]
    local = [column for column in fits.values() if column.holds == "names"]
    return local[0] if len(local) == 1 else next(iter(fits.values())) if len(fits) == 1 else None


def _column(names: Sequence[str], name: str, values: Sequence[str], has_caption: bool) -> PictureColumn:
    place = names.index(name) + 1 if name in names else 0
    holds = "web" if _share(values, is_web) > 0.5 else "names"
    return PictureColumn(name, place, holds, tuple(values), has_caption, tuple(names))


def _named_by_number(asked: str, names: Sequence[str]) -> str:
    return names[int(asked) - 1] if asked.isdecimal() and 0 < int(asked) <= len(names) else asked


def _values(rows: list[dict[str, Any]], name: str) -> list[str]:
    return [value for row in rows if isinstance(value := row.get(name), str) and value.strip()]


def _share(values: Sequence[str], test: Any) -> float:
    return sum(map(bool, map(test, values))) / max(1, len(values))


def is_web(value: str) -> bool:
    """Return whether a name is an address on the web, which is not fetched here."""
    return value.lower().startswith(("http://", "https://"))


def _text_head(path: str, kind: Kind, options: SourceOptions) -> tuple[list[str], list[dict[str, Any]]]:
    unit = Unit(0, kind, path, path, 0, 0)
    with open_input(path) as raw:
        blocks = read_blocks(decompressed(raw, path))
        if kind == "jsonl":
            lines = next(begin(unit, blocks), b"").split(b"\n")
            rows = [json_object(line) for line in itertools.islice(filter(bytes.strip, lines), HEAD_ROWS)]
            return list(dict.fromkeys(name for row in rows for name in row)), rows
        text, _ = table_text(unit, options, blocks)
        records = list(itertools.islice(iter(text.next_record, None), HEAD_ROWS + 1))
    if not records:
        return [], []
    width = max(len(record) for record in records if isinstance(record, list))
    names = names_of(records[0]) if options.has_header else [str(n + 1) for n in range(width)]
    values = [[value.decode("utf-8", "replace").strip() for value in record] for record in records if isinstance(record, list)]
    return names, [dict(zip(names, row, strict=False)) for row in values[options.has_header :]]


BYTES = object()
"""Stands for a picture's bytes, which are not read here."""


def _parquet_head(path: str, options: SourceOptions) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    with open_input(path) as raw:
        file = pq.ParquetFile(raw)
        schema = file.schema_arrow
        column = picture_column(schema, options)
        if column is not None and holds_bytes(schema.field(column).type):
            paths = _only_paths(file, column)
            return schema.names, [{column: path} for path in paths] if paths else [{column: BYTES}]
        texts = [field.name for field in schema if is_text_only(field.type)]
        part = next(file.iter_batches(HEAD_ROWS, columns=texts), None) if texts else None
        columns = [_texts(column) for column in part.columns] if part is not None else []
        return schema.names, [dict(zip(texts, row, strict=True)) for row in zip(*columns, strict=True)]


def _texts(column: Any) -> list[str | None]:
    import pyarrow as pa

    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # whoever reads the rows refuses those
        whole = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        return [None if value is None else value.decode("utf-8", "replace") for value in whole.cast(pa.binary()).to_pylist()]


def _only_paths(file: Any, column: str) -> list[str]:
    """Return the paths of structs that hold no bytes, as the hub's do for files that lie beside; [] where there are bytes."""
    part = next(file.iter_batches(8, columns=[column]), None)
    values = [value for value in (part.column(0).to_pylist() if part is not None else []) if isinstance(value, dict)]
    return [] if any(value.get("bytes") for value in values) else [str(value.get("path")) for value in values]
