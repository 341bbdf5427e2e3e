"""`fistful count`: captions in, exact tf and df of every word out."""

from __future__ import annotations

import dataclasses
import functools
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa

from fistful.bow.balance import Balance
from fistful.bow.store import manifest
from fistful.bow.store.config import semantic_values
from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import local_out
from fistful.bow.store.index import unit_name
from fistful.bow.store.tables import read_table, write_table
from fistful.bow.vocabulary import COUNTS_SCHEMA, Limits, choose_words, count_table, merge_counts, write_vocabulary
from fistful.bow.words import Analyzer, Ragged, WordOptions, check_language, first_appearances
from fistful.pipelines.rows import Batch
from fistful.pipelines.run import Work
from fistful.pipelines.sources import SourceOptions, check_unit, open_unit
from fistful.pipelines.stage import Running, check_out, close_folder, run_stage, write_unit
from fistful.pipelines.units import PlanOptions, Unit, plan_units

MAX_WORDS = 4_000_000
"""Words that an analyzer may know before a fresh one takes its place between two units: some 600 MB."""


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
        sources: Files (TSV, CSV, tar, each also with .gz) or folders of them or of images.
        out: Folder to write: counts/, vocabulary.parquet, dead_letters/, stats.json, manifest.json.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault.
        DataError: If too many rows are refused.
    """
    config = config or CountConfig()
    folder = local_out(out)
    check_out(folder, sources)
    check_language(config.words.language)
    units, inputs = plan_units(sources, config.plan)
    check_unit(units[0], config.source)
    if manifest.claim(folder, "count", semantic_values(config), inputs):
        return folder
    stats = run_stage(units, Work("fistful.pipelines.count:count_unit", folder, config, "count"), config.running)
    names = [unit_name("counts", unit.number, "parquet") for unit in units]
    merged = merge_in_pairs([read_table(folder / name, COUNTS_SCHEMA) for name in names])
    every_word = choose_words(merged, stats["kept"], Limits(min_count=1, max_words=max(1, merged.num_rows)), Balance())
    write_vocabulary(folder, every_word)
    close_folder(folder, len(units), {**stats, "words": len(every_word)})
    return folder


def merge_in_pairs(tables: list[pa.Table]) -> pa.Table:
    """Merge many count tables, two at a time, so that no more than a pair is open in full."""
    while len(tables) > 1:
        tables = [merge_counts(tables[i : i + 2]) for i in range(0, len(tables), 2)]
    return tables[0]


def count_unit(unit: Unit, folder: Path, config: CountConfig) -> None:
    """Count one unit: writes its counts, dead letters and stats."""
    analyzer = analyzer_of_this_thread(config.words)
    tf, df = np.zeros(0, np.int64), np.zeros(0, np.int64)
    letters: list[DeadLetter] = []
    stats = {"rows": 0, "kept": 0, "captions": 0, "words_total": 0}
    with open_unit(unit, config.source, with_images=False) as (batches, content):
        for batch in batches:
            letters += batch.letters
            words, groups = analyse_batch(analyzer, batch)
            bags = first_appearances(words.join_rows(groups))
            tf = _add(tf, np.bincount(words.values, minlength=len(analyzer.words)))
            df = _add(df, np.bincount(bags.values, minlength=len(analyzer.words)))
            stats["rows"] += batch.n_read
            stats["kept"] += len(batch.rows)
            stats["captions"] += len(words)
            stats["words_total"] += len(words.values)
    name = unit_name("counts", unit.number, "parquet")
    n = len(tf)
    records = {name: write_table(folder, name, count_table(analyzer.words[:n], tf, df))}
    write_unit(folder, unit, letters, stats, records, content)


def _add(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    grown = np.zeros(max(len(total), len(more)), np.int64)
    grown[: len(total)] = total
    grown[: len(more)] += more
    return grown


def analyse_batch(analyzer: Analyzer, batch: Batch) -> tuple[Ragged, np.ndarray]:
    """Return the words of each caption of a batch, and where each sample's captions begin and end."""
    captions = pa.array([caption for row in batch.rows for caption in row.captions], pa.string())
    groups = np.cumsum([0] + [len(row.captions) for row in batch.rows])
    return analyzer.analyse(captions), groups


_threads = threading.local()


def analyzer_of_this_thread(options: WordOptions) -> Analyzer:
    """Return an analyzer for these options, kept from unit to unit: what it remembers is only a cache.

    One a thread, because engines run units in threads and its tables grow as it works.
    """
    if not hasattr(_threads, "make"):
        _threads.make = functools.lru_cache(maxsize=1)(Analyzer)
    analyzer: Analyzer = _threads.make(options)
    if len(analyzer.words) > MAX_WORDS:
        _threads.make.cache_clear()
        analyzer = _threads.make(options)
    return analyzer
