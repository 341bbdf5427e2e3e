"""Tars read front to back, believing nothing that they say.

Python's tarfile ends at the first header that it cannot read as if the archive ended there, and
reads headers of any size into memory. Here an archive that breaks off is an error, one that another was
joined to (by cat) is read to the end of both, and a header has a largest size.

>>> import io
>>> from fistful.bow.store.shard import tar_bytes
>>> tar = TarReader(io.BytesIO(tar_bytes({"a.txt": b"hello"})))
>>> [(member.name, tar.read()) for member in tar]
[('a.txt', b'hello')]
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, cast
from zlib import adler32

from .shard import BLOCK

MAX_HEADER = 1 << 20
"""Largest pax or GNU header, in bytes: a name has at most 4,096."""

STEP = 1 << 20

GZIP, ZSTD, ZSTD_SKIPPED = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
OTHER_PACKING = {b"BZh": "packed with bzip2", b"\xfd7zXZ": "packed with xz", b"PK\3\4": "a zip", b"7z\xbc\xaf": "a 7z", b"Rar!": "a rar"}
"""First bytes of archives that are not read."""


class Member(NamedTuple):
    """What a tar says of one of its members."""

    name: str
    """Bytes that are not UTF-8 are surrogates."""
    size: int
    kind: str
    """file, folder, or other: links, devices, and files with holes."""
    offset: int
    """Where its content begins in the tar, unpacked."""


class Header(NamedTuple):
    """What a block of 512 bytes announces."""

    type: bytes
    name: str
    size: int
    is_folder: bool = False


class TarReader:
    """Yields the members of a tar; `read` gives the content of the last one.

    Args:
        stream: At the tar's start; need not be seekable, and is read in large steps.

    Raises:
        tarfile.ReadError: While it is read, where the archive breaks off.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._more: Callable[[int], bytes] = getattr(stream, "read1", stream.read)  # what breaks in a long step would be lost
        self._buffer, self._at = b"", 0
        self._offset = 0  # of the buffer in the tar
        self._left = 0  # bytes of the current member, not read yet
        self._padding = 0
        self.between = True
        """Whether the last member was read, or passed, to its end."""

    def __iter__(self) -> Iterator[Member]:
        long_name: bytes | None = None
        pax: dict[bytes, bytes] = {}
        while block := self._next_block():
            header = plain_header(block) or _any_header(block)
            if header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and long_name is None and not pax and not header.is_folder:
                self._left, self._padding, self.between = header.size, -header.size % BLOCK, False
                yield Member(header.name, header.size, "file", self._offset + self._at)
            elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax |= _pax_records(self._read_header(header.size))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                long_name = self._read_header(header.size).partition(b"\0")[0]
            elif header.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                self._read_header(header.size)
            else:
                member = self._open(header, pax, long_name)
                self.between = False
                yield member
                long_name, pax = None, {}

    def read(self) -> bytes:
        """Return what is left of the current member's content."""
        data = self._exactly(self._left)
        self._left = 0
        return data

    def _open(self, header: Header, pax: dict[bytes, bytes], long_name: bytes | None) -> Member:
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes")
        raw_name = pax.get(b"path", long_name)
        name = header.name if raw_name is None else raw_name.decode("utf-8", "surrogateescape")
        try:
            size = int(pax.get(b"size", header.size))
        except ValueError:
            raise tarfile.ReadError("a pax header that is none") from None
        if size < 0:
            raise tarfile.ReadError(f"a member of {size} bytes")
        is_file = header.type in tarfile.REGULAR_TYPES
        if is_file or header.type not in tarfile.SUPPORTED_TYPES:  # links, folders, devices have no content
            self._left, self._padding = size, -size % BLOCK
        if header.is_folder:
            return Member(name, size, "folder", self._offset + self._at)
        has_holes = any(key.startswith(b"GNU.sparse.") for key in pax)
        return Member(name, size, "file" if is_file and not has_holes else "other", self._offset + self._at)

    def _next_block(self) -> bytes:
        """Return the next header's block, empty at the end."""
        self._skip(self._left + self._padding)
        self._left, self._padding, self.between = 0, 0, True
        block = self._read(BLOCK)
        if not block:
            raise tarfile.ReadError("no end marker")
        return block if block[0] or block.count(0) < BLOCK else self._after_end()

    def _read_header(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes, at most {MAX_HEADER} are read")
        return self._exactly(size + -size % BLOCK)[:size]

    def _after_end(self) -> bytes:
        """Return the first block behind an end marker that is not empty: the header of a tar that cat joined on; b"" at the end."""
        while blocks := self._read(STEP):
            if blocks.count(0) < len(blocks):
                start = len(blocks) - len(blocks.lstrip(b"\0"))
                start -= start % BLOCK
                self._offset += self._at - (len(blocks) - start)
                self._buffer, self._at = blocks[start:] + self._buffer[self._at :], 0
                return self._read(BLOCK)
        return b""

    def _skip(self, n_bytes: int) -> None:
        if self._at + n_bytes <= len(self._buffer):
            self._at += n_bytes
            return
        while n_bytes:
            n_bytes -= len(self._exactly(min(n_bytes, STEP)))

    def _exactly(self, n_bytes: int) -> bytes:
        data = self._read(n_bytes)
        if len(data) < n_bytes:
            raise tarfile.ReadError("unexpected end of data")
        return data

    def _read(self, n_bytes: int) -> bytes:
        """Read up to n_bytes, less only at the end; memory grows with what is there, not with what is announced."""
        start, end = self._at, self._at + n_bytes
        if end <= len(self._buffer):
            self._at = end
            return self._buffer[start:end]
        parts = [self._buffer[start:]]
        n_bytes -= len(parts[0])
        self._offset += len(self._buffer)
        self._buffer, self._at = b"", 0
        while n_bytes > 0 and (part := self._more(STEP)):
            parts.append(part[:n_bytes])
            if len(part) > n_bytes:
                self._buffer, self._at = part, n_bytes
            else:
                self._offset += len(part)
            n_bytes -= len(parts[-1])
        return b"".join(parts)


def is_packed(stream: io.BufferedReader[Any]) -> bool:
    """Return whether a stream is packed with gzip or zstd."""
    start = stream.peek(BLOCK)[:BLOCK]
    return start.startswith((GZIP, ZSTD)) or start[1:4] == ZSTD_SKIPPED


def unpacked(stream: io.BufferedReader[Any]) -> IO[bytes]:
    """Return the tar in a stream, which may be packed with gzip or zstd: its first bytes say so, whatever it is called.

    Raises:
        tarfile.ReadError: If it is packed with something else.
    """
    start = stream.peek(BLOCK)[:BLOCK]
    if start.startswith(GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if is_packed(stream):
        import pyarrow as pa

        return cast(IO[bytes], pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd"))
    is_tar = start[257:262] == b"ustar"
    if other := next((kind for magic, kind in OTHER_PACKING.items() if start.startswith(magic) and not is_tar), ""):
        raise tarfile.ReadError(f"it is {other}, which is not read; pack it as .tar or .tar.gz")
    return stream


def plain_header(block: bytes) -> Header | None:
    """Return what a header says of a regular file or a pax header with a short name, or None if it says anything else, or is damaged.

    Most headers are such, and tarfile takes ten times as long.
    """
    size, checksum, kind = block[124:135], block[148:154], block[156:157]
    if (
        len(block) != BLOCK
        or block[257:262] != b"ustar"
        or kind not in b"0\0x"
        or block[345]
        or block[135] not in b"\0 "
        or block[154] not in b"\0 "
    ):
        return None
    name = block[:100].partition(b"\0")[0]
    if not (name and name.isascii() and size.isdigit() and checksum.isdigit()) or name.endswith(b"/"):
        return None
    # adler32's low half is 1 + the sum of the bytes modulo 65,521, which 256 bytes do not reach;
    # the checksum's own field counts as 8 spaces
    total = (adler32(block[:148]) & 0xFFFF) + (adler32(block[156:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) + 8 * 32 - 3
    try:
        return Header(kind, name.decode("ascii"), int(size, 8)) if int(checksum, 8) == total else None
    except ValueError:  # an 8 or a 9
        return None


def _any_header(block: bytes) -> Header:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        raise tarfile.ReadError(str(error)) from None
    if header.size < 0:
        raise tarfile.ReadError(f"a member of {header.size} bytes")
    return Header(header.type, header.name, header.size, header.isdir())


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
