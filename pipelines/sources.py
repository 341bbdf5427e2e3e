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
import json
import os
import re
import tarfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import IO, Any, cast

from fistful.bow.store.config import semantic
from fistful.bow.store.dead_letters import DeadLetter, Reason, Refused
from fistful.bow.store.files import open_input
from fistful.bow.store.images import EXTENSIONS
from fistful.errors import DataError, UsageError
from fistful.pipelines.units import Unit

BATCH_ROWS = 16_384
BATCH_BYTES = 64 << 20
BLOCK = 1 << 22
MAX_LINE = 1 << 24
"""Longest line or CSV field, in bytes; past it the file is not text rows."""
MAX_MEMBER = 1 << 28
"""Largest tar member read into memory, in bytes."""


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


@dataclasses.dataclass(slots=True)
class Row:
    """A sample as it was read."""

    number: int
    source_key: str
    captions: list[str]
    image: bytes | None = None
    extension: str = ""
    source: str = ""
    extra: str = "{}"


@dataclasses.dataclass(slots=True)
class Batch:
    """Some consecutive rows of a unit: the usable ones, the refused ones, and how many in all."""

    rows: list[Row] = dataclasses.field(default_factory=list)
    letters: list[DeadLetter] = dataclasses.field(default_factory=list)
    n_read: int = 0
    n_bytes: int = 0

    def full(self) -> bool:
        """Return whether it is time for the next batch."""
        return len(self.rows) + len(self.letters) >= BATCH_ROWS or self.n_bytes >= BATCH_BYTES


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
def open_unit(unit: Unit, options: SourceOptions, with_images: bool) -> Generator[tuple[Iterator[Batch], dict[str, str]]]:
    """Open a unit: its batches, and a dict that receives the inputs' SHA-256 once all were read.

    Raises:
        UsageError: If the caption column is not there.
        DataError: If the input cannot be read as what it claims to be.
    """
    content: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        items = _read_images(unit, content) if unit.kind == "images" else _read_file(unit, options, with_images, content, stack)
        yield _batches(items, unit), content


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


def _batches(items: Iterable[Row | DeadLetter], unit: Unit) -> Iterator[Batch]:
    batch = Batch()
    for item in items:
        batch.n_read += 1
        if isinstance(item, DeadLetter):
            batch.letters.append(item)
        elif not any(item.captions):
            batch.letters.append(_letter("no_caption", unit, item.source_key, "caption is empty or missing", b""))
        else:
            item.captions = [c for c in item.captions if c]
            batch.rows.append(item)
            batch.n_bytes += len(item.image or b"")
        if batch.full():
            yield batch
            batch = Batch()
    if batch.n_read:
        yield batch


def _letter(reason: Reason, unit: Unit, place: str, detail: str, raw: bytes) -> DeadLetter:
    return DeadLetter(reason, unit.name, place.encode("utf-8", "backslashreplace").decode(), detail, raw)


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
        yield from _read_tar(unit, stream, with_images)
    elif unit.kind == "csv":
        yield from _rows_of_columns(unit, options, _csv_rows(unit, stream), None)
    else:
        yield from _rows_of_columns(unit, options, (_split_tsv(line) for line in _lines(stream)), None)
    content[unit.name] = hashed.drain()


# TSV and CSV


def _read_tsv_range(unit: Unit, options: SourceOptions, raw: IO[bytes], content: dict[str, str]) -> Iterator[Row | DeadLetter]:
    first = raw.readline(MAX_LINE) if options.header or not options.caption.isdigit() else b""
    start = unit.start
    if start:
        raw.seek(start - 1)
        start += len(raw.readline(MAX_LINE)) - 1  # the line that runs into the range belongs to the one before
    else:
        raw.seek(0)
    digest = hashlib.sha256()
    lines = _range_lines(_lines(raw), unit.stop - start, digest)
    header = _split_tsv(first) if first and unit.start else None
    yield from _rows_of_columns(unit, options, (_split_tsv(line) for line in lines), header)
    content[f"{unit.name}[{unit.start}:{unit.stop}]"] = digest.hexdigest()


