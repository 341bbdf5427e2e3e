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
import tempfile
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

import fsspec

from fistful.errors import DataError, UsageError

from .identity import canonical_json
from .objects import PROTOCOLS, StorePath, bucket_mount, kind_of, redacted


class HashingWriter:
    """A binary file that knows the size and the SHA-256 of what went through it."""

    def __init__(self, raw: IO[bytes], path: str = "") -> None:
        self._raw = raw
        self._path = path
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

    def local(self) -> str:
        """Return where on this machine all that was written so far can be read, until the file has its name."""
        self._raw.flush()
        return self._path

    def record(self) -> dict[str, Any]:
        """Return {"size": bytes, "sha256": hex} of what was written so far."""
        return {"size": self.size, "sha256": self._sha256.hexdigest()}


@contextlib.contextmanager
def atomic_file(folder: Path, name: str) -> Generator[HashingWriter]:
    """Open FOLDER/NAME for writing; it takes its name only when complete and on disk, or in the store.

    On disk the temporary file lies in FOLDER/logs/tmp under a name of its own, so that two attempts at the
    same file never meet; the later rename wins, and both wrote the same bytes. For a store it has no name, and
    goes with the process, however that ends; the later upload wins.
    """
    path = folder / name
    with _object(path) if isinstance(path, StorePath) else _file_on_disk(folder, path) as writer:
        yield writer


@contextlib.contextmanager
def _file_on_disk(folder: Path, path: Path) -> Generator[HashingWriter]:
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_folder = folder / "logs" / "tmp"
    tmp_folder.mkdir(parents=True, exist_ok=True)
    tmp = tmp_folder / f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}"
    try:
        with open(tmp, "xb", buffering=1 << 20) as raw:
            writer = HashingWriter(raw, str(tmp))
            yield writer
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(tmp, path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


@contextlib.contextmanager
def _object(path: StorePath) -> Generator[HashingWriter]:
    with contextlib.ExitStack() as opened:
        raw = opened.enter_context(nameless_file())
        writer = HashingWriter(raw, name_of(raw))
        yield writer
        put = functools.partial(path.put, writer.local())
        if path.uploads is None:
            put()
        else:
            path.uploads.add(opened.pop_all(), put)
    _written[path] = writer.record()
    while len(_written) > REMEMBERED:
        _written.pop(next(iter(_written)), None)


REMEMBERED = 1_000
_written: dict[StorePath, dict[str, Any]] = {}
"""Size and hash of what this process put into stores last, so that it need not be fetched to be hashed."""


def nameless_file() -> IO[bytes]:
    """Open a local file without a name, in TMPDIR; nothing is left of it when it is closed, or the process dies."""
    return tempfile.TemporaryFile(buffering=1 << 20)


def name_of(file: IO[bytes]) -> str:
    """Return by which name this process, and it alone, may open a nameless file once more."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


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
    """Return {"size": bytes, "sha256": hex} of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def record_of(path: Path) -> dict[str, Any]:
    """Return {"size": bytes, "sha256": hex} of a file; one that this process put into a store is not fetched for it."""
    return (_written.get(path) if isinstance(path, StorePath) else None) or hash_file(path)


def stamp_of(path: Path) -> tuple[int | str, ...]:
    """Return what a file does not have in common with another that took its name."""
    if isinstance(path, StorePath):
        return (path.stamp(),)
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


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


SAID_OF_ONE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""Errors of one file; all others are the store's, whichever number its client has for them: s3fs' for a busy one is EBUSY."""


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
        except (FileNotFoundError, ImportError, ValueError):
            raise
        except Exception as error:  # noqa: BLE001 - each client has its own
            number = error.errno if isinstance(error, OSError) and error.errno in SAID_OF_ONE else errno.EIO
            raise OSError(number, said_of(self._url, error), redacted(self._url)) from None

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


def said_of(url: str, error: Exception) -> str:
    """Return what may be shown of an error at a URL: of a store its kind, since its text names hosts that the URL does not."""
    return f"{type(error).__name__}: {redacted(str(error))}" if url.startswith("http") else kind_of(error)


def _open_as_stream(url: str) -> Any:
    system, path = fsspec.core.url_to_fs(url)
    return system.open(path, "rb", block_size=0)


def is_url(path: str) -> bool:
    """Return whether a path is a URL such as s3://bucket/name."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path))


def joined(folder: str, name: str) -> str:
    """Return where a name in a folder lies; in a store names may begin with a slash, which must not make files of this machine of them.

    >>> joined("/set", "a.tsv"), joined("s3://bucket/set", "/etc/a.tsv")
    ('/set/a.tsv', 's3://bucket/set//etc/a.tsv')
    """
    return f"{folder}/{name}" if is_url(folder) else os.path.join(folder, name)


EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
"""Our extra that brings the package for a protocol."""


ALMOST_URL = re.compile(rf"({'|'.join((*PROTOCOLS, 'https?'))}):(?!//)", re.IGNORECASE)
"""How a name begins from whose address a slash is missing; a folder may be called so, and is then ./NAME."""


def missing_protocol(path: str, error: Exception) -> str:
    """Return what to say where no package for a URL's protocol is installed."""
    extra = EXTRAS.get(path.partition("://")[0])
    return f"{path}: needs a package that is not installed; pip install 'fistful[{extra}]'" if extra else f"{path}: {error}"


def local_out(out: str | Path) -> Path:
    """Check that an output folder is a local path and return it absolute.

    Raises:
        UsageError: For URLs, for buckets mounted as folders (they have no atomic rename), for files, and for an empty name.
    """
    if not str(out).strip():
        raise UsageError("--out: is empty, expected a folder to write")
    if is_url(str(out)):
        raise UsageError(f"--out {redacted(str(out))}: this verb writes local folders; write to disk, then copy the finished folder")
    if protocol := ALMOST_URL.match(str(out)):
        name = str(out)[protocol.end() :].lstrip("/")
        raise UsageError(
            f"--out {out}: is neither an address nor likely a folder; did you mean {protocol[1].lower()}://{name}, or ./{out}?"
        )
    path = Path(out).absolute()
    if by := bucket_mount(os.path.realpath(path)):
        raise UsageError(
            f"--out {out}: lies in a bucket that {by} shows as a folder, where files can be seen half-written and renames are copies; "
            "write to the bucket itself (count, bags, label, vectors and embed take s3://BUCKET/NAME), or to a disk"
        )
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
