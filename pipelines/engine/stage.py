"""What the data jobs share: claim the folder, run the units, add up, close the folder."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import platform
import re
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from fistful.bow.store import manifest
from fistful.bow.store.dead_letters import DEAD_LETTER_SCHEMA, NOT_FETCHED, DeadLetter, Letters
from fistful.bow.store.files import parse_json, write_bytes, write_json
from fistful.bow.store.folders import entries, in_store, lies_in
from fistful.bow.store.identity import canonical_json, check_numbers, execution, sha256_hex
from fistful.bow.store.index import unit_name
from fistful.bow.store.kinds import PassedOver, is_image
from fistful.bow.store.objects import redacted
from fistful.bow.store.plain_text import to_utf8
from fistful.bow.store.tables import read_table
from fistful.errors import DataError, UsageError
from fistful.progress import progress_bar
from fistful.wording import some

from .beam import ENGINES, Engine, run_units
from .work import Work, read_stats


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """How a data job runs; nothing here changes a byte of the output."""

    workers: int = execution(1)
    """Worker processes."""
    engine: str = execution("local")
    """local: Beam's own; portable: its job service, embedded, with one worker; dask: a Dask cluster on this machine;
    or the name of a Beam runner, such as FlinkRunner, whose workers must see inputs and --out under the same paths."""
    beam_option: tuple[str, ...] = execution(())
    """Option of Beam's, KEY=VALUE or KEY; again for each."""
    units: str = execution("")
    """Do only the units A-B of the plan, from 0, and leave the folder open: for arrays of a batch scheduler.
    The same command without it closes the folder."""
    max_bad_fraction: float = execution(0.2)
    """Largest fraction of rows that may be refused before the job ends with an error, 0 to 1."""
    dry_run: bool = execution(False)
    """Plan, try a piece, print a forecast of disk and time, and write nothing."""
    progress: bool = execution(True)
    """Show a progress bar."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: expected 1 or more")
        if not 0 <= self.max_bad_fraction <= 1:
            raise UsageError(f"--max-bad-fraction {self.max_bad_fraction}: expected a fraction from 0 to 1")
        if self.engine in ("DirectRunner", "FnApiRunner"):
            raise UsageError(f"--engine {self.engine}: expected local, which is Beam's own engine on this machine")
        if self.engine not in ENGINES and not self.engine.endswith("Runner"):
            raise UsageError(f"--engine {self.engine}: expected one of {', '.join(ENGINES)}, or a Beam runner such as FlinkRunner")
        if self.engine not in ENGINES and self.workers > 1:
            raise UsageError(f"--workers {self.workers}: expected 1 with --engine {self.engine}, whose own --beam-option says how many")
        if self.units and not re.fullmatch(r"\d+(-\d+)?", str(self.units)):
            raise UsageError(f"--units {self.units}: expected numbers from 0, such as 0-99")
        check_numbers(self)

    def make_engine(self) -> Engine:
        """Return what carries the units."""
        return Engine(self.engine, self.beam_option)

    def part_of(self, units: list[Any]) -> list[Any]:
        """Return the units that this call does.

        Raises:
            UsageError: If the plan has none of them.
        """
        if not self.units:
            return units
        first, _, last = self.units.partition("-")
        part = units[int(first) : int(last or first) + 1]
        if not part:
            raise UsageError(f"--units {self.units}: the plan has the units 0-{len(units) - 1}")
        return part


@contextlib.contextmanager
def uncollected() -> Generator[None]:
    """Leave the garbage collector off for the time of a unit: rows make no cycles, and it would walk all tables again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def check_out(folder: Path, sources: Sequence[str]) -> None:
    """Check that the output is no part of the input, which it would change.

    Raises:
        UsageError: If it lies in a source.
    """
    for source in sources:
        if lies_in(folder, source):
            raise UsageError(f"--out {folder}: lies in the source {source}, which it would change; choose a folder outside")


SOURCES_SEEN = "logs/sources_seen.json"
"""Lines that say what the sources were taken for, and what of them was not read."""


INPUTS_SEEN = "logs/inputs_seen.json"
"""Name and bytes of each input, so that one that changes later can be named."""


