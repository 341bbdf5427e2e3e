"""`fistful bags`: captions, images and counts in, shards of word-balanced bags out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow.balance import Balance, effective_words, kept_fraction
from fistful.bow.draw import draw_pairs, draw_share, sample_number
from fistful.bow.ragged import Ragged
from fistful.bow.store.dead_letters import Letters, Refused
from fistful.bow.store.files import atomic_file
from fistful.bow.store.folders import folder_at
from fistful.bow.store.identity import check_numbers, semantic
from fistful.bow.store.images import EXTENSIONS, ImageHeader, read_header
from fistful.bow.store.index import unit_name
from fistful.bow.store.shard import end_tar
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import Limits, Vocabulary, read_vocabulary, write_vocabulary
from fistful.bow.words import WordOptions
from fistful.errors import UsageError

from .bagging import Bagger, bagger_of_this_thread, chosen_words, on_counts
from .cards import describe_shards, picture_kinds
from .engine.job import job_on_captions, run_job
from .engine.stage import Running, uncollected, write_unit
from .engine.work import Work
from .read.plan import PlanOptions
from .read.rows import BATCH_ROWS, RowBatch, make_letter
from .read.sources import SourceOptions, open_unit
from .read.units import Unit
from .sample_writer import NO_IMAGE, SampleColumns, SampleWriter, join_words


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
    intact: float = semantic(0.0)
    """Share of the samples whose KEY.txt is the caption though others say words, 0 to 1."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: expected 0 or more")
        if not 0 <= self.intact <= 1:
            raise UsageError(f"--intact {self.intact}: expected a share from 0 to 1")
        if self.intact and self.txt == "caption":
            raise UsageError("--intact with --txt caption: every sample keeps its caption already")
        check_numbers(self)


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
    vocabulary: Path
    """Folder that holds vocabulary.parquet."""


def bags(*sources: str, counts: str | Path, out: str | Path, config: BagsConfig | None = None) -> Path:
    """Turn captions into bags of words, thinned by a balancing rule, in webdataset shards with an index.

    Args:
        sources: Files (TSV, CSV, JSONL, text, tar, also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
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
    job = job_on_captions("bags", sources, out, config, with_images=config.bags.images == "copy")
    counted = folder_at(counts)
    job, words = on_counts(job, counted)

    def work_in(place: Path) -> Work:
        write_vocabulary(place, chosen_words(counted, config.limits, config.balance))
        return Work("fistful.pipelines.bags:bag_unit", place, BagsJob(config.source, words, config.bags, place), "bags")

    def with_expectations(stats: dict[str, Any]) -> dict[str, Any]:
        stats = {**stats, **_expectations(read_vocabulary(job.folder), stats)}
        describe_shards(job.folder, job.units, stats)
        return stats

    return run_job(job, work_in, with_expectations)


def _expectations(vocabulary: Vocabulary, stats: dict[str, Any]) -> dict[str, Any]:
    """Return what balancing should have kept, None where counts alone do not tell, beside what it did keep.

    Units of earlier versions do not count the words of the samples that were thinned out.
    """
    by_word, df, keep = vocabulary.balance.by_word, vocabulary.df, vocabulary.keep
    n_words = stats["words_in_bags"] + stats.get("words_thinned_out", 0)
    return {
        "vocabulary_words": len(vocabulary),
        "kept_fraction_expected": round(kept_fraction(df, keep), 6) if by_word else None,
        "kept_fraction_realised": round(stats["words_balanced"] / max(1, n_words), 6),
        "effective_words_before": round(effective_words(df, np.ones(len(vocabulary))), 3),
        "effective_words_after": round(effective_words(df, keep), 3) if by_word else None,
    }


# One unit

STATS = (
    "rows",
    "kept",
    "captions",
    "words_in_bags",
    "words_balanced",
    "bags_emptied",
    "thinned_out",
    "words_thinned_out",
    "intact",
    "duplicates",
)


def bag_unit(unit: Unit, folder: Path, job: BagsJob) -> None:
    """Write one unit's shard, index, dead letters and stats."""
    bagger = bagger_of_this_thread(job.words, job.vocabulary)
    letters = Letters()
    stats: dict[str, int] = dict.fromkeys(STATS, 0)
    shard = unit_name("shards", unit.number, "tar")
    with uncollected(), atomic_file(folder, shard) as tar, open_unit(unit, job.source, job.options.images == "copy") as (batches, content):
        writer = SampleWriter(tar, bagger.vocabulary.words)
        for whole in batches:
            for batch in whole.slices(BATCH_ROWS):
                stats["rows"] += batch.n_read
                letters += batch.letters
                samples = _samples_of(unit, batch, bagger, job, stats, letters)
                writer.add(samples)
        end_tar(tar)
        index = writer.index()
        stats["duplicates"] = count_duplicates(tar.local(), index)
    name = unit_name("index", unit.number, "parquet")
    records = {shard: tar.record(), name: write_table(folder, name, index)}
    stats["kept"] = index.num_rows
    stats |= picture_kinds(index)
    write_unit(folder, unit, letters, stats, records, content)


