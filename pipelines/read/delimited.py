"""Rows of TSV and CSV files, and of plain text.

Blocks in which nothing is odd become columns at once; every other block goes row by row, which
says exactly what is wrong with which one. Both ways give the same rows (tests/pipelines/read/test_delimited.py).
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.plain_text import MARK, MAX_TEXT
from fistful.errors import UsageError

from .beginning import SEPARATORS, begin, csv_separator, other_separator, without_empty_lines
from .lines import BLOCK
from .records import CsvText, Fields, Record, Strings, TsvText, as_bytes, split_line, split_tsv
from .rows import Places, RowBatch, extra_json, letters_only, make_letter, no_caption
from .source_options import SourceOptions, caption_names, pick_names, split_names
from .units import Unit

PIECE = BLOCK // 16
"""Bytes of a block that go row by row together, where something in the block is odd."""
NO_SEPARATOR = "\x1f"
"""What would part columns where there is one: a sign that no text has, or its lines go one by one."""
MAX_WIDTH = 256
"""Columns of the widest table whose blocks become columns at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class TableColumns:
    """Which columns of a table are wanted."""

    unit: Unit
    captions: tuple[int, ...]
    extra: tuple[tuple[str, int], ...]
    """Name and place of each column that passes through."""
    width: int
    """Columns that every row must have."""
    places: Places
    need_captions: bool
    separator: str = ""
    """What parts the columns of a table in text."""
    image: int | None = None
    """The column that names pictures, where there is one."""

    @property
    def wanted(self) -> list[int]:
        """The columns that are read."""
        return sorted({*self.captions, *(place for _, place in self.extra), *([] if self.image is None else [self.image])})

    @property
    def most(self) -> int:
        """The last column that is read."""
        return max(self.wanted, default=0)


class Found(NamedTuple):
    """What was found in a row."""

    number: int
    captions: list[str]
    extra: str
    picture: str = ""


def read_table(
    unit: Unit, options: SourceOptions, blocks: Iterator[bytes], first: Record | None, need_captions: bool
) -> Iterator[RowBatch]:
    """Yield the rows of a TSV or CSV file.

    Args:
        unit: Where the lines stand.
        options: Which columns to take.
        blocks: The unit's lines.
        first: The file's first line, where the unit starts further on.
        need_captions: Refuse rows without a caption.

    Raises:
        UsageError: If a column is not there.
    """
    number, places = 0, places_of(unit)
    try:
        source, separator = table_text(unit, options, blocks)
        if options.has_header and first is None:
            first = source.next_record()
            if first is None:
                return
        layout = _find_columns(unit, options, first, need_captions, separator)
        while not layout.width and (first := source.next_record()) is not None:  # what is the first row says of all rows
            layout = dataclasses.replace(layout, width=len(first) if isinstance(first, list) else 0)
            number += 1
            yield _batch_of_records([first], number - 1, layout)
        for piece in source.pieces():
            for batch in _parse(piece, number, layout) if isinstance(piece, bytes) else [_batch_of_strings(piece, number, layout)]:
                number += batch.n_read
                yield batch
    except Refused as refused:
        yield letters_only([make_letter(refused.reason, unit, places.at(number), refused.detail, b"")])


def read_text(unit: Unit, blocks: Iterator[bytes], need_captions: bool) -> Iterator[RowBatch]:
    """Yield the lines of plain text, a caption each: one column without a header, whatever may part others.

    Args:
        unit: Where the lines stand.
        blocks: The unit's lines.
        need_captions: Refuse lines of spaces alone.
    """
    layout = TableColumns(unit, (0,), (), 1, places_of(unit), need_captions, NO_SEPARATOR)
    number = 0
    try:
        for block in filter(None, map(without_empty_lines, begin(unit, blocks))):
            for batch in _parse(block, number, layout):
                number += batch.n_read
                yield batch
    except Refused as refused:
        yield letters_only([make_letter(refused.reason, unit, layout.places.at(number), refused.detail, b"")])


