"""What jobs make of a folder that `fistful count` wrote: how captions become words, which words, and bags of their numbers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.balance import Balance
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.files import stamp_of
from fistful.bow.vocabulary import FILE, Limits, Vocabulary, choose_words, read_counted, read_vocabulary
from fistful.bow.words import Analyzer, WordOptions, first_appearances
from fistful.errors import DataError, UsageError

from .engine.job import DataJob
from .read.rows import RowBatch


def read_word_options(counts: Path) -> tuple[WordOptions, dict[str, Any]]:
    """Return how captions became words when they were counted, and what names the counts among a job's inputs.

    Raises:
        UsageError: If the folder is not one that `fistful count` wrote, or not finished.
    """
    inputs = {"counts": manifest.fingerprint(counts)}
    counted = manifest.read_config(counts)
    if counted["verb"] != "count":
        raise UsageError(f"--counts {counts}: was written by fistful {counted['verb']}, expected a folder that fistful count wrote")
    options = WordOptions(**{f.name: counted["config"][f.name] for f in dataclasses.fields(WordOptions) if f.name in counted["config"]})
    return options, {**inputs, "word_options": dataclasses.asdict(options)}


def on_counts(job: DataJob, counts: Path) -> tuple[DataJob, WordOptions]:
    """Return a job whose inputs are the counts too, and how captions became words when they were counted.

    Raises:
        UsageError: If the folder is not one that `fistful count` wrote, or not finished.
    """
    words, made_of = read_word_options(counts)
    return dataclasses.replace(job, inputs={**job.inputs, **made_of}), words


def chosen_words(counts: Path, limits: Limits, rule: Balance) -> Vocabulary:
    """Return the vocabulary of what was counted.

    Raises:
        DataError: If no word reaches it, or the counts have changed.
    """
    manifest.check_file(counts, FILE)
    words, n_samples = read_counted(counts)
    vocabulary = choose_words(words, n_samples, limits, rule)
    if not len(vocabulary):
        raise DataError(f"{counts}: {_why_no_words(words['df'].to_numpy(), limits.min_count)}")
    return vocabulary


def _why_no_words(df: np.ndarray, min_count: int) -> str:
    if not len(df):
        return "holds no word, for no caption does; fistful count --no-alphabetic counts numbers and the like too"
    most, n_most = df.max(), int((df == df.max()).sum())
    helps = f"--min-count {most} leaves {n_most:,} word{'s' if n_most > 1 else ''}"
    return f"no word reaches --min-count {min_count}; {helps}{f', --min-count 1 leaves {len(df):,}' if most > 1 else ''}"


@dataclasses.dataclass(slots=True)
class Bagger:
    """Turns captions into bags: the analyzer's word numbers and, beside them, the vocabulary's ids."""

    analyzer: Analyzer
    vocabulary: Vocabulary
    array: pa.StringArray
    """The vocabulary's words."""
    ids: dict[str, int]
    words: list[str]
    """The analyzer's words that `table` is for."""
    table: np.ndarray

    def bags_of(self, batch: RowBatch) -> Ragged:
        """Return each sample's full bag: vocabulary ids in the order of first appearance over all its captions."""
        return first_appearances(self._ids_of(batch.captions).join_rows(batch.groups))

    def bags_of_captions(self, batch: RowBatch) -> Ragged:
        """Return each caption's bag: vocabulary ids in the order of first appearance."""
        return first_appearances(self._ids_of(batch.captions))

    def _ids_of(self, captions: pa.StringArray) -> Ragged:
        if self.analyzer.is_full():
            self.analyzer.forget()
        words = self.analyzer.analyse(captions)
        if self.words is not self.analyzer.words:  # it has forgotten, here or in another job of this thread
            self.words, self.table = self.analyzer.words, np.zeros(0, np.int64)
        new = self.words[len(self.table) :]
        if new:
            more = np.fromiter(map(self.ids.get, new, itertools.repeat(-1)), np.int64, len(new))
            self.table = np.concatenate([self.table, more])
        ids = Ragged(words.offsets, self.table[words.values])
        return ids.take(ids.values >= 0)


_threads = threading.local()


def analyzer_of_this_thread(options: WordOptions) -> Analyzer:
    """Return an analyzer for these options, kept from unit to unit: what it remembers is only a cache.

    One a thread, because engines run units in threads and its tables grow as it works.
    """
    if not hasattr(_threads, "make"):
        _threads.make = functools.lru_cache(maxsize=1)(Analyzer)
    return _threads.make(options)


def bagger_of_this_thread(words: WordOptions, folder: Path) -> Bagger:
    """Return a bagger for the vocabulary of a folder, kept from unit to unit as long as the vocabulary is the same."""
    if not hasattr(_threads, "load"):
        _threads.load = functools.lru_cache(maxsize=1)(_load_bagger)
    asked = words, folder, stamp_of(folder / FILE)
    bagger: Bagger = _threads.load(*asked)
    if bagger.analyzer is not analyzer_of_this_thread(words):
        _threads.load.cache_clear()
        bagger = _threads.load(*asked)
    return bagger


def _load_bagger(words: WordOptions, folder: Path, _stamp: tuple[int | str, ...]) -> Bagger:
    vocabulary = read_vocabulary(folder)
    analyzer = analyzer_of_this_thread(words)
    array = pa.array(vocabulary.words, pa.string())
    return Bagger(analyzer, vocabulary, array, vocabulary.ids(), analyzer.words, np.zeros(0, np.int64))
