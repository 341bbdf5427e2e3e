"""The plan: inputs cut into units, deterministically, from the inputs alone.

One unit in, one shard out, same number. A tar is a unit; an uncompressed TSV, JSONL or text file is cut by
byte range, a parquet file by row groups; a compressed or quoted file, which cannot be entered in the
middle, is one unit; a folder of images, or the pictures that a table names, are cut into runs.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fistful.bow.store.files import is_url, joined, open_input
from fistful.bow.store.identity import canonical_json, check_numbers, semantic, sha256_hex
from fistful.bow.store.kinds import PassedOver, size_of
from fistful.bow.store.plain_text import printable
from fistful.errors import UsageError
from fistful.wording import counted

from .alike import alike
from .find_files import find_files, is_compressed
from .listings import find_root, likely_folders, odd_letters, place_of, places_of_refused, plain_name, read_listing
from .source_options import SourceOptions, usual_name
from .table_head import holds_pictures, picture_column_of
from .units import IN_LINES, TABLES, Kind, Unit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """How inputs are cut into units."""

    input_format: Literal["auto", "tsv", "csv", "jsonl", "parquet", "tar", "images", "json", "txt"] = semantic("auto")
    """What the inputs are; auto goes by their extensions, and of a folder by what its files name.
    json: captions as COCO, Karpathy or a list of objects has them. txt: plain text, a caption on each line; what ends in .txt
    is so read if it is given by name."""
    unit_mb: float = semantic(16.0)
    """Size of a piece of a TSV, JSONL, parquet or plain text file, in megabytes."""
    unit_files: int = semantic(10_000)
    """Number of images of a folder or a listing in a unit."""

    def __post_init__(self) -> None:
        if not 0 < self.unit_mb < math.inf or self.unit_files < 1:
            raise UsageError(f"--unit-mb {self.unit_mb} --unit-files {self.unit_files}: expected numbers above 0")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """A file that is read."""

    root: str
    """The source's folder."""
    relative: str
    """Where it lies under it."""
    size: int
    kind: Kind
    top: str
    """The uppermost folder in which pictures may lie that it names."""
    name: str
    """What it is called: `relative`, unless two inputs would have the same name."""

    @property
    def path(self) -> str:
        """Where it lies."""
        return joined(self.root, self.relative)


def plan_units(
    sources: tuple[str, ...], options: PlanOptions, passed: PassedOver | None = None, source_options: SourceOptions | None = None
) -> tuple[list[Unit], dict[str, Any]]:
    """Cut sources into units.

    Args:
        sources: Files, folders, globs, brace lists and URLs, in any order.
        options: How to cut.
        passed: Receives what of them is not read.
        source_options: Where captions and pictures stand in tables.

    Returns:
        The units by number, and the inputs' fingerprint: of relative names and sizes.

    Raises:
        UsageError: If a source is missing, empty of anything readable, or given twice.
    """
    if not sources:
        raise UsageError("no SOURCE given; expected files (TSV, CSV, JSONL, text, parquet, tar) or folders")
    passed, columns = PassedOver() if passed is None else passed, source_options or SourceOptions()
    files = [f for source in sources for f in find_files(source, options.input_format, passed, columns)]
    found = [Input(f.root, f.relative, f.size, f.kind, f.top, f.name) for f in files]
    twice = [path for path, n in Counter(i.path if is_url(i.path) else os.path.realpath(i.path) for i in found).items() if n > 1]
    if twice:
        raise UsageError(f"{min(twice)}: given twice; every input counts once")
    inputs = sorted(_with_distinct_names(found), key=lambda i: i.name)
    _say_texts(inputs, columns, passed)
    listed = {i.path: pictures for i in inputs if (pictures := _named_pictures(i, columns, passed)) is not None}
    if several := _named_twice(listed):
        passed.taken.append(f"{counted(several, 'picture is', 'pictures are')} named by several of these: each makes a sample of it")
    named = {address for found in listed.values() for address in (*found.addresses, *found.of_refused)}
    for path in () if columns.split else sorted(passed.pictures - named):
        passed.add("unnamed", path)
    names = [[i.name, i.size] for i in inputs]
    names += [[f"{i.name}: {name}", size] for i in inputs if i.path in listed for name, size in listed[i.path].sizes]
    passed.sizes = names
    n_bytes = sum(size for _, size in names)
    fingerprint = {"files": len(names), "bytes": n_bytes, "sha256": sha256_hex(canonical_json(names))}
    units = [dataclasses.replace(unit, number=n) for n, unit in enumerate(_cut(inputs, options, columns, listed))]
    return units, fingerprint