def table_text(unit: Unit, options: SourceOptions, blocks: Iterator[bytes]) -> tuple[CsvText | TsvText, str]:
    """Return the records of a unit's lines, and what parts their columns.

    Raises:
        UsageError: If the file cannot be read, by its first bytes.
    """
    blocks = begin(unit, blocks)
    if unit.kind != "csv":
        return TsvText(blocks), "\t"
    separator, blocks = csv_separator(blocks, options)
    separator = options.separator or separator
    return CsvText(blocks, separator), separator


def names_of(header: Record | None) -> list[str]:
    """Return the names of columns that a table's first line gives; none where it cannot be read."""
    return [name.decode("utf-8", "replace").strip() for name in header] if isinstance(header, list) else []


def places_of(unit: Unit) -> Places:
    """Return how rows of a text unit are called."""
    return Places(f" from byte {unit.start}" if unit.start else "")


# Which columns


def _find_columns(unit: Unit, options: SourceOptions, first: Record | None, need_captions: bool, separator: str) -> TableColumns:
    width = len(first) if isinstance(first, list) else 0
    names = names_of(first) if options.has_header else []

    def wrong(part: str, n_times: int) -> str:
        if not n_times and part in (options.image, "split"):
            shown = ", ".join(repr(n[:40]) for n in names[:12])
            return f"{unit.path}: no column {part!r} in its first line ({shown}); --image NAME names the column of pictures"
        return _wrong_column(unit, part, n_times, names)

    if options.by_number:
        captions, extra, image = map(_numbered, (options.caption, options.columns, options.image))
        if need_captions and not captions:
            raise UsageError(f"{unit.path}: --image {options.image} is a number; --caption N says by number too where captions stand")
    else:
        captions = [names.index(name) for name in caption_names(options, names, wrong, need_captions)]
        extra, image = (
            [names.index(name) for name in pick_names(asked, names, wrong)] if asked else []
            for asked in (options.columns, options.image if options.names_images else "")
        )
    named = tuple((names[place] if place < len(names) else str(place + 1), place) for place in extra)
    return TableColumns(unit, tuple(captions), named, width, places_of(unit), need_captions, separator, image[0] if image else None)


def _numbered(asked: str) -> list[int]:
    return [int(part) - 1 for part in split_names(asked) if part.isdecimal()]


def _wrong_column(unit: Unit, name: str, n_times: int, names: list[str]) -> str:
    """Return what to say of a column that is not there, or several times."""
    if n_times:
        place = names.index(name) + 1
        return f"{unit.path}: column {name!r} is there {n_times} times in its first line; --caption {place} --header takes the first"
    shown = ", ".join(repr(n[:40]) for n in names[:12])
    found = f"{unit.path}: no column {name!r} in its first line ({shown})"
    if len(names) == 1 and (hint := other_separator(unit.kind, names[0].encode())):
        return found + hint
    second = "--caption 2 takes the second" if len(names) != 1 else "--caption 1 takes the first"
    return f"{found}; --caption NAME names the caption column, {second} of a file without header"


# Blocks at once


def _parse(block: bytes, number: int, layout: TableColumns) -> Iterator[RowBatch]:
    """Yield the rows of some whole lines without quotes: as columns where nothing is odd, else in pieces, the odd ones row by row."""
    batch = _parse_at_once(block, number, layout) if block.count(b"\n") < PIECE else None  # of very short lines fewer
    if batch is not None:
        yield batch
        return
    for piece in [block] if len(block) <= PIECE else cut(block):
        batch = _parse_at_once(piece, number, layout) if len(piece) < len(block) else None
        if batch is None:
            batch = _batch_of_records(_split(piece, layout), number, layout)
        number += batch.n_read
        yield batch