def _range_lines(lines: Iterator[bytes], n_bytes: int, digest: Any) -> Iterator[bytes]:
    for line in lines:
        if n_bytes <= 0:
            return
        n_bytes -= len(line)
        digest.update(line)
        yield line


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield lines with their ends.

    Raises:
        Refused: truncated, where a compressed file breaks off.
    """
    try:
        while line := stream.readline(MAX_LINE):
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refused("truncated", f"file broken from here on ({error})") from None


def _split_tsv(line: bytes) -> list[bytes]:
    return line.rstrip(b"\r\n").split(b"\t")


def _csv_rows(unit: Unit, stream: IO[bytes]) -> Iterator[list[bytes]]:
    csv.field_size_limit(MAX_LINE)
    # surrogateescape carries bytes that are not UTF-8 through the csv module and back
    text = (line.decode("utf-8", "surrogateescape") for line in _lines(stream))
    try:
        for row in csv.reader(text):
            yield [field.encode("utf-8", "surrogateescape") for field in row]
    except csv.Error as error:
        raise DataError(f"{unit.path}: not CSV ({error})") from None


def _rows_of_columns(
    unit: Unit, options: SourceOptions, rows: Iterator[list[bytes]], header: list[bytes] | None
) -> Iterator[Row | DeadLetter]:
    by_name = not options.caption.isdigit()
    if header is None and (by_name or options.header):
        header = next(rows, None)
        if header is None:
            return
    column = _caption_column(unit, options, header)
    width = len(header) if header else 0
    number = -1
    after = f" from byte {unit.start}" if unit.start else ""
    try:
        for number, fields in enumerate(rows):
            width = width or len(fields)
            if len(fields) != width or column >= width:
                wanted = f"expected {width if column < width else f'{column + 1} or more'}"
                yield _letter("bad_row", unit, f"row {number + 1}{after}", f"{len(fields)} columns, {wanted}", b"\t".join(fields))
                continue
            try:
                caption = fields[column].decode("utf-8").strip()
            except UnicodeDecodeError as error:
                detail = f"not UTF-8 ({error.reason} at byte {error.start})"
                yield _letter("bad_caption", unit, f"row {number + 1}{after}", detail, fields[column])
                continue
            yield Row(number, f"row {number + 1}{after}", [caption], source=unit.name)
    except Refused as refused:
        yield _letter(refused.reason, unit, f"row {number + 2}{after}", refused.detail, b"")


def _caption_column(unit: Unit, options: SourceOptions, header: list[bytes] | None) -> int:
    if options.caption.isdigit():
        return int(options.caption) - 1
    names = [name.decode("utf-8", "replace").removeprefix("\ufeff").strip() for name in header or []]
    if options.caption not in names:
        shown = ", ".join(repr(n[:40]) for n in names[:12])
        raise UsageError(
            f"{unit.path}: no column {options.caption!r} in its first line ({shown}); "
            "--caption NAME names the caption column, --caption 2 takes the second of a file without header"
        )
    return names.index(options.caption)


# Tars: webdataset and img2dataset


def _read_tar(unit: Unit, stream: IO[bytes], with_images: bool) -> Iterator[Row | DeadLetter]:
    number, key, members = 0, None, {}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            seen: set[str] = set()
            for member in tar:
                if member.isdir():
                    continue
                name_key, extension = _split_name(member.name)
                if problem := _bad_member(member, name_key):
                    yield _letter("bad_name", unit, member.name, problem, b"")
                    number += 1
                    continue
                if name_key != key:
                    if key is not None:
                        yield _sample(unit, number, key, members, with_images)
                        number += 1
                    key, members = name_key, {}
                    if key in seen:
                        members["__twice__"] = b""
                    seen.add(key)
                if extension in members:
                    members["__twice__"] = b""
                wanted = extension in ("txt", "json") or (with_images and extension in EXTENSIONS)
                members[extension] = cast(IO[bytes], tar.extractfile(member)).read() if wanted else b""
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        yield _letter("truncated", unit, key or "start", f"archive broken after this sample ({error})", b"")
        return
    if key is not None:
        yield _sample(unit, number, key, members, with_images)


def _split_name(name: str) -> tuple[str, str]:
    folder, base = os.path.split(name)
    stem, _, extension = base.partition(".")
    return os.path.join(folder, stem), extension.lower()


def _bad_member(member: tarfile.TarInfo, key: str) -> str:
    if not member.isreg():
        return "not a regular file"
    if key.startswith("/") or ".." in key.split("/"):
        return "name leaves its folder"
    if _SURROGATE.search(member.name):
        return "name is not UTF-8"
    if member.size > MAX_MEMBER:
        return f"{member.size} bytes, at most {MAX_MEMBER} are read"
    return ""


def _sample(unit: Unit, number: int, key: str, members: dict[str, bytes], with_images: bool) -> Row | DeadLetter:
    try:
        if "__twice__" in members:
            raise Refused("bad_name", "this name stands twice in the archive")
        fields = _json_fields(members.get("json", b"{}"))
        captions = _captions_of(fields, members.get("txt"))
        extension = next((e for e in members if e in EXTENSIONS), "")
        image = members[extension] if extension and with_images else None
    except Refused as refused:
        return _letter(refused.reason, unit, key, refused.detail, members.get("txt") or members.get("json") or b"")
    source = fields.pop("source", None)
    source = source if isinstance(source, str) and source else unit.name
    return Row(number, key, captions, image, extension, source, _extra(fields))


def _json_fields(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_json", f"not JSON ({type(error).__name__})") from None
    if not isinstance(fields, dict):
        raise Refused("bad_json", f"expected an object, found {type(fields).__name__}")
    return fields


def _captions_of(fields: dict[str, Any], txt: bytes | None) -> list[str]:
    captions, single = fields.pop("captions", None), fields.pop("caption", None)
    if captions is None:
        if txt is None:
            captions = [single] if isinstance(single, str) else []
        else:
            try:
                captions = [txt.decode("utf-8")]
            except UnicodeDecodeError as error:
                raise Refused("bad_caption", f"not UTF-8 ({error.reason} at byte {error.start})") from None
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise Refused("bad_json", 'expected "captions" to be a list of strings')
    if any(_SURROGATE.search(c) for c in captions):
        raise Refused("bad_caption", "holds half of a surrogate pair")
    return [c.strip() for c in captions]


_SURROGATE = re.compile("[\ud800-\udfff]")


def _extra(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


# Folders of images


def _read_images(unit: Unit, content: dict[str, str]) -> Iterator[Row | DeadLetter]:
    digest = hashlib.sha256()
    for number, name in enumerate(unit.files):
        stem, extension = os.path.splitext(name)
        path = os.path.join(unit.path, name)
        with open(path, "rb") as file:
            image = file.read()
        text_path = os.path.join(unit.path, stem + ".txt")
        text = b""
        if os.path.exists(text_path):
            with open(text_path, "rb") as file:
                text = file.read()
        digest.update(image + text)
        try:
            captions = [line.strip() for line in text.decode("utf-8").splitlines()]
            yield Row(number, stem, captions, image, extension[1:].lower(), os.path.dirname(name))
        except UnicodeDecodeError as error:
            yield _letter("bad_caption", unit, name, f"not UTF-8 ({error.reason} at byte {error.start})", text)
    content[f"{unit.files[0]} and {len(unit.files) - 1} more"] = digest.hexdigest()
