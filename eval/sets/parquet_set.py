"""Parquet files of images and labels, as hubs keep them: bytes (or {bytes, path}) beside a number, a name, or a list of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fistful.bow.store.columns import BROKEN_PARQUET, check_damage, is_list, is_text
from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.files import parse_json
from fistful.bow.store.plain_text import printable
from fistful.errors import DataError, UsageError
from fistful.pipelines.read.pictures_in_parquet import STATUS, check_fetched
from fistful.pipelines.read.source_options import AUTO
from fistful.wording import some

from .class_folders import SPLITS
from .class_names import ClassName, from_folders, from_table, heard, odd_names
from .evaluation_set import SEVERAL, EvalSet, Sample
from .set_options import ALL, SetOptions

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label")
SOURCE = "source"
"""The column that says where a picture of a pooled set comes from."""
ROWS = 256
PART = re.compile(r"(?P<stem>.+)-(?P<part>\d+)-of-(?P<total>\d+)\.parquet")


def open_parquet(files: list[Path], name: str, names: str | None, options: SetOptions = ALL) -> EvalSet:
    """Open a set in parquet files of one schema, its columns by their usual names or by those that the options give.

    Raises:
        UsageError: If the files are of several splits, or a column or the class names are missing.
        DataError: If a file is broken, or has other columns than the first.
    """
    _check_one_split(files)
    readers = [_open(path) for path in files]
    schema = readers[0].schema_arrow
    for path, reader in zip(files, readers, strict=True):
        if reader.schema_arrow.names != schema.names:
            raise DataError(f"{path}: columns are {reader.schema_arrow.names}, expected {schema.names} as in {files[0].name}")
    image = _column(schema, (options.image,) if options.names_images else IMAGE_COLUMNS, files[0], "--image")
    label = _column(schema, (options.label,) if options.label != AUTO else LABEL_COLUMNS, files[0], "--label")
    others = [name for name in (SOURCE, STATUS) if name in schema.names]
    classes, warnings = _classes(files, schema, label, names)
    place = {entry.folder: i for i, entry in enumerate(classes)}
    return EvalSet(
        name=name,
        classes=classes,
        read=lambda: _read(files, image, label, others, place),
        n_images=sum(reader.metadata.num_rows for reader in readers),
        files=[(path.name, path) for path in files],
        multilabel=is_list(schema.field(label).type),
        warnings=[*missing_parts(files), *warnings, *odd_names(classes)],
    )


def missing_parts(files: list[Path]) -> list[str]:
    """Return a line if files are parts of more than there are, by names such as val-00000-of-00003.parquet.

    >>> missing_parts([Path("val-00000-of-00003.parquet"), Path("val-00002-of-00003.parquet")])
    ['1 of 3 parts are missing: val-00001-of-00003.parquet']
    """
    parts = [match for path in files if (match := PART.fullmatch(path.name))]
    lines = []
    for stem, width, total in dict.fromkeys((m["stem"], len(m["part"]), m["total"]) for m in parts):
        there = {int(m["part"]) for m in parts if (m["stem"], m["total"]) == (stem, total)}
        missing = [f"{stem}-{i:0{width}d}-of-{total}.parquet" for i in range(int(total)) if i not in there]
        lines += [f"{len(missing)} of {int(total)} parts are missing: {some(missing)}"] if missing else []
    return lines


def _check_one_split(files: list[Path]) -> None:
    """Refuse to pool what hubs keep apart."""
    first = {split: path for path in reversed(files) if (split := _split_of(path.name))}
    if len(first) > 1:
        splits = sorted(first)
        example = next((first[split] for split in ("test", "validation", "val") if split in first), first[splits[0]])
        raise UsageError(
            f"{files[0].parent}: holds files of the splits {', '.join(splits)}, which are not scored as one; name one file, such as "
            f"--data {example}, or a folder with the files of one split alone"
        )


def _split_of(name: str) -> str:
    """Return the split that a file's name says, "" for none.

    >>> _split_of("test-00000-of-00001.parquet"), _split_of("Train.parquet"), _split_of("cats.parquet")
    ('test', 'train', '')
    """
    part = PART.fullmatch(name)
    stem = (part["stem"] if part else re.split(r"[-_.]\d|\.parquet$", name, maxsplit=1, flags=re.IGNORECASE)[0]).lower()
    return stem if part or stem in SPLITS else ""


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        _ = file.schema_arrow.names  # read only now
        return file
    except BROKEN_PARQUET as error:
        raise DataError(f"{path}: not a readable parquet file ({check_damage(error, path)})") from None


def _column(schema: pa.Schema, wanted: tuple[str, ...], path: Path, option: str) -> str:
    found = next((name for name in wanted if name in schema.names), None)
    if found is None:
        raise UsageError(f"{path}: has no column {' or '.join(wanted)}; found {', '.join(schema.names)}; {option} COLUMN says which it is")
    return found


def _classes(files: list[Path], schema: pa.Schema, label: str, names: str | None) -> tuple[list[ClassName], list[str]]:
    """Take class names from the table given, from the names a hub keeps in the schema, or from labels that are text."""
    kind = schema.field(label).type
    kind = kind.value_type if is_list(kind) else kind
    if is_text(kind):
        folders = sorted(text for value in _values(files, label) if heard(text := _written(value)))  # an empty label is none
        return from_table(folders, Path(names)) if names else (from_folders(folders), [])
    hub = _hub_names(schema, label)
    if names is None and not hub:
        raise UsageError(f"{files[0]}: its labels are numbers without names; --names with the columns id and name says what they are")
    if names is None:
        if empty := [i for i, name in enumerate(hub) if not heard(name)]:
            raise UsageError(f"{files[0]}: the name of its class {empty[0]} is empty; --names with the columns id and name gives one")
        return [ClassName(str(i), printable(name).replace("_", " ")) for i, name in enumerate(hub)], []
    seen = [int(value) for value in _values(files, label)]
    return from_table([str(i) for i in range(max(seen, default=-1) + 1)], Path(names))


def _values(files: list[Path], label: str) -> set[Any]:
    """Return every label that occurs."""
    found: set[Any] = set()
    for path in files:
        try:
            for part in pq.read_table(path, columns=[label])[label].chunks:
                found.update((pc.list_flatten(part) if is_list(part.type) else part).to_pylist())
        except BROKEN_PARQUET as error:
            raise DataError(f"{path}: its labels cannot be read ({check_damage(error, path)}); fetch it again") from None
    return found - {None}


def _written(label: Any) -> str:
    """Return a label as text."""
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def _hub_names(schema: pa.Schema, label: str) -> list[str]:
    try:
        features: Any = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        about = features["info"]["features"][label]
        about = about[0] if isinstance(about, list) else about.get("feature", about)  # a list of labels
        return [str(name) for name in about["names"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return []  # another tool's metadata, or none: --names is asked for then


def _read(files: list[Path], image: str, label: str, others: list[str], place: dict[str, int]) -> Iterator[Sample | DeadLetter]:
    columns = [image, label, *others]
    for path in files:
        row = 0
        try:
            for batch in _open(path).iter_batches(ROWS, columns=columns):
                for values in batch.to_pylist():
                    name = f"{printable(path.name)}/row {row}"
                    row += 1
                    try:
                        check_fetched(values.get(STATUS))
                        yield _sample(name, values[image], values[label], place, str(values.get(SOURCE) or ""))
                    except Refused as refused:
                        yield DeadLetter(refused.reason, printable(path.name), name, refused.detail, b"")
        except BROKEN_PARQUET as error:
            raise DataError(f"{path}: broken after row {row} ({check_damage(error, path)}); fetch it again") from None


def _sample(name: str, image: Any, label: Any, place: dict[str, int], source: str) -> Sample:
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes):
        raise Refused("no_image", f"the image is {type(data).__name__}, expected bytes")
    several = isinstance(label, list)
    own = label if several else [label]
    wrong = [one for one in own if one is None or _written(one) not in place]
    if wrong:
        raise Refused("no_label", f"the label is {wrong[0]!r}, which is not one of the {len(place)} classes")
    numbers = sorted({place[_written(one)] for one in own})
    return Sample(name, data, SEVERAL, source, tuple(numbers)) if several else Sample(name, data, numbers[0], source)
