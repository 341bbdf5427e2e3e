"""Inputs that changed since they were read: noticed by their times, and believed only by their content.

The plan names inputs by name and size, for it reads nothing; outputs may hold no time. So a file that was touched
after its unit was done is read again, and what was hashed then decides (docs/decisions/0020-content.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fistful.bow.store.files import is_url, read_json
from fistful.bow.store.manifest import MANIFEST
from fistful.errors import UsageError
from fistful.progress import progress_bar

from ..read.sources import SourceOptions, open_unit
from ..read.units import Unit
from .beam import stats_path


def check_unchanged(folder: Path, units: Sequence[Unit], source: SourceOptions, show: bool) -> None:
    """Check that units which are done were made from the inputs as they are now.

    Args:
        folder: What was written, finished or not.
        units: The plan.
        source: How the inputs are read.
        show: Whether to show a progress bar.

    Raises:
        UsageError: If an input's content has changed; the message names it.
    """
    touched = [(unit, path) for unit in units if (path := _touched(folder, unit)) is not None]
    with progress_bar("inputs looked at again", len(touched), show) as update:
        for number, (unit, path) in enumerate(touched):
            if _content(unit, source) != read_json(stats_path(folder, unit.number))["content"]:
                way_out = (
                    "choose another --out" if (folder / MANIFEST).exists() else "choose another --out, or delete this unfinished folder"
                )
                raise UsageError(f"{path}: has changed since {folder} was made from it, though its size has not; {way_out}")
            update(number + 1, "")


def _touched(folder: Path, unit: Unit) -> str | None:
    """Return the first file of a unit that was written, or put in its place, after the unit was done."""
    try:
        done_ns = stats_path(folder, unit.number).stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return next((path for path in _files(unit) if _time_ns(path) >= done_ns), None)


def _files(unit: Unit) -> Iterator[str]:
    if unit.kind != "images":
        if not is_url(unit.path):  # a store tells no time that could be compared with ours
            yield unit.path
        return
    for name in unit.files:
        yield os.path.join(unit.path, name)
        yield os.path.join(unit.path, os.path.splitext(name)[0] + ".txt")
    yield from sorted({os.path.join(unit.path, os.path.dirname(name)) for name in unit.files})  # a text that is gone


def _time_ns(path: str) -> int:
    try:
        about = os.stat(path)
    except OSError:
        return 0
    return max(about.st_mtime_ns, about.st_ctime_ns)


def _content(unit: Unit, source: SourceOptions) -> dict[str, str]:
    with open_unit(unit, source, with_images=False, need_captions=False) as (batches, content):
        for _ in batches:
            pass
    return content
