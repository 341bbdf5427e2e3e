"""Listings: the pictures that a table or a JSON document names, each once, with all its captions.

A listing is read whole, by the plan and by each worker: rows of one picture may stand anywhere in it.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import is_url, open_input, stamp_of
from fistful.bow.store.plain_text import to_utf8
from fistful.errors import UsageError

from .delimited import read_table
from .documents import read_document
from .jsonl import read_json_lines
from .lines import BLOCK, decompressed, read_blocks
from .parquet import read_row_groups
from .rows import RowBatch, extra_json, make_letter
from .source_options import SourceOptions
from .table_head import picture_column_of
from .units import Kind, Unit

SPLIT = "split"
"""The column that --split goes by."""
ODD_NAME = r"#\d+$|//|(^|/)\.\.?/|\\"
"""In names that must be made plain before two can be known for one."""
PLACES = ("images", "Images", "imgs", "img", "photos", "pictures", "image", "data")
"""Folders beside a table that hold its pictures more often than others."""
ANNOTATIONS = ("annotations", "annotation", "captions", "labels", "meta", "metadata")
"""Folders for tables alone, whose pictures lie beside them."""
FIRST = 100
"""Pictures of a document that are looked for."""
MOST_PLACES = 200
"""Folders that are looked into for pictures."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """Pictures in the order in which they are first named."""

    what: str
    """Of what kind it is."""
    names: pa.StringArray
    captions: pa.StringArray
    """All captions, picture after picture."""
    groups: np.ndarray
    """int64, a number more than pictures: picture i has the captions groups[i] to groups[i + 1]."""
    extra: list[str] | None
    letters: tuple[DeadLetter, ...]
    """Rows that name no picture, or cannot be read."""

    def captions_of(self, i: int) -> list[str]:
        """Return one picture's captions."""
        return self.captions[self.groups[i] : self.groups[i + 1]].to_pylist()


def read_listing(path: str, name: str, kind: Kind, options: SourceOptions) -> Listing:
    """Read a listing, or find it read: of each process the last two are kept.

    Args:
        path: The table or document.
        name: What outputs call it.
        kind: What it is.
        options: Where captions and names of pictures stand.

    Raises:
        UsageError: If it has no such columns.
    """
    return _read(path, name, kind, options, None if is_url(path) else stamp_of(Path(path)))


@functools.lru_cache(maxsize=2)
def _read(path: str, name: str, kind: Kind, options: SourceOptions, _stamp: object) -> Listing:
    unit = Unit(0, kind, path, name, 0, 0)
    return _of_document(unit, options) if kind == "json" else _of_table(unit, options)


def _of_document(unit: Unit, options: SourceOptions) -> Listing:
    document = read_document(unit.path, options)
    splits = sorted({entry.split for entry in document.entries if entry.split})
    if options.split and options.split not in splits:
        raise UsageError(f"{unit.path}: has no split {options.split!r}{'; it has ' + ', '.join(splits) if splits else ''}")
    entries = [entry for entry in document.entries if not options.split or entry.split == options.split]
    fine = [entry for entry in entries if not entry.wrong]
    what = document.what + (f" (splits {', '.join(splits)} together; --split takes one)" if len(splits) > 1 and not options.split else "")
    return _joined(
        what,
        pa.array([entry.name for entry in fine], pa.string()),
        pa.array([text for entry in fine for text in entry.captions], pa.string()),
        np.cumsum([0, *(len(entry.captions) for entry in fine)], dtype=np.int64),
        [extra_json(entry.fields) for entry in fine] if any(entry.fields for entry in fine) else None,
        [make_letter("bad_row", unit, unit.name, entry.wrong, b"", entry.name) for entry in entries if entry.wrong],
    )


@dataclasses.dataclass(frozen=True, slots=True)
class NamedRows:
    """The rows of a table that names pictures, as they stand in it."""

    names: list[str]
    """Of the picture of each; "" where it names none."""
    extra: list[str]
    """The columns that pass through, as JSON."""
    captions: pa.StringArray
    """All captions, row after row."""
    groups: np.ndarray
    """int64, a number more than rows: row i has the captions groups[i] to groups[i + 1]."""
    letters: list[DeadLetter]
    """Rows that cannot be read, or name no picture."""


