"""Rows of a unit, in batches: what every job reads, whatever the input's format.

A row that cannot be used becomes a dead letter here; its row number stays taken, so that a sample's
KEY says where it stood.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import IO, Any, cast

from fistful.bow.store.config import semantic
from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.files import open_input
from fistful.errors import UsageError
from fistful.pipelines.rows import MAX_MEMBER, MAX_TEXT, SURROGATE, Batch, Row, make_letter
from fistful.pipelines.tars import read_tar
from fistful.pipelines.units import Unit

BLOCK = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """Where a row's caption stands."""

    caption: str = semantic("caption")
    """TSV and CSV: name of the caption column (the file then has a header line), or its number, from 1.
    Tars: captions come from KEY.json's list "captions", else from KEY.txt."""
    header: bool = semantic(False)
    """The first line is a header though columns are given by number."""

    def __post_init__(self) -> None:
        if self.caption == "0":
            raise UsageError("--caption 0: columns are numbered from 1")


class HashingReader(io.RawIOBase):
    """Reads a file and hashes what it reads."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Return True: it is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is data."""
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._sha256.update(data)
        return len(data)

    def drain(self) -> str:
        """Read what is left and return the SHA-256 of everything."""
        while self.read(BLOCK):
            pass
        return self._sha256.hexdigest()


@contextlib.contextmanager
def open_unit(
    unit: Unit, options: SourceOptions, with_images: bool, need_captions: bool = True
) -> Generator[tuple[Iterator[Batch], dict[str, str]]]:
    """Open a unit: its batches, and a dict that receives the inputs' SHA-256 once all were read.

    Args:
        unit: What to read.
        options: Where captions stand.
        with_images: Read images too.
        need_captions: Refuse rows without a caption.

    Raises:
        UsageError: If the caption column is not there.
        DataError: If the input cannot be read as what it claims to be.
    """
    content: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        items = _read_images(unit, content) if unit.kind == "images" else _read_file(unit, options, with_images, content, stack)
        yield _batches(items, unit, need_captions), content


def check_unit(unit: Unit, options: SourceOptions) -> None:
    """Look at the first row of a text unit, before anything is written.

    Raises:
        UsageError: If it has no such caption column.
    """
    if unit.kind in ("tsv", "csv"):
        with open_unit(unit, options, with_images=False) as (batches, _):
            first = next(batches, None)
        letter = first.letters[0] if first and first.letters else None
        if letter and letter.reason == "bad_row" and letter.place == "row 1" and options.caption.isdigit():
            raise UsageError(f"{unit.path}: its first row has {letter.detail.split(',')[0]}, --caption {options.caption} needs more")


def _batches(items: Iterable[Row | DeadLetter], unit: Unit, need_captions: bool) -> Iterator[Batch]:
    batch = Batch()
    for item in items:
        batch.n_read += 1
        if isinstance(item, DeadLetter):
            batch.letters.append(item)
        elif need_captions and not any(item.captions):
            batch.letters.append(make_letter("no_caption", unit, item.source_key, "caption is empty or missing", b""))
        else:
            item.captions = [c for c in item.captions if c]
            batch.rows.append(item)
            batch.n_bytes += item.size_bytes()
        if batch.full():
            yield batch
            batch = Batch()
    if batch.n_read:
        yield batch


def _read_file(
    unit: Unit, options: SourceOptions, with_images: bool, content: dict[str, str], stack: contextlib.ExitStack
) -> Iterator[Row | DeadLetter]:
    raw = stack.enter_context(open_input(unit.path))
    if unit.kind == "tsv" and not unit.name.endswith(".gz"):
        yield from _read_tsv_range(unit, options, raw, content)
        return
    hashed = HashingReader(raw)
    stream: IO[bytes] = io.BufferedReader(hashed, BLOCK)
    if unit.name.endswith(".gz"):
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if unit.kind == "tar":
        yield from read_tar(unit, stream, with_images)
    elif unit.kind == "csv":
        yield from _rows_of_columns(unit, options, _csv_rows(stream), None)
    else:
        yield from _rows_of_columns(unit, options, map(_split_tsv, _lines(stream)), None)
    content[unit.name] = hashed.drain()


# TSV and CSV


