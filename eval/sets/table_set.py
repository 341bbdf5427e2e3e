"""Tables that name pictures and their labels: CSV, TSV, JSONL, parquet, alone or in a folder beside the pictures.

Several labels of a picture, in rows or in a list, make a multi-label set.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.files import is_url
from fistful.bow.store.kinds import PassedOver, files_under, is_image
from fistful.bow.store.plain_text import printable
from fistful.errors import UsageError
from fistful.pipelines.read.find_files import table_kind
from fistful.pipelines.read.listings import (
    SPLIT,
    find_root,
    nameless,
    none_readable,
    odd_letters,
    places_of_refused,
    plain_name,
    read_named_rows,
)
from fistful.pipelines.read.pictures import address_of, read_picture
from fistful.pipelines.read.source_options import AUTO
from fistful.pipelines.read.table_head import PictureColumn, column_names, picture_column_of
from fistful.pipelines.read.units import Kind, Unit
from fistful.wording import counted

from .class_names import TABLE, ClassName, from_table, heard, name_classes, odd_names
from .evaluation_set import SEVERAL, EvalSet, Sample
from .set_options import SetOptions

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "cls", "fine_label")
NUMBER = re.compile(r"(-?\d+)(\.0)?")
"""A label that is a number; pandas makes 3.0 of 3 where a row has none."""
IN_PARQUET = "bytes"
"""What a picture column holds where the pictures lie in the table itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """How a table says which pictures it is of, and which classes they have."""

    path: Path
    kind: Kind
    column: PictureColumn
    labels: tuple[str, ...]
    """Columns that may hold the labels; none in a table of captions."""


def look_at_table(path: Path, options: SetOptions) -> Table | None:
    """Return how a table names pictures that lie in files, and labels; None for a file that is no such table."""
    kind = table_kind(path.name)
    column = None if kind is None else picture_column_of(str(path), kind, options)
    if kind is None or column is None or column.holds == IN_PARQUET:
        return None
    return Table(path, kind, column, label_columns(column, options))


def label_columns(column: PictureColumn, options: SetOptions) -> tuple[str, ...]:
    """Return which columns of a table may hold labels, the likeliest first; where one is asked for that alone, if it is there."""
    if options.label != AUTO:
        return (options.label,) if options.label in column.columns else ()
    lowered = {name.lower(): name for name in reversed(column.columns)}
    return tuple(lowered[name] for name in LABEL_COLUMNS if name in lowered)


def labelled_tables(files: Sequence[Path], options: SetOptions) -> list[Table]:
    """Return the tables among some files that name pictures on this machine, and labels."""
    looked = (look_at_table(path, options) for path in files if path.name != TABLE)
    return [table for table in looked if table and table.labels and table.column.holds == "names" and _root(table, options)]


def open_table(path: Path, name: str, names: str | None, options: SetOptions, around: Path | None = None) -> EvalSet:
    """Open a table of pictures and labels.

    Args:
        path: The table.
        name: What to call the set.
        names: A names table, or None for labels that are names.
        options: Its columns; --split, by the column of that name, while the classes are those of all pictures; --images-root.
        around: The folder that is the set, where that was named: pictures in it that no row names are told.

    Raises:
        UsageError: If it names no pictures that lie on this machine, or has no labels, or its labels are numbers without names.
    """
    table = look_at_table(path, options)
    root = _check(path, table, options)
    assert table is not None
    found = _read_labels(path, table, options)
    labels, unit, label = found.labels, found.unit, found.column
    classes, warnings = _classes(path, label, found.every, names)
    pictures = _Pictures(unit, found.letters, labels, _addresses(labels, root, path))
    several = sum(len(set(own)) > 1 for own in labels.values())
    notes = list(found.notes)
    notes += [f"{path.name} has captions too, which are not read: it was taken for a set of labels"] if table.column.has_caption else []
    notes += _left_out(pictures, around, root) if around is not None and not options.split else []
    if several and not found.in_lists:
        has = "has" if several == 1 else "have"
        said = f"{several} of {len(labels)} pictures {has} several labels"
        notes.append(f"{said}, so any number of classes may be right: mean average precision")
    columns = f"pictures in its column {table.column.name}, labels in its column {label}"
    return EvalSet(
        name=name,
        classes=classes,
        read=functools.partial(pictures.read, classes, multilabel=several > 0 or found.in_lists, unlabelled=found.in_lists),
        n_images=len(labels) + len(pictures.letters),
        files=[(path.name, path), *((name, Path(place)) for name, place in pictures.places.items() if isinstance(place, str))],
        multilabel=several > 0 or found.in_lists,
        warnings=[*notes, *warnings, *odd_names(classes)],
        taken=[f"{path.name}: {columns}: {counted(len(labels), 'picture')}"],
    )


