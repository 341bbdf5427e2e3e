"""Files that sources name: files themselves, folders, globs, brace lists, and URLs of all of these.

>>> expand_braces("data/{00000..00002}.tar")
['data/00000.tar', 'data/00001.tar', 'data/00002.tar']
>>> expand_braces("{a,b}.tsv")
['a.tsv', 'b.tsv']
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import os
import re
from pathlib import Path
from typing import Any, Literal, cast

import fsspec

from fistful.bow.store.files import is_url, missing_protocol
from fistful.bow.store.kinds import COMPRESSED, PassedOver, extension_of, files_under, is_image, size_of, unread_kind, visible
from fistful.errors import UsageError

Kind = Literal["tsv", "csv", "jsonl", "parquet", "tar", "images"]

KINDS: dict[str, Kind] = {
    "tsv": "tsv",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "tar": "tar",
    "tgz": "tar",
}
"""Kind of a file from its extension, without .gz or .zst."""

IN_TURN: tuple[tuple[Kind, ...], ...] = (("tar",), ("tsv", "csv", "jsonl"), ("images",), ("parquet",))
"""What is taken of a folder: the first kinds that are there. img2dataset writes a parquet beside each
tar that repeats its captions, and beside each folder of images too."""

WEB = ("http://", "https://")

BRACES = re.compile(r"\{([^{}]*)\}")
MOST_NAMES = 10_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is read."""

    root: str
    """The source's folder."""
    relative: str
    """Where it lies under it."""
    size: int
    kind: Kind

    @property
    def name(self) -> str:
        """What it is called: `relative` without what is asked of a web server."""
        return path_of(f"{self.root}/{self.relative}")[len(self.root) + 1 :]


def find_files(source: str, input_format: str, passed: PassedOver | None = None) -> list[SourceFile]:
    """Find the files that a source names.

    Args:
        source: A file, a folder, a glob, a brace list, or a URL of one of these.
        input_format: A kind, or "auto".
        passed: Receives what of it is not read.

    Raises:
        UsageError: If there is none, or it is nothing that can be read.
    """
    passed = PassedOver() if passed is None else passed
    if not is_url(source) and os.path.exists(source):
        return _find_local(source, input_format, passed)
    found = [f for name in expand_braces(source) for f in _find_expanded(name, input_format, passed)]
    if not found:
        raise UsageError(f"{source}: no file matches")
    return found