def read_named_rows(unit: Unit, options: SourceOptions) -> NamedRows:
    """Read a table that names pictures, whole.

    Raises:
        UsageError: If it has no such columns.
    """
    column = picture_column_of(unit.path, unit.kind, options)
    if column is None:
        raise UsageError(f"{unit.path}: no column of it names pictures; --image COLUMN says which")
    told = dataclasses.replace(options, image=str(column.place) if options.by_number else column.name)
    batches = list(_rows(unit, told))  # whether a picture has a caption is seen when its rows are together
    names = [name for batch in batches for name in batch.pictures or [""] * batch.n_rows]
    extra = [text for batch in batches for text in (batch.extra if isinstance(batch.extra, list) else [batch.extra] * batch.n_rows)]
    letters = [letter for batch in batches for letter in batch.letters]
    lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(batch.groups) for batch in batches)])
    captions = pa.chunked_array([batch.captions for batch in batches], pa.string()).combine_chunks()
    return NamedRows(names, extra, captions, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), letters)


def nameless(unit: Unit, row: int) -> DeadLetter:
    """Return what a row becomes that names no picture."""
    return make_letter("no_image", unit, unit.name, f"row {row + 1} of those that can be read names no picture", b"")


def _of_table(unit: Unit, options: SourceOptions) -> Listing:
    columns = f"{options.columns},{SPLIT}".strip(",") if options.split else options.columns
    rows = read_named_rows(unit, dataclasses.replace(options, columns=columns))
    keep = _kept_rows(rows.names, rows.extra, options.split, unit)
    lacking = keep & np.array([not name for name in rows.names], bool)
    letters = [*rows.letters, *(nameless(unit, i) for i in np.flatnonzero(lacking).tolist())]
    kept = np.flatnonzero(keep & ~lacking)
    picked = [rows.extra[i] for i in kept.tolist()] if any(text != "{}" for text in rows.extra) else None
    names = pa.array([rows.names[i] for i in kept.tolist()], pa.string())
    return _joined("table of pictures", names, *_pick(rows.captions, rows.groups, kept), picked, letters)


def _kept_rows(names: Sequence[str], extra: Sequence[str], split: str, unit: Unit) -> np.ndarray:
    if not split:
        return np.ones(len(names), bool)
    splits = [str(json.loads(text).get(SPLIT)) for text in extra]
    if split not in splits:
        raise UsageError(f"{unit.path}: has no split {split!r}; its column {SPLIT} has {', '.join(sorted(set(splits))[:8])}")
    return np.array([found == split for found in splits], bool)


def _rows(unit: Unit, options: SourceOptions) -> Iterator[RowBatch]:
    with open_input(unit.path) as raw:
        if unit.kind == "parquet":
            import pyarrow.parquet as pq

            whole = dataclasses.replace(unit, stop=pq.ParquetFile(raw).metadata.num_row_groups)
            raw.seek(0)
            yield from read_row_groups(whole, options, raw, {}, need_captions=False)
            return
        stream = decompressed(cast(IO[bytes], io.BufferedReader(cast(Any, raw), BLOCK)), unit.path)
        if unit.kind == "jsonl":
            yield from read_json_lines(unit, options, read_blocks(stream), None, need_captions=False)
        else:
            yield from read_table(unit, options, read_blocks(stream), None, need_captions=False)


def _joined(
    what: str, names: pa.StringArray, captions: pa.StringArray, groups: np.ndarray, extra: list[str] | None, letters: list[DeadLetter]
) -> Listing:
    """Put rows of one picture together, in the order in which pictures are first named."""
    if pc.any(pc.match_substring_regex(names, ODD_NAME)).as_py():
        names = pa.array([plain_name(name) for name in names.to_pylist()], pa.string())
    coded = names.dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    rows = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[rows], np.arange(len(coded.dictionary) + 1))
    captions, by_row = _pick(captions, groups, rows)
    first = rows[starts[:-1]]
    return Listing(
        what, coded.dictionary, captions, by_row[starts], [extra[i] for i in first.tolist()] if extra is not None else None, tuple(letters)
    )


def _pick(captions: pa.StringArray, groups: np.ndarray, rows: np.ndarray) -> tuple[pa.StringArray, np.ndarray]:
    """Return the captions of some rows, in their order, and where each row's start."""
    lengths = np.diff(groups)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    places = np.repeat(groups[rows] - starts[:-1], lengths) + np.arange(starts[-1])
    return captions.take(pa.array(places)), starts


def plain_name(name: str) -> str:
    r"""Return a picture's name without what says nothing: a caption's number, "./", and backslashes of Windows.

    >>> plain_name("a.jpg#0"), plain_name(r"images\b.jpg"), plain_name("./x//c.jpg")
    ('a.jpg', 'images/b.jpg', 'x/c.jpg')
    """
    name = re.sub(r"(\.\w+)#\d+$", r"\1", name)
    if is_url(name):
        return name
    return posixpath.normpath(name.replace("\\", "/") if "/" not in name else name)


def top_of(folder: str) -> str:
    """Return the uppermost folder in which the pictures of a table may lie that is given by itself: the current one, if it is in that."""
    return here if lies_in(folder, here := os.getcwd()) else folder


