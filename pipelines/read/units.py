"""The plan: inputs cut into units, deterministically, from the inputs alone.

One unit in, one shard out, same number. A tar is a unit; an uncompressed TSV or JSONL file is cut by
byte range, a parquet file by row groups; a compressed or quoted file, which cannot be entered in the
middle, is one unit; a folder of images is cut into runs of files.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fistful.bow.store.files import is_url, open_input
from fistful.bow.store.identity import canonical_json, check_numbers, semantic, sha256_hex
from fistful.bow.store.kinds import PassedOver
from fistful.errors import UsageError

from .find_files import Kind, find_files, is_compressed


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """How inputs are cut into units."""

    input_format: Literal["auto", "tsv", "csv", "jsonl", "parquet", "tar", "images"] = semantic("auto")
    """What the inputs are; auto goes by their extensions."""
    unit_mb: float = semantic(16.0)
    """Size of a piece of a TSV, JSONL or parquet file, in megabytes."""
    unit_files: int = semantic(10_000)
    """Number of images of a folder in a unit."""

    def __post_init__(self) -> None:
        if not 0 < self.unit_mb < math.inf or self.unit_files < 1:
            raise UsageError(f"--unit-mb {self.unit_mb} --unit-files {self.unit_files}: expected numbers above 0")
        check_numbers(self)


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
    """First byte of a TSV's or JSONL's range, first row group of a parquet file, or 0."""
    stop: int
    """End of the range; a line belongs to the range that it starts in."""
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


def plan_units(sources: tuple[str, ...], options: PlanOptions, passed: PassedOver | None = None) -> tuple[list[Unit], dict[str, Any]]:
    """Cut sources into units.

    Args:
        sources: Files, folders, globs, brace lists and URLs, in any order.
        options: How to cut.
        passed: Receives what of them is not read.

    Returns:
        The units by number, and the inputs' fingerprint: of relative names and sizes.

    Raises:
        UsageError: If a source is missing, empty of anything readable, or given twice.
    """
    if not sources:
        raise UsageError("no SOURCE given; expected files (TSV, CSV, JSONL, parquet, tar) or folders")
    passed = PassedOver() if passed is None else passed
    files = [f for source in sources for f in find_files(source, options.input_format, passed)]
    found = [Input(f.root, f.relative, f.size, f.kind, f.name) for f in files]
    twice = [path for path, n in Counter(i.path if is_url(i.path) else os.path.realpath(i.path) for i in found).items() if n > 1]
    if twice:
        raise UsageError(f"{min(twice)}: given twice; every input counts once")
    inputs = sorted(_with_distinct_names(found), key=lambda i: i.name)
    listing = [[i.name, i.size] for i in inputs]
    fingerprint = {"files": len(inputs), "bytes": sum(i.size for i in inputs), "sha256": sha256_hex(canonical_json(listing))}
    units = [dataclasses.replace(unit, number=n) for n, unit in enumerate(_cut(inputs, options))]
    return units, fingerprint


def _with_distinct_names(inputs: list[Input]) -> list[Input]:
    """Put the folders above before the names while two are equal: a/0.tar and b/0.tar, not 0.tar twice."""
    depth, names = 0, [i.name for i in inputs]
    while len({i.name for i in inputs}) < len(inputs):
        depth += 1
        inputs = [
            dataclasses.replace(i, name="/".join([*Path(i.root).parts[-depth:], name])) for i, name in zip(inputs, names, strict=True)
        ]
    return inputs


def _cut(inputs: list[Input], options: PlanOptions) -> Iterator[Unit]:
    images: dict[str, list[Input]] = {}
    step = max(1, round(options.unit_mb * 1e6))
    for item in inputs:
        name = printable(item.name)
        if item.kind == "images":
            images.setdefault(item.root, []).append(item)
        elif item.kind in ("tsv", "jsonl") and not is_compressed(item.name):
            for start in range(0, max(item.size, 1), step):
                stop = min(start + step, item.size)
                yield Unit(0, item.kind, item.path, name, start, stop, size=stop - start)
        elif item.kind == "parquet":
            for start, stop, size in _runs_of_row_groups(item.path, step):
                yield Unit(0, item.kind, item.path, name, start, stop, size=size)
        else:
            yield Unit(0, item.kind, item.path, name, 0, item.size, size=item.size)
    for folder, files in images.items():
        for start in range(0, len(files), options.unit_files):
            run = files[start : start + options.unit_files]
            names = tuple(i.relative for i in run)
            yield Unit(0, "images", folder, printable(run[0].name), 0, 0, files=names, size=sum(i.size for i in run))


def _runs_of_row_groups(path: str, step: int) -> Iterator[tuple[int, int, int]]:
    """Yield first, end and bytes of runs of row groups; (0, 0, 0) for a file that is no parquet, which its unit then tells."""
    import pyarrow.parquet as pq

    from fistful.bow.store.columns import BROKEN_PARQUET, check_damage

    try:
        with open_input(path) as file:
            about = pq.ParquetFile(file).metadata
            sizes = [about.row_group(group).total_byte_size for group in range(about.num_row_groups)]
    except BROKEN_PARQUET as error:
        check_damage(error)
        sizes = []
    first = size = 0
    for group, n_bytes in enumerate(sizes):
        size += n_bytes
        if size >= step or group + 1 == len(sizes):
            yield first, group + 1, size
            first, size = group + 1, 0
    if not sizes:
        yield 0, 0, 0


def printable(name: str) -> str:
    r"""Return a name that any table can hold: bytes that are not UTF-8 are spelt \udcff.

    >>> printable("caf\udce9")
    'caf\\udce9'
    """
    return name.encode("utf-8", "backslashreplace").decode()
