"""Lines of text files, a block of whole lines at a time, whatever is in them.

A block is some megabytes. Line by line Python would spend more time on lines than on captions.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import pyarrow as pa

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.plain_text import MAX_TEXT

BLOCK = 1 << 22
"""Bytes read at a time; a batch of captions is what is in so much text."""
LITTLE = 1 << 16
"""Bytes read at a time where one line is to be completed."""

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowInvalid)
"""What reading a broken compressed file raises; beside it, from zstd, an OSError without a number."""


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
        n = cast(Any, self._raw).readinto(buffer)
        self._sha256.update(memoryview(buffer)[:n])
        return n

    def drain(self) -> str:
        """Read what is left and return the SHA-256 of everything."""
        while self.read(BLOCK):
            pass
        return self._sha256.hexdigest()


def decompressed(stream: IO[bytes], name: str) -> IO[bytes]:
    """Return what a file holds, by the end of its name: .gz, .zst, or as it is."""
    name = name.lower()
    if name.endswith(".gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if name.endswith(".zst"):
        return cast(IO[bytes], pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd"))
    return stream


def is_broken(error: Exception) -> bool:
    """Return whether an error says that a compressed file is broken, rather than the disk."""
    return isinstance(error, BROKEN) or (isinstance(error, OSError) and error.errno is None)


def read_blocks(stream: IO[bytes], n_bytes: int | None = None, digest: Any = None) -> Iterator[bytes]:
    """Yield blocks of whole lines; of a line longer than MAX_TEXT only so much, as a block without a newline.

    Args:
        stream: Stands at the start of a line.
        n_bytes: Only lines that start within so many bytes.
        digest: Is updated with all lines.

    Raises:
        Refused: truncated, where a compressed file breaks off; the whole lines before came out.
    """
    source = _Source(stream, digest)
    carry, start = b"", 0  # what was read of the next line, and where it starts
    while n_bytes is None or start < n_bytes:
        want = BLOCK if n_bytes is None else min(BLOCK, max(n_bytes - start - len(carry), LITTLE))
        more = source.read(want)
        data = carry + more if carry else more
        end = 0
        if n_bytes is not None:  # the line that holds the range's last byte is the last
            end = data.find(b"\n", max(0, n_bytes - 1 - start)) + 1
        end = end or (data.rfind(b"\n") + 1 if more or source.error else len(data))
        carry = data[end:]
        start += end
        if end:
            source.hash(data[:end])
            yield data[:end]
        if not more:
            break
        if len(carry) >= MAX_TEXT and (n_bytes is None or start < n_bytes):
            yield carry[:MAX_TEXT]
            start, carry = _skip_line(source, carry, start)
    if source.error:
        raise Refused("truncated", f"file broken from here on ({source.error})") from None


def _skip_line(source: _Source, begun: bytes, start: int) -> tuple[int, bytes]:
    """Read to the end of a line; return where the next one starts and what was read of it."""
    while begun:
        end = begun.find(b"\n") + 1
        source.hash(begun[: end or None])
        start += end or len(begun)
        if end:
            return start, begun[end:]
        begun = source.read(BLOCK)
    return start, b""


class _Source:
    """A stream that keeps the error it broke with, so that what came before it is not lost."""

    def __init__(self, stream: IO[bytes], digest: Any) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._step = LITTLE if isinstance(stream, pa.NativeFile) else BLOCK  # what breaks in a step of zstd's is lost
        self._digest = digest
        self.error: Exception | None = None

    def read(self, n_bytes: int) -> bytes:
        """Return so many bytes, fewer only at the end."""
        parts: list[bytes] = []
        try:
            while n_bytes > 0 and not self.error and (part := self._read(min(n_bytes, self._step))):
                parts.append(part)
                n_bytes -= len(part)
        except (*BROKEN, OSError) as error:
            if not is_broken(error):
                raise
            self.error = error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hash(self, data: bytes) -> None:
        """Take what was read into the digest."""
        if self._digest is not None:
            self._digest.update(data)
