"""Tars read front to back, believing nothing that they say.

Python's tarfile ends at the first header that it cannot read as if the archive ended there, and
reads headers of any size into memory. Here an archive that breaks off, or goes on after its end, is
an error, and a header has a largest size.

>>> import io
>>> from fistful.bow.store.shard import tar_bytes
>>> tar = TarReader(io.BytesIO(tar_bytes({"a.txt": b"hello"})))
>>> [(member.name, tar.read()) for member in tar]
[('a.txt', b'hello')]
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from fistful.bow.store.shard import BLOCK

MAX_HEADER = 1 << 20
"""Largest pax or GNU header, in bytes: a name has at most 4,096."""

STEP = 1 << 20


class Member(NamedTuple):
    """What a tar says of one of its members."""

    name: str
    """Bytes that are not UTF-8 are surrogates."""
    size: int
    kind: str
    """file, folder, or other: links, devices, and files with holes."""


class TarReader:
    """Yields the members of a tar; `read` gives the content of the last one.

    Args:
        stream: At the tar's start; need not be seekable.

    Raises:
        tarfile.ReadError: While it is read, where the archive breaks off.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = 0  # bytes of the current member, not read yet
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        long_name: bytes | None = None
        pax: dict[bytes, bytes] = {}
        while header := self._next_header():
            if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax |= _pax_records(self._read_header(header.size))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                long_name = self._read_header(header.size).partition(b"\0")[0]
            elif header.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                self._read_header(header.size)
            else:
                yield self._open(header, pax, long_name)
                long_name, pax = None, {}

    def read(self) -> bytes:
        """Return what is left of the current member's content."""
        data = self._exactly(self._left)
        self._left = 0
        return data

    def _open(self, header: tarfile.TarInfo, pax: dict[bytes, bytes], long_name: bytes | None) -> Member:
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes")
        raw_name = pax.get(b"path", long_name)
        name = header.name if raw_name is None else raw_name.decode("utf-8", "surrogateescape")
        size = int(pax.get(b"size", header.size))
        if size < 0:
            raise tarfile.ReadError(f"a member of {size} bytes")
        is_file = header.type in tarfile.REGULAR_TYPES
        if is_file or header.type not in tarfile.SUPPORTED_TYPES:  # links, folders, devices have no content
            self._left, self._padding = size, -size % BLOCK
        if header.isdir():
            return Member(name, size, "folder")
        has_holes = any(key.startswith(b"GNU.sparse.") for key in pax)
        return Member(name, size, "file" if is_file and not has_holes else "other")

    def _next_header(self) -> tarfile.TarInfo | None:
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        block = self._read(BLOCK)
        if not block:
            raise tarfile.ReadError("no end marker")
        if block.count(0) == BLOCK:
            self._check_end()
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise tarfile.ReadError(str(error)) from None
        if header.size < 0:
            raise tarfile.ReadError(f"a member of {header.size} bytes")
        return header

    def _read_header(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes, at most {MAX_HEADER} are read")
        return self._exactly(size + -size % BLOCK)[:size]

    def _check_end(self) -> None:
        while block := self._read(STEP):
            if block.count(0) < len(block):
                raise tarfile.ReadError("goes on after its end marker")

    def _skip(self, n_bytes: int) -> None:
        while n_bytes:
            n_bytes -= len(self._exactly(min(n_bytes, STEP)))

    def _exactly(self, n_bytes: int) -> bytes:
        data = self._read(n_bytes)
        if len(data) < n_bytes:
            raise tarfile.ReadError("unexpected end of data")
        return data

    def _read(self, n_bytes: int) -> bytes:
        """Read up to n_bytes, less only at the end; memory grows with what is there, not with what is announced."""
        parts: list[bytes] = []
        while n_bytes > 0 and (part := self._stream.read(min(n_bytes, STEP))):
            parts.append(part)
            n_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header: "LENGTH KEY=VALUE" and a newline, LENGTH counting all of it."""
    records: dict[bytes, bytes] = {}
    while data and data[0] != 0:
        digits = data[:20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if length > len(data) or not equals or data[length - 1 : length] != b"\n":
            raise tarfile.ReadError("a pax header that is none")
        records[key] = value
        data = data[length:]
    return records
