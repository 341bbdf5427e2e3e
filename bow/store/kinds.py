"""What is read of folders and archives, by names alone, and what is passed over: one rule for every verb.

Hidden names are passed over, as webdataset passes over members whose base name begins with a dot:
macOS' tar and file shares write a double ._NAME beside each NAME. Linked folders are entered, each once.

>>> is_hidden("photos/._a.jpg"), is_hidden("./photos/a.jpg")
(True, False)
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from .images import EXTENSIONS
from .plain_text import printable

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
"""Ends of names of tars that are read."""
OTHER_ARCHIVES = (".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.lz4", ".tar.lzma", ".zip", ".7z", ".rar")
OTHER_IMAGES = frozenset({"gif", "bmp", "tif", "tiff", "ppm", "pgm", "pnm", "heic", "heif", "avif", "jp2", "jxl", "svg"})
"""Kinds of pictures that are not read."""
SYSTEM_FILES = frozenset({".ds_store", ".localized", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"})
"""What file managers and file servers leave beside pictures: hidden, and nothing to tell."""
COMPRESSED = (".gz", ".zst")
"""Ends of names of compressed files, which cannot be entered in the middle."""

Why = Literal["picture", "archive", "beside", "unnamed", "other", "folder", "link", "hidden"]
WAYS: dict[Why, tuple[str, str, str]] = {
    "picture": (
        "picture of a kind that is not read",
        "pictures of kinds that are not read",
        "make PNG or JPEG of them (mogrify -format png)",
    ),
    "archive": ("archive of a kind that is not read", "archives of kinds that are not read", "pack them as .tar or .tar.gz"),
    "beside": ("file of another kind", "files of other kinds", "of a folder one kind is read; name such a file itself to read it"),
    "unnamed": (
        "picture that no table names",
        "pictures that no table names",
        "--input-format images reads all pictures, with the texts beside them",
    ),
    "other": ("file of a kind that is not read", "files of kinds that are not read", "make TSV, CSV, JSONL, parquet or a tar of them"),
    "folder": ("folder that may not be listed", "folders that may not be listed", "run it as one who may read them"),
    "link": ("linked folder that leads to what is read already", "linked folders that lead to what is read already", ""),
    "hidden": ("hidden file or folder", "hidden files and folders", "give them by name if they are meant"),
}
"""Of each reason to pass over: one, several, and what helps."""


@dataclasses.dataclass(slots=True)
class PassedOver:
    """What was read of what was given, and of what was not how many of each kind, and the first."""

    counts: Counter[tuple[Why, str]] = dataclasses.field(default_factory=Counter)
    first: dict[Why, str] = dataclasses.field(default_factory=dict)
    taken: list[str] = dataclasses.field(default_factory=list)
    """A line for each thing that was recognised rather than named: what is read, and how."""
    lost: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of tables that name pictures which cannot be read, by their paths: why not."""
    pictures: set[str] = dataclasses.field(default_factory=set)
    """Pictures that lie beside a table which may name them."""
    sizes: list[list[Any]] = dataclasses.field(default_factory=list)
    """Name and bytes of each file that is read."""

    def add(self, why: Why, name: str, kind: str = "") -> None:
        """Note one more.

        Args:
            why: Why it is passed over.
            name: What is passed over.
            kind: How its name ends, where that tells.
        """
        self.counts[why, kind] += 1
        self.first.setdefault(why, name)

    def said(self) -> list[tuple[Why, str, str]]:
        """Return for each reason what was passed over, with numbers, and what helps."""
        found = []
        for why, (one, several, way) in WAYS.items():
            kinds = {kind: n for (reason, kind), n in sorted(self.counts.items()) if reason == why}
            if not (n_all := sum(kinds.values())):
                continue
            named = ", ".join(f"{n:,} {kind}" if len(kinds) > 1 or n > 1 else kind for kind, n in kinds.items() if kind)
            first = printable(self.first[why])
            found.append((why, f"{n_all:,} {one if n_all == 1 else several}{f' ({named})' if named else ''}, such as {first}", way))
        return found

    def lines(self) -> list[str]:
        """Return a line for each reason; none where all was read.

        >>> passed = PassedOver()
        >>> passed.add("picture", "a.gif", ".gif")
        >>> passed.lines()
        ['1 picture of a kind that is not read (.gif), such as a.gif: make PNG or JPEG of them (mogrify -format png)']
        """
        return [f"{said}: {way}" if way else said for _, said, way in self.said()]


