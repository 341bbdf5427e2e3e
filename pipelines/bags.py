"""`fistful bags`: captions, images and counts in, shards of word-balanced bags out."""

from __future__ import annotations

import dataclasses
import functools
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fistful.bow.balance import Balance, effective_words, kept_fraction
from fistful.bow.draw import draw_pairs, sample_key, sample_number
from fistful.bow.store import manifest
from fistful.bow.store.config import semantic, semantic_values
from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.files import atomic_file, local_out, write_json
from fistful.bow.store.images import EXTENSIONS, Header, read_header
from fistful.bow.store.index import unit_name
from fistful.bow.store.shard import end_tar
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import FILE, Limits, Vocabulary, choose_words, counts_of, read_vocabulary, write_vocabulary
from fistful.bow.words import Analyzer, Ragged, WordOptions, first_appearances
from fistful.errors import DataError, UsageError
from fistful.pipelines.count import analyse_batch, analyzer_of_this_thread
from fistful.pipelines.rows import Batch, Row
from fistful.pipelines.run import Work
from fistful.pipelines.samples import NO_IMAGE, Sample, SampleWriter
from fistful.pipelines.sources import SourceOptions, check_unit, open_unit
from fistful.pipelines.stage import Running, check_out, close_folder, run_stage, write_unit
from fistful.pipelines.units import PlanOptions, Unit, plan_units


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BagOptions:
    """What the shards hold."""

    txt: Literal["caption", "bag", "balanced"] = semantic("balanced")
    """What KEY.txt says: the caption, all its words, or the words that balancing left."""
    wordless: Literal["refuse", "keep"] = semantic("refuse")
    """A caption without one word of the vocabulary: refuse the sample, or keep it with an empty bag."""
    images: Literal["copy", "none"] = semantic("copy")
    """Copy the images of tars and folders, unchanged, or make bags of captions alone."""
    seed: int = semantic(0)
    """Seed of the draws."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: expected 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BagsConfig:
    """Options of `fistful bags`."""

    plan: PlanOptions = PlanOptions()
    source: SourceOptions = SourceOptions()
    limits: Limits = Limits()
    balance: Balance = Balance()
    bags: BagOptions = BagOptions()
    running: Running = Running()


@dataclasses.dataclass(frozen=True, slots=True)
class BagsJob:
    """What a unit of `bags` needs to know."""

    source: SourceOptions
    words: WordOptions
    options: BagOptions
    vocabulary: str
    """Folder that holds vocabulary.parquet."""


def bags(*sources: str, counts: str | Path, out: str | Path, config: BagsConfig | None = None) -> Path:
    """Turn captions into bags of words, thinned by a balancing rule, in webdataset shards with an index.

    Args:
        sources: Files (TSV, CSV, tar, each also with .gz) or folders of them or of images.
        counts: Folder that `fistful count` wrote; its words are analysed the same way here.
        out: Folder to write: vocabulary.parquet, shards/, index/, dead_letters/, stats.json, manifest.json.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault.
        DataError: If too many rows are refused, or no word reaches the vocabulary.
    """
    config = config or BagsConfig()
    folder, counts_folder = local_out(out), Path(counts)
    check_out(folder, sources)
    units, inputs = plan_units(sources, config.plan)
    check_unit(units[0], config.source)
    inputs["counts"] = manifest.fingerprint(counts_folder)
    counted = manifest.read_config(counts_folder)
    if counted["verb"] != "count":
        raise UsageError(f"--counts {counts}: was written by fistful {counted['verb']}, expected a folder that fistful count wrote")
    words = WordOptions(**{f.name: counted["config"][f.name] for f in dataclasses.fields(WordOptions)})
    inputs["word_options"] = dataclasses.asdict(words)
    if manifest.claim(folder, "bags", semantic_values(config), inputs):
        return folder
    manifest.check_file(counts_folder, FILE)
    every_word = read_vocabulary(counts_folder)
    vocabulary = choose_words(counts_of(every_word), every_word.n_samples, config.limits, config.balance)
    if not len(vocabulary):
        raise DataError(f"{counts}: no word reaches --min-count {config.limits.min_count}; a smaller one helps")
    write_vocabulary(folder, vocabulary)
    job = BagsJob(config.source, words, config.bags, str(folder))
    stats = run_stage(units, Work("fistful.pipelines.bags:bag_unit", folder, job, "bags"), config.running)
    _write_sizes(folder, units)
    close_folder(folder, len(units), {**stats, **_expectations(vocabulary, stats)})
    return folder


def _expectations(vocabulary: Vocabulary, stats: dict[str, Any]) -> dict[str, Any]:
    """Return what balancing should have kept beside what it did keep."""
    return {
        "vocabulary_words": len(vocabulary),
        "kept_fraction_expected": round(kept_fraction(vocabulary.df, vocabulary.keep), 6),
        "kept_fraction_realised": round(stats["words_balanced"] / max(1, stats["words_in_bags"]), 6),
        "effective_words_before": round(effective_words(vocabulary.df, np.ones(len(vocabulary))), 3),
        "effective_words_after": round(effective_words(vocabulary.df, vocabulary.keep), 3),
    }


def _write_sizes(folder: Path, units: list[Unit]) -> None:
    from fistful.bow.store.files import read_json
    from fistful.pipelines.run import stats_path

    sizes = {f"{unit.number:05d}.tar": read_json(stats_path(folder, unit.number))["kept"] for unit in units}
    write_json(folder, "shards/sizes.json", sizes)


# One unit


@dataclasses.dataclass(slots=True)
class _Bagger:
    """An analyzer together with a vocabulary: local word numbers to vocabulary ids."""

    analyzer: Analyzer
    vocabulary: Vocabulary
    ids: dict[str, int]
    table: np.ndarray

    def bags_of(self, batch: Batch) -> Ragged:
        """Return each sample's full bag: vocabulary ids in the order of first appearance over all its captions."""
        words, groups = analyse_batch(self.analyzer, batch)
        new = self.analyzer.words[len(self.table) :]
        if new:
            more = np.fromiter((self.ids.get(word, -1) for word in new), np.int64, len(new))
            self.table = np.concatenate([self.table, more])
        ids = Ragged(words.offsets, self.table[words.values]).join_rows(groups)
        return first_appearances(ids.take(ids.values >= 0))