def _say_texts(inputs: list[Input], columns: SourceOptions, passed: PassedOver) -> None:
    """Say which inputs are plain text.

    Raises:
        UsageError: If columns are asked for, and no input is a table that may have them.
    """
    texts = [i for i in inputs if i.kind == "txt"]
    if texts and columns.asks_columns and not any(i.kind in TABLES for i in inputs):
        raise UsageError(
            f"{texts[0].path}: is read as plain text, a caption on each line, and has no columns; --input-format csv or tsv reads a table"
        )
    if texts:
        what = printable(texts[0].name) if len(texts) == 1 else counted(len(texts), "text")
        passed.taken.append(f"{what}: a caption on each line")


@dataclasses.dataclass(frozen=True, slots=True)
class NamedPictures:
    """The pictures that an input names."""

    root: str | None
    """Where they lie; None: nowhere that is known, and captions alone are read."""
    sizes: list[tuple[str, int]]
    """Name and size of each; 0 where there is no such file."""
    addresses: set[str]
    of_refused: set[str]
    """Addresses that refused rows name."""

    def units(self, item: Input, n_files: int) -> Iterator[Unit]:
        """Yield the units of an input: runs of its pictures."""
        for start in range(0, max(1, len(self.sizes)), n_files):
            run = self.sizes[start : start + n_files]
            size = sum(size for _, size in run)
            found = self.root is not None
            yield Unit(
                0, item.kind, item.path, printable(item.name), start, start + len(run), size=size, root=self.root, has_pictures=found
            )


def _named_pictures(item: Input, columns: SourceOptions, passed: PassedOver) -> NamedPictures | None:
    """Return which pictures an input names, and say what it was taken for; None where it names none that are to be read."""
    if item.kind not in ("tsv", "csv", "jsonl", "parquet", "json"):
        return None
    if item.kind == "json":
        caption = ""
        column, holds, first = "", "names", read_listing(item.path, item.name, item.kind, columns).names[:100].to_pylist()
    else:
        found = picture_column_of(item.path, item.kind, columns)
        if found is None:
            return None
        column, holds, first = found.name, found.holds, list(found.first)
        caption = usual_name(found.columns) or "CAPTION"
    if holds == "bytes":
        passed.taken.append(f"{item.name}: the pictures in its column {column}")
        return None
    if holds == "web":
        return _on_the_web(item, column, caption, columns, passed)
    root = find_root(item.path, first, columns, item.top)
    where = f"its column {column}" if column else "it"
    if root is None and columns.names_images:
        root = os.path.dirname(os.path.abspath(item.path))  # each name becomes a dead letter that says so
    if root is None:
        _say_lost(item, f"{where} {_lost(item, first)}", passed)
        if item.kind != "json":
            return None
    listing = read_listing(item.path, item.name, item.kind, columns)
    names = listing.names.to_pylist()
    if root is None:
        return NamedPictures(None, [(name, 0) for name in names], set(), set())
    where = f" (column {column})" if column else ""
    numbers = f"{counted(len(names), 'picture')}, {counted(len(listing.captions), 'caption')}"
    passed.taken.append(f"{item.name}: {listing.what}{where}: {numbers}")
    places = [place_of(name, root, item.path) for name in names]
    sizes = [(name, size_of(place)) for name, place in zip(names, places, strict=True)]
    return NamedPictures(root, sizes, set(places), places_of_refused(listing.letters, root, item.path))


