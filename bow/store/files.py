"""Files that appear whole or not at all, and the one way to read a file from anywhere."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

import fsspec

from fistful.errors import DataError, UsageError

from .identity import canonical_json


class HashingWriter:
    """A binary file that knows the size and the SHA-256 of what went through it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._raw.write(data)
        self._sha256.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.size

    def record(self) -> dict[str, Any]:
        """Return {"size": bytes, "sha256": hex} of what was written so far."""
        return {"size": self.size, "sha256": self._sha256.hexdigest()}


@contextlib.contextmanager
def atomic_file(folder: Path, name: str) -> Generator[HashingWriter]:
    """Open FOLDER/NAME for writing; it takes its name only when complete and on disk.

    The temporary file lies in FOLDER/logs/tmp under a name of its own, so that two attempts at the
    same file never meet; the later rename wins, and both wrote the same bytes.
    """
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_folder = folder / "logs" / "tmp"
    tmp_folder.mkdir(parents=True, exist_ok=True)
    tmp = tmp_folder / f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}"
    try:
        with open(tmp, "xb", buffering=1 << 20) as raw:
            writer = HashingWriter(raw)
            yield writer
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(tmp, path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def _fsync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write a small file atomically and return its size and hash."""
    with atomic_file(folder, name) as file:
        file.write(data)
    return file.record()


def write_own_file(path: Path, text: str, errors: str) -> None:
    """Write a file of the user's own, in UTF-8, whole or not at all; no folder of ours lies around it.

    Args:
        path: The file.
        text: All of it.
        errors: What becomes of letters that UTF-8 cannot hold, as str.encode takes it.

    Raises:
        OSError: Names the file, and not what lies in its place until it is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode("utf-8", errors))
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or could not be made
            part.unlink(missing_ok=True)


def write_json(folder: Path, name: str, value: Any) -> dict[str, Any]:
    """Write a value as canonical JSON atomically and return the file's size and hash."""
    return write_bytes(folder, name, canonical_json(value))


def read_json(path: Path) -> Any:
    """Read one of our JSON files.

    Raises:
        UsageError: If the file is missing.
        DataError: If it is not JSON.
    """
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; is {path.parent} a folder that fistful wrote?") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); fistful verify {path.parent} tells what else changed") from None


def parse_json(data: bytes | str) -> Any:
    """Parse JSON that anybody may have written.

    Raises:
        ValueError: If it is none, or deeper than Python can follow.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("too deep") from None


def hash_file(path: Path) -> dict[str, Any]:
    """Return {"size": bytes, "sha256": hex} of a file on disk."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"size": file.tell(), "sha256": digest.hexdigest()}


URL_BUFFER = 1 << 20
"""Bytes asked of a URL at once."""
MOST_SKIPPED = 1 << 26
"""Bytes of a file that are fetched for nothing where a web server gives no pieces of files."""


def open_input(path: str) -> IO[bytes]:
    """Open an input for reading: a local path, or any URL that fsspec knows.

    Raises:
        UsageError: If it is missing, or if the package for its protocol is not installed.
    """
    try:
        if not is_url(path):
            return open(path, "rb")
        return io.BufferedReader(_Remote(path), URL_BUFFER)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (ImportError, ValueError) as error:
        raise UsageError(missing_protocol(path, error)) from None


class _Remote(io.RawIOBase):
    """What a URL names, as Python's own files behave: those of some protocols know no readline(limit), and raise errors of their own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file: Any = None
        self._is_stream = False
        self._file = self._with_os_errors(lambda: fsspec.open(url, "rb").open())  # pyright: ignore[reportAttributeAccessIssue]

    def _with_os_errors(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (OSError, ImportError, ValueError):
            raise
        except Exception as error:
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self._url) from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._with_os_errors(lambda: self._file.seek(offset, whence))
        except ValueError as error:
            raise self._only_whole() from error

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            return self._with_os_errors(lambda: self._file.readinto(buffer))
        except ValueError as error:  # a web server that gives no pieces of files
            at = self._file.tell()
            if self._is_stream or at > MOST_SKIPPED:
                raise self._only_whole() from error
        self._file.close()
        self._is_stream = True
        self._file = self._with_os_errors(lambda: _open_as_stream(self._url))
        while at > 0 and (skipped := self._with_os_errors(functools.partial(self._file.read, min(at, URL_BUFFER)))):
            at -= len(skipped)
        return self.readinto(buffer)

    def _only_whole(self) -> UsageError:
        return UsageError(f"{self._url}: its server gives no pieces of files; fetch it first (curl -L -O), or give a larger --unit-mb")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def _open_as_stream(url: str) -> Any:
    system, path = fsspec.core.url_to_fs(url)
    return system.open(path, "rb", block_size=0)


def is_url(path: str) -> bool:
    """Return whether a path is a URL such as s3://bucket/name."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path))


EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
"""Our extra that brings the package for a protocol."""


def missing_protocol(path: str, error: Exception) -> str:
    """Return what to say where no package for a URL's protocol is installed."""
    extra = EXTRAS.get(path.partition("://")[0])
    return f"{path}: needs a package that is not installed; pip install 'fistful[{extra}]'" if extra else f"{path}: {error}"


def local_out(out: str | Path) -> Path:
    """Check that an output folder is a local path and return it absolute.

    Raises:
        UsageError: For URLs (object stores have no atomic rename: write locally, then copy), for files, and for an empty name.
    """
    if not str(out).strip():
        raise UsageError("--out: is empty, expected a folder to write")
    if "://" in str(out):
        raise UsageError(f"--out {out}: outputs are local folders; write to disk, then copy the finished folder")
    path = Path(out).absolute()
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {out}: is a file, expected a folder")
    check_above(out)
    return path


def check_above(out: str | Path) -> None:
    """Check that what an output shall lie in is a folder, or can be made one.

    Raises:
        UsageError: If it is a file.
    """
    above = next(parent for parent in Path(out).absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise UsageError(f"--out {out}: {above} is a file, expected a folder; choose another --out")
