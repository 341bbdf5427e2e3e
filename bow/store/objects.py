"""Object stores: of pathlib's Path what this code asks for, over fsspec. A folder is what the objects in it begin with.

Whoever writes makes a local file first, and puts it there in one go: the store shows an object only when it is whole
(docs/decisions/0032-object-stores.md). What goes wrong is said by its kind alone, since the clients' own texts hold host names.

>>> folder = StorePath("memory://bucket/counts/")
>>> folder / "stats" / "00007.json", (folder / "stats" / "00007.json").stem, folder.parent
(StorePath('memory://bucket/counts/stats/00007.json'), '00007', StorePath('memory://bucket'))
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import io
import os
import re
from collections.abc import Generator, Iterator
from datetime import datetime
from inspect import signature
from typing import IO, Any, NamedTuple

import fsspec

from fistful.errors import FistfulError, MachineError

from .uploads import Uploads

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory")
"""Stores that show an object only when it is whole; memory: this process's own, for tests."""
READ_BLOCK = 1 << 22
"""Bytes that are fetched at once of an object that is read in pieces."""
UNKNOWN = {type(None), TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, NameError, ImportError, MemoryError}


class Entry(NamedTuple):
    """What a store says of an object, by the names that os.stat has."""

    st_size: int
    st_mtime_ns: int
    """When it was put there, by the store's clock."""


class StorePath:
    """An object, or what the names of some begin with.

    Args:
        url: PROTOCOL://BUCKET/NAME.
        uploads: What puts files there that are written by this path, behind whoever writes them; None: they are there when written.
    """

    __slots__ = ("_key", "_protocol", "uploads")

    def __init__(self, url: str, uploads: Uploads | None = None) -> None:
        self._protocol, _, key = url.partition("://")
        self._key = "/".join(part for part in key.split("/") if part)
        self.uploads = uploads

    def __truediv__(self, name: object) -> StorePath:
        return StorePath(f"{self}/{name}", self.uploads)

    def __str__(self) -> str:
        return f"{self._protocol}://{self._key}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: StorePath) -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        """The last part."""
        return self._key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without what follows its last dot."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        """The last part's end from its last dot on; "" without one."""
        return self.name[len(self.stem) :]

    @property
    def parent(self) -> StorePath:
        """What it lies in."""
        return StorePath(f"{self._protocol}://{self._key.rpartition('/')[0]}")

    @property
    def parents(self) -> list[StorePath]:
        """What it lies in, and what that lies in, up to the bucket."""
        return [self.parent, *self.parent.parents] if "/" in self._key else []

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket, and what lies between slashes after it."""
        return tuple(self._key.split("/"))

    def absolute(self) -> StorePath:
        """Return itself: a URL is absolute."""
        return self

    resolve = absolute

    # What the store is asked

    @property
    def _system(self) -> Any:
        # a listing that is kept would not show what workers write; credentials and addresses come from the surroundings of each process
        return fsspec.filesystem(self._protocol, use_listings_cache=False)

    def _info(self) -> dict[str, Any] | None:
        with _told(self):
            try:
                return self._system.info(self._key)
            except FileNotFoundError:
                return None

    def exists(self) -> bool:
        """Return whether there is such an object, or one whose name begins so."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Return whether there is such an object."""
        return (self._info() or {}).get("type") == "file"

    def is_dir(self) -> bool:
        """Return whether there are objects in it."""
        return (self._info() or {}).get("type") == "directory"

    def is_symlink(self) -> bool:
        """Return False: stores have no links."""
        return False

    def stat(self) -> Entry:
        """Return an object's size and time; raises FileNotFoundError."""
        info = self._info()
        if info is None:
            raise _missing(self)
        return _entry(info)

    def stamp(self) -> str:
        """Return what this object does not have in common with another that took its name; raises FileNotFoundError."""
        info = self._info()
        if info is None:
            raise _missing(self)
        return str(sorted((key, str(value)) for key, value in info.items()))

    def _listed(self) -> list[dict[str, Any]]:
        with _told(self):
            try:
                return self._system.ls(self._key, detail=True)
            except FileNotFoundError:
                return []

    def iterdir(self) -> Iterator[StorePath]:
        """Yield what lies in it: one listing; nothing if there is no such thing."""
        for info in self._listed():
            key = info["name"].strip("/")
            if key != self._key:  # some stores list a folder's own marker in it
                yield self / key.rpartition("/")[2]

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """Yield what lies in it by a pattern without a slash."""
        assert "/" not in pattern, pattern
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def entries(self) -> dict[str, Entry]:
        """Return the objects that lie in it, by name: one listing."""
        files = (info for info in self._listed() if info["type"] == "file" and not info["name"].endswith("/"))
        return {info["name"].rpartition("/")[2]: _entry(info) for info in files}

    def below(self) -> dict[str, int]:
        """Return the sizes of all objects in it, at any depth, by their names relative to it: one listing."""
        with _told(self):
            try:
                found = self._system.find(self._key, detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._key) + 1
        names = {info["name"].strip("/")[start:]: info["size"] for info in found.values() if not info["name"].endswith("/")}
        return {name: size for name, size in names.items() if name}

    def read_bytes(self) -> bytes:
        """Return an object in one request; raises FileNotFoundError."""
        system = self._system
        with _told(self):
            return system.cat_file(self._key, **_whole(type(system)))

    def read_part(self, offset: int, size: int) -> bytes:
        """Return a part of an object in one request, b"" past its end as of a file on disk; raises FileNotFoundError."""
        with _told(self):
            try:
                return self._system.cat_file(self._key, start=offset, end=offset + size)
            except Exception as error:
                if PAST_END.search(kind_of(error)):
                    return b""
                raise

    def read_text(self) -> str:
        """Return an object's text."""
        return self.read_bytes().decode("utf-8")

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open an object for reading in pieces; raises FileNotFoundError."""
        assert mode == "rb", mode
        return io.BufferedReader(_Reader(self, lambda: self._system.open(self._key, "rb", block_size=READ_BLOCK)), 1 << 20)

    def fetch(self, file: IO[bytes]) -> None:
        """Copy an object into a local file, in memory of a block; raises FileNotFoundError."""
        with self.open() as source:
            while block := source.read(READ_BLOCK):
                file.write(block)

    def put(self, local: str) -> None:
        """Make an object of a local file: there in full, or not at all."""
        with _told(self, writes=True):
            self._system.put_file(local, self._key)

    def mkdir(self, **_: bool) -> None:
        """Do nothing: a folder is there when an object is."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object."""
        with _told(self):
            try:
                self._system.rm_file(self._key)
            except FileNotFoundError:
                if not missing_ok:
                    raise


