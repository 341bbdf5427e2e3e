"""One's own images: in files, folders, globs, tables that name them, and packed in tars and parquet files.

>>> find_images(["missing/*.png"])
Traceback (most recent call last):
fistful.errors.UsageError: missing/*.png: no file matches
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.files import is_url
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.kinds import ARCHIVES, PassedOver, extension_of, files_under, is_image, unread_kind
from fistful.errors import UsageError
from fistful.pipelines.read.find_files import table_kind
from fistful.pipelines.read.listings import FIRST, find_root, none_readable, read_listing, top_of
from fistful.pipelines.read.pictures import address_of
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.source_options import SourceOptions
from fistful.pipelines.read.sources import open_unit
from fistful.pipelines.read.table_head import column_names, holds_pictures, picture_column_of
from fistful.pipelines.read.units import Kind, Unit
from fistful.wording import counted

PACKED = (*ARCHIVES, ".parquet")
"""Ends of the names of files that hold images."""
ANYWHERE = SourceOptions()
"""Images lie where the table that names them does, or beside it."""


class OwnImage(NamedTuple):
    """An image that is to be read."""

    name: str
    """What answers call it: as the table has it that names it, else its path, or its file's and its own name in that."""
    source: Path | bytes | Refused
    """Where it lies, what it is, or why it cannot be read."""


class Lost(NamedTuple):
    """An image that a table names and that cannot be read."""

    image: str
    error: str


def find_images(
    specs: Sequence[str], passed: PassedOver | None = None, lost: list[Lost] | None = None, options: SourceOptions = ANYWHERE
) -> list[OwnImage | Unit]:
    """List the images of some files, folders, globs and tables, each once, and the units of what they are packed in.

    Args:
        specs: Files, which are taken whatever they are called but for tables, JSON documents and tars, folders, and globs.
        passed: Receives what of the folders is not read, and what a table was taken for.
        lost: Receives each row of a table whose image cannot be read, as its name alone says.
        options: Where images that tables name lie.

    Raises:
        UsageError: If one is missing, or there are no images.
    """
    found: list[OwnImage | Unit] = []
    passed = PassedOver() if passed is None else passed
    lost = [] if lost is None else lost
    for path in [Path(name) for spec in specs for name in _expand(spec)]:
        kind = None if path.is_dir() else table_kind(path.name) or ("json" if extension_of(path.name) == "json" else None)
        if units := _packed(path, kind, passed, options):
            found += units
            continue
        if kind is not None:
            found += _listed(path, kind, passed, lost, options)
            continue
        names = files_under(path, passed) if path.is_dir() else []
        for name in names:
            if (unread := unread_kind(name)) and unread[0] == "picture":
                passed.add("picture", name, unread[1])
        inside = [path / name for name in names if is_image(name)] if path.is_dir() else [path]
        found += [OwnImage(str(image), image) for image in inside]
    if not found and not lost:
        raise UsageError(
            f"{', '.join(specs) or 'IMAGES'}: no images; expected files that end in {', '.join(EXTENSIONS)}, folders of them, "
            "tars or parquet files of them, or a table that names them"
        )
    once: dict[object, OwnImage | Unit] = {}
    for image in found:
        once.setdefault(image.source if isinstance(image, OwnImage) else image, image)
    return list(once.values())


def unpacked(found: Iterable[OwnImage | Unit]) -> Iterator[OwnImage]:
    """Yield images one by one, those of units as they are read."""
    for one in found:
        if isinstance(one, OwnImage):
            yield one
            continue
        with open_unit(one, ANYWHERE, with_images=True, need_captions=False) as (batches, _):
            for batch in batches:
                lost = Refused("no_image", "no picture beside its texts")
                yield from (OwnImage(f"{one.name}/{row.source_key}", row.image or lost) for row in batch.rows)
                yield from (OwnImage(f"{one.name}/{letter.place}", Refused(letter.reason, letter.detail)) for letter in batch.letters)


def _packed(path: Path, kind: Kind | None, passed: PassedOver, options: SourceOptions) -> list[Unit]:
    """Return the units of a tar, of parquet that holds images, or of a folder of such that has no image of its own; [] for others."""
    names = files_under(path, PassedOver()) if path.is_dir() else [path.name]
    if any(map(is_image, names)) or not any(name.lower().endswith(PACKED) for name in names):
        return []
    if kind == "parquet" and not holds_pictures(str(path), options):
        return []
    units = plan_units((str(path),), PlanOptions(), passed, options)[0]
    return [unit for unit in units if unit.has_pictures and unit.root is None]


def _expand(spec: str) -> list[str]:
    """Return what a glob names, in the order of the names; anything else as it is.

    Raises:
        UsageError: If there is nothing of that name.
    """
    if os.path.lexists(spec):
        return [spec]
    found = sorted(glob.glob(spec, recursive=True))
    if not found:
        raise UsageError(f"{spec}: no file matches" if glob.has_magic(spec) else f"{spec}: no such image or folder")
    return found


def _listed(path: Path, kind: Kind, passed: PassedOver, lost: list[Lost], options: SourceOptions) -> list[OwnImage]:
    """Return the images that a table or a JSON document names, each once."""
    column = None if kind == "json" else picture_column_of(str(path), kind, options)
    if kind != "json" and column is None:
        named = ", ".join(repr(name[:40]) for name in column_names(str(path), kind, options)[:12])
        raise UsageError(
            f"{path}: no column names images{f' ({named})' if named else ''}; expected one of paths such as image or file_name"
        )
    listing = read_listing(str(path), path.name, kind, options)
    names = listing.names.to_pylist()
    if listing.letters and not names:
        raise UsageError(none_readable(path, listing.letters))
    root = find_root(str(path), names[:FIRST], options, top_of(os.path.dirname(os.path.abspath(path))))
    if root is None:
        example = f", such as {names[0]}," if names else ""
        raise UsageError(
            f"{path}: none of the images that it names{example} lies in its folder or beside it; --images-root FOLDER says where"
        )
    lost += [Lost(f"{path} {letter.place}", f"{letter.reason}: {letter.detail}") for letter in listing.letters]
    found: list[OwnImage] = []
    for name in names:
        try:
            found.append(OwnImage(name, Path(_on_this_machine(address_of(name, root, str(path))))))
        except Refused as refused:
            lost.append(Lost(name, f"{refused.reason}: {refused.detail}"))
    where = f" (column {column.name})" if column else ""
    passed.taken.append(f"{path.name}: {listing.what}{where}: {counted(len(names), 'image')}")
    return found


def _on_this_machine(address: str) -> str:
    if is_url(address):
        raise Refused("no_image", "lies in a bucket; images are read from this machine")
    return address
