"""What an engine carries: what is done with each unit, and which units are done. Runs in any process, and needs no Beam."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fistful.bow.store.files import parse_json
from fistful.bow.store.folders import entries, read_all
from fistful.bow.store.index import unit_name
from fistful.bow.store.objects import StorePath
from fistful.bow.store.uploads import Uploads
from fistful.errors import DataError


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What is done with each unit: a module-level function of (unit, folder, job)."""

    function: str
    """`package.module:function`."""
    folder: Path
    job: Any
    """What the function needs to know: picklable, never changed."""
    label: str
    """What the progress bar calls it."""


def do_one(unit: Any, work: Work, uploads: Uploads | None = None) -> int:
    """Run a unit unless its stats file is there; return its number. Runs in any process, any number of times.

    Args:
        unit: The unit.
        work: What to do with it.
        uploads: What puts its files into the store, if the folder lies in one; None: this call does.
    """
    if not _is_done(work.folder, unit.number):
        module, _, name = work.function.partition(":")
        folder = StorePath(str(work.folder), uploads) if uploads else work.folder
        getattr(importlib.import_module(module), name)(unit, folder, work.job)
    return unit.number


def _is_done(folder: Path, number: int) -> bool:
    try:
        stats_path(folder, number).read_bytes()  # of a store that is one request, and to ask whether it is there are two
    except FileNotFoundError:
        return False
    return True


def stats_path(folder: Path, number: int) -> Path:
    """Return where a unit's stats file lies: written last, so its presence means done."""
    return folder / unit_name("stats", number, "json")


def read_stats(folder: Path, numbers: Iterable[int]) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Yield the number, the stats file's bytes and what they say, of units that are done.

    Raises:
        DataError: If one is not JSON.
    """
    one, other = itertools.tee(numbers)
    for number, data in zip(one, read_all(stats_path(folder, n) for n in other), strict=True):
        try:
            yield number, data, parse_json(data)
        except ValueError as error:
            raise DataError(f"{stats_path(folder, number)}: not valid JSON ({error}); delete it, and the same command resumes") from None


def done_units(folder: Path) -> dict[int, int]:
    """Return when each unit that is done was, in nanoseconds, by its number: one listing."""
    found = entries(stats_path(folder, 0).parent)
    return {int(name.removesuffix(".json")): entry.st_mtime_ns for name, entry in found.items() if re.fullmatch(r"\d+\.json", name)}