def find_root(path: str, names: Sequence[str], options: SourceOptions, top: str = "") -> str | None:
    """Return the folder that the names of a table's pictures start from; None where none of the likely ones has any of them.

    Args:
        path: The table or document.
        names: Some of the names.
        options: --images-root.
        top: The uppermost folder that they may start from; "": the table's own.
    """
    if options.images_root:
        return options.images_root if is_url(options.images_root) else os.path.abspath(options.images_root)
    folder = path.rpartition("/")[0] if is_url(path) else os.path.dirname(os.path.abspath(path))
    plain = [plain_name(name) for name in names]
    if is_url(path) or any(is_elsewhere(name) for name in plain):
        return folder
    there = ((place, sum(_is_in(place, name, path) for name in plain)) for place in likely_folders(path, top))
    # elsewhere most must be there: names such as 0.jpg may be those of other pictures
    return next((place for place, n in there if n and (place == folder or 2 * n >= len(plain))), None)


def _is_in(root: str, name: str, table: str) -> bool:
    place = place_of(name, root, table)
    return lies_in(place, root) and os.path.isfile(place)


def lies_in(path: str, folder: str) -> bool:
    """Return whether a path, by its name, is a folder or lies in it.

    >>> lies_in("/set", "/set"), lies_in("/settings", "/set"), lies_in("/set", "/")
    (True, False, True)
    """
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def likely_folders(table: str, top: str = "") -> Iterator[str]:
    """Yield the folders in which a table's pictures may lie: its own and those in it, or beside annotations; then those above it."""
    folder = os.path.dirname(os.path.abspath(table))
    around = (folder, os.path.dirname(folder)) if os.path.basename(folder).lower() in ANNOTATIONS else (folder,)
    for above in around:
        yield above
        yield from (os.path.join(above, name) for name in PLACES)
        try:
            inside = sorted(entry.name for entry in os.scandir(above) if entry.is_dir())[:MOST_PLACES]
        except OSError:
            inside = []
        yield from (os.path.join(above, name) for name in inside if name not in PLACES)
    yield from (above for above in map(str, Path(folder).parents) if lies_in(above, top or folder))


def place_of(name: str, root: str, table: str) -> str:
    """Return where a named picture lies, unchecked: under the root, unless its name says more; ".." leads up from the table's folder.

    >>> place_of("a.jpg", "/set", "/set/t.csv"), place_of("../a.jpg", "/set", "/set/tables/t.csv")
    ('/set/a.jpg', '/set/a.jpg')
    >>> place_of("file:///x/a.jpg", "/set", "/set/t.csv"), place_of("a.jpg", "s3://bucket/set", "t.csv")
    ('/x/a.jpg', 's3://bucket/set/a.jpg')
    """
    if is_elsewhere(name):
        return name.removeprefix("file://")
    if name.startswith("../") and not is_url(root) and not is_url(table):
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(table)), name))
    return f"{root.rstrip('/')}/{name}"


def places_of_refused(letters: Iterable[DeadLetter], root: str, table: str) -> set[str]:
    """Return where the pictures lie that refused rows name."""
    return {place_of(plain_name(letter.picture), root, table) for letter in letters if letter.picture}


def none_readable(path: str | Path, letters: Sequence[DeadLetter]) -> str:
    """Return what to say of a table, or of a folder, of which every row is refused."""
    first, several = letters[0], os.path.isdir(path)
    place = f"{first.file} {first.place}" if several and first.place != first.file else first.place
    way = to_utf8("FILE" if several else path, "") if first.reason == "bad_caption" else ""
    return f"{path}: none of its rows can be read; the first: {place}: {first.detail}{way}"


def odd_letters(path: str | Path, names: Sequence[str]) -> str:
    """Return what to say of names that were not found, where some of them are not UTF-8; "" where all are."""
    return f"; they are not UTF-8{to_utf8(path, '')}" if any("\ufffd" in name for name in names) else ""


def is_elsewhere(name: str) -> bool:
    """Return whether a name says by itself where the file lies."""
    return is_url(name) or name.startswith("/")


def names_pictures(path: str, kind: Kind, top: str, options: SourceOptions) -> bool:
    """Return whether a file names pictures of which at least one can be found below a folder."""
    if kind == "json":
        try:
            names = [entry.name for entry in read_document(path, options).entries[:FIRST] if entry.name]
        except UsageError:
            return False
        return find_root(path, names, options, top) is not None
    column = picture_column_of(path, kind, options)
    if column is not None and column.holds == "bytes":
        return True
    return column is not None and column.holds == "names" and find_root(path, column.first, options, top) is not None
