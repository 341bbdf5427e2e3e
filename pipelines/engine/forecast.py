"""A dry run: what a job will read, write and take, from trying two small pieces of its input.

The first piece warms up (imports, tables of words), the second is timed; both write to a folder that is
thrown away. The forecast is a straight line through that one point, and says so.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fistful.bow.store.files import read_json
from fistful.bow.store.folders import in_store
from fistful.wording import counted

from ..read.find_files import is_compressed
from ..read.units import IN_LINES, Unit
from .beam import beam_arguments
from .stage import Running
from .work import Work, do_one, stats_path

PIECE_BYTES = 4_000_000
"""Size of a piece of text: some 60,000 captions, a second or less."""
PIECE_FILES = 200
"""Size of a piece of a folder of images."""
MOST_BYTES = 256_000_000
"""Largest unit that is tried where it cannot be cut; past it STATED_RATE is taken."""
STATED_RATE = 10e6
"""Bytes a second of one process where nothing was measured: what a slow core does on compressed text."""
START_SECONDS = 5.0
"""What engine and workers take to start."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What a piece of the input took."""

    name: str
    size: int
    """Bytes read."""
    rows: int
    written: int
    """Bytes written."""
    seconds: float


def forecast(units: Sequence[Unit], work_in: Callable[[Path], Work], running: Running, out: Path, copied: int = 0) -> str:
    """Try a piece of the input and return in a few lines what the job will take; --out is not touched.

    Args:
        units: The plan.
        work_in: Makes the work for a folder, and what it needs to find there.
        running: How many processes, and which part of the plan.
        out: Where the job would write.
        copied: Bytes that a later stage copies, beside what the tried one writes.
    """
    beam_arguments(running.make_engine())  # at fault? then say so now
    part = running.part_of([*units])
    pieces = cut(max(part[:1_000], key=lambda unit: min(unit.size, 2 * PIECE_BYTES)))
    trial = None
    if pieces[1].size <= MOST_BYTES:
        with tempfile.TemporaryDirectory(prefix="fistful-dry-run-") as place:
            trial = try_out(pieces, work_in(Path(place)))
    return forecast_text([unit.size for unit in part], trial, running.workers, free_bytes(out), copied)


def cut(unit: Unit) -> tuple[Unit, Unit]:
    """Return two pieces of a unit, one after the other; where it cannot be cut, the whole of it twice."""
    first, second = unit, unit
    if unit.kind in IN_LINES and unit.root is None and not is_compressed(unit.name) and unit.size > 1:
        step = min(PIECE_BYTES, unit.size // 2)
        first = dataclasses.replace(unit, stop=unit.start + step, size=step)
        second = dataclasses.replace(unit, start=unit.start + step, stop=unit.start + 2 * step, size=step)
    elif unit.kind == "images" and len(unit.files) > 1:
        n = min(PIECE_FILES, len(unit.files) // 2)
        size = unit.size * n // len(unit.files)
        first = dataclasses.replace(unit, files=unit.files[:n], size=size)
        second = dataclasses.replace(unit, files=unit.files[n : 2 * n], size=size)
    elif unit.root is not None and unit.stop - unit.start > 1:
        n = min(PIECE_FILES, (unit.stop - unit.start) // 2)
        size = unit.size * n // (unit.stop - unit.start)
        first = dataclasses.replace(unit, stop=unit.start + n, size=size)
        second = dataclasses.replace(unit, start=unit.start + n, stop=unit.start + 2 * n, size=size)
    return dataclasses.replace(first, number=0), dataclasses.replace(second, number=1)


def try_out(pieces: tuple[Unit, Unit], work: Work) -> Trial:
    """Run both pieces in the work's folder and return what the second took."""
    do_one(pieces[0], work)
    start = time.monotonic()
    do_one(pieces[1], work)
    seconds = time.monotonic() - start
    stats = stats_path(work.folder, 1)
    written = sum(path.stat().st_size for path in work.folder.glob(f"*/{stats.stem}.*"))
    return Trial(pieces[1].name, pieces[1].size, read_json(stats)["rows"], written, max(seconds, 1e-3))


def free_bytes(out: Path) -> float:
    """Return how much the disk of a folder, or of the nearest one above that exists, has free; a store always has more."""
    if in_store(out):
        return math.inf
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    return shutil.disk_usage(place).free


def forecast_text(sizes: Sequence[int], trial: Trial | None, workers: int, free: float, copied: int = 0) -> str:
    """Return a forecast as a user reads it.

    >>> trial = Trial("a.tsv", 4_000_000, 60_000, 1_000_000, 0.5)
    >>> print(forecast_text([16_000_000] * 250, trial, 2, 10_000_000_000))
    dry run, nothing is written: 250 units, 4.0 GB to read
    tried 4.0 MB of a.tsv in one process: 120,000 rows/s, 8.0 MB/s, 0.25 bytes written for each byte read
    forecast for the whole in proportion: 4 min with --workers 2 if it has as many free cores, 1.0 GB on disk (10.0 GB are free)
    """
    n_units, n_bytes = len(sizes), sum(sizes)
    lines = [f"dry run, nothing is written: {counted(n_units, 'unit')}, {size_words(n_bytes)} to read"]
    rate, ratio = STATED_RATE, 1.0
    if trial and trial.size:
        rate, ratio = trial.size / trial.seconds, trial.written / trial.size
        lines.append(
            f"tried {size_words(trial.size)} of {trial.name} in one process: {trial.rows / trial.seconds:,.0f} rows/s, "
            f"{rate / 1e6:,.1f} MB/s, {ratio:.2f} bytes written for each byte read"
        )
    else:
        lines.append(f"nothing was tried, the pieces are too large: taken are {rate / 1e6:.0f} MB/s a process, and as much written as read")
    seconds, disk = START_SECONDS + n_bytes / rate / min(workers, max(n_units, 1)), n_bytes * ratio + copied
    room = "in the store" if free == math.inf else f"on disk ({size_words(free)} are free{'' if disk < free else ': too little'})"
    lines.append(
        f"forecast for the whole in proportion: {time_words(seconds)} with --workers {workers} if it has as many free cores, "
        f"{size_words(disk)} {room}"
    )
    return "\n".join(lines)


def size_words(n_bytes: float) -> str:
    """Return a size in words.

    >>> size_words(2_500), size_words(16e9)
    ('0.0 MB', '16.0 GB')
    """
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"


def time_words(seconds: float) -> str:
    """Return a time in words.

    >>> time_words(8.4), time_words(260), time_words(100_000)
    ('8 s', '4 min', '27.8 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} h"