def cut(block: bytes) -> Iterator[bytes]:
    """Yield whole lines in pieces of some size."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + PIECE) + 1 or len(block)
        yield block[start:end]
        start = end


def _parse_at_once(block: bytes, number: int, layout: TableColumns) -> RowBatch | None:
    """Return the rows of some whole lines, or None if one of them may be odd."""
    if len(block) >= MAX_TEXT or not layout.most < layout.width <= MAX_WIDTH or block.startswith(MARK):
        return None
    if (layout.unit.kind == "csv" and b'"' in block) or block.count(b"\r") != block.count(b"\r\n"):
        return None
    wanted = layout.wanted
    try:
        table = _read_columns(block, layout.separator, layout.width, wanted)
    except pa.ArrowInvalid:  # another number of columns, or not UTF-8
        return None
    if table.num_rows != block.count(b"\n") + (not block.endswith(b"\n")):
        return None
    columns = {place: pc.utf8_trim_whitespace(column.combine_chunks()) for place, column in zip(wanted, table.columns, strict=True)}
    extra = [(name, table[str(place)]) for name, place in layout.extra]
    pictures = None if layout.image is None else columns[layout.image]
    return batch_of_columns([columns[place] for place in layout.captions], extra, number, layout, pictures)


def _read_columns(block: bytes, delimiter: str, width: int, wanted: list[int]) -> pa.Table:
    names = [str(place) for place in range(width)]
    asked = [names[place] for place in wanted]
    return pacsv.read_csv(
        pa.BufferReader(block),
        pacsv.ReadOptions(use_threads=False, column_names=names, block_size=len(block) + 1),
        pacsv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
        pacsv.ConvertOptions(include_columns=asked, column_types=dict.fromkeys(asked, pa.string()), strings_can_be_null=False),
    )


def batch_of_columns(
    captions: list[pa.StringArray], extra: list[tuple[str, Any]], number: int, layout: TableColumns, pictures: Any = None
) -> RowBatch:
    """Put rows together from columns.

    Args:
        captions: Columns of captions, stripped, without nulls.
        extra: Name and values of each column that passes through.
        number: Of the first row.
        layout: Where they come from.
        pictures: The column that names pictures.
    """
    k = len(captions)
    if not k:  # none are needed
        captions = [pa.array([""] * len(pictures), pa.string())]
    n, flat = len(captions[0]), captions[0]
    if k > 1:  # row by row: the first caption of each, the second of each, ...
        flat = pa.concat_arrays(captions).take(pa.array((np.arange(k) * n + np.arange(n)[:, None]).ravel()))
    filled = pc.binary_length(flat).to_numpy(zero_copy_only=False) > 0
    n_captions = filled.reshape(n, max(k, 1)).sum(axis=1)
    usable = (n_captions > 0) if layout.need_captions else np.ones(n, bool)
    if not filled.all():
        flat = flat.filter(pa.array(filled))
    numbers = np.arange(number, number + n, dtype=np.int64)
    return RowBatch(
        numbers=numbers[usable],
        captions=flat,
        groups=np.concatenate([[0], np.cumsum(n_captions[usable], dtype=np.int64)]),
        letters=[no_caption(layout.unit, layout.places.at(i)) for i in numbers[~usable].tolist()],
        n_read=n,
        source_keys=layout.places,
        sources=layout.unit.name,
        extra=_extra_texts(extra, usable) if extra else "{}",
        pictures=None if pictures is None else pictures.filter(pa.array(usable)).to_pylist(),
    )


def _extra_texts(extra: list[tuple[str, Any]], usable: np.ndarray) -> list[str]:
    names = [name for name, _ in extra]
    columns = [column.filter(pa.array(usable)).to_pylist() for _, column in extra]
    return [extra_json(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


# Row by row


def _split(piece: bytes, layout: TableColumns) -> list[Record]:
    if layout.unit.kind == "csv":
        return list(iter(CsvText(iter([piece]), layout.separator).next_record, None))
    lines = piece.split(b"\n")
    split = split_line if layout.unit.kind == "txt" else split_tsv
    return [split(line) for line in (lines if lines[-1] else lines[:-1])]


def _batch_of_records(records: list[Record], number: int, layout: TableColumns) -> RowBatch:
    """Put rows together one by one."""
    found: list[Found] = []
    letters: list[DeadLetter] = []
    for n, fields in enumerate(records, number):
        place = layout.places.at(n)
        try:
            if isinstance(fields, Refused):
                raise fields
            captions = [caption for caption in _captions_in(fields, layout) if caption]
            if captions or not layout.need_captions:
                picture = "" if layout.image is None else _text(fields[layout.image]).strip()
                found.append(Found(n, captions, _extra_in(fields, layout), picture))
            else:
                letters.append(no_caption(layout.unit, place))
        except Refused as refused:
            raw = _line_of(fields, layout) if isinstance(fields, list) else refused.raw
            letters.append(make_letter(refused.reason, layout.unit, place, refused.detail, raw, _picture_of(fields, layout)))
    return batch_of_found(found, letters, len(records), layout)


def _picture_of(fields: Record, layout: TableColumns) -> str:
    """Return which picture a refused row names; "" where that cannot be told."""
    if layout.image is None:
        return ""
    parts = [part.strip(b' "') for part in fields.raw.split(layout.separator.encode())] if isinstance(fields, Refused) else fields
    named = parts[layout.image] if layout.image < len(parts) else b""
    try:
        return named.decode("utf-8").strip()
    except UnicodeDecodeError:  # the likeliest: it is only to be known again
        return named.decode("cp1252", "replace").strip()


def _line_of(fields: Fields, layout: TableColumns) -> bytes:
    """Return a row as its file would have it."""
    if layout.unit.kind != "csv":
        return b"\t".join(fields)
    text = io.StringIO(newline="")
    strings = [field.decode("utf-8", "surrogateescape") for field in fields]
    csv.writer(text, delimiter=layout.separator, lineterminator="").writerow(strings)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _batch_of_strings(records: list[Strings], number: int, layout: TableColumns) -> RowBatch:
    """Put the csv module's records together: at once where nothing is odd."""
    if all(type(record) is list and len(record) == layout.width for record in records) and layout.most < layout.width:
        try:
            captions = [pa.array([record[place].strip() for record in records], pa.string()) for place in layout.captions]
            extra = [(name, pa.array([record[place] for record in records], pa.string())) for name, place in layout.extra]
            named = [place for place in [layout.image] if place is not None]
            pictures = [pa.array([record[place].strip() for record in records], pa.string()) for place in named]
            return batch_of_columns(captions, extra, number, layout, *pictures)
        except UnicodeEncodeError:  # bytes that are not UTF-8
            pass
    return _batch_of_records([as_bytes(r) if isinstance(r, list) else r for r in records], number, layout)