_threads = threading.local()


def _bagger(words: WordOptions, folder: str) -> _Bagger:
    """Return a bagger for this thread, kept from unit to unit."""
    if not hasattr(_threads, "load"):
        _threads.load = functools.lru_cache(maxsize=1)(_load_bagger)
    bagger: _Bagger = _threads.load(words, folder)
    if bagger.analyzer is not analyzer_of_this_thread(words):
        _threads.load.cache_clear()
        bagger = _threads.load(words, folder)
    return bagger


def _load_bagger(words: WordOptions, folder: str) -> _Bagger:
    vocabulary = read_vocabulary(Path(folder))
    return _Bagger(analyzer_of_this_thread(words), vocabulary, vocabulary.ids(), np.zeros(0, np.int64))


def bag_unit(unit: Unit, folder: Path, job: BagsJob) -> None:
    """Write one unit's shard, index, dead letters and stats."""
    bagger = _bagger(job.words, job.vocabulary)
    letters: list[DeadLetter] = []
    stats = {"rows": 0, "kept": 0, "captions": 0, "words_in_bags": 0, "words_balanced": 0, "bags_emptied": 0, "thinned_out": 0}
    shard = unit_name("shards", unit.number, "tar")
    with atomic_file(folder, shard) as tar, open_unit(unit, job.source, job.options.images == "copy") as (batches, content):
        writer = SampleWriter(tar)
        for batch in batches:
            stats["rows"] += batch.n_read
            letters += batch.letters
            letters += _write_batch(writer, unit, batch, bagger, job, stats)
        end_tar(tar)
    name = unit_name("index", unit.number, "parquet")
    index = writer.index()
    records = {shard: tar.record(), name: write_table(folder, name, index)}
    stats["kept"] = index.num_rows
    write_unit(folder, unit, letters, stats, records, content)


def _write_batch(writer: SampleWriter, unit: Unit, batch: Batch, bagger: _Bagger, job: BagsJob, stats: dict[str, int]) -> list[DeadLetter]:
    full = bagger.bags_of(batch)
    samples = sample_number(unit.number, np.array([row.number for row in batch.rows], np.uint64))
    balanced, emptied = bagger.vocabulary.thin(full, samples, job.options.seed)
    letters: list[DeadLetter] = []
    words, rule = bagger.vocabulary.words, bagger.vocabulary.balance
    stays = draw_pairs(full, samples, bagger.vocabulary.keep_u32, job.options.seed) if rule.level == "pair" else None
    for place, row in enumerate(batch.rows):
        bag = full.values[full.offsets[place] : full.offsets[place + 1]].tolist()
        try:
            header = _check(unit, row, bag, job.options)
        except Refused as refused:
            letters.append(DeadLetter(refused.reason, unit.name, row.source_key, refused.detail, "\n".join(row.captions).encode()))
            continue
        if stays is not None and not stays[place]:
            stats["thinned_out"] += 1
            continue
        thinned = balanced.values[balanced.offsets[place] : balanced.offsets[place + 1]].tolist()
        stats["captions"] += len(row.captions)
        stats["words_in_bags"] += len(bag)
        stats["words_balanced"] += len(thinned)
        stats["bags_emptied"] += int(emptied[place])
        text = {"caption": row.captions[0], "bag": _join(words, bag), "balanced": _join(words, thinned)}[job.options.txt]
        key = sample_key(unit.number, row.number)
        writer.add(Sample(key, row, header, text, bag, [words[i] for i in bag], [], pseudo=False))
    return letters


def _join(words: list[str], ids: list[int]) -> str:
    return " ".join([words[i] for i in ids])


def _check(unit: Unit, row: Row, bag: list[int], options: BagOptions) -> Header:
    if not bag and options.wordless == "refuse":
        raise Refused("no_words", "no word of the vocabulary in it; --wordless keep keeps such samples")
    if row.image is not None:
        return read_header(row.image)
    if unit.kind in ("tar", "images") and options.images == "copy":
        raise Refused("no_image", f"no image among {', '.join(EXTENSIONS)}; --images none makes bags of captions alone")
    return NO_IMAGE
