"""Evaluation sets: what is in them, and their images one by one.

`open_set` finds out what a path is; the rest of the room sees an `EvalSet`, whatever it was.
"""

from __future__ import annotations

from pathlib import Path

from fistful.bow.store.files import read_json
from fistful.bow.store.kinds import ARCHIVES, is_hidden
from fistful.bow.store.manifest import CONFIG, MANIFEST
from fistful.errors import DataError, UsageError

from .evaluation_set import EvalSet

PARQUET = ".parquet"
GENERIC = frozenset({"val", "validation", "test", "train", "images", "dev", "data"})
"""Folder names that do not say which set it is: the parent's name goes before them."""


def open_set(spec: str, names: str | None, option: str = "--data") -> EvalSet:
    """Open an evaluation set.

    Args:
        spec: A folder of class folders, an archive of them, parquet files, or CLIP_benchmark's webdataset layout.
        names: A names table, or None to look for one (`names.TABLE`).
        option: What gave the spec, for messages.

    Raises:
        UsageError: If the path is missing or holds nothing that can be evaluated.
        DataError: If what is there is broken.
    """
    from . import class_folders, wds
    from . import parquet_set as parquet

    path = Path(spec)
    if is_written_by_us(path):
        raise UsageError(f"{spec}: was written by fistful; expected class folders, archives of them, parquet or CLIP_benchmark's layout")
    if not path.exists():
        raise UsageError(f"{option} {spec}: no such file or folder")
    if path.is_file():
        if path.suffix.lower() == PARQUET:
            return parquet.open_parquet([path], set_name(path), names)
        if not path.name.lower().endswith(ARCHIVES):
            raise UsageError(f"{option} {spec}: is not a folder; expected class folders or one of {', '.join(ARCHIVES)}, {PARQUET}")
        return class_folders.open_archive(path, set_name(path), names)
    layout = wds.find_layout(path)
    if layout is not None:
        return wds.open_wds(layout, set_name(path), names)
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not is_hidden(p.name)]
    tables = [p for p in files if p.suffix.lower() == PARQUET]
    if tables:
        return parquet.open_parquet(tables, set_name(path), names)
    archives = [p for p in files if p.name.lower().endswith(ARCHIVES)]
    folders = [p for p in path.iterdir() if p.is_dir() and not is_hidden(p.name)]
    if len(archives) == 1 and not folders:
        return class_folders.open_archive(archives[0], set_name(archives[0]), names)
    return class_folders.open_folder(path, set_name(path), names)


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
    suffix = max((s for s in (*ARCHIVES, PARQUET) if path.name.lower().endswith(s)), key=len, default="")
    name = path.name[: len(path.name) - len(suffix)]
    return f"{path.parent.name}-{name}" if name.lower() in GENERIC and path.parent.name else name