def batch_of_found(found: list[Found], letters: list[DeadLetter], n_read: int, layout: TableColumns) -> RowBatch:
    """Put rows together one by one."""
    return RowBatch(
        numbers=np.array([row.number for row in found], np.int64),
        captions=pa.array([caption for row in found for caption in row.captions], pa.string()),
        groups=np.cumsum([0, *(len(row.captions) for row in found)], dtype=np.int64),
        letters=letters,
        n_read=n_read,
        source_keys=layout.places,
        sources=layout.unit.name,
        extra=[row.extra for row in found] if layout.extra else "{}",
        pictures=[row.picture for row in found],
    )


def _captions_in(fields: Fields, layout: TableColumns) -> list[str]:
    if len(fields) != layout.width or layout.most >= layout.width:
        wanted = f"expected {layout.width if layout.most < layout.width else f'{layout.most + 1} or more'}"
        unquoted = layout.unit.kind == "csv" and len(fields) > layout.width > layout.most
        way = f"; quote texts that have {SEPARATORS.get(layout.separator, repr(layout.separator))}" if unquoted else ""
        raise Refused("bad_row", f"{len(fields)} columns, {wanted}{way}")
    return [_text(fields[place]).strip() for place in layout.captions]


def _extra_in(fields: Fields, layout: TableColumns) -> str:
    return extra_json({name: _text(fields[place]) for name, place in layout.extra})


def _text(field: bytes) -> str:
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_caption", f"not UTF-8 ({error.reason} at byte {error.start})") from None
