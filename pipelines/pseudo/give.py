"""Pseudo-labels, unit by unit: embeddings and a calibration in, shards of pseudo-bags and their distributions out.

The last stage of `fistful label` (pipelines/pseudo/label.py has the chain).
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.calibration import Calibrator
from fistful.bow.draw import number_of_key, sample_key
from fistful.bow.embeddings import Embeddings, read_embeddings
from fistful.bow.pseudo import Candidates, draw_sizes, take_best
from fistful.bow.ragged import Ragged
from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import atomic_file, stamp_of
from fistful.bow.store.folders import parquet_source
from fistful.bow.store.images import read_header
from fistful.bow.store.index import LABELLED_SCHEMA, unit_name
from fistful.bow.store.shard import end_tar
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import FILE, Vocabulary, read_vocabulary

from ..cards import picture_kinds
from ..completing import Completing, with_known
from ..engine.stage import write_unit
from ..read.rows import RowBatch, make_letter
from ..read.sources import SourceOptions, open_unit
from ..read.units import Unit
from ..sample_writer import SampleColumns, SampleWriter, join_words
from .sources import Known, Neighbours, Source, candidates_of, load_known

MEASURED = "measured.json"
"""What calibration found, written after all that it asks for."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelJob:
    """What a unit of `label` needs to know."""

    sources: tuple[Source, ...]
    voting: Neighbours
    limit: int
    """Words of an image's distribution, at most."""
    min_precision: float
    calibrator: Calibrator
    sizes: np.ndarray
    """Sizes of real bags, int64."""
    seed: int
    embeddings: tuple[Path, ...]
    """Folders of the images' embeddings, one a model."""
    vocabulary: Path
    """Folder of vocabulary.parquet."""
    calibration: Path
    """Folder of what `save_known` wrote."""
    indices: Path
    """Folder of the indices of neighbours."""
    reading: SourceOptions = SourceOptions()
    """Where captions and pictures stand in tables."""
    completing: Completing | None = None
    """Which words are known, and kept; None where none are."""

    def likely(self, embeddings: Sequence[Embeddings], known: Known) -> Candidates:
        """Return images' likeliest words with their probabilities."""
        return self.calibrator.likely([candidates_of(s, embeddings, known, self.voting) for s in self.sources], self.limit)


_threads = threading.local()


def _shared(job: LabelJob) -> tuple[Vocabulary, Known]:
    """Return the vocabulary and what sources need, read once a thread as long as they are the same."""
    if not hasattr(_threads, "load"):
        _threads.load = functools.lru_cache(maxsize=1)(_load_shared)
    stamps = tuple(stamp_of(path) for path in (job.vocabulary / FILE, job.calibration / MEASURED))
    return _threads.load(job.sources, len(job.embeddings), (job.vocabulary, job.calibration, job.indices), stamps)


def _load_shared(sources: tuple[Source, ...], n_models: int, places: tuple[Path, Path, Path], _stamps: Any) -> tuple[Vocabulary, Known]:
    vocabulary, calibration, indices = places
    return read_vocabulary(vocabulary), load_known(calibration, indices, sources, n_models)


def label_unit(unit: Unit, folder: Path, job: LabelJob) -> None:
    """Label one unit's images: writes shard, index, dead letters and stats."""
    vocabulary, known = _shared(job)
    name = unit_name("embeddings", unit.number, "parquet")
    embeddings = [read_embeddings([folder / name]) for folder in job.embeddings]
    keys = embeddings[0].keys
    samples = np.array([number_of_key(key) for key in keys], np.uint64)
    likely = job.likely(embeddings, known)
    given = take_best(likely, job.min_precision, draw_sizes(job.sizes, samples, job.seed))
    thinned, _ = vocabulary.thin(given.words, samples, job.seed)
    sizes = given.words.lengths().tolist()
    places = {key: place for place, key in enumerate(keys)}
    letters = _letters_of(job.embeddings[0] / unit_name("dead_letters", unit.number, "parquet"))
    n_rows, n_kept = len(letters) + len(keys), 0
    shard = unit_name("shards", unit.number, "tar")
    with atomic_file(folder, shard) as tar, open_unit(unit, job.reading, with_images=True, need_captions=False) as (batches, content):
        writer = SampleWriter(tar, vocabulary.words, LABELLED_SCHEMA)
        for batch in batches:
            # what the stage before refused has its letter already
            known = None if job.completing is None else job.completing.known(batch.keys(), [row.captions for row in batch.rows])
            n_known = [0] * batch.n_rows if known is None else known.lengths().tolist()
            embedded = [(i, places[key]) for i, n in enumerate(batch.numbers.tolist()) if (key := sample_key(unit.number, n)) in places]
            labelled = [(i, place) for i, place in embedded if sizes[place] or n_known[i]]
            bare = [i for i, place in embedded if not (sizes[place] or n_known[i])]
            letters += [make_letter("no_label", unit, batch.key(i), "no word reaches its threshold", b"") for i in bare]
            if labelled:
                chosen, rows = map(np.array, zip(*labelled, strict=True))
                labels = Labels(given, likely, thinned).pick(rows)
                if known is not None:
                    labels = labels.beside(known.pick(chosen), vocabulary, samples[rows], job.seed)
                    n_kept += int(known.lengths()[chosen].sum())
                writer.add(_samples(unit, batch.pick(chosen), labels, vocabulary))
        end_tar(tar)
    index, name = writer.index(), unit_name("index", unit.number, "parquet")
    records = {shard: tar.record(), name: write_table(folder, name, index)}
    stats = {"rows": n_rows, "kept": index.num_rows, "words_in_bags": len(given.scores), "words_balanced": len(thinned.values)}
    stats |= picture_kinds(index) | ({} if job.completing is None else {"words_known": n_kept})
    write_unit(folder, unit, letters, stats, records, content)


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """What images get."""

    given: Candidates
    """Their bags."""
    likely: Candidates
    """Their distributions."""
    thinned: Ragged
    """The bags thinned by the vocabulary's rule."""

    def pick(self, rows: np.ndarray) -> Labels:
        """Return what some of the images get."""
        return Labels(self.given.pick(rows), self.likely.pick(rows), self.thinned.pick(rows))

    def beside(self, known: Ragged, vocabulary: Vocabulary, samples: np.ndarray, seed: int) -> Labels:
        """Return the same with the words that are known of each image."""
        given = with_known(self.given, known)
        return Labels(given, with_known(self.likely, known), vocabulary.thin(given.words, samples, seed)[0])


def _samples(unit: Unit, batch: RowBatch, labels: Labels, vocabulary: Vocabulary) -> SampleColumns:
    """Return what is written of images with labels."""
    n = len(batch.numbers)
    images = [image for image in batch.images or [] if image is not None]
    assert len(images) == n  # what has an embedding has an image
    return SampleColumns(
        unit=unit.number,
        numbers=batch.numbers,
        # whatever caption it may have had is not used, so it is not kept
        captions=pa.ListArray.from_arrays(pa.array([0] * (n + 1), pa.int32()), pa.array([], pa.string())),
        words=labels.given.words,
        texts=join_words(pa.array(vocabulary.words, pa.string()), labels.thinned, " "),
        source_keys=batch.keys(),
        sources=batch.sources,
        extra=batch.extra,
        scores=np.round(labels.given.scores, 4),
        likely=labels.likely.words,
        likely_shares=labels.likely.scores,
        images=images,
        extensions=batch.extensions,
        headers=[read_header(image) for image in images],
    )


def _letters_of(path: Path) -> list[DeadLetter]:
    return [DeadLetter(**row) for row in pq.read_table(parquet_source(path)).to_pylist()]
