"""Class names: from a table, from the folders themselves, or from WordNet ids of ImageNet.

>>> from_folders(["golden_retriever", "tabby_cat"])[0].name
'golden retriever'
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fistful.bow.store.plain_text import lines_of, read_text
from fistful.errors import DataError, UsageError
from fistful.wording import counted, some

WORDNET_ID = re.compile(r"n\d{8}\Z")
N_IMAGENET = 1000

NAME = "name"
"""The column of a names table that has the names."""
KEY_COLUMNS = ("folder", "wnid", "id")
"""Columns of a names table that may hold the folder's name; the first that is there is taken."""

PARTING = (";", "|", ",")
"""What may part the cells of a table whose columns are called otherwise; a tab always does."""

FEW = 2
"""Faults of one kind that get a line each."""

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


class NamesTable(NamedTuple):
    """A file of class names, as it was read."""

    key: str | None
    """The column that says which folder, or number, each name is of; None without one."""
    classes: list[ClassName]
    """In the order of the file, called by that column, or by their place from 0."""
    taken: str
    """A line that says how it was read."""


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
    if len(folders) == N_IMAGENET and all(folder.isdecimal() for folder in folders) and {*map(int, folders)} == {*range(N_IMAGENET)}:
        known = imagenet1k()
        classes = [dataclasses.replace(known[int(folder)], folder=folder) for folder in folders]
        return classes, [f"the folders 0 to {N_IMAGENET - 1} are taken for ImageNet's classes in their usual order; --names says otherwise"]
    ids = [folder for folder in folders if WORDNET_ID.match(folder)]
    others = [folder for folder in folders if not WORDNET_ID.match(folder)]
    named = {entry.folder: entry for entry in (*(from_wordnet(ids) if ids else ()), *from_folders(others))}
    mixed = [f"{len(ids):,} of {len(folders):,} class folders are WordNet ids, the others are taken as names: {quoted(others)}"]
    return [named[folder] for folder in folders], mixed if ids and others else []


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
    key, entries, _ = read_table(path)
    if key is None:
        return _from_lines(folders, [entry.name for entry in entries], path), []
    rows = {entry.folder: entry for entry in entries}
    missing = [folder for folder in folders if folder not in rows]
    if missing:
        raise UsageError(f"{path}: has no row for {quoted(missing)} in its column {key}; expected one for each folder of images")
    unused = [folder for folder in rows if folder not in set(folders)]
    extra = f"{counted(len(unused), 'class', 'classes')} without a folder ({quoted(unused)})"
    warnings = [f"{path.name}: names {extra}; they are not among the choices"] if unused else []
    return [rows[folder] for folder in folders], warnings


def read_table(path: Path, option: str = "--names") -> NamesTable:
    """Read a file of class names: one a line, or a table (TSV; CSV with commas or semicolons) whose first row names its columns.

    A file that every line parts into as many cells is a table, whatever its columns are called.

    Args:
        path: The file.
        option: What names it on the command line.

    Raises:
        UsageError: If it cannot be read, or a table has no column called name.
        DataError: If a row lacks its key or its name, or is longer than the first, or a key is there twice.
    """
    text = read_text(path, f"{option} {path}", "one class name on each line, or a TSV with the columns folder and name")
    lines = [line for line in lines_of(text) if line.strip()]
    separator = _separator(lines, path)
    if separator is None:
        classes = [ClassName(str(i), line.strip()) for i, line in enumerate(lines)]
        return NamesTable(None, classes, _taken(path, classes, "one a line"))
    (_, header), *rows = _cells(text, separator, path)
    header = [cell.lower() for cell in header]
    if NAME not in header or len(set(header)) < len(header):
        raise UsageError(
            f"{option} {path}: its first row has the columns {', '.join(map(repr, header))}, expected one called {NAME}, "
            f"and {', '.join(KEY_COLUMNS[:-1])} or {KEY_COLUMNS[-1]} if names belong to folders or numbers; "
            f"if each line is one class name, put a line above them that says {NAME}"
        )
    key = next((column for column in KEY_COLUMNS if column in header), None)
    found: dict[str, ClassName] = {}
    for place, (number, row) in enumerate(rows):
        if len(row) > len(header):
            raise DataError(f"{path} row {number}: found {len(row)} cells, expected {len(header)} as in the first row")
        entry = _entry(dict(zip(header, row, strict=False)), key, place, f"{path} row {number}")
        if entry.folder in found:
            raise DataError(f"{path} row {number}: {key} {entry.folder!r} is there twice")
        found[entry.folder] = entry
    classes = list(found.values())
    return NamesTable(key, classes, _taken(path, classes, f"of its column {NAME}"))


