"""Rows of a unit, in batches: what every job reads, whatever the input's format.

A row that cannot be used becomes a dead letter; its row number stays taken, so that a sample's
KEY says where it stood.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Generator, Iterable, Iterator
from typing import IO, cast

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import open_input
from fistful.errors import UsageError

from .beginning import first_line, other_separator
from .delimited import read_table, read_text
from .find_files import is_compressed
from .jsonl import read_json_lines
from .lines import BLOCK, HashingReader, decompressed, read_blocks
from .listings import read_listing
from .parquet import read_row_groups
from .pictures import read_folder, read_listed
from .records import split_tsv
from .rows import BATCH_BYTES, BATCH_ROWS, Row, RowBatch, batch_of_rows, no_caption
from .source_options import AUTO, SourceOptions
from .table_head import column_names
from .tars import read_tar
from .units import IN_LINES, TABLES, Unit


@contextlib.contextmanager
def open_unit(
    unit: Unit, options: SourceOptions, with_images: bool, need_captions: bool = True
) -> Generator[tuple[Iterator[RowBatch], dict[str, str]]]:
    """Open a unit: its batches, and a dict that receives the inputs' SHA-256 once all were read.

    Args:
        unit: What to read.
        options: Where captions stand.
        with_images: Read images too.
        need_captions: Refuse rows without a caption.

    Raises:
        UsageError: If the caption column is not there.
    """
    content: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if unit.kind == "images":
            yield _batches(read_folder(unit, content, with_images), unit, need_captions), content
            return
        if unit.root is not None or unit.kind == "json":
            yield _batches(read_listed(unit, options, content, with_images), unit, need_captions), content
            return
        raw = stack.enter_context(open_input(unit.path))
        if unit.kind == "parquet":
            inside = with_images and unit.has_pictures
            yield read_row_groups(unit, options, raw, content, need_captions, inside), content
        elif unit.kind in IN_LINES and not is_compressed(unit.name):
            yield _read_range(unit, options, raw, content, need_captions), content
        else:
            yield _read_whole(unit, options, raw, content, with_images, need_captions), content


def check_unit(unit: Unit, options: SourceOptions) -> None:
    """Look at the first rows of a unit, before anything is written.

    Raises:
        UsageError: If it has no such caption column.
    """
    listing = read_listing(unit.path, unit.name, unit.kind, options) if unit.root is not None or unit.kind == "json" else None
    # where most rows are refused, their dead letters say why
    if listing is not None and not len(listing.captions) and len(listing.letters) <= len(listing.names):
        names = ", ".join(repr(name[:40]) for name in column_names(unit.path, unit.kind, options)[:12]) if unit.kind != "json" else ""
        found = f"names pictures and has no captions{f' (its columns: {names})' if names else ''}"
        raise UsageError(f"{unit.path}: {found}; --caption COLUMN says which holds them")
    if listing is not None:
        _check_width(unit, options, next(iter(listing.letters), None))
    if listing is not None or unit.kind not in (*TABLES, "txt"):
        return
    with open_unit(unit, options, with_images=False) as (batches, _):
        first = next(batches, None)
    letter = first.letters[0] if first and first.letters else None
    _check_width(unit, options, letter)
    if first and letter and not first.n_rows and letter.detail.startswith("no field "):
        raise UsageError(f"{unit.path}: {letter.detail} in its first rows; --caption NAME names the field of captions")


def _check_width(unit: Unit, options: SourceOptions, letter: DeadLetter | None) -> None:
    """Refuse a table without the columns that numbers ask for, by its first dead letter."""
    if letter and letter.place == "row 1" and options.by_number and " columns, expected " in letter.detail:
        found = letter.detail.split(",")[0]
        hint = other_separator(unit.kind, letter.raw) if found == "1 columns" else ""
        asked = f"--caption {options.caption}" if options.caption != AUTO else f"--image {options.image}"
        raise UsageError(f"{unit.path}: its first row has {found}, {asked} needs more{hint}")


def _batches(items: Iterable[Row | DeadLetter], unit: Unit, need_captions: bool) -> Iterator[RowBatch]:
    rows: list[Row] = []
    letters: list[DeadLetter] = []
    n_read = n_bytes = 0
    for item in items:
        n_read += 1
        if isinstance(item, DeadLetter):
            letters.append(item)
        else:
            item.captions = [c for c in item.captions if c]
            if need_captions and not item.captions:
                letters.append(no_caption(unit, item.source_key))
            else:
                rows.append(item)
                n_bytes += len(item.image or b"") + len(item.captions[0] if item.captions else "")
        if n_read >= BATCH_ROWS or n_bytes >= BATCH_BYTES:
            yield batch_of_rows(rows, letters, n_read)
            rows, letters, n_read, n_bytes = [], [], 0, 0
    if n_read:
        yield batch_of_rows(rows, letters, n_read)


def _read_whole(
    unit: Unit, options: SourceOptions, raw: IO[bytes], content: dict[str, str], with_images: bool, need_captions: bool
) -> Iterator[RowBatch]:
    """Read a file from its beginning to its end."""
    hashed = HashingReader(raw)
    buffered = io.BufferedReader(hashed, BLOCK)
    stream = decompressed(cast(IO[bytes], buffered), unit.name) if unit.kind != "tar" else buffered
    if unit.kind == "tar":
        yield from _batches(read_tar(unit, buffered, with_images, need_captions), unit, need_captions)
    elif unit.kind == "jsonl":
        yield from read_json_lines(unit, options, read_blocks(stream), None, need_captions)
    elif unit.kind == "txt":
        yield from read_text(unit, read_blocks(stream), need_captions)
    else:
        yield from read_table(unit, options, read_blocks(stream), None, need_captions)
    content[unit.name] = hashed.drain()


def _read_range(unit: Unit, options: SourceOptions, raw: IO[bytes], content: dict[str, str], need_captions: bool) -> Iterator[RowBatch]:
    """Read the lines that start in a range of bytes."""
    first: bytes | None = None
    start = unit.start
    if start:
        line, begins = _first_line(unit.path)
        raw.seek(start - 1)
        start += _rest_of_line(raw) - 1  # the line that runs into the range belongs to the one before
        raw.seek(start)
        if begins < start:  # what the first line says of all lines
            first = line.removesuffix(b"\n")
    digest = hashlib.sha256()
    blocks = read_blocks(raw, unit.stop - start, digest)
    if unit.kind == "jsonl":
        yield from read_json_lines(unit, options, blocks, first, need_captions)
    elif unit.kind == "txt":
        yield from read_text(unit, blocks, need_captions)
    else:
        yield from read_table(unit, options, blocks, split_tsv(first) if first is not None else None, need_captions)
    content[f"{unit.name}[{unit.start}:{unit.stop}]"] = digest.hexdigest()


def _first_line(path: str) -> tuple[bytes, int]:
    with open_input(path) as file:  # another handle: some web servers let none go back
        return first_line(file)


def _rest_of_line(stream: IO[bytes]) -> int:
    n_bytes = 0
    while piece := stream.readline(BLOCK):
        n_bytes += len(piece)
        if piece.endswith(b"\n"):
            break
    return n_bytes
