"""The plan: inputs cut into units, deterministically, from the inputs alone.

One unit in, one shard out, same number. A tar is a unit; an uncompressed TSV is cut by byte range;
a compressed or quoted file, which cannot be entered in the middle, is one unit; a folder of images
is cut into runs of files.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fistful.bow.store.config import canonical_json, semantic, sha256_hex
from fistful.bow.store.images import EXTENSIONS
from fistful.errors import UsageError

Kind = Literal["tsv", "csv", "tar", "images"]

KINDS: dict[str, Kind] = {"tsv": "tsv", "csv": "csv", "tar": "tar"}
"""Kind of a file from its extension, without .gz."""

MAX_UNITS = 1 << 31


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """How inputs are cut into units."""

    input_format: Literal["auto", "tsv", "csv", "tar", "images"] = semantic("auto")
    """What the inputs are; auto goes by their extensions."""
    unit_mb: float = semantic(16.0)
    """Size of a piece of a TSV, in megabytes."""
    unit_files: int = semantic(10_000)
    """Number of images of a folder in a unit."""

    def __post_init__(self) -> None:
        if not 0 < self.unit_mb < math.inf or self.unit_files < 1:
            raise UsageError(f"--unit-mb {self.unit_mb} --unit-files {self.unit_files}: expected numbers above 0")


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A piece of input."""

    number: int
    kind: Kind
    path: str
    """Where it lies: a file, or for images their folder. Never written to an output."""
    name: str
    """Its name relative to the source: what outputs call it, in letters that any table can hold."""
    start: int
    """First byte of a TSV's range, or 0."""
    stop: int
    """End of a TSV's range; a line belongs to the range that it starts in."""
    files: tuple[str, ...] = ()
    """Names of the images of a run, relative to the folder."""
    size: int = 0
    """Bytes to read, for sorting and forecasts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """A file that is read."""

    root: str
    """The source's folder."""
    relative: str
    """Where it lies under it."""
    size: int
    kind: Kind
    name: str
    """What it is called: `relative`, unless two inputs would have the same name."""

    @property
    def path(self) -> str:
        """Where it lies."""
        return os.path.join(self.root, self.relative)


def plan_units(sources: tuple[str, ...], options: PlanOptions) -> tuple[list[Unit], dict[str, Any]]:
    """Cut sources into units.

    Args:
        sources: Files and folders, in any order.
        options: How to cut.

    Returns:
        The units by number, and the inputs' fingerprint: of relative names and sizes.

    Raises:
        UsageError: If a source is missing, empty of anything readable, or given twice.
    """
    if not sources:
        raise UsageError("no SOURCE given; expected files (TSV, CSV, tar) or folders")
    found = [i for source in sources for i in _find_inputs(source, options)]
    twice = [path for path, n in Counter(os.path.realpath(i.path) for i in found).items() if n > 1]
    if twice:
        raise UsageError(f"{min(twice)}: given twice; every input counts once")
    inputs = sorted(_with_distinct_names(found), key=lambda i: i.name)
    listing = [[i.name, i.size] for i in inputs]
    fingerprint = {"files": len(inputs), "bytes": sum(i.size for i in inputs), "sha256": sha256_hex(canonical_json(listing))}
    units = [dataclasses.replace(unit, number=n) for n, unit in enumerate(_cut(inputs, options))]
    return units, fingerprint


def _with_distinct_names(inputs: list[Input]) -> list[Input]:
    """Put the folders above before the names while two are equal: a/0.tar and b/0.tar, not 0.tar twice."""
    depth = 0
    while len({i.name for i in inputs}) < len(inputs):
        depth += 1
        inputs = [dataclasses.replace(i, name="/".join([*Path(i.root).parts[-depth:], i.relative])) for i in inputs]
    return inputs


def _find_inputs(source: str, options: PlanOptions) -> list[Input]:
    path = Path(source)
    if path.is_dir():
        return _find_in_folder(path, options)
    if not path.is_file():
        raise UsageError(f"{source}: no such file or folder")
    kind = _kind_of_file(path.name, source, options)
    return [Input(os.path.dirname(os.path.abspath(path)), path.name, path.stat().st_size, kind, path.name)]


def _kind_of_file(name: str, source: str, options: PlanOptions) -> Kind:
    if options.input_format != "auto":
        return options.input_format
    kind = KINDS.get(_extension(name))
    if kind is None:
        raise UsageError(f"{source}: cannot tell what it is from its name; --input-format tsv, csv or tar says so")
    return kind


def _extension(name: str) -> str:
    return name.lower().removesuffix(".gz").rpartition(".")[2]


def _find_in_folder(folder: Path, options: PlanOptions) -> list[Input]:
    """Find tars, else TSV and CSV files, else images: one kind, the first that is there.

    img2dataset writes a parquet and a JSON beside each tar that repeat the tar's captions.
    """
    found: dict[str, list[Input]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        kind: Kind | None = "images" if _extension(path.name) in EXTENSIONS else KINDS.get(_extension(path.name))
        if kind:
            found.setdefault(kind, []).append(Input(os.path.abspath(folder), name, path.stat().st_size, kind, name))
    wanted = [["tar"], ["tsv", "csv"], ["images"]] if options.input_format == "auto" else [[options.input_format]]
    for kinds in wanted:
        if inputs := [i for kind in kinds for i in found.get(kind, [])]:
            return inputs
    raise UsageError(
        f"{folder}: holds no tar, TSV, CSV or image" if options.input_format == "auto" else f"{folder}: holds no {options.input_format}"
    )


def _cut(inputs: list[Input], options: PlanOptions) -> Iterator[Unit]:
    images: dict[str, list[Input]] = {}
    for item in inputs:
        if item.kind == "images":
            images.setdefault(item.root, []).append(item)
            continue
        name = printable(item.name)
        if item.kind == "tsv" and not item.name.endswith(".gz"):
            step = max(1, round(options.unit_mb * 1e6))
            for start in range(0, max(item.size, 1), step):
                stop = min(start + step, item.size)
                yield Unit(0, item.kind, item.path, name, start, stop, size=stop - start)
        else:
            yield Unit(0, item.kind, item.path, name, 0, item.size, size=item.size)
    for folder, files in images.items():
        for start in range(0, len(files), options.unit_files):
            run = files[start : start + options.unit_files]
            names = tuple(i.relative for i in run)
            yield Unit(0, "images", folder, printable(run[0].name), 0, 0, files=names, size=sum(i.size for i in run))


def printable(name: str) -> str:
    r"""Return a name that any table can hold: bytes that are not UTF-8 are spelt \udcff.

    >>> printable("caf\udce9")
    'caf\\udce9'
    """
    return name.encode("utf-8", "backslashreplace").decode()
