"""Pictures inside parquet files: bytes, or the hub's structs of bytes and path.

>>> picture_column(pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "text": pa.string()}), SourceOptions())
'image'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from fistful.bow.store.columns import is_bytes, is_text, stored_type
from fistful.bow.store.dead_letters import NOT_FETCHED, Refused
from fistful.bow.store.images import MAX_MEMBER
from fistful.errors import UsageError

from .source_options import NONE, SourceOptions, usual_name

BYTES_IN = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "photo", "image_bytes", "bytes", "image_data", "data", "content")
"""Names of columns that hold pictures, the likeliest first."""
STATUS, SUCCESS, FAILED = "status", "success", "failed_to_"
"""img2dataset's column that says whether a picture was fetched."""
PICTURE_ROWS = 256
"""Rows read at a time where each has a picture: some tens of megabytes."""


def picture_column(schema: pa.Schema, options: SourceOptions) -> str | None:
    """Return the column that holds pictures, or that --image names; None where there is none.

    Raises:
        UsageError: If --image names no column, or one that holds neither pictures nor names of files.
    """
    if options.image == NONE:
        return None
    if not options.names_images:
        return usual_name([field.name for field in schema if holds_bytes(field.type)], BYTES_IN)
    if schema.names.count(options.image) != 1:
        shown = ", ".join(repr(n[:40]) for n in schema.names[:12])
        raise UsageError(f"--image {options.image}: expected one column of this name; found {shown}")
    kind = schema.field(options.image).type
    if not holds_bytes(kind) and not is_text_only(kind):
        raise UsageError(f"--image {options.image}: the column is {kind}, expected bytes, a struct of bytes and path, or names of files")
    return options.image


def holds_bytes(kind: pa.DataType) -> bool:
    """Return whether a column holds pictures."""
    kind = stored_type(kind)
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and is_bytes(field.type) for field in kind)
    return is_bytes(kind)


def is_text_only(kind: pa.DataType) -> bool:
    """Return whether a column holds texts, such as names of files, and no bytes."""
    return is_text(kind) and not is_bytes(kind)


def all_fetched(columns: Mapping[str, Any]) -> bool:
    """Return whether img2dataset, where it wrote the rows, fetched all of their pictures."""
    return STATUS not in columns or set(columns[STATUS].unique().to_pylist()) <= {SUCCESS, None}


def check_fetched(status: object) -> None:
    """Check what img2dataset says of a row; None if nothing does.

    Raises:
        Refused: not_fetched, where it failed; no_image, where the column says something else.
    """
    if status not in (SUCCESS, None):
        raise Refused(NOT_FETCHED if str(status).startswith(FAILED) else "no_image", f"status {status}")


def picture_in(value: Any, status: object) -> tuple[bytes | None, str]:
    """Return a picture's bytes, and the name of its file.

    Args:
        value: A value of the column of pictures; None where only captions are read.
        status: What img2dataset says of the row; None if nothing does.

    Raises:
        Refused: not_fetched, where img2dataset failed; no_image, where there is neither; bad_name, where it is too large.
    """
    check_fetched(status)
    if value is None:
        return None, ""
    while isinstance(value, pa.DictionaryScalar | pa.ExtensionScalar):
        value = value.value
    found = value.as_py() if value.is_valid else None
    data, name = (found.get("bytes"), found.get("path")) if isinstance(found, dict) else (found, None)
    if isinstance(data, str):
        data, name = None, data
    if data and len(data) > MAX_MEMBER:
        raise Refused("bad_name", f"a picture of more than the {MAX_MEMBER} bytes that are read")
    if not data and not name:
        raise Refused("no_image", "the column of pictures is empty here")
    return data or None, name or ""


def extension_in(data: bytes) -> str:
    """Return what a picture should be called in a shard, by its first bytes; jpg where they tell nothing, which a check then refuses."""
    if data.startswith(b"\x89PNG"):
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else "jpg"
