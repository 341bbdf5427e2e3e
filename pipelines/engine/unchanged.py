"""Inputs that changed since they were read: noticed by their times, and believed only by their content.

The plan names inputs by name and size, for it reads nothing; outputs may hold no time. So a file that was touched
after its unit was done is read again, and what was hashed then decides (docs/decisions/0020-content.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fistful.bow.store.files import is_url, read_json
from fistful.bow.store.folders import in_store
from fistful.bow.store.manifest import MANIFEST
from fistful.errors import UsageError
from fistful.progress import progress_bar

from ..read.pictures import files_of
from ..read.sources import SourceOptions, open_unit
from ..read.units import Unit
from .stage import INPUTS_SEEN
from .work import done_units, stats_path

STORE_CLOCK_NS = 900 * 10**9
"""How far a store's clock may be from ours, in nanoseconds: past 15 minutes S3 refuses every request. What was written so shortly
before a unit was done counts as written after it, and is read again."""


def first_of_another_size(folder: Path, sizes: Sequence[Any]) -> str:
    """Return which input is the first that has another size than when a folder was begun; "" where nothing tells that.

    Args:
        folder: What was written, finished or not.
        sizes: Name and bytes of each input now.
    """
    path = folder / INPUTS_SEEN
    before: dict[str, int] = dict(read_json(path)) if path.exists() else {}
    now: dict[str, int] = dict(sizes)
    for name in sorted({*before, *now}) if before else ():
        if name not in before or name not in now:
            return f"{name} is {'no longer' if name in before else 'new'} among them"
        if before[name] != now[name]:
            return f"{name} has {now[name]:,} bytes and had {before[name]:,}"
    return ""


def check_unchanged(folder: Path, units: Sequence[Unit], source: SourceOptions, with_images: bool, show: bool) -> None:
    """Check that units which are done were made from the inputs as they are now.

    Args:
        folder: What was written, finished or not.
        units: The plan.
        source: How the inputs are read.
        with_images: Whether pictures inside tables are read too.
        show: Whether to show a progress bar.

    Raises:
        UsageError: If an input's content has changed; the message names it.
    """
    on_disk = [unit for unit in units if not is_url(unit.path) or not is_url(unit.root or unit.path)]
    done = done_units(folder) if on_disk else {}
    doubt = STORE_CLOCK_NS if in_store(folder) else 0
    touched = [
        (unit, path)
        for unit in on_disk
        if unit.number in done and (path := next((p for p in _files(unit, source) if _time_ns(p) >= done[unit.number] - doubt), None))
    ]
    with progress_bar("inputs looked at again", len(touched), show) as update:
        for number, (unit, path) in enumerate(touched):
            if _content(unit, source, with_images) != read_json(stats_path(folder, unit.number))["content"]:
                way_out = (
                    "choose another --out" if (folder / MANIFEST).exists() else "choose another --out, or delete this unfinished folder"
                )
                raise UsageError(f"{path}: has changed since {folder} was made from it, though its size has not; {way_out}")
            update(number + 1, "")


def _files(unit: Unit, source: SourceOptions) -> Iterator[str]:
    """Yield a unit's files on disk."""
    if unit.kind != "images" and not is_url(unit.path):  # a store tells no time that could be compared with ours
        yield unit.path
    if unit.kind == "images" or unit.root is not None:
        yield from files_of(unit, source)


def _time_ns(path: str) -> int:
    try:
        about = os.stat(path)
    except OSError:
        return 0
    return max(about.st_mtime_ns, about.st_ctime_ns)


def _content(unit: Unit, source: SourceOptions, with_images: bool) -> dict[str, str]:
    with open_unit(unit, source, with_images, need_captions=False) as (batches, content):
        for _ in batches:
            pass
    return content
