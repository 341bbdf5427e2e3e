"""Class names: from a table, from the folders themselves, or from WordNet ids of ImageNet.

>>> from_folders(["golden_retriever", "tabby_cat"])[0].name
'golden retriever'
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

from fistful.bow.store.text import read_lines
from fistful.errors import DataError, UsageError

WORDNET_ID = re.compile(r"n\d{8}\Z")
KEY_COLUMNS = ("folder", "wnid", "id")
"""Columns of a names table that may hold the folder's name; the first that is there is taken."""

TABLE = "classes.tsv"
"""A names table with this name in a set's folder, or beside its archive, is used unasked."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClassName:
    """A class: the folder (or number) that marks its images, its name, and its other names."""

    folder: str
    name: str
    synonyms: tuple[str, ...] = ()

    def names(self, with_synonyms: bool) -> tuple[str, ...]:
        """Return the name, and the other names that differ from it if wanted."""
        return tuple(dict.fromkeys((self.name, *self.synonyms))) if with_synonyms else (self.name,)


def name_classes(folders: Sequence[str], table: Path | None) -> tuple[list[ClassName], list[str]]:
    """Name the classes of a set.

    Args:
        folders: The classes' folders, sorted.
        table: A names table, or None for the folders' own names or ImageNet's.

    Returns:
        A class a folder, in the same order, and warnings.

    Raises:
        UsageError: If the table has no row for a folder.
        DataError: If the table cannot be read.
    """
    if table is not None:
        return from_table(folders, table)
    if folders and all(WORDNET_ID.match(folder) for folder in folders):
        return from_wordnet(folders), []
    return from_folders(folders), []


def from_folders(folders: Sequence[str]) -> list[ClassName]:
    """Take the folders' names, underscores as spaces."""
    return [ClassName(folder, " ".join(folder.replace("_", " ").split()) or folder) for folder in folders]


def from_wordnet(folders: Sequence[str]) -> list[ClassName]:
    """Give ImageNet's WordNet ids the names that open_clip prompts with; other ids get WordNet's first word.

    Raises:
        UsageError: For an id that neither ImageNet-1k nor ImageNet-22k knows.
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    wordnet_ids = ImageNetInfo("imagenet-1k").label_names()
    known = dict(zip(wordnet_ids, IMAGENET_CLASSNAMES, strict=True))
    large = ImageNetInfo("imagenet-22k")
    in_large = set(large.label_names())
    classes = []
    for folder in folders:
        if folder not in known and folder not in in_large:
            raise UsageError(f"{folder}: looks like a WordNet id but is not one of ImageNet's; give its name with --names")
        words = large.label_name_to_description(folder).split(", ") if folder in in_large else [known[folder]]
        classes.append(ClassName(folder, known.get(folder, words[0]), tuple(words)))
    return classes


def imagenet1k() -> list[ClassName]:
    """Return ImageNet-1k's classes with the names that open_clip prompts with."""
    from timm.data.imagenet_info import ImageNetInfo

    return from_wordnet(ImageNetInfo("imagenet-1k").label_names())


def from_table(folders: Sequence[str], path: Path) -> tuple[list[ClassName], list[str]]:
    """Look the folders up in a names table (`name_classes`)."""
    lines = [line for line in read_lines(path, f"--names {path}", "a TSV with the columns folder and name") if line.strip()]
    key = next((k for k in KEY_COLUMNS if lines and k in lines[0].split("\t")), None)
    if key is None or "name" not in lines[0].split("\t"):
        return _from_lines(folders, lines, path), []
    rows = read_rows(lines, key, path)
    missing = [folder for folder in folders if folder not in rows]
    if missing:
        raise UsageError(f"{path}: has no row for {_some(missing)} in its column {key}; expected one for each folder of images")
    unused = [folder for folder in rows if folder not in set(folders)]
    warnings = (
        [f"{path.name}: names {len(unused)} classes without a folder ({_some(unused)}); they are not among the choices"] if unused else []
    )
    return [rows[folder] for folder in folders], warnings


def read_rows(lines: list[str], key: str, path: Path) -> dict[str, ClassName]:
    """Read a names table: the class of each entry of its column `key`.

    Raises:
        DataError: If a row lacks its key or its name, or a key is there twice.
    """
    rows: dict[str, ClassName] = {}
    for number, row in enumerate(csv.DictReader(io.StringIO("\n".join(lines)), delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
        folder, name = (row[key] or "").strip(), (row["name"] or "").strip()
        if not folder or not name:
            raise DataError(f"{path} row {number}: found {key} {folder!r} and name {name!r}, expected both")
        if folder in rows:
            raise DataError(f"{path} row {number}: {key} {folder!r} is there twice")
        words = tuple(word.strip() for word in (row.get("words") or "").split(", ") if word.strip())
        rows[folder] = ClassName(folder, name, words)
    return rows


def _from_lines(folders: Sequence[str], lines: list[str], path: Path) -> list[ClassName]:
    """Names without folders: accepted only where each says which folder it belongs to."""
    by_folder = {_simple(line): line.strip() for line in lines}
    if len(by_folder) != len(lines) or sorted(by_folder) != sorted(_simple(folder) for folder in folders):
        raise UsageError(
            f"--names {path}: one name a line does not say which of the {len(folders)} folders each belongs to; "
            "expected a TSV with the columns folder and name, or names that equal the folders'"
        )
    return [ClassName(folder, by_folder[_simple(folder)]) for folder in folders]


def _simple(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more


def repeated_names(classes: Sequence[ClassName]) -> list[str]:
    """Return a warning for each name that several classes share: no prompt can tell those apart."""
    folders: dict[str, list[str]] = {}
    for entry in classes:
        folders.setdefault(entry.name, []).append(entry.folder)
    return [f"the name {name!r} is shared by the classes {', '.join(which)}" for name, which in folders.items() if len(which) > 1]