def is_hidden(name: str) -> bool:
    """Return whether a name inside a folder or an archive, with "/", is hidden, or lies in a hidden folder."""
    return any(map(_is_hidden_part, name.split("/")))


def _is_hidden_part(part: str) -> bool:
    return (part.startswith(".") and part not in (".", "..")) or part.lower() in SYSTEM_FILES


def extension_of(name: str) -> str:
    """Return a name's extension, without .gz or .zst and in lower case.

    >>> extension_of("A.TSV.gz"), extension_of("a.tar.bz2")
    ('tsv', 'bz2')
    """
    name = name.lower()
    for end in COMPRESSED:
        name = name.removesuffix(end)
    return name.rpartition(".")[2]


def is_image(name: str) -> bool:
    """Return whether a name is that of a picture that is read."""
    return "." in name and name.rpartition(".")[2].lower() in EXTENSIONS


def unread_kind(name: str) -> tuple[Why, str] | None:
    """Return why a file is not read though it is a picture or an archive, and how its name ends.

    >>> unread_kind("a.tar.bz2"), unread_kind("a.GIF"), unread_kind("a.jpg")
    (('archive', '.tar.bz2'), ('picture', '.gif'), None)
    """
    name = name.lower()
    if end := next((end for end in OTHER_ARCHIVES if name.endswith(end)), ""):
        return "archive", end
    extension = name.rpartition(".")[2] if "." in name else ""
    return ("picture", f".{extension}") if extension in OTHER_IMAGES else None


def visible(names: Iterable[str], passed: PassedOver) -> list[str]:
    """Return the names that are not hidden, and note the others."""
    kept = []
    for name in names:
        if not is_hidden(name):
            kept.append(name)
        elif SYSTEM_FILES.isdisjoint(name.lower().split("/")):
            passed.add("hidden", name)
    return kept


def files_under(root: str | os.PathLike[str], passed: PassedOver) -> list[str]:
    """Return the files below a folder, by their names relative to it, sorted.

    Linked folders are entered after all others, and none twice: a link may lead to where it lies.
    A link that leads nowhere counts as a file, so that it is refused where it is read.

    Args:
        root: The folder.
        passed: Receives what is hidden, linked twice, or may not be listed.
    """
    root = os.fspath(root)
    names: list[str] = []
    waiting, linked, seen = [("", os.path.realpath(root))], [], set[str]()
    while waiting or linked:
        relative, real = waiting.pop() if waiting else linked.pop(0)
        if real in seen:
            passed.add("link", relative)
            continue
        seen.add(real)
        try:
            with os.scandir(os.path.join(root, relative)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            passed.add("folder", f"{relative or root} ({(error.strerror or '').lower()})")
            continue
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            if _is_hidden_part(entry.name):
                if entry.name.lower() not in SYSTEM_FILES:
                    passed.add("hidden", name)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((name, os.path.join(real, entry.name)))
            elif entry.is_symlink() and os.path.isdir(entry.path):
                linked.append((name, os.path.realpath(entry.path)))
            elif os.path.isfile(entry.path) or not os.path.exists(entry.path) if entry.is_symlink() else entry.is_file():
                names.append(name)
    return sorted(names)


def size_of(path: str) -> int:
    """Return a file's size in bytes; 0 for a link that leads nowhere."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