def say_seen(folder: Path, passed: PassedOver, running: Running) -> None:
    """Note in a claimed folder what the sources are, were taken for, and what is not read; a dry run, which writes nothing, prints that."""
    lines = [*(f"read: {line}" for line in passed.taken), *(f"passed over: {line}" for line in passed.lines())]
    if running.dry_run:
        print("".join(f"{line}\n" for line in lines), end="")
        return
    write_json(folder, INPUTS_SEEN, passed.sizes)
    write_json(folder, SOURCES_SEEN, lines)


def seen(folder: Path) -> list[str]:
    """Return lines that say what a job's sources were taken for, and what of them was not read."""
    try:
        return parse_json((folder / SOURCES_SEEN).read_bytes())
    except FileNotFoundError:
        return []


NOT_BAD = ("no_label", NOT_FETCHED)
"""Reasons that are no fault of the data: they do not count against --max-bad-fraction."""


def run_stage(units: list[Any], work: Work, running: Running) -> dict[str, Any] | None:
    """Run the units and return the sums of their stats; None if only a part of them was asked for.

    Raises:
        DataError: If there were no rows, or more were refused than allowed; the folder stays unfinished.
    """
    start = time.monotonic()
    part = running.part_of(units)
    watch = Watch(work.folder, {unit.number: unit.size for unit in part})
    with progress_bar(f"{work.label} units", len(part), running.progress) as update:
        run_units(part, work, running.workers, lambda done: update(len(done), watch.note(done)), running.make_engine())
    if running.units:
        return None
    stats = sum_stats(work.folder, len(units))
    if stats.get("rows", 0) == 0:
        read = some([*dict.fromkeys(redacted(unit.path) for unit in units)])
        raise DataError("; ".join([f"{read}: no rows; is it empty, or a line of column names alone?", *seen(work.folder)]))
    check_refused(work.folder, stats, running.max_bad_fraction)
    _log(work, stats, running, time.monotonic() - start, watch)
    return stats


class Watch:
    """How fast work goes, from the stats files that units leave behind.

    Args:
        folder: Where they appear.
        sizes: Bytes to read of each unit, by its number.
    """

    def __init__(self, folder: Path, sizes: dict[int, int]) -> None:
        self._folder = folder
        self._sizes = sizes
        self._start = time.monotonic()
        self._seen: set[int] | None = None
        self.rows = self.refused = self.n_bytes = 0

    def note(self, done: set[int]) -> str:
        """Return rate and refused rows so far in a few words, by the units done; those of the first time were done before."""
        if self._seen is None:
            self._seen = {*done}
        new = done - self._seen
        self._seen |= new
        for number, _, stats in read_stats(self._folder, sorted(new)):
            self.rows += stats["rows"]
            self.refused += sum(stats["refused"].values())
            self.n_bytes += self._sizes[number]
        return f"{self.words()}, {self.refused:,} refused" if self.rows else ""

    def words(self) -> str:
        """Return the rates so far."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        return f"{self.rows / seconds:,.0f} rows/s, {self.n_bytes / seconds / 1e6:,.1f} MB/s"


def sum_stats(folder: Path, n_units: int) -> dict[str, Any]:
    """Add up the units' stats: every whole number, and refused rows by reason."""
    total: dict[str, Any] = {"units": n_units, "refused": {}}
    for _, _, stats in read_stats(folder, range(n_units)):
        for name, value in stats.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            elif name == "refused":
                for reason, n in value.items():
                    total["refused"][reason] = total["refused"].get(reason, 0) + n
    rows, kept, thinned = (total.get(name, 0) for name in ("rows", "kept", "thinned_out"))
    if rows != kept + thinned + sum(total["refused"].values()):
        raise AssertionError(f"{folder}: rows {rows} are not kept {kept}, thinned out {thinned} and refused {total['refused']}")
    return total


def check_refused(folder: Path, stats: dict[str, Any], max_bad_fraction: float) -> None:
    """Check that not too much was refused.

    Raises:
        DataError: Names the reasons, the first row that the commonest refused, and the way out.
    """
    rows = stats["rows"]
    bad = sum(n for reason, n in stats["refused"].items() if reason not in NOT_BAD)
    if bad > max_bad_fraction * rows or stats["kept"] == 0:
        often = sorted(stats["refused"], key=lambda reason: (reason in NOT_BAD, -stats["refused"][reason]))
        reasons = ", ".join(f"{reason} {stats['refused'][reason]:,}" for reason in often)
        found = f"{folder}: {sum(stats['refused'].values()):,} of {rows:,} rows refused ({reasons}; {first_refused(folder, often[0])})"
        where = "; ".join([f"{folder / 'dead_letters'} has them", *seen(folder)])
        if 2 * stats["refused"].get("bad_caption", 0) > bad:
            where += f"; bad_caption is text that is not UTF-8{to_utf8('FILE', '')}"
        if 2 * stats["refused"].get("no_words", 0) > bad:
            where += "; no_words: --min-count 1 takes rarer words into the vocabulary, --wordless keep keeps samples without any"
        if stats["kept"] == 0:
            raise DataError(f"{found}, none is left; {where}")
        raise DataError(f"{found}, allowed are {max_bad_fraction:.1%}; {where}; --max-bad-fraction allows more")


