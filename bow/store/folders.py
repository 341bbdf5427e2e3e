"""Folders by the names that users give them, on disk or in an object store; and many of their files at a time.

>>> folder_at("counts/2024"), folder_at("memory://bucket/counts/")
(PosixPath('counts/2024'), StorePath('memory://bucket/counts'))
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from fistful.errors import UsageError

from .files import is_url, local_out, missing_protocol, name_of, nameless_file
from .objects import PROTOCOLS, Entry, StorePath, redacted

AT_ONCE = 32
"""Objects that are asked for at the same time."""
LISTED_EVERY = 60.0
"""Seconds between two listings of a folder in a store: each thousand objects of one is a request that is paid for."""


def folder_at(name: str | Path) -> Path:
    """Return the folder of a name: the one place where it becomes a path on disk, or one in an object store, which behaves as such.

    Raises:
        UsageError: If a URL's store is none that shows an object only when it is whole, if its client is not installed, or if
            there are keys in the URL.
    """
    if isinstance(name, Path | StorePath) or not is_url(name):
        return Path(name) if isinstance(name, str) else cast(Path, name)
    protocol, _, rest = name.partition("://")
    if protocol not in PROTOCOLS:
        raise UsageError(
            f"{redacted(name)}: is no folder that fistful may write or read; expected one on disk, "
            "or an object store's (s3://BUCKET/NAME, gs://, az://)"
        )
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise UsageError(
            f"{redacted(name).partition('?')[0]}: has more than PROTOCOL://BUCKET/NAME; keys come from the environment, not from the URL"
        )
    if ".." in rest.split("/") or not rest.strip("/"):
        raise UsageError(f"{name}: expected {protocol}://BUCKET/NAME, without ..")
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise UsageError(missing_protocol(name, error)) from None
    return cast(Path, StorePath(name))


def out_folder(out: str | Path) -> Path:
    """Check what a data job is to write and return it: absolute, or in an object store.

    Raises:
        UsageError: If it is none, a file, or lies where one is.
    """
    if not is_url(str(out)):
        return local_out(out)
    folder = folder_at(out)
    if folder.is_file():
        raise UsageError(f"--out {out}: is an object, expected what names of objects begin with")
    return folder


def in_store(folder: Path) -> bool:
    """Return whether a folder lies in an object store."""
    return isinstance(folder, StorePath)


def lies_in(folder: Path, other: str) -> bool:
    """Return whether a folder is another, or lies in it."""
    if isinstance(folder, StorePath) or is_url(other):
        return f"{folder}/".startswith(f"{other.rstrip('/')}/")
    return folder.resolve().is_relative_to(Path(other).resolve())


def entries(folder: Path) -> dict[str, Entry]:
    """Return size and time of each file that lies in a folder, by its name; nothing if there is no such folder."""
    if isinstance(folder, StorePath):
        return folder.entries()
    if not folder.is_dir():
        return {}
    about = {path.name: path.stat() for path in folder.iterdir()}
    return {name: Entry(each.st_size, each.st_mtime_ns) for name, each in about.items()}


def files_below(folder: Path) -> dict[str, int]:
    """Return the size of each file at any depth, by its name relative to the folder; of links to nowhere 0."""
    if isinstance(folder, StorePath):
        return folder.below()
    paths = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.stat().st_size if path.exists() else 0 for path in paths}


def read_all(paths: Iterable[Path]) -> Iterator[bytes]:
    """Yield what each file holds, in order; those of a store are fetched many at a time, and no more than that are in memory."""
    waiting = iter(paths)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while batch := [*islice(waiting, 8 * AT_ONCE)]:
            stored = isinstance(batch[0], StorePath)
            yield from pool.map(_read, batch) if stored else map(_read, batch)


def read_part(path: Path, offset: int, size: int) -> bytes:
    """Return a part of a file; of an object it is fetched in one request. Raises FileNotFoundError."""
    if isinstance(path, StorePath):
        return path.read_part(offset, size)
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _read(path: Path) -> bytes:
    return path.read_bytes()


@contextlib.contextmanager
def local_file(path: Path) -> Generator[str]:
    """Give a name under which a file can be opened on this machine, for as long as the block runs: its own, or a copy's."""
    if not isinstance(path, StorePath):
        yield str(path)
        return
    with nameless_file() as copy:
        yield _fetched(path, copy)


def _fetched(path: StorePath, copy: IO[bytes]) -> str:
    path.fetch(copy)
    copy.flush()
    return name_of(copy)


@contextlib.contextmanager
def local_folder(folder: Path) -> Generator[Path]:
    """Give a folder on this machine with the files of another, for as long as the block runs: itself, or a copy."""
    if not isinstance(folder, StorePath):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fistful-") as made:
        place = Path(made, folder.name)
        place.mkdir()
        for name in folder.entries():
            with open(place / name, "wb") as copy:
                (folder / name).fetch(copy)
        yield place


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Generator[Path]:
    """Make a folder on this machine for what does not fit into memory while a file of another folder is made; it goes with the block."""
    if not isinstance(folder, StorePath):
        (folder / "logs" / "tmp").mkdir(parents=True, exist_ok=True)
    place = None if isinstance(folder, StorePath) else folder / "logs" / "tmp"
    with tempfile.TemporaryDirectory(prefix="fistful-", dir=place) as made:
        yield Path(made)


def remove_all(folder: Path) -> None:
    """Remove a folder and all that lies in it; nothing if there is none."""
    if not isinstance(folder, StorePath):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda name: (folder / name).unlink(missing_ok=True), folder.below()):
            pass


def parquet_source(path: Path) -> Any:
    """Return what pyarrow opens a parquet file by; of an object it fetches the parts that it needs."""
    return path.open("rb") if isinstance(path, StorePath) else path