def expand_braces(text: str) -> list[str]:
    """Return the names that a brace list stands for, in its order; a range keeps its leading zeros."""
    parts = BRACES.split(text)  # text and braces in turn
    choices = [[part] if i % 2 == 0 else _choices(part) for i, part in enumerate(parts)]
    return ["".join(pieces) for pieces in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not ends:
        return inside.split(",") if "," in inside else ["{" + inside + "}"]
    first, last = int(ends[1]), int(ends[2])
    if last < first or last - first > MOST_NAMES:
        raise UsageError(f"{{{inside}}}: expected a range such as 00000..00099")
    width = len(ends[1]) if ends[1].startswith("0") else 0
    return [f"{n:0{width}d}" for n in range(first, last + 1)]


def _find_expanded(name: str, input_format: str, passed: PassedOver) -> list[SourceFile]:
    if is_url(name):
        return _find_remote(name, input_format, passed)
    if not os.path.exists(name) and glob.has_magic(name):
        # in/** names folders and what is in them: each file counts once, under its longest name
        found = [f for path in sorted(glob.glob(name, recursive=True)) for f in _find_local(path, input_format, passed)]
        return list({os.path.join(f.root, f.relative): f for f in reversed(found)}.values())[::-1]
    return _find_local(name, input_format, passed)


def _find_local(source: str, input_format: str, passed: PassedOver) -> list[SourceFile]:
    path = Path(source)
    if path.is_dir():
        root = os.path.abspath(path)
        wanted = _choose(source, files_under(root, passed), input_format, passed)
        return [SourceFile(root, name, size_of(os.path.join(root, name)), kind) for name, kind in wanted]
    if not path.is_file():
        raise UsageError(f"{source}: no such file or folder")
    kind = _kind_of_file(path.name, source, input_format)
    return [SourceFile(os.path.dirname(os.path.abspath(path)), path.name, path.stat().st_size, kind)]


def _find_remote(url: str, input_format: str, passed: PassedOver) -> list[SourceFile]:
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(missing_protocol(url, error)) from None
    try:
        names = sorted(system.glob(path)) if glob.has_magic(path_of(path)) else [path]
        return [f for name in names for f in _find_in_system(system, name, input_format, passed)]
    except FileNotFoundError:
        raise UsageError(f"{url}: no such file or folder") from None
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{url}: cannot be listed ({type(error).__name__}: {error}); are address and credentials right?") from error


def _find_in_system(system: Any, name: str, input_format: str, passed: PassedOver) -> list[SourceFile]:
    about = system.info(name)
    address = system.unstrip_protocol(name)
    if about["type"] != "directory":
        root, base = _split_address(address)
        kind = _kind_of_file(path_of(address).rpartition("/")[2], address, input_format)
        if about["size"] is None:
            raise UsageError(f"{address}: the server does not say how large it is; fetch it first, such as by curl -L -O")
        return [SourceFile(root, base, int(about["size"]), kind)]
    start = len(name.rstrip("/")) + 1
    files = {path[start:]: entry for path, entry in system.find(name, detail=True).items()}
    wanted = _choose(address, visible(sorted(files), passed), input_format, passed)
    return [SourceFile(address.rstrip("/"), relative, int(files[relative]["size"]), kind) for relative, kind in wanted]


def _split_address(address: str) -> tuple[str, str]:
    """Return a URL's folder and the name in it, with what is asked of the server there.

    >>> _split_address("https://hub/a/b.tsv?download=true&from=/x")
    ('https://hub/a', 'b.tsv?download=true&from=/x')
    """
    end = address.rindex("/", 0, len(path_of(address)))
    return address[:end], address[end + 1 :]


def path_of(address: str) -> str:
    """Return a URL without what is asked of a web server; anything else as it is.

    >>> path_of("https://hub/b.tsv?download=true"), path_of("s3://bucket/why?.tsv")
    ('https://hub/b.tsv', 's3://bucket/why?.tsv')
    """
    return re.split("[?#]", address, maxsplit=1)[0] if address.startswith(WEB) else address


def _kind_of_file(name: str, source: str, input_format: str) -> Kind:
    if input_format != "auto":
        return cast(Kind, input_format)
    kind = _kind_of(name)
    if kind is None and (unread := unread_kind(name)):
        way = "pack it as .tar or .tar.gz" if unread[0] == "archive" else "make it a PNG or JPEG"
        raise UsageError(f"{source}: {unread[1]} is not read; {way}")
    if kind is None:
        raise UsageError(f"{source}: cannot tell what it is from its name; --input-format tsv, csv, jsonl, parquet or tar says so")
    return kind


def _kind_of(name: str) -> Kind | None:
    return "images" if is_image(name) else KINDS.get(extension_of(name))


def is_compressed(name: str) -> bool:
    """Return whether a file is compressed, by its name."""
    return name.lower().endswith(COMPRESSED)


def _choose(source: str, names: list[str], input_format: str, passed: PassedOver) -> list[tuple[str, Kind]]:
    """Return which files of a folder are taken: of one kind, the first of IN_TURN that is there."""
    kinds: dict[str, Kind] = {name: kind for name in names if (kind := _kind_of(name))}
    unread = [(unread, name) for name in names if name not in kinds and (unread := unread_kind(name))]
    for wanted in IN_TURN if input_format == "auto" else ((cast(Kind, input_format),),):
        chosen: list[tuple[str, Kind]] = [(name, kind) for name, kind in kinds.items() if kind in wanted]
        if chosen and input_format == "auto":
            for (why, end), name in unread:
                if why == "archive" or "images" in wanted:
                    passed.add(why, name, end)
            for name, kind in kinds.items():
                if kind not in wanted:
                    passed.add("beside", name, f".{extension_of(name)}")
            _note_others(names, kinds, wanted, passed)
        if chosen:
            return chosen
    what = "tar, TSV, CSV, JSONL, image or parquet" if input_format == "auto" else input_format
    for (why, end), name in unread:
        passed.add(why, name, end)
    raise UsageError("; ".join([f"{source}: holds no {what}", *passed.lines()]))


COMPANIONS = frozenset({"txt", "json", "md"})
"""What lies beside pictures and tars by right: captions, statistics, a page about them."""


def _note_others(names: list[str], kinds: dict[str, Kind], wanted: tuple[Kind, ...], passed: PassedOver) -> None:
    """Note files of no kind that a verb reads: beside tables nearly all of them, beside pictures and tars what is no companion."""
    usual = COMPANIONS if {"tar", "images"} & {*wanted} else frozenset({"md"})
    for name in names:
        base, extension = name.rpartition("/")[2], extension_of(name)
        plain = name not in kinds and unread_kind(name) is None and "." in base and not base.startswith("_")  # Spark's _SUCCESS
        if plain and extension not in usual:
            passed.add("other", name, f".{extension}")
