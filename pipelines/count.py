"""`fistful count`: captions in, exact tf and df of every word out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow.store.dead_letters import Letters
from fistful.bow.store.files import write_json
from fistful.bow.store.index import unit_name
from fistful.bow.store.tables import read_table, write_table
from fistful.bow.tokens import check_language
from fistful.bow.vocabulary import COUNTS_SCHEMA, add_counts, count_table, merge_counts, write_counted
from fistful.bow.words import Analyzer, WordOptions, first_appearances

from .bagging import analyzer_of_this_thread
from .engine.job import job_on_captions, run_job
from .engine.merge import MergeUnit, merge_until_few
from .engine.stage import Running, uncollected, write_unit
from .engine.work import Work
from .read.plan import PlanOptions
from .read.rows import RowBatch
from .read.sources import SourceOptions, open_unit
from .read.units import Unit

FEW = 128
"""Count files that are added up in this process: some 3 s, which is what it takes to start workers for it (decision 0034)."""

ROWS_AT_ONCE = 4_000_000
"""Counted words that are added up in one go: some 150 MB, and half the time of adding file to file."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CountConfig:
    """Options of `fistful count`."""

    plan: PlanOptions = PlanOptions()
    source: SourceOptions = SourceOptions()
    words: WordOptions = WordOptions()
    running: Running = Running()


def count(*sources: str, out: str | Path, config: CountConfig | None = None) -> Path:
    """Count in how many captions and samples each word occurs.

    Args:
        sources: Files (TSV, CSV, JSONL, text, tar, also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        out: Folder to write: counts/, vocabulary.parquet, dead_letters/, stats.json, manifest.json.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault.
        DataError: If too many rows are refused.
    """
    config = config or CountConfig()
    check_language(config.words.language)
    config = dataclasses.replace(config, words=config.words.inlined())
    job = job_on_captions("count", sources, out, config)

    def with_words(stats: dict[str, Any]) -> dict[str, Any]:
        counted = [job.folder / unit_name("counts", unit.number, "parquet") for unit in job.units]
        few = merge_until_few(counted, FEW, "fistful.pipelines.count:merge_unit", job.folder, config.running)
        summed = add_files(few, threads=config.running.workers > 1)  # whose cores are free again
        return {**stats, "words": write_counted(job.folder, summed, stats["kept"])}

    return run_job(job, lambda place: Work("fistful.pipelines.count:count_unit", place, config, "count"), with_words)


def add_files(paths: Sequence[Path], *, threads: bool = False) -> pa.Table:
    """Add up count files, words in no order, in the memory of the sum and as much again, or of ROWS_AT_ONCE rows."""
    total, waiting = read_table(paths[0], COUNTS_SCHEMA), []
    for path in paths[1:]:
        waiting.append(read_table(path, COUNTS_SCHEMA))
        if sum(table.num_rows for table in waiting) > max(total.num_rows, ROWS_AT_ONCE):
            total, waiting = add_counts([total, *waiting], threads=threads), []
    return add_counts([total, *waiting], threads=threads)


def merge_unit(unit: MergeUnit, folder: Path, job: None) -> None:  # noqa: ARG001 - every unit function has a job
    """Add up some count files."""
    record = write_table(folder, unit.merged, add_files(unit.paths).sort_by("word"))
    write_json(folder, unit_name("stats", unit.number, "json"), record)


def count_unit(unit: Unit, folder: Path, config: CountConfig) -> None:
    """Count one unit: writes its counts, dead letters and stats."""
    counter = _Counter(analyzer_of_this_thread(config.words))
    letters = Letters()
    stats = {"rows": 0, "kept": 0, "captions": 0, "words_total": 0, "pictures": 0}
    with uncollected(), open_unit(unit, config.source, with_images=False) as (batches, content):
        for batch in batches:
            letters += batch.letters
            counter.add(batch)
            stats["rows"] += batch.n_read
            stats["kept"] += batch.n_rows
            stats["captions"] += len(batch.captions)
    stats["pictures"] = stats["kept"] if unit.has_pictures else 0
    table = counter.finish()
    stats["words_total"] = pc.sum(table["tf"]).as_py() or 0
    name = unit_name("counts", unit.number, "parquet")
    write_unit(folder, unit, letters, stats, {name: write_table(folder, name, table)}, content)


class _Counter:
    """Adds up counts of batches; when the analyzer is full it is emptied, and what was counted so far becomes a table."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._tf = self._df = np.zeros(0, np.int64)
        self._tables: list[pa.Table] = []

    def add(self, batch: RowBatch) -> None:
        if self._analyzer.is_full():
            self._spill()
            self._analyzer.forget()
        words = self._analyzer.analyse(batch.captions)
        bags = first_appearances(words.join_rows(batch.groups))
        n = len(self._analyzer.words)
        self._tf = _add(self._tf, np.bincount(words.values, minlength=n))
        self._df = _add(self._df, np.bincount(bags.values, minlength=n))

    def _spill(self) -> None:
        seen = np.flatnonzero(self._tf)
        words = list(map(self._analyzer.words.__getitem__, seen.tolist()))
        self._tables.append(count_table(words, self._tf[seen], self._df[seen]))
        if len(self._tables) > 1:
            self._tables = [merge_counts(self._tables)]
        self._tf = self._df = np.zeros(0, np.int64)

    def finish(self) -> pa.Table:
        """Return all counts by word."""
        self._spill()
        return self._tables[0]


def _add(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    if len(more) > len(total):
        total, more = more, total
    total[: len(more)] += more
    return total