def _read_tsv_range(unit: Unit, options: SourceOptions, raw: IO[bytes], content: dict[str, str]) -> Iterator[Row | DeadLetter]:
    # what the first line says of all lines, a unit that starts further on must be told
    first = _split_tsv(raw.readline(MAX_TEXT)) if unit.start else None
    raw.seek(max(0, unit.start - 1))
    start = unit.start
    if start:  # the line that runs into the range belongs to the one before
        start += sum(map(len, _pieces(raw))) - 1
    digest = hashlib.sha256()
    lines = _lines(raw, unit.stop - start, digest)
    yield from _rows_of_columns(unit, options, map(_split_tsv, lines), first)
    content[f"{unit.name}[{unit.start}:{unit.stop}]"] = digest.hexdigest()


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the next line, in pieces of at most MAX_TEXT bytes."""
    while piece := stream.readline(MAX_TEXT):
        yield piece
        if piece.endswith(b"\n"):
            return


def _lines(stream: IO[bytes], n_bytes: int | None = None, digest: Any = None) -> Iterator[bytes]:
    """Yield lines with their ends; of one longer than MAX_TEXT only so much.

    Args:
        stream: Stands at the start of a line.
        n_bytes: Only lines that start within so many bytes.
        digest: Is updated with all that is read.

    Raises:
        Refused: truncated, where a compressed file breaks off.
    """
    try:
        while n_bytes is None or n_bytes > 0:
            line = None
            for piece in _pieces(stream):
                line = piece if line is None else line
                if n_bytes is not None and digest is not None:
                    n_bytes -= len(piece)
                    digest.update(piece)
            if line is None:
                return
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refused("truncated", f"file broken from here on ({error})") from None


def _split_tsv(line: bytes) -> list[bytes] | Refused:
    if len(line) >= MAX_TEXT:
        return Refused("bad_row", f"a row of more than {MAX_TEXT} bytes")
    return line.rstrip(b"\r\n").split(b"\t")


class _TextLines:
    """Lines for the csv module, which may not put together a row of more than MAX_TEXT bytes."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.row_bytes = 0

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.row_bytes += len(line)
        if self.row_bytes >= MAX_TEXT:
            raise csv.Error(f"a row of more than {MAX_TEXT} bytes")
        # surrogateescape carries bytes that are not UTF-8 through the csv module and back
        return line.decode("utf-8", "surrogateescape")


def _csv_rows(stream: IO[bytes]) -> Iterator[list[bytes] | Refused]:
    csv.field_size_limit(MAX_TEXT)
    text = _TextLines(_lines(stream))
    reader = csv.reader(text)
    while True:
        text.row_bytes = 0
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line
            yield Refused("bad_row", f"not CSV ({str(error).partition(' - ')[0]})")
            continue
        yield [field.encode("utf-8", "surrogateescape") for field in fields]


def _rows_of_columns(
    unit: Unit, options: SourceOptions, rows: Iterator[list[bytes] | Refused], first: list[bytes] | Refused | None
) -> Iterator[Row | DeadLetter]:
    """Yield a row for each line.

    Args:
        unit: Where the lines stand.
        options: Which column to take.
        rows: The lines' fields.
        first: The file's first line, where it is not among the rows.
    """
    number, after = -1, f" from byte {unit.start}" if unit.start else ""
    has_header = options.header or not options.caption.isdigit()
    try:
        if has_header and first is None:
            first = next(rows, None)
            if first is None:
                return
        width = len(first) if isinstance(first, list) else 0
        column = _caption_column(unit, options, first if has_header and isinstance(first, list) else [])
        for number, fields in enumerate(rows):
            place = f"row {number + 1}{after}"
            try:
                if isinstance(fields, Refused):
                    raise fields
                width = width or len(fields)
                yield Row(number, place, [_caption_in(fields, column, width)], source=unit.name)
            except Refused as refused:
                raw = b"\t".join(fields) if isinstance(fields, list) else b""
                yield make_letter(refused.reason, unit, place, refused.detail, raw)
    except Refused as refused:
        yield make_letter(refused.reason, unit, f"row {number + 2}{after}", refused.detail, b"")


def _caption_in(fields: list[bytes], column: int, width: int) -> str:
    if len(fields) != width or column >= width:
        wanted = f"expected {width if column < width else f'{column + 1} or more'}"
        raise Refused("bad_row", f"{len(fields)} columns, {wanted}")
    try:
        return fields[column].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise Refused("bad_caption", f"not UTF-8 ({error.reason} at byte {error.start})") from None


def _caption_column(unit: Unit, options: SourceOptions, header: list[bytes]) -> int:
    if options.caption.isdigit():
        return int(options.caption) - 1
    names = [name.decode("utf-8", "replace").removeprefix("\ufeff").strip() for name in header]
    if options.caption not in names:
        shown = ", ".join(repr(n[:40]) for n in names[:12])
        raise UsageError(
            f"{unit.path}: no column {options.caption!r} in its first line ({shown}); "
            "--caption NAME names the caption column, --caption 2 takes the second of a file without header"
        )
    return names.index(options.caption)


# Folders of images


def _read_images(unit: Unit, content: dict[str, str]) -> Iterator[Row | DeadLetter]:
    digest = hashlib.sha256()
    for number, name in enumerate(unit.files):
        stem, extension = os.path.splitext(name)
        text = b""
        try:
            if SURROGATE.search(name):
                raise Refused("bad_name", "name is not UTF-8")
            image = _read_whole(os.path.join(unit.path, name), MAX_MEMBER)
            text_path = os.path.join(unit.path, stem + ".txt")
            if os.path.isfile(text_path):
                text = _read_whole(text_path, MAX_TEXT)
            digest.update(image + text)
            captions = [line.strip() for line in text.decode("utf-8").splitlines()]
            yield Row(number, stem, captions, image, extension[1:].lower(), os.path.dirname(name))
        except Refused as refused:
            yield make_letter(refused.reason, unit, name, refused.detail, text)
        except UnicodeDecodeError as error:
            yield make_letter("bad_caption", unit, name, f"not UTF-8 ({error.reason} at byte {error.start})", text)
    content[f"{unit.name} and {len(unit.files) - 1} more"] = digest.hexdigest()


def _read_whole(path: str, most: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Refused("bad_name", f"{os.path.basename(path)} has more than the {most} bytes that are read")
    return data