def _say_lost(item: Input, why: str, passed: PassedOver) -> None:
    passed.lost[item.path] = why
    passed.taken.append(f"{item.name}: captions alone; {why}")


def _lost(item: Input, first: list[str]) -> str:
    """Return what to say of a file's pictures, if none of the first is found."""
    example = first[0] if first else ""
    near = (alike(place_of(plain_name(example), folder, item.path)) for folder in likely_folders(item.path, item.top)) if example else ()
    hint = next((f" (the first {said})" for said in near if said), "")
    lies = f"none of the first {len(first)} lies in its folder or beside it{hint}{odd_letters(item.path, first)}"
    return f"names pictures such as {example}, and {lies}; --images-root FOLDER says where they lie"


def _named_twice(listed: dict[str, NamedPictures]) -> int:
    """Return how many pictures several listings name."""
    often = Counter(address for found in listed.values() for address in found.addresses)
    return sum(n > 1 for n in often.values())


def _on_the_web(item: Input, column: str, caption: str, columns: SourceOptions, passed: PassedOver) -> None:
    """Say that pictures lie on the web.

    Raises:
        UsageError: If they were asked for.
    """
    way = (
        f"img2dataset --url_list {item.relative} --input_format {item.kind} --url_col {column} --caption_col {caption} "
        "--output_format webdataset --output_folder DIR"
    )
    if columns.names_images:
        raise UsageError(f"--image {column}: {item.path} names pictures on the web, which are not fetched here; {way} does")
    _say_lost(item, f"its column {column} names pictures on the web, which are not fetched here ({way} does)", passed)


def _with_distinct_names(inputs: list[Input]) -> list[Input]:
    """Put the folders above before the names while two are equal: a/0.tar and b/0.tar, not 0.tar twice.

    Raises:
        UsageError: If two addresses differ only in what is asked of the web server, which no name says.
    """
    depth, names = 0, [i.name for i in inputs]
    while len({i.name for i in inputs}) < len(inputs):
        if depth > max(len(Path(i.root).parts) for i in inputs):
            seen = Counter(i.name for i in inputs)
            first, second, *_ = (i.path for i in inputs if seen[i.name] > 1)
            raise UsageError(f"{second}: is called as {first} is; fetch one of them first, such as by curl -L -o OTHER.tsv")
        depth += 1
        inputs = [
            dataclasses.replace(i, name="/".join([*Path(i.root).parts[-depth:], name])) for i, name in zip(inputs, names, strict=True)
        ]
    return inputs


def _cut(inputs: list[Input], options: PlanOptions, columns: SourceOptions, listed: dict[str, NamedPictures]) -> Iterator[Unit]:
    images: dict[str, list[Input]] = {}
    step = max(1, round(options.unit_mb * 1e6))
    for item in inputs:
        name = printable(item.name)
        if item.path in listed:
            yield from listed[item.path].units(item, options.unit_files)
        elif item.kind == "images":
            images.setdefault(item.root, []).append(item)
        elif item.kind in IN_LINES and not is_compressed(item.name):
            for start in range(0, max(item.size, 1), step):
                stop = min(start + step, item.size)
                yield Unit(0, item.kind, item.path, name, start, stop, size=stop - start)
        elif item.kind == "parquet":
            inside = holds_pictures(item.path, columns)
            for start, stop, size in _runs_of_row_groups(item.path, step):
                yield Unit(0, item.kind, item.path, name, start, stop, size=size, has_pictures=inside)
        else:
            yield Unit(0, item.kind, item.path, name, 0, item.size, size=item.size, has_pictures=item.kind == "tar")
    for folder, files in images.items():
        for start in range(0, len(files), options.unit_files):
            run = files[start : start + options.unit_files]
            names = tuple(i.relative for i in run)
            yield Unit(0, "images", folder, printable(run[0].name), 0, 0, files=names, size=sum(i.size for i in run), has_pictures=True)


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