def _root(table: Table, options: SetOptions) -> str | None:
    return find_root(str(table.path), table.column.first, options)


def _check(path: Path, table: Table | None, options: SetOptions) -> str:
    """Return the folder that names of pictures start from.

    Raises:
        UsageError: If the table lacks something.
    """
    if table is None:
        expected = "one of paths such as image, file_name or path; --image COLUMN says which it is"
        raise UsageError(f"{path}: no column names pictures{_columns(path, options)}; expected {expected}")
    column = table.column
    if not column.place:
        raise UsageError(f"--image {column.name}: {path} has no such column ({_quoted(column.columns)})")
    if options.label != AUTO and not table.labels:
        raise UsageError(f"--label {options.label}: {path} has no such column ({_quoted(column.columns)})")
    if not table.labels:
        expected = f"{', '.join(LABEL_COLUMNS[:-1])} or {LABEL_COLUMNS[-1]}"
        has = f"names pictures in its column {column.name}, and has neither labels nor captions ({_quoted(column.columns)})"
        raise UsageError(f"{path}: {has}; expected a column {expected}; --label COLUMN or --caption COLUMN says which it is")
    if column.holds == "web":
        way = f"img2dataset --url_list {path.name} --input_format {table.kind} --url_col {column.name} --output_format files"
        raise UsageError(f"{path}: names pictures on the web, which are not fetched here; {way} --output_folder DIR does")
    root = _root(table, options)
    if root is None:
        lost = f"none of the first {len(column.first)} pictures in its column {column.name}, such as {column.first[0]}, lies"
        raise UsageError(
            f"{path}: {lost} in its folder or beside it{odd_letters(path, column.first)}; --images-root FOLDER says where they lie"
        )
    return root


def _columns(path: Path, options: SetOptions) -> str:
    kind = table_kind(path.name)
    names = column_names(str(path), kind, options) if kind else []
    return f" ({_quoted(names)})" if names else ""


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:12])


def _choose_labels(table: Table, told: list[dict[str, Any]]) -> tuple[str, list[list[str]]]:
    """Return the column of labels and each row's: of several columns the first whose labels are no numbers."""
    found = {column: [_labels_in(fields.get(column)) for fields in told] for column in table.labels}
    texts = (column for column, own in found.items() if any(own) and not _are_numbers(own))
    chosen = next(texts, None) or next((column for column, own in found.items() if any(own)), None)
    if chosen is None:
        raise UsageError(f"{table.path}: its column {table.labels[0]} has no label in any row")
    numbers = _are_numbers(found[chosen])
    return chosen, [[_number(text) if numbers else text for text in own] for own in found[chosen]]


def _labels_in(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for one in values if one is not None and heard(text := printable(str(one)).strip())]  # an empty label is none


def _are_numbers(own: list[list[str]]) -> bool:
    return all(NUMBER.fullmatch(text) for labels in own for text in labels)


def _number(text: str) -> str:
    return str(int(float(text)))


def _classes(path: Path, label: str, own: list[list[str]], names: str | None) -> tuple[list[ClassName], list[str]]:
    """Take class names from the table of names, or from labels that are text."""
    labels = sorted({text for labels in own for text in labels})
    if names is None and (path.parent / TABLE).is_file():
        names = str(path.parent / TABLE)
    if not _are_numbers(own):
        return name_classes(labels, Path(names) if names else None)
    numbers = sorted(int(text) for text in labels if not text.startswith("-"))  # -1 says that there is no label
    if names:
        return from_table([str(i) for i in range(max(numbers, default=-1) + 1)], Path(names))
    classes, warnings = name_classes(list(map(str, numbers)), None)
    if not warnings:  # not ImageNet's
        says = "--names FILE, a TSV with the columns id and name, says what they are"
        raise UsageError(f"{path}: its labels (column {label}) are numbers, such as {max(numbers, default=-1)}, without names; {says}")
    return classes, [line.replace("the folders", "the labels") for line in warnings]