def _samples_of(unit: Unit, batch: RowBatch, bagger: Bagger, job: BagsJob, stats: dict[str, int], letters: Letters) -> SampleColumns:
    """Return what is written of a batch; adds to stats and letters."""
    vocabulary, options = bagger.vocabulary, job.options
    full = bagger.bags_of(batch)
    numbers = sample_number(unit.number, batch.numbers)
    stays, headers = _check(unit, batch, full, options, letters)
    if vocabulary.balance.level == "pair":
        drawn = draw_pairs(full, numbers, vocabulary.keep_u32, options.seed)
        stats["thinned_out"] += int((stays & ~drawn).sum())
        stats["words_thinned_out"] += int(full.lengths()[stays & ~drawn].sum())
        stays &= drawn
    chosen = np.flatnonzero(stays)
    if len(chosen) < batch.n_rows:
        batch, full, numbers = batch.pick(chosen), full.pick(chosen), numbers[chosen]
        headers = [headers[i] for i in chosen.tolist()] if headers else headers
    balanced, emptied = vocabulary.thin(full, numbers, options.seed)
    intact = draw_share(numbers, options.intact, options.seed)
    stats["captions"] += len(batch.captions)
    stats["words_in_bags"] += len(full.values)
    stats["words_balanced"] += len(balanced.values)
    stats["bags_emptied"] += int(emptied.sum())
    stats["intact"] += int(intact.sum())
    return SampleColumns(
        unit=unit.number,
        numbers=batch.numbers,
        captions=batch.caption_lists(),
        words=full,
        texts=_texts(batch, {"caption": None, "bag": full, "balanced": balanced}[options.txt], intact, bagger),
        source_keys=batch.keys(),
        sources=batch.sources,
        extra=batch.extra,
        images=batch.images,
        extensions=batch.extensions,
        headers=headers,
    )


def _texts(batch: RowBatch, bags: Ragged | None, intact: np.ndarray, bagger: Bagger) -> list[str]:
    """Return what each KEY.txt says: the words of its bag, or its first caption."""
    texts = join_words(bagger.array, bags, " ") if bags is not None else []
    if bags is None or intact.any():
        first = batch.captions.take(pa.array(batch.groups[:-1])).to_pylist()
        texts = [first[i] if bags is None or intact[i] else texts[i] for i in range(batch.n_rows)]
    return texts


def _check(unit: Unit, batch: RowBatch, bags: Ragged, options: BagOptions, letters: Letters) -> tuple[np.ndarray, list[ImageHeader] | None]:
    """Return which rows can be used and their images' headers; adds a letter for each of the others."""
    stays = np.ones(batch.n_rows, bool)
    headers = [NO_IMAGE] * batch.n_rows if batch.images else None
    wordless = (bags.lengths() == 0) & (options.wordless == "refuse")
    has_images = unit.has_pictures and options.images == "copy"
    for i in range(batch.n_rows) if has_images else np.flatnonzero(wordless).tolist():  # 2 µs a header
        try:
            header = _check_row(batch, i, bool(wordless[i]), has_images)
            if headers:
                headers[i] = header
        except Refused as refused:
            stays[i] = False
            captions = batch.captions.slice(batch.groups[i], batch.groups[i + 1] - batch.groups[i]).to_pylist()
            letters.append(make_letter(refused.reason, unit, batch.key(i), refused.detail, "\n".join(captions).encode()))
    return stays, headers


def _check_row(batch: RowBatch, i: int, wordless: bool, has_images: bool) -> ImageHeader:
    if wordless:
        raise Refused("no_words", "no word of the vocabulary in it; --wordless keep keeps such samples")
    image = batch.images[i] if batch.images else None
    if image is not None:
        return read_header(image)
    if has_images:
        raise Refused("no_image", f"no image among {', '.join(EXTENSIONS)}; --images none makes bags of captions alone")
    return NO_IMAGE


def count_duplicates(shard: str | Path, index: pa.Table) -> int:
    """Return how many samples of a unit repeat an earlier one: the same image, or without images the same captions."""
    sizes, offsets = index["image_size"].to_numpy(), index["image_offset"].to_numpy()
    if not sizes.any():
        large = pa.large_string()  # a unit's captions may be more than 32 bits count
        texts = pa.chunked_array([pc.binary_join(part, "\n").cast(large) for part in index["captions"].chunks], large)
        return index.num_rows - len(pc.unique(texts))
    suspects: dict[tuple[int, bytes], list[int]] = {}
    with open(shard, "rb", buffering=0) as file:  # mapped, a shard of 256 MB would count as so much memory of the worker
        handle = file.fileno()
        for size, offset in zip(sizes.tolist(), offsets.tolist(), strict=True):
            middle = offset + size // 2  # where there is no header that many have in common
            suspects.setdefault((size, os.pread(handle, 32, middle)), []).append(offset)
        alike = [(size, group) for (size, _), group in suspects.items() if len(group) > 1]
        groups = [[hashlib.sha256(os.pread(handle, size, offset)).digest() for offset in group] for size, group in alike]
    return sum(len(group) - len(set(group)) for group in groups)