def _entry(cells: dict[str, str], key: str | None, place: int, where: str) -> ClassName:
    folder, name = str(place) if key is None else cells.get(key, ""), cells.get(NAME, "")
    if not folder or not name:
        raise DataError(f"{where}: found {key or 'place'} {folder!r} and name {name!r}, expected both")
    return ClassName(folder, name, tuple(word.strip() for word in cells.get("words", "").split(", ") if word.strip()))


def _taken(path: Path, classes: Sequence[ClassName], how: str) -> str:
    return f"{path.name}: {counted(len(classes), 'class name')}, {how}: {some([entry.name for entry in classes])}"


def _separator(lines: Sequence[str], path: Path) -> str | None:
    """Return what parts the cells of a table by its lines that are not blank; None for a name a line."""
    first = lines[0] if lines else ""
    if "\t" in first or first.strip().lower() == NAME:
        return "\t"
    for separator in (",", ";"):
        if NAME in (cell.strip().lower() for row in csv.reader([first], delimiter=separator) for cell in row):
            return separator
    if path.suffix.lower() == ".csv" and "," in first:
        return ","
    return next((separator for separator in PARTING if _parts_all(lines, separator)), None)


def _parts_all(lines: Sequence[str], separator: str) -> bool:
    """Return whether several lines are all parted, into as many cells."""
    widths = {len(row) for row in csv.reader(lines, delimiter=separator)}
    return len(lines) > 1 and len(widths) == 1 and max(widths) > 1


def _cells(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, with their numbers: TSV is never quoted."""
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    lines = lines_of(text) if separator == "\t" else io.StringIO(text, newline="")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)]
    except csv.Error as error:
        raise DataError(f"{path}: not readable as a table ({error})") from None
    return [(number, row) for number, row in enumerate(rows, start=1) if any(row)]


def _from_lines(folders: Sequence[str], names: list[str], path: Path) -> list[ClassName]:
    """Names without folders: accepted only where each says which folder it belongs to."""
    by_folder = {_simple(name): name for name in names}
    if len(by_folder) != len(names) or sorted(by_folder) != sorted(_simple(folder) for folder in folders):
        raise UsageError(
            f"--names {path}: one name a line does not say which of the {len(folders)} folders each belongs to; "
            "expected a TSV with the columns folder and name, or names that equal the folders'"
        )
    return [ClassName(folder, by_folder[_simple(folder)]) for folder in folders]


def _simple(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def quoted(names: Sequence[str]) -> str:
    """Return the first few names in quotation marks, and how many more there are."""
    return some([repr(name) for name in names])


def heard(name: str) -> str:
    """Return what a model's tokenizer makes of a name before it cuts it into tokens: names that are equal then are one to it.

    >>> heard(" Cat "), heard("salt &amp; pepper")
    ('cat', 'salt & pepper')

    Source:
        CLIP (Radford et al. 2021), simple_tokenizer.py: basic_clean, whitespace_clean, lower.
    """
    return " ".join(unicodedata.normalize("NFC", html.unescape(html.unescape(name))).lower().split())


def alike(classes: Sequence[ClassName]) -> list[list[ClassName]]:
    """Return the classes whose names are one text to a model, group by group."""
    groups: dict[str, list[ClassName]] = {}
    for entry in classes:
        groups.setdefault(heard(entry.name), []).append(entry)
    return [group for group in groups.values() if len(group) > 1]


def _shared(groups: Sequence[list[ClassName]]) -> list[str]:
    """Return lines that say which classes have names that are one text to a model: of many groups one line."""
    if len(groups) > FEW:
        which = some([" and ".join(repr(entry.folder) for entry in group) for group in groups])
        return [f"{len(groups):,} names are one text to a model, shared by several classes: {which}"]
    lines = []
    for group in groups:
        names, which = dict.fromkeys(entry.name for entry in group), ", ".join(entry.folder for entry in group)
        said = f"the name {quoted(list(names))} is" if len(names) == 1 else f"the names {quoted(list(names))} are one text to a model,"
        lines.append(f"{said} shared by the classes {which}")
    return lines


def odd_names(classes: Sequence[ClassName]) -> list[str]:
    """Return a warning for names that several classes share, for numbers in place of names, and for a class that is alone."""
    lines = _shared(alike(classes))
    numbers = [entry.name for entry in classes if entry.name.isdecimal()]
    if numbers:
        said = counted(len(numbers), "class is", "classes are")
        lines.append(f"{said} called by numbers, which say nothing of what is in them ({quoted(numbers)}); --names FILE gives names")
    if len(classes) == 1:
        lines.append(f"{classes[0].name!r} is the only class, so every answer is right; a score needs two or more")
    return lines
