"""Many files added up until few are left: some at a time, as units of their own, so that memory stays flat."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from fistful.bow.store.folders import entries
from fistful.bow.store.index import unit_name
from fistful.progress import progress_bar

from .beam import run_units
from .stage import Running
from .work import Work

MERGED_AT_ONCE = 32
"""Files that a worker adds up in one go."""


@dataclasses.dataclass(frozen=True, slots=True)
class MergeUnit:
    """Files to add up."""

    number: int
    paths: tuple[Path, ...]
    size: int = 0

    @property
    def merged(self) -> str:
        """The file that holds the sum, in the folder of the merge."""
        return unit_name("merged", self.number, "parquet")


def merge_until_few(paths: list[Path], few: int, function: str, folder: Path, running: Running) -> list[Path]:
    """Add up files into files in logs/merge, and those again, until no more than `few` are left; return these.

    Args:
        paths: The files, all in one folder.
        few: How many are added up sooner in this process than workers are started for them.
        function: `package.module:function` of (MergeUnit, folder, None), which writes FOLDER/UNIT.merged and then the unit's stats.
        folder: The output folder.
        running: How.
    """
    for level in itertools.count():
        if len(paths) <= few:
            return paths
        place = folder / "logs" / "merge" / str(level)
        runs = [tuple(paths[i : i + MERGED_AT_ONCE]) for i in range(0, len(paths), MERGED_AT_ONCE)]
        sizes = entries(paths[0].parent)
        units = [MergeUnit(number, run, sum(sizes[path.name].st_size for path in run)) for number, run in enumerate(runs)]
        with progress_bar(f"merge {level + 1}", len(units), running.progress) as update:
            work = Work(function, place, None, "merge")
            run_units(units, work, running.workers, lambda done, update=update: update(len(done), "files"), running.make_engine())
        paths = [place / unit.merged for unit in units]
    raise AssertionError
