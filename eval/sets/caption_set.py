"""Captioned pictures as evaluation sees them: data folders that `fistful bags` wrote, and captions and pictures as they lie."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.folders import folder_at
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.store.index import read_index
from fistful.bow.store.kinds import PassedOver, extension_of, is_image
from fistful.bow.store.manifest import fingerprint, read_config
from fistful.bow.vocabulary import Vocabulary, read_vocabulary
from fistful.errors import DataError, UsageError
from fistful.pipelines.read.find_files import LIKELY, find_files, table_kind
from fistful.pipelines.read.listings import FIRST, none_readable
from fistful.pipelines.read.pictures import texts_beside
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.rows import Row
from fistful.pipelines.read.source_options import AUTO, SourceOptions
from fistful.pipelines.read.sources import check_unit, open_unit
from fistful.pipelines.read.table_head import picture_column_of
from fistful.pipelines.read.units import Unit

from .class_folders import count_classes, names_in
from .evaluation_set import Sample
from .layouts import find_table, is_archive, set_name
from .set_options import ALL, SetOptions
from .shard_pictures import image_bytes
from .table_set import label_columns
from .wds import RETRIEVAL, find_layout, kind_of, open_retrieval

NO_WORDS = "its words are not asked (tags): that needs a vocabulary, as in the folder that fistful bags makes of it"


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionSet:
    """Captioned pictures as evaluation sees them."""

    name: str
    folder: Path
    captions: Sequence[list[str]]
    """Of each row."""
    rows: Sequence[int]
    """The rows that have a picture and a caption."""
    read: Callable[[], Iterator[Sample | DeadLetter]]
    """Yields the images, and what cannot be used; a sample's label is its row."""
    digest: str
    """Of a data folder its manifest's; else of all that is read."""
    vocabulary: Vocabulary | None = None
    words: Sequence[list[int]] = ()
    """Of each row its bag, in the vocabulary."""
    taken: Sequence[str] = ()
    """A line for what was recognised rather than named."""
    warnings: Sequence[str] = ()
    """What is not read."""

    def fingerprint(self, show: bool = False) -> dict[str, Any]:  # noqa: ARG002 - nothing is read, so there is nothing to show
        """Return what names the set's content, as a set of classes has it."""
        return {"name": self.name, "data": self.digest}


def open_captions(spec: str) -> CaptionSet:
    """Open a data folder that `fistful bags` wrote.

    Raises:
        UsageError: If another verb wrote it, it is not finished, or has no captioned picture.
    """
    folder = folder_at(spec)
    verb = read_config(folder)["verb"]
    if verb != "bags":
        raise UsageError(f"--data {spec}: was written by fistful {verb}; expected class folders, or a folder that fistful bags wrote")
    digest = fingerprint(folder)
    index = read_index(folder).select(["key", "captions", "words", "source", "image_offset", "image_size"]).to_pydict()
    rows = [i for i, (captions, size) in enumerate(zip(index["captions"], index["image_size"], strict=True)) if captions and size]
    if not rows:
        raise UsageError(f"--data {spec}: has no picture beside its captions; fistful bags copies pictures from tars and folders of images")
    read = functools.partial(_from_shards, folder, index, rows)
    return CaptionSet(set_name(folder), folder, index["captions"], rows, read, digest, read_vocabulary(folder), index["words"])


def _from_shards(folder: Path, index: dict[str, list[Any]], rows: Sequence[int]) -> Iterator[Sample]:
    for row in rows:
        key, source = index["key"][row], index["source"][row]
        yield Sample(key, image_bytes(folder, key, index["image_offset"][row], index["image_size"][row]), row, source or "")


def open_source(spec: str, options: SetOptions = ALL) -> CaptionSet:
    """Open captions and pictures as `fistful count` reads them, and as CLIP_benchmark lays them out for retrieval: without a vocabulary.

    It is read twice: now for captions and fingerprint, and then for each model.

    Raises:
        UsageError: If nothing of it can be read, or it has no picture beside its captions.
    """
    path, passed = Path(spec), PassedOver()
    layout = find_layout(path) if path.is_dir() else None
    shards, warnings = open_retrieval(layout) if layout else ([path], [])
    units = plan_units(tuple(map(str, shards)), PlanOptions(), passed, options)[0]
    if not any(unit.has_pictures for unit in units):
        raise UsageError("; ".join([f"--data {spec}: has captions and no pictures that can be found", *passed.taken]))
    check_unit(units[0], options)
    captions: dict[tuple[int, int], list[str]] = {}
    contents: list[dict[str, str]] = []
    letters: list[DeadLetter] = []
    for unit, row in _rows(units, options, contents):
        if isinstance(row, DeadLetter):
            letters.append(row)
        else:
            captions[unit.number, row.number] = _lines_of(row) if layout else row.captions
    if not captions and letters:
        raise UsageError(f"--data {none_readable(spec, letters)}")
    if not captions:
        raise UsageError(f"--data {spec}: has no picture beside its captions")
    return CaptionSet(
        set_name(path),
        path,
        list(captions.values()),
        range(len(captions)),
        functools.partial(_from_units, units, options, {place: i for i, place in enumerate(captions)}),
        sha256_hex(canonical_json([layout is not None, contents])),
        taken=passed.taken,
        warnings=[*warnings, *passed.lines(), NO_WORDS],
    )