def _addresses(names: dict[str, list[str]], root: str, path: Path) -> dict[str, str | Refused]:
    """Return where each picture lies, or why it is refused."""
    real_folder: Callable[[str], str] = functools.lru_cache(maxsize=1024)(lambda folder: os.path.realpath(folder))
    found: dict[str, str | Refused] = {}
    for name in names:
        try:
            found[name] = address_of(name, root, str(path), real_folder)
        except Refused as refused:
            found[name] = refused
        if is_url(str(found[name])):
            found[name] = Refused("no_image", "lies in a bucket; evaluation reads files of this machine")
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Labels:
    """What the rows of a table say."""

    unit: Unit
    column: str
    """Where the labels stand."""
    labels: dict[str, list[str]]
    """Of each picture, by its name."""
    every: list[list[str]]
    """Of every row, whatever its split."""
    in_lists: bool
    """Whether a row has a list of labels."""
    letters: list[DeadLetter]
    notes: list[str]


def _read_labels(path: Path, table: Table, options: SetOptions) -> _Labels:
    """Read the labels of one split, or of all.

    Raises:
        UsageError: If there is no such split.
    """
    split = options.split
    splits = (SPLIT,) if SPLIT in table.column.columns else ()
    if split and not splits:
        raise UsageError(f"--split {split}: {path} has no column {SPLIT}")
    unit = Unit(0, table.kind, str(path), printable(path.name), 0, 0)
    rows = read_named_rows(unit, dataclasses.replace(options, columns=",".join((*table.labels, *splits)), split=""))
    if rows.letters and not rows.names:
        raise UsageError(none_readable(path, rows.letters))
    told: list[dict[str, Any]] = [json.loads(text) for text in rows.extra]
    column, own = _choose_labels(table, told)
    taken = [i for i, fields in enumerate(told) if not split or fields.get(SPLIT) == split]
    there = sorted({str(fields[SPLIT]) for fields in told if fields.get(SPLIT)})
    if split and not taken:
        raise UsageError(f"--split {split}: {path} has the splits {', '.join(there)}")
    labels: dict[str, list[str]] = {}
    for i in taken:
        if rows.names[i]:
            labels.setdefault(plain_name(rows.names[i]), []).extend(own[i])
    letters = [*rows.letters, *(nameless(unit, i) for i in taken if not rows.names[i])]
    notes = [f"the splits {', '.join(there)} are scored together; --split takes one"] if len(there) > 1 and not split else []
    return _Labels(unit, column, labels, own, any(isinstance(fields.get(column), list) for fields in told), letters, notes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pictures:
    """What a table names."""

    unit: Unit
    letters: list[DeadLetter]
    labels: dict[str, list[str]]
    places: dict[str, str | Refused]

    def read(self, classes: Sequence[ClassName], *, multilabel: bool, unlabelled: bool) -> Iterator[Sample | DeadLetter]:
        """Yield each picture once, as an `EvalSet` has them; `unlabelled` lets pictures have no class."""
        number = {entry.folder: i for i, entry in enumerate(classes)}
        yield from self.letters
        for name, own in self.labels.items():
            try:
                known = sorted({number[text] for text in own if text in number})
                if len(known) < len(set(own)) or not (known or unlabelled):
                    odd = next((text for text in own if text not in number), "")
                    raise Refused("no_label", f"the label is {odd!r}, which is not one of the classes" if odd else "has no label")
                place = self.places[name]
                if isinstance(place, Refused):
                    raise place
                yield Sample(name, read_picture(place), SEVERAL if multilabel else known[0], "", tuple(known) if multilabel else ())
            except Refused as refused:
                yield DeadLetter(refused.reason, self.unit.name, printable(name), refused.detail, b"")


def _left_out(pictures: _Pictures, around: Path, root: str) -> list[str]:
    """Return a line if pictures lie beside the table that it does not name."""
    named = {os.path.abspath(place) for place in pictures.places.values() if isinstance(place, str)}
    named |= {os.path.abspath(place) for place in places_of_refused(pictures.letters, root, pictures.unit.path)}
    left = [name for name in files_under(around, PassedOver()) if is_image(name) and os.path.abspath(around / name) not in named]
    table = os.path.basename(pictures.unit.path)
    said = f"{counted(len(left), 'picture lies', 'pictures lie')} beside {table} and {'is' if len(left) == 1 else 'are'} named by no row"
    return [f"{said}, such as {printable(left[0])}"] if left else []
