"""`fistful vectors`: captions and counts in, word vectors out: which words stand together says which are alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.balance import Balance
from fistful.bow.cooccurrence import cut_bags, pairs_of, read_pairs, write_pairs
from fistful.bow.sorted_counts import Counts, merge_counts
from fistful.bow.store.dead_letters import Letters
from fistful.bow.store.files import atomic_file, write_json
from fistful.bow.store.folders import folder_at, scratch_folder
from fistful.bow.store.identity import check_numbers, semantic
from fistful.bow.store.index import unit_name
from fistful.bow.vocabulary import Limits, write_vocabulary
from fistful.bow.word_vectors import SINGULAR_VALUES, VECTORS, count_marginals, factorise, positive_pmi
from fistful.bow.words import WordOptions
from fistful.errors import UsageError
from fistful.wording import counted

from .bagging import bagger_of_this_thread, chosen_words, on_counts
from .engine.job import job_on_captions, run_job
from .engine.merge import MERGED_AT_ONCE, MergeUnit, merge_until_few
from .engine.stage import Running, uncollected, write_unit
from .engine.work import Work
from .read.plan import PlanOptions
from .read.rows import BATCH_ROWS
from .read.sources import SourceOptions, open_unit
from .read.units import Unit
from .sorted_counter import SortedCounter

PAIRS = "pairs.parquet"
"""Every pair of words with the number of captions that hold both; a word with itself: that hold it."""
MIN_DIM = 2
"""Numbers of a vector, at least: its length is 1, so that one number says nothing but plus or minus."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VectorOptions:
    """What the vectors are."""

    dim: int = semantic(256)
    """Numbers of a vector, 2 or more; fewer than the vocabulary has words."""

    def __post_init__(self) -> None:
        if self.dim < MIN_DIM:
            raise UsageError(
                f"--dim {self.dim}: expected {MIN_DIM} or more, such as 256; of vectors of length 1, one number is but a sign, "
                "so that any two words would be the same or opposites"
            )
        check_numbers(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VectorsConfig:
    """Options of `fistful vectors`."""

    plan: PlanOptions = PlanOptions()
    source: SourceOptions = SourceOptions()
    limits: Limits = Limits()
    vectors: VectorOptions = VectorOptions()
    running: Running = Running()


@dataclasses.dataclass(frozen=True, slots=True)
class VectorsJob:
    """What a unit of `vectors` needs to know."""

    source: SourceOptions
    words: WordOptions
    vocabulary: Path
    """Folder that holds vocabulary.parquet."""


def vectors(*sources: str, counts: str | Path, out: str | Path, config: VectorsConfig | None = None) -> Path:
    """Make a vector of each word from the words that stand beside it in captions; pictures are not needed.

    Args:
        sources: Files (TSV, CSV, JSONL, text, tar, also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        counts: Folder that `fistful count` wrote; its words are analysed the same way here.
        out: Folder to write: vectors.npy (float32 (V, d), rows of length 1 or all 0, row i of the word with id i in vocabulary.parquet),
            singular_values.npy (float32 (d,)), pairs.parquet, pairs/, dead_letters/, stats.json, manifest.json.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault.
        DataError: If too many rows are refused, no word reaches the vocabulary, or no two words stand together.
        ModuleNotFoundError: If scipy is not installed.
    """
    import scipy.sparse.linalg  # noqa: F401 - is it missing? then say so before captions are read
    import threadpoolctl  # noqa: F401

    config = config or VectorsConfig()
    counts_folder = folder_at(counts)
    job, words = on_counts(job_on_captions("vectors", sources, out, config), counts_folder)
    vocabulary = chosen_words(counts_folder, config.limits, Balance())
    n_words, least = counted(len(vocabulary), "word"), f"--min-count {config.limits.min_count}"
    if len(vocabulary) <= MIN_DIM:
        raise UsageError(
            f"{counts}: the vocabulary has {n_words} ({least}), expected more than {MIN_DIM}; a smaller --min-count or more captions help"
        )
    if config.vectors.dim >= len(vocabulary):
        raise UsageError(f"--dim {config.vectors.dim}: the vocabulary has {n_words} ({least}), expected a --dim below that")

    def work_in(place: Path) -> Work:
        write_vocabulary(place, vocabulary)
        return Work("fistful.pipelines.vectors:pair_unit", place, VectorsJob(config.source, words, place), "vectors")

    def with_vectors(stats: dict[str, Any]) -> dict[str, Any]:
        merge_units(job.folder, job.units, config.running)
        return {**stats, **write_vectors(job.folder, len(vocabulary), config.vectors.dim)}

    return run_job(job, work_in, with_vectors)


def merge_units(folder: Path, units: list[Unit], running: Running) -> None:
    """Write pairs.parquet from the units' pairs."""
    counted = [folder / unit_name("pairs", unit.number, "parquet") for unit in units]
    few = merge_until_few(counted, MERGED_AT_ONCE, "fistful.pipelines.vectors:merge_unit", folder, running)
    write_pairs(folder, PAIRS, merge_files(few))


def write_vectors(folder: Path, n_words: int, dim: int) -> dict[str, int]:
    """Write vectors.npy and singular_values.npy from pairs.parquet; return what stats.json says of them."""
    marginals, n_pairs = count_marginals(read_pairs(folder / PAIRS), n_words)
    vectors_VD, singular_values = factorise(positive_pmi(read_pairs(folder / PAIRS), marginals, n_pairs), dim)
    for name, numbers in ((VECTORS, vectors_VD), (SINGULAR_VALUES, singular_values)):
        with atomic_file(folder, name) as file:
            np.save(file, numbers, allow_pickle=False)  # pyright: ignore[reportArgumentType]
    n_with = int(vectors_VD.any(axis=1).sum())
    return {"words": n_words, "words_with_vector": n_with, "words_without_vector": n_words - n_with, "pairs": n_pairs, "dim": dim}


def merge_files(paths: list[Path] | tuple[Path, ...]) -> Iterator[Counts]:
    """Add up files of pairs, in the memory of a block of each."""
    return merge_counts(map(read_pairs, paths))


def merge_unit(unit: MergeUnit, folder: Path, job: None) -> None:  # noqa: ARG001 - every unit function has a job
    """Add up some files of pairs."""
    record = write_pairs(folder, unit.merged, merge_files(unit.paths))
    write_json(folder, unit_name("stats", unit.number, "json"), record)


def pair_unit(unit: Unit, folder: Path, job: VectorsJob) -> None:
    """Count the pairs of one unit: writes them, dead letters and stats."""
    bagger = bagger_of_this_thread(job.words, job.vocabulary)
    letters = Letters()
    stats = {"rows": 0, "kept": 0, "captions": 0, "captions_cut": 0, "pairs_counted": 0}
    with (
        uncollected(),
        scratch_folder(folder) as aside,
        open_unit(unit, job.source, with_images=False) as (batches, content),
    ):
        counter = SortedCounter(Path(aside), write_pairs, read_pairs)
        for whole in batches:
            letters += whole.letters
            stats["rows"] += whole.n_read
            stats["kept"] += whole.n_rows
            stats["captions"] += len(whole.captions)
            for batch in whole.slices(BATCH_ROWS):
                bags, n_cut = cut_bags(bagger.bags_of_captions(batch))
                stats["captions_cut"] += n_cut
                stats["pairs_counted"] += int((bags.lengths() * (bags.lengths() - 1)).sum()) // 2
                for pairs in pairs_of(bags):
                    counter.add(pairs)
        name = unit_name("pairs", unit.number, "parquet")
        records = {name: write_pairs(folder, name, counter.finish())}
    write_unit(folder, unit, letters, stats, records, content)
