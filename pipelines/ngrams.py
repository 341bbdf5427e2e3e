"""N-grams of captions, counted exactly and in bounded memory: the first part of `fistful distill`."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.draw import sample_key
from fistful.bow.ngrams import COUNTS_SCHEMA, NgramReader, NgramTable, choose_table, read_counts, write_counts
from fistful.bow.sorted_counts import merge_counts
from fistful.bow.store.dead_letters import Letters
from fistful.bow.store.files import read_json, write_json
from fistful.bow.store.index import unit_name
from fistful.bow.store.kinds import is_image
from fistful.bow.store.tables import read_table, write_table
from fistful.errors import DataError
from fistful.wording import counted

from .engine.job import DataJob, run_job
from .engine.merge import MERGED_AT_ONCE, MergeUnit, merge_until_few
from .engine.stage import uncollected, write_unit
from .engine.work import Work
from .read.rows import RowBatch
from .read.sources import SourceOptions, open_unit
from .read.units import Unit
from .sorted_counter import SortedCounter

TABLE = "table.parquet"
"""The n-grams that get a row of their own: number and count, most frequent first."""
EXCLUDED = "excluded"
"""Folder of files with the samples of each unit that are left out."""
EXCLUDED_SCHEMA = pa.schema([("key", pa.string())])
ROWS_AT_ONCE = 4_096
"""Rows whose n-grams are in memory together: 7 MB of five captions of 12 words each."""


@dataclasses.dataclass(frozen=True, slots=True)
class NgramJob:
    """What a unit needs to know."""

    source: SourceOptions
    language: str
    longest: int
    exclude: tuple[str, ...] = ()
    """Photos whose captions are left out, as `photo_named` has them."""
    photo: str = ""
    """Column that names them, which `source` lets pass through; empty: the key does."""


def count_ngrams(asked: DataJob, job: NgramJob, size: int, n_hashed: int) -> tuple[NgramTable, dict[str, Any]] | None:
    """Count the n-grams of captions into a folder, and choose the table; None where this is a dry run.

    Args:
        asked: The folder, its identity, and the units.
        job: How.
        size: Most rows of the table.
        n_hashed: Rows that all other n-grams share.

    Raises:
        DataError: If no caption has a word, too many rows are refused, or `exclude` names no photo that there is.
    """

    def with_table(stats: dict[str, Any]) -> dict[str, Any]:
        table, about = choose_table(merge_counts(map(read_counts, _few(asked))), size, n_hashed)
        _check(asked.folder, job, stats, len(table.keys))
        write_table(asked.folder, TABLE, pa.table({"key": table.keys, "n": table.n}, schema=COUNTS_SCHEMA))
        return {**stats, **about}

    run_job(asked, lambda place: Work("fistful.pipelines.ngrams:ngram_unit", place, job, "n-grams"), with_table)
    if asked.running.dry_run:
        return None
    found = read_table(asked.folder / TABLE, COUNTS_SCHEMA)
    return NgramTable(found["key"].to_numpy(), found["n"].to_numpy(), n_hashed), read_json(asked.folder / "stats.json")


def _few(asked: DataJob) -> list[Path]:
    files = [asked.folder / unit_name("counts", unit.number, "parquet") for unit in asked.units]
    return merge_until_few(files, MERGED_AT_ONCE, "fistful.pipelines.ngrams:merge_unit", asked.folder, asked.running)


def _check(folder: Path, job: NgramJob, stats: dict[str, Any], n_table: int) -> None:
    if job.exclude and not stats["excluded"]:
        where = f"the column {job.photo}" if job.photo else "the keys of samples; --photo COLUMN says which column names photos"
        raise DataError(f"--exclude: none of its {counted(len(job.exclude), 'photo')}, such as {job.exclude[0]!r}, is in {where}")
    if not n_table:
        raise DataError(
            f"{folder}: the table is empty, for none of {stats['captions']:,} captions has a word (letters or digits); is --caption right?"
        )


def merge_unit(unit: MergeUnit, folder: Path, job: None) -> None:  # noqa: ARG001 - every unit function has a job
    """Add up some files of counts."""
    record = write_counts(folder, unit.merged, merge_counts(map(read_counts, unit.paths)))
    write_json(folder, unit_name("stats", unit.number, "json"), record)


def ngram_unit(unit: Unit, folder: Path, job: NgramJob) -> None:
    """Count the n-grams of one unit: writes them, dead letters and stats."""
    reader, excluded = _reader_of_this_thread(job.language, job.longest), frozenset(job.exclude)
    letters, out_of = Letters(), list[str]()
    stats = {"rows": 0, "kept": 0, "excluded": 0, "captions": 0, "ngrams_read": 0}
    (folder / "logs" / "tmp").mkdir(parents=True, exist_ok=True)
    with (
        uncollected(),
        tempfile.TemporaryDirectory(dir=folder / "logs" / "tmp") as aside,
        open_unit(unit, job.source, with_images=False) as (batches, content),
    ):
        counter = SortedCounter(Path(aside), write_counts, read_counts)
        for whole in batches:
            letters += whole.letters
            stats["rows"] += whole.n_read
            stats["kept"] += whole.n_rows
            left_out = _left_out(whole, excluded, job.photo)
            out_of += [sample_key(unit.number, number) for number in whole.numbers[left_out].tolist()]
            for batch in (whole.pick(np.flatnonzero(~left_out)) if left_out.any() else whole).slices(ROWS_AT_ONCE):
                keys = reader.keys(batch.captions)
                stats["captions"] += len(batch.captions)
                stats["ngrams_read"] += len(keys.values)
                counter.add(keys.values)
        name = unit_name("counts", unit.number, "parquet")
        records = {name: write_counts(folder, name, counter.finish())}
    stats["excluded"] = len(out_of)
    if excluded:
        name = unit_name(EXCLUDED, unit.number, "parquet")
        records[name] = write_table(folder, name, pa.table({"key": out_of}, schema=EXCLUDED_SCHEMA))
    write_unit(folder, unit, letters, stats, records, content)


def photo_named(name: str) -> str:
    """Return what a photo is called, whatever its folder and its kind.

    >>> photo_named("photos/1000092795.jpg#0"), photo_named("139")
    ('1000092795', '139')
    """
    name = name.partition("#")[0].rpartition("/")[2]
    return name.rpartition(".")[0] if is_image(name) else name


def _left_out(batch: RowBatch, excluded: frozenset[str], photo: str) -> np.ndarray:
    """Return which samples are those of photos that are left out, bool (n)."""
    if not excluded:
        return np.zeros(batch.n_rows, bool)
    names = batch.keys() if not photo else [_field(text, photo) for text in batch.extra]
    return np.fromiter((photo_named(name) in excluded for name in names), bool, batch.n_rows)


def _field(extra: str, photo: str) -> str:
    """Return what stands in the one column that passes through, or in a field of KEY.json."""
    fields = json.loads(extra)
    return str(fields.get(photo, next(iter(fields.values()), "") if len(fields) == 1 else ""))


_threads = threading.local()


def _reader_of_this_thread(language: str, longest: int) -> NgramReader:
    """Return what reads n-grams, built once a thread: the words that it has met stay known."""
    if not hasattr(_threads, "make"):
        _threads.make = functools.lru_cache(maxsize=1)(NgramReader)
    return _threads.make(language, longest)
