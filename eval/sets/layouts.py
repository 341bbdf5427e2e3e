"""Evaluation sets: what is in them, and their images one by one.

`open_set` finds out what a path is; the rest of the room sees an `EvalSet`, whatever it was.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fistful.bow.store.files import read_json
from fistful.bow.store.kinds import ARCHIVES, COMPRESSED, is_hidden
from fistful.bow.store.manifest import CONFIG, MANIFEST
from fistful.errors import DataError, UsageError
from fistful.pipelines.read.find_files import KINDS, table_kind

from . import class_folders, table_set, wds
from . import parquet_set as parquet
from .evaluation_set import EvalSet
from .set_options import ALL, SetOptions
from .table_set import labelled_tables

PARQUET = ".parquet"
ENDS = (*ARCHIVES, *(f".{kind}{end}" for kind in (*KINDS, "json", "txt") for end in ("", *COMPRESSED)))
"""Ends of names that do not belong to a set's."""
GENERIC = frozenset({"val", "validation", "test", "train", "images", "dev", "data", "labels", "captions", "metadata", "annotations"})
"""Names that do not say which set it is: the parent's name goes before them."""


def open_set(spec: str, names: str | None, option: str = "--data", options: SetOptions = ALL) -> EvalSet:
    """Open an evaluation set.

    Args:
        spec: A folder of class folders, an archive of them, a table of pictures and labels or a folder that holds one,
            parquet files, or CLIP_benchmark's webdataset layout.
        names: A names table, or None to look for one (`class_names.TABLE`).
        option: What gave the spec, for messages.
        options: Of a table: its columns, --split and --images-root.

    Raises:
        UsageError: If the path is missing or holds nothing that can be evaluated.
        DataError: If what is there is broken.
    """
    path = Path(spec)
    if is_written_by_us(path):
        raise UsageError(f"{spec}: was written by fistful; expected class folders, archives of them, parquet or CLIP_benchmark's layout")
    if not path.exists():
        raise UsageError(f"{option} {spec}: no such file or folder")
    table = find_table(path, options)
    if table is not None:
        return table_set.open_table(table, set_name(path), names, options, path if path.is_dir() else None)
    if options.split:
        raise UsageError(f"--split {options.split}: {spec} is no table that says splits; name the folder or the files of one split")
    return _open_file(path, names, option, options) if path.is_file() else _open_folder(path, names, options)


def _open_file(path: Path, names: str | None, option: str, options: SetOptions) -> EvalSet:
    """Open parquet, or an archive of class folders."""
    if path.suffix.lower() == PARQUET:
        return parquet.open_parquet([path], set_name(path), names, options)
    if not is_archive(path):
        expected = f"class folders or one of {', '.join(ARCHIVES)}, {PARQUET}, .csv, .tsv, .jsonl"
        raise UsageError(f"{option} {path}: is not a folder; expected {expected}")
    _no_columns(path, options)
    return class_folders.open_archive(path, set_name(path), names)


def _no_columns(path: Path, options: SetOptions) -> None:
    if asked := options.asked():
        raise UsageError(f"{asked[0]}: {path} is no table, so has no columns; leave it out")


def _open_folder(path: Path, names: str | None, options: SetOptions) -> EvalSet:
    """Open CLIP_benchmark's layout, parquet, or class folders, also in an archive that is alone."""
    layout = wds.find_layout(path)
    if layout is not None:
        _no_columns(path, options)
        return wds.open_wds(layout, set_name(path), names)
    files = _files_in(path)
    tables = [p for p in files if p.suffix.lower() == PARQUET]
    if tables:
        return parquet.open_parquet(tables, set_name(path), names, options)
    _no_columns(path, options)
    archives = [p for p in files if p.name.lower().endswith(ARCHIVES)]
    folders = [p for p in path.iterdir() if p.is_dir() and not is_hidden(p.name)]
    if len(archives) == 1 and not folders:
        return class_folders.open_archive(archives[0], set_name(archives[0]), names)
    opened = class_folders.open_folder(path, set_name(path), names)
    beside = [
        f"{p.path.name} names pictures and their labels, and is not read; --data {p.path} takes it" for p in labelled_tables(files, options)
    ]
    return dataclasses.replace(opened, warnings=[*opened.warnings, *beside])


def find_table(path: Path, options: SetOptions) -> Path | None:
    """Return the table of pictures and labels that a path is, or that lies in a folder beside its pictures; None where there is none.

    Raises:
        UsageError: If a folder holds several.
    """
    if path.is_file():
        kind = table_kind(path.name)
        return path if kind not in (None, "parquet") or (kind and table_set.look_at_table(path, options)) else None
    if wds.find_layout(path) is not None:
        return None
    tables = [table.path for table in labelled_tables(_files_in(path), options)]
    if not tables or class_folders.count_classes(class_folders.names_in(path)) > 1:
        return None
    if len(tables) > 1:
        named = f"{', '.join(p.name for p in tables[:-1])} and {tables[-1].name}"
        raise UsageError(f"{path}: holds several tables of pictures and labels, {named}; name one, such as --data {tables[0]}")
    return tables[0]


def _files_in(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_file() and not is_hidden(p.name)]


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive that is read, by its name."""
    return path.name.lower().endswith(ARCHIVES)


def is_written_by_us(path: Path) -> bool:
    """Return whether a folder is one of fistful's own, whichever verb wrote it."""
    try:
        config = read_json(path / CONFIG) if (path / CONFIG).is_file() else None
    except DataError:
        if (path / MANIFEST).exists():
            raise
        return False  # somebody else's
    return isinstance(config, dict) and {"format", "verb", "id"} <= config.keys()


def set_name(path: Path) -> str:
    """Return what to call a set.

    >>> set_name(Path("/data/tiny-imagenet/val.tar.gz"))
    'tiny-imagenet-val'
    """
    path = path.absolute()
    suffix = max((s for s in ENDS if path.name.lower().endswith(s)), key=len, default="")
    name = path.name[: len(path.name) - len(suffix)]
    return f"{path.parent.name}-{name}" if name.lower() in GENERIC and path.parent.name else name