PAST_END = re.compile(r"\b(416|InvalidRange)\b")


@functools.cache
def _whole(kind: type) -> dict[str, int]:
    """Return how a client is to fetch an object in one request: s3fs asks for the size first, to fetch large ones in pieces."""
    asked = getattr(kind, "_cat_file", None)
    return {"max_concurrency": 1} if asked and "max_concurrency" in signature(asked).parameters else {}


class _Reader(io.RawIOBase):
    """An open object whose errors are ours."""

    def __init__(self, path: StorePath, open_it: Any) -> None:
        self._path = path
        with _told(path):
            self._file = open_it()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with _told(self._path):
            return self._file.readinto(buffer)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()


def _entry(info: dict[str, Any]) -> Entry:
    """Return size and time; each client has its own name for the latter."""
    found = next((info[key] for key in ("LastModified", "mtime", "updated", "last_modified", "created") if info.get(key)), None)
    when = datetime.fromisoformat(found) if isinstance(found, str) else found
    return Entry(int(info["size"] or 0), int(when.timestamp() * 1e9) if isinstance(when, datetime) else int((when or 0) * 1e9))


# What goes wrong


def _missing(path: StorePath) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextlib.contextmanager
def _told(path: StorePath, *, writes: bool = False) -> Generator[None]:
    """Turn what a store's client raises, when its own retries have come to nothing, into errors of ours.

    Raises:
        FileNotFoundError: If what is read is not there.
        MachineError: If the store refuses, or does not answer.
    """
    try:
        yield
    except FistfulError:
        raise
    except FileNotFoundError as error:
        if not writes:
            raise _missing(path) from None
        raise MachineError(f"{path}: there is no such bucket ({kind_of(error)}); once it is made, the same command resumes") from None
    except Exception as error:
        if type(error) in UNKNOWN:  # a defect, of ours or of the client
            raise
        refused = isinstance(error, PermissionError) or "Credential" in kind_of(error) or re.search(r"\b40[13]\b", kind_of(error))
        what = REFUSED if refused else GONE
        raise MachineError(f"{path}: {what} ({kind_of(error)}); once that is put right, the same command resumes") from None


REFUSED = "the store refuses; are credentials, and the rights to list, read and write, as they should be?"
GONE = "the store does not answer as it should, however often it is asked"


def kind_of(error: BaseException) -> str:
    """Return what kind of error a store's client raised, by names and codes alone: its texts hold hosts, accounts, signed addresses.

    >>> kind_of(ConnectionResetError("http://inner.host/"))
    'ConnectionResetError'
    """
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(cause, "code", None)
    name, code = type(cause).__name__, str(code)
    return f"{name} {code}" if re.fullmatch(r"\w{1,40}", code) and code not in (name, "None") else name


# Addresses as they may be shown

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)")


def redacted(text: str) -> str:
    """Return a text in which no address has a name and password, or what is asked of its server: keys and signatures stand there.

    >>> redacted("https://me:pass@host/a.tsv?X-Amz-Signature=1f: no such file; s3://bucket/why?.tsv")
    'https://host/a.tsv?...: no such file; s3://bucket/why?.tsv'
    """
    return ADDRESS.sub(lambda found: found[1] + _harmless(found[1], found[2]), text)


def _harmless(protocol: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    if not protocol.lower().startswith(("http", "ftp")):
        return host + slash + path
    path, mark, asked = path.partition("?")
    return host + slash + path + (f"?...{':' if asked.endswith(':') else ''}" if mark else "")


# Buckets that are mounted as folders

BUCKET_MOUNTS = ("s3fs", "gcsfuse", "rclone", "goofys", "mountpoint-s3", "blobfuse", "blobfuse2", "riofs", "geesefs")


def bucket_mount(path: str, table: str = "/proc/mounts") -> str:
    """Return which program shows a bucket as the folder that a path lies in; "" where none does, or none that is known.

    Args:
        path: Absolute.
        table: What is mounted, as the kernel says it.
    """
    found = (0, "")
    with contextlib.suppress(OSError), open(table, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            source, place, kind, *_ = [*line.split(), "", "", ""]
            place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place).rstrip("/")
            if f"{path}/".startswith(f"{place}/") and len(place) >= found[0]:
                names = {source.partition("#")[0], kind.removeprefix("fuse.")} if kind.startswith("fuse") else set()
                found = len(place), next(iter(names.intersection(BUCKET_MOUNTS)), "")
    return found[1]