LOOKED_INTO = 256
"""Dead letters of so many units are looked into, where a job succeeded, for the first row that was refused: half a second."""


def commonest_refusal(folder: Path, stats: dict[str, Any]) -> str:
    """Return the commonest reason for which a job that succeeded refused rows, with the first and what helps.

    "": none were bad, or those that were stand far behind.
    """
    refused = {reason: n for reason, n in stats["refused"].items() if reason not in NOT_BAD}
    reason = max(refused, key=lambda reason: refused[reason], default="")
    first = first_refused(folder, reason, LOOKED_INTO) if reason else ""
    way = to_utf8("FILE", "") if ": not UTF-8 (" in first else ""
    return f"{reason}, {first}{way}" if first else ""


def first_refused(folder: Path, reason: str, most: int | None = None) -> str:
    """Return which row of a job was the first to be refused for a reason, and what was found there.

    Args:
        folder: The job's.
        reason: For which some were.
        most: Look into the dead letters of so many units; "" where none has it.
    """
    for name in sorted(entries(folder / "dead_letters"), key=lambda name: int(name.partition(".")[0]))[:most]:
        path = folder / "dead_letters" / name
        letters = read_table(path, DEAD_LETTER_SCHEMA)
        for letter in letters.filter(pc.field("reason") == reason).slice(0, 1).to_pylist():
            what = "picture" if is_image(letter["file"]) else letter["file"]  # a folder's are called by the first of their run
            place = letter["place"] if letter["place"] == letter["file"] else f"{what} {letter['place']}"
            return f"the first: {place}: {letter['detail']}"
    if most is not None:
        return ""
    raise AssertionError(f"{folder}: no dead letter says {reason}")


def write_unit(
    folder: Path, unit: Any, letters: Letters | list[DeadLetter], stats: dict[str, Any], records: dict[str, Any], content: dict[str, str]
) -> None:
    """Write a unit's dead letters and then its stats, which say that the unit is done."""
    letters = letters if isinstance(letters, Letters) else Letters(letters)
    name = unit_name("dead_letters", unit.number, "parquet")
    records = {**records, name: letters.write(folder, name)}
    write_json(
        folder,
        unit_name("stats", unit.number, "json"),
        {**stats, "refused": letters.by_reason, "files": records, "content": content},
    )


def close_folder(folder: Path, n_units: int, stats: dict[str, Any]) -> str:
    """Write stats.json and the manifest, which say that the folder is finished; return its digest."""
    write_json(folder, "stats.json", stats)
    records: dict[str, Any] = {}
    content: dict[str, str] = {}
    for number, data, unit in read_stats(folder, range(n_units)):
        records.update(unit["files"])
        records[unit_name("stats", number, "json")] = {"size": len(data), "sha256": sha256_hex(data)}
        content.update(unit["content"])
    return manifest.finish(folder, records, content)


def _log(work: Work, stats: dict[str, Any], running: Running, seconds: float, watch: Watch) -> None:
    entry = {
        "label": work.label,
        "command": [redacted(argument) for argument in sys.argv],
        "seconds": round(seconds, 3),
        "rows": watch.rows,
        "megabytes": round(watch.n_bytes / 1e6, 3),
        "rows_per_second": round(watch.rows / seconds, 1) if seconds > 0 else 0.0,
        "rows_in_all": stats.get("rows", 0),
        "refused": stats["refused"],
        "workers": running.workers,
        "python": platform.python_version(),
        **({} if in_store(work.folder) else {"host": platform.node()}),  # a bucket may be read by others
    }
    write_bytes(work.folder, f"logs/run-{time.time_ns()}.json", canonical_json(entry))
