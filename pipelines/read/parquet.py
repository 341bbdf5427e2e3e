"""Rows of parquet files: some row groups, and of them only the columns that are asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fistful.bow.store.columns import BROKEN_PARQUET, check_damage, is_text
from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.plain_text import MAX_TEXT
from fistful.errors import UsageError

from .delimited import Found, TableColumns, batch_of_columns, batch_of_found
from .pictures_in_parquet import PICTURE_ROWS, STATUS, all_fetched, extension_in, is_text_only, picture_column, picture_in
from .rows import BATCH_ROWS, Places, RowBatch, extra_json, letters_only, make_letter, no_caption
from .source_options import SourceOptions, caption_names, pick_names
from .units import Unit


def read_row_groups(
    unit: Unit, options: SourceOptions, raw: IO[bytes], content: dict[str, str], need_captions: bool, with_images: bool = False
) -> Iterator[RowBatch]:
    """Yield the rows of a parquet file's row groups unit.start to unit.stop.

    Raises:
        UsageError: If a column is not there, or not of text.
    """
    places = Places(f" from row group {unit.start}" if unit.start else "")
    number, digest = 0, hashlib.sha256()
    try:
        file = _opened(raw)
        captions, extra = _find(unit, options, file.schema_arrow, need_captions)
        image = picture_column(file.schema_arrow, options) if with_images or options.names_images else None
        layout = TableColumns(unit, (), tuple((name, 0) for name in extra), 0, places, need_captions)
        status = [STATUS] if (image or unit.has_pictures) and STATUS in file.schema_arrow.names else []
        wanted = list(dict.fromkeys([*captions, *extra, *([image] if image else []), *status]))
        n_rows = PICTURE_ROWS if image and not is_text_only(file.schema_arrow.field(image).type) else BATCH_ROWS
        for columns in _parts(file, unit, wanted, digest, n_rows):
            batch = _batch_at_once(columns, captions, extra, number, layout) if image is None and all_fetched(columns) else None
            if batch is None:
                batch = _batch_of_rows(columns, captions, extra, number, layout, image)
            number += batch.n_read
            yield batch
    except Refused as refused:
        yield letters_only([make_letter(refused.reason, unit, places.at(number), refused.detail, b"")])
    content[f"{unit.name}[row groups {unit.start}:{unit.stop}]"] = digest.hexdigest()


def _opened(raw: IO[bytes]) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(raw)
        _ = file.schema_arrow.names  # read only now
        return file
    except BROKEN_PARQUET as error:
        raise _broken(error) from None


def _parts(file: pq.ParquetFile, unit: Unit, wanted: list[str], digest: Any, n_rows: int) -> Iterator[dict[str, Any]]:
    """Yield some rows of the columns that are wanted, and add them to the digest."""
    parts = file.iter_batches(n_rows, range(unit.start, unit.stop), wanted, use_threads=False)
    while True:
        try:
            part = next(parts, None)
            columns = {name: _decoded(part.column(name)) for name in wanted} if part is not None else None
        except BROKEN_PARQUET as error:
            raise _broken(error) from None
        if columns is None:
            return
        digest.update(pa.record_batch(columns).serialize())
        yield columns


def _broken(error: Exception) -> Refused:
    return Refused("truncated", f"file broken from here on ({check_damage(error)})")


def _find(unit: Unit, options: SourceOptions, schema: pa.Schema, need_captions: bool) -> tuple[list[str], list[str]]:
    def wrong(name: str, n_times: int) -> str:
        if n_times:
            return f"{unit.path}: column {name!r} is there {n_times} times; expected it once"
        shown = ", ".join(repr(n[:40]) for n in schema.names[:12])
        return f"{unit.path}: no column {name!r} ({shown}); --caption NAME names the column of captions"

    if options.by_number:
        raise UsageError(f"{unit.path}: columns of parquet have names, found --caption {options.caption}")
    captions = caption_names(options, schema.names, wrong, need_captions)
    extra = pick_names(options.columns, schema.names, wrong)
    for name in captions:
        if not is_text(schema.field(name).type):
            raise UsageError(f"{unit.path}: column {name!r} is {schema.field(name).type}, expected text or lists of texts")
    return captions, extra


def _decoded(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _batch_at_once(columns: dict[str, Any], captions: list[str], extra: list[str], number: int, layout: TableColumns) -> RowBatch | None:
    """Return the rows of a batch, or None if one of them may be odd."""
    try:
        texts = [columns[name].cast(pa.string()) for name in captions]
        for text in texts:
            text.validate(full=True)  # parquet's word for it that text is UTF-8 is not taken
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # not UTF-8, or lists: row by row each is taken, or refused with its reason
        return None
    if extra or any((pc.max(pc.binary_length(text)).as_py() or 0) >= MAX_TEXT for text in texts):
        return None
    return batch_of_columns([pc.utf8_trim_whitespace(text.fill_null("")) for text in texts], [], number, layout)


def _batch_of_rows(
    columns: dict[str, Any], captions: list[str], extra: list[str], number: int, layout: TableColumns, image: str | None
) -> RowBatch:
    found: list[Found] = []
    pictures: list[bytes | None] = []
    letters: list[DeadLetter] = []
    n_rows = len(next(iter(columns.values())))
    for i in range(n_rows):
        place, named = layout.places.at(number + i), ""
        try:
            status = columns[STATUS][i].as_py() if STATUS in columns else None
            data, named = picture_in(columns[image][i] if image else None, status)
            texts = [text for name in captions for text in _texts(columns[name][i])]
            if texts or not layout.need_captions:
                others = extra_json({name: _plain(columns[name][i]) for name in extra}) if extra else "{}"
                found.append(Found(number + i, texts, others, named))
                pictures.append(data)
            else:
                letters.append(no_caption(layout.unit, place))
        except Refused as refused:
            letters.append(make_letter(refused.reason, layout.unit, place, refused.detail, b"", named))
    batch = batch_of_found(found, letters, n_rows, layout)
    if not layout.unit.has_pictures or not image:
        return batch
    extensions = [extension_in(data) if data else "" for data in pictures]
    keys = [os.path.splitext(row.picture)[0] or layout.places.at(row.number) for row in found]
    return dataclasses.replace(batch, images=pictures, extensions=extensions, source_keys=keys)


def _texts(value: Any) -> list[str]:
    if not value.is_valid:
        return []
    if isinstance(value, pa.DictionaryScalar | pa.ExtensionScalar):
        return _texts(value.value)
    if hasattr(value, "values"):
        return [text for item in value.values for text in _texts(item)]
    data = value.as_buffer().to_pybytes()
    if len(data) >= MAX_TEXT:
        raise Refused("bad_caption", f"a caption of more than {MAX_TEXT} bytes")
    try:
        return [text] if (text := data.decode("utf-8").strip()) else []
    except UnicodeDecodeError as error:
        raise Refused("bad_caption", f"not UTF-8 ({error.reason} at byte {error.start})") from None


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: what JSON does not know is written as text."""
    try:
        return _as_json(value.as_py())
    except UnicodeDecodeError:
        raise Refused("bad_caption", "a column that passes through is not UTF-8") from None
    except (ValueError, OverflowError, LookupError):
        return _plain_in_parts(value)


def _as_json(found: Any) -> Any:
    if isinstance(found, dict):
        return {str(name): _as_json(item) for name, item in found.items()}
    if isinstance(found, list | tuple):
        return [_as_json(item) for item in found]
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found if found is None or isinstance(found, bool | int | float | str) else str(found)


def _plain_in_parts(value: Any) -> Any:
    """Return a value that Python cannot hold: nanoseconds, years past 9999, unknown time zones, fields of one name."""
    if isinstance(value, pa.DictionaryScalar | pa.ExtensionScalar):
        return _plain(value.value)
    if isinstance(value, pa.StructScalar):
        return {field.name: _plain(value[i]) for i, field in enumerate(value.type)}
    if hasattr(value, "values"):
        return [_plain(item) for item in value.values]
    try:
        return value.cast(pa.string()).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise Refused("bad_json", f"a column that passes through holds a {value.type} that cannot be written") from None