def _from_units(units: Sequence[Unit], options: SourceOptions, place: dict[tuple[int, int], int]) -> Iterator[Sample | DeadLetter]:
    for unit, row in _rows(units, options, []):
        if isinstance(row, DeadLetter):
            yield row
        elif (unit.number, row.number) not in place:
            raise DataError(f"{unit.path}: changed while it was evaluated; evaluate it again")
        else:
            assert row.image is not None
            yield Sample(_name(unit, row), row.image, place[unit.number, row.number], row.source)


def _rows(units: Sequence[Unit], options: SourceOptions, contents: list[dict[str, str]]) -> Iterator[tuple[Unit, Row | DeadLetter]]:
    """Yield pictures with captions, and what cannot be used; `contents` receives what names the content of each unit."""
    for unit in units:
        with open_unit(unit, options, with_images=True) as (batches, content):
            for batch in batches:
                yield from ((unit, letter) for letter in batch.letters)
                for row in batch.rows:
                    lacking = DeadLetter("no_image", unit.name, _name(unit, row), "has a caption and no picture", b"")
                    yield unit, row if row.image else lacking
        contents.append(content)


def _lines_of(row: Row) -> list[str]:
    """Return the captions of CLIP_benchmark's KEY.txt, split as it splits them."""
    return [line for text in row.captions for line in text.splitlines() if line.strip()]


def _name(unit: Unit, row: Row) -> str:
    """Return what a picture is called: in shards of one source keys may be the same."""
    return f"{unit.name}/{row.source_key}" if unit.kind in ("tar", "parquet") and unit.root is None else row.source_key


def is_captioned(path: Path, options: SetOptions = ALL) -> bool:
    """Return whether a path holds pictures with captions; what has labels, or two class folders or more, does not.

    A table of both has the one that is asked for.
    """
    if path.is_dir() and (layout := find_layout(path)) is not None:
        return kind_of(layout) == RETRIEVAL
    if path.is_file() and not is_archive(path):
        return _is_captioned_table(path, options)
    names = names_in(path)
    if (count_classes(names) > 1 and not _are_fetched(names)) or any(name.endswith(".cls") for name in names):
        return False
    if path.is_file():
        return _have_texts(names)
    if options.caption == AUTO and find_table(path, options) is not None:
        return False
    try:
        first = find_files(str(path), "auto", options=options)[0]
    except UsageError:
        return False
    if first.kind == "images":
        pictures = [os.path.splitext(name)[0] for name in names if is_image(name)][:FIRST]
        return any(os.path.exists(text) for stem in pictures for text in texts_beside(str(path), stem))
    found = Path(first.root, first.relative)
    return _have_texts(names_in(found)) if first.kind == "tar" else _is_captioned_table(found, options)


def _are_fetched(names: Sequence[str]) -> bool:
    """Return whether each folder of pictures is one of img2dataset's, which writes 00000_stats.json beside 00000."""
    folders, there = {os.path.dirname(name) for name in names if is_image(name)}, {*names}
    return all(f"{folder}_stats.json" in there for folder in folders)


def _have_texts(names: Sequence[str]) -> bool:
    stems = {name.rpartition(".")[0] for name in names if is_image(name)}
    return any(name.endswith((".txt", ".json")) and name.rpartition(".")[0] in stems for name in names)


def _is_captioned_table(path: Path, options: SetOptions) -> bool:
    kind = table_kind(path.name) or LIKELY.get(extension_of(path.name))
    if kind is None or kind == "json":
        return kind == "json"
    column = picture_column_of(str(path), kind, options)
    if column is None or options.label != AUTO:
        return False
    return options.caption != AUTO or (column.has_caption and not label_columns(column, options))
