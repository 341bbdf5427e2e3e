r"""How text files begin: what says how the rest is to be read, and what cannot be read at all.

>>> separator_of(b"id;caption\r\n", SourceOptions())
';'
>>> separator_of(b"caption, long; id\r\n", SourceOptions(caption="1", header=True))
','
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import IO

from fistful.bow.store.plain_text import MARK, MAX_TEXT, encoding_of, to_utf8
from fistful.errors import UsageError

from .lines import LITTLE
from .source_options import AUTO, NONE, SourceOptions, split_names, usual_name
from .units import Unit

EMPTY = re.compile(rb"^\r*(?:\n|\Z)", re.MULTILINE)
SEPARATOR_LINE = re.compile(rb'"?sep=([,;|\t])"?\s*', re.IGNORECASE)
"""What Excel writes, and reads, before a CSV's first row."""
OTHERS = {";": "semicolons", "|": "bars", "\t": "tabs"}
"""What parts the columns of a CSV where commas do not."""
SEPARATORS = {",": "commas", **OTHERS}


def begin(unit: Unit, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a unit's blocks, without the mark that its file may begin with.

    Raises:
        UsageError: If the file is not UTF-8 by its first bytes, its lines end with CR alone, or it is one JSON array.
    """
    if not unit.start:
        first = next(blocks, b"").removeprefix(MARK)
        _check(unit, first)
        yield first
    yield from blocks


def _check(unit: Unit, first: bytes) -> None:
    if name := encoding_of(first):
        raise UsageError(f"{unit.path}: not UTF-8 but {name}, expected UTF-8{to_utf8(unit.path, f' but {name}')}")
    if b"\n" not in first and b"\r" in first.rstrip(b"\r"):
        raise UsageError(f"{unit.path}: its lines end with CR alone, as on old Macs, expected LF: tr '\\r' '\\n' < {unit.path} > NEW")
    if unit.kind == "jsonl" and re.match(rb"\s*\[\s*\{", first):
        raise UsageError(f"{unit.path}: is one JSON array, expected one object on each line: jq -c '.[]' {unit.path} > NEW")


def without_empty_lines(block: bytes) -> bytes:
    r"""Return lines without the empty ones, which are no rows.

    >>> without_empty_lines(b"\nred\n\r\n\nblue\n")
    b'red\nblue\n'
    """
    odd = block[:1] in (b"\n", b"\r") or b"\n\n" in block or b"\n\r" in block
    return EMPTY.sub(b"", block) if odd else block


def first_line(file: IO[bytes]) -> tuple[bytes, int]:
    """Return a file's first line that is not empty, without the mark before it, and where it starts."""
    data = file.read(LITTLE)
    start = len(MARK) if data.startswith(MARK) else 0
    data = data[start:]
    while data and not data.lstrip(b"\r\n"):
        start += len(data)
        data = file.read(LITTLE)
    line = data.lstrip(b"\r\n")
    start += len(data) - len(line)
    end = line.find(b"\n") + 1
    return line[:end] if end else line + file.readline(MAX_TEXT - len(line)), start


def csv_separator(blocks: Iterator[bytes], options: SourceOptions) -> tuple[str, Iterator[bytes]]:
    """Return what separates the columns of a CSV, by its first line, and its blocks without a line that says only that."""
    first = next(blocks, b"").lstrip(b"\r\n")
    while first == b"" and (more := next(blocks, b"")):
        first = more.lstrip(b"\r\n")
    end = first.find(b"\n") + 1 or len(first)
    if found := SEPARATOR_LINE.fullmatch(first[:end]):
        return found[1].decode(), _before(first[end:], blocks)
    return separator_of(first[:end], options), _before(first, blocks)


def _before(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks


def separator_of(line: bytes, options: SourceOptions) -> str:
    """Return what separates the columns of a CSV with this header: the comma, unless only one other has the columns asked for.

    Without a header the first line is as any other, and what it might be parted by as well.
    """
    if not options.has_header or _has_columns(line, ",", options):
        return ","
    fits = [other for other in OTHERS if _has_columns(line, other, options)]
    if not fits and len(_fields(line, ",")) == 1:  # no separator has them: what parts it most is what the error shows
        fits = [other for other in OTHERS if len(_fields(line, other)) > 1]
    return fits[0] if len(fits) == 1 else ","


def _has_columns(line: bytes, separator: str, options: SourceOptions) -> bool:
    names = _fields(line, separator)
    if options.caption == AUTO and usual_name(names) is None:
        return False
    for asked in (options.caption, options.columns, options.image):
        parts = split_names(asked) if asked not in (AUTO, NONE) else []
        if options.by_number and any(int(part) > len(names) for part in parts):
            return False
        if not options.by_number and parts and asked not in names and not set(parts) <= set(names):
            return False
    return True


def _fields(line: bytes, separator: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line.decode("utf-8", "replace")], delimiter=separator), [])]
    except csv.Error:
        return []


def other_separator(kind: str, row: bytes) -> str:
    """Return what to say of a row that has too few columns, where something else seems to separate them."""
    if kind == "tsv":
        found = [name for sign, name in SEPARATORS.items() if sign.encode() in row and sign != "\t"]
        return f"; a TSV has tabs between its columns, --input-format csv reads one with {' or '.join(found)}" if found else ""
    found = [sign for sign in OTHERS if sign.encode() in row]
    if len(found) != 1:
        return ""
    way = "--input-format tsv reads it" if found == ["\t"] else f"--delimiter {OTHERS[found[0]].removesuffix('s')} says so"
    return f"; if {OTHERS[found[0]]} part its columns, {way}"
