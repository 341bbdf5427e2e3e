"""Records of TSV and CSV text: as the csv module reads them, and as TSV files, which are never quoted, have them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.plain_text import MAX_TEXT

from .beginning import without_empty_lines
from .rows import BATCH_ROWS

Fields = list[bytes]
Record = Fields | Refused
Strings = list[str] | Refused
"""What the csv module makes of a row; bytes that are not UTF-8 are surrogates."""

READ_AGAIN = 4
"""How often, on average, a CSV may be read again behind quotes that never close; some such quotes cost next to nothing,
but a hostile file could have every line read again to its end."""


def split_line(line: bytes) -> Record:
    """Return a line without its end as its only field."""
    if len(line) >= MAX_TEXT - 1:  # its end was cut off
        return Refused("bad_row", f"a row of more than {MAX_TEXT} bytes")
    return [line.rstrip(b"\r\n")]


def split_tsv(line: bytes) -> Record:
    """Return the fields of a line without its end."""
    whole = split_line(line)
    return whole[0].split(b"\t") if isinstance(whole, list) else whole


class TsvText:
    """The lines of a TSV file; empty ones are none."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = filter(None, map(without_empty_lines, blocks))
        self._rest = b""

    def next_record(self) -> Record | None:
        """Return the fields of the next line, or None at the end."""
        block = self._rest or next(self._blocks, b"")
        if not block:
            return None
        end = block.find(b"\n") + 1 or len(block)
        self._rest = block[end:]
        return split_tsv(block[:end].removesuffix(b"\n"))

    def pieces(self) -> Iterator[bytes]:
        """Yield what is left, in blocks of lines."""
        if self._rest:
            yield self._rest
        yield from self._blocks


class CsvText:
    """The records of a CSV file; it is the iterator of lines that the csv module reads."""

    def __init__(self, blocks: Iterator[bytes], separator: str = ",") -> None:
        csv.field_size_limit(MAX_TEXT)
        self._blocks = blocks
        self._block, self._at = b"", 0
        self._n_read = self._n_again = 0
        self._row_bytes = 0
        self._lines: list[bytes] = []  # of the record that is being read
        self._ended = False
        self._separator = separator
        self._reader = self._new_reader()

    def _new_reader(self) -> Any:
        return csv.reader(self, delimiter=self._separator)

    def __iter__(self) -> CsvText:
        return self

    def __next__(self) -> str:
        if self._at == len(self._block) and not self._next_block():
            self._ended = True
            raise StopIteration
        end = self._block.find(b"\n", self._at) + 1 or len(self._block)
        line, self._at = self._block[self._at : end], end
        self._row_bytes += len(line)
        self._lines.append(line)
        if self._row_bytes >= MAX_TEXT:  # the csv module would put a row of any size together
            raise csv.Error(f"a row of more than {MAX_TEXT} bytes")
        # surrogateescape carries bytes that are not UTF-8 through the csv module and back
        return line.decode("utf-8", "surrogateescape")

    def _next_block(self) -> bool:
        self._block, self._at = next(self._blocks, b""), 0
        self._n_read += len(self._block)
        return bool(self._block)

    def next_record(self) -> Record | None:
        """Return the fields of the next record, or None at the end."""
        strings = self._next_strings()
        return as_bytes(strings) if isinstance(strings, list) else strings

    def _next_strings(self) -> Strings | None:
        strings: list[str] | None = []
        while strings == []:  # what the csv module makes of an empty line
            self._row_bytes, self._lines, self._ended = 0, [], False
            try:
                strings = next(self._reader, None)
            except csv.Error as error:  # the reader goes on with the next line
                if len(self._lines) > 1:
                    return self._only_first_line()
                return Refused("bad_row", f"not CSV ({str(error).partition(' - ')[0]})", self._lines[0])
        if strings and (self._ended or (len(self._lines) > 1 and not self._is_strict())):
            return self._only_first_line()
        if strings and any(b'\\"' in line for line in self._lines) and not self._is_strict():  # Spark's and MySQL's way
            return Refused("bad_row", 'a quote behind a backslash, expected a doubled one ("")', b"".join(self._lines))
        return strings

    def _is_strict(self) -> bool:
        """Return whether the quotes of a record of several lines are where they belong: if not, a stray one took the others in."""
        lines = [line.decode("utf-8", "surrogateescape") for line in self._lines]
        try:
            return len(list(csv.reader(lines, delimiter=self._separator, strict=True))) == 1
        except csv.Error:
            return False

    def _only_first_line(self) -> Refused:
        """Refuse the line in which a quote opens that never closes, and have those behind it read again."""
        first, n_lines = self._lines[0], len(self._lines)
        n_rest = self._row_bytes - len(first)
        if self._n_again + n_rest > READ_AGAIN * self._n_read + MAX_TEXT:
            return Refused("bad_row", f"not CSV (a quote that never closes, and the {n_lines - 1} lines behind it)", first)
        self._n_again += n_rest
        self._reader = self._new_reader()  # the old one keeps as much memory as its longest field took
        self._block, self._at, self._lines = b"".join([*self._lines[1:], self._block[self._at :]]), 0, []
        return Refused("bad_row", "not CSV (a quote that never closes)", first)

    def pieces(self) -> Iterator[bytes | list[Strings]]:
        """Yield what is left: blocks without quotes as they are, others as records."""
        while self._at < len(self._block) or self._next_block():
            rest = self._block[self._at :] if self._at else self._block
            if b'"' in rest:
                yield from self.records()
            else:
                self._at = len(self._block)
                if lines := without_empty_lines(rest):
                    yield lines

    def records(self) -> Iterator[list[Strings]]:
        """Yield records up to the end of the block in which the last of them ends."""
        records: list[Strings] = []
        broken = None
        while not broken and (self._at < len(self._block) or (not records and self._next_block())):
            try:
                strings = self._next_strings()
            except Refused as refused:
                broken = refused
            else:
                records += [] if strings is None else [strings]
            if len(records) == BATCH_ROWS:
                yield records
                records = []
        if records:
            yield records
        if broken:  # the file breaks off in the middle of a record
            raise broken


def as_bytes(record: list[str]) -> Fields:
    """Return fields as they stood in the file."""
    return [field.encode("utf-8", "surrogateescape") for field in record]
