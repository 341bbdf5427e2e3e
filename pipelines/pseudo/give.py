"""Pseudo-labels, unit by unit: embeddings and thresholds in, shards of pseudo-bags out.

The last stage of `fistful label` (pipelines/pseudo/label.py has the chain).
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.calibration import Calibration
from fistful.bow.draw import number_of_key, sample_key
from fistful.bow.embeddings import Embeddings, read_embeddings
from fistful.bow.pseudo import Candidates, draw_sizes, margins, take_best, vote
from fistful.bow.ragged import Ragged
from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import atomic_file
from fistful.bow.store.images import read_header
from fistful.bow.store.index import unit_name
from fistful.bow.store.shard import end_tar
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import Vocabulary, read_vocabulary

from ..engine.stage import write_unit
from ..read.rows import RowBatch, make_letter
from ..read.sources import SourceOptions, open_unit
from ..read.units import Unit
from ..sample_writer import SampleColumns, SampleWriter, join_words

Source = Literal["head", "knn"]


@dataclasses.dataclass(frozen=True, slots=True)
class Captioned:
    """The captioned images that vote: their features and bags."""

    features: np.ndarray
    bags: Ragged


@dataclasses.dataclass(frozen=True, slots=True)
class LabelJob:
    """What a unit of `label` needs to know."""

    source: Source
    k: int
    temperature: float
    accept: float
    share_right: Calibration
    """Share of right words among those of a score."""
    sizes: np.ndarray
    """Sizes of real bags, int64."""
    seed: int
    embeddings: Path
    """Folder of the images' embeddings."""
    vocabulary: Path
    """Folder of vocabulary.parquet."""
    calibration: Path
    """Folder of what calibration set: quota.npy for the head; features.npy, offsets.npy and words.npy for kNN."""


def save_captioned(folder: Path, captioned: Captioned) -> None:
    """Write the voters where every worker can map them into memory."""
    for name, array in (("features", captioned.features), ("offsets", captioned.bags.offsets), ("words", captioned.bags.values)):
        with atomic_file(folder, f"{name}.npy") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)  # pyright: ignore[reportArgumentType]


def load_captioned(folder: Path) -> Captioned:
    """Map the voters into memory."""
    features, offsets, words = (np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in ("features", "offsets", "words"))
    return Captioned(features, Ragged(offsets, words))


def candidates_of(embeddings: Embeddings, job: LabelJob, captioned: Captioned | None, quota: np.ndarray | None) -> Candidates:
    """Return the words that images may get, by the source asked for."""
    if captioned is not None:
        from fistful.training.neighbours import nearest

        rows, cosines = nearest(captioned.features, embeddings.features, job.k)
        return vote(rows, cosines, captioned.bags, job.temperature)
    assert quota is not None
    return margins(embeddings.candidates, quota)


_threads = threading.local()


def _shared(job: LabelJob) -> tuple[Any, np.ndarray | None, Captioned | None]:
    """Return vocabulary, quota and voters, read once a thread."""
    if not hasattr(_threads, "load"):
        _threads.load = functools.lru_cache(maxsize=1)(_load_shared)
    return _threads.load(job.source, job.vocabulary, job.calibration)


def _load_shared(source: Source, vocabulary: Path, calibration: Path) -> tuple[Any, np.ndarray | None, Captioned | None]:
    quota = np.load(calibration / "quota.npy", allow_pickle=False) if source == "head" else None
    return read_vocabulary(vocabulary), quota, load_captioned(calibration) if source == "knn" else None


def label_unit(unit: Unit, folder: Path, job: LabelJob) -> None:
    """Label one unit's images: writes shard, index, dead letters and stats."""
    vocabulary, quota, captioned = _shared(job)
    embeddings = read_embeddings([job.embeddings / unit_name("embeddings", unit.number, "parquet")])
    samples = np.array([number_of_key(key) for key in embeddings.keys], np.uint64)
    found = candidates_of(embeddings, job, captioned, quota)
    given = take_best(found, job.accept, draw_sizes(job.sizes, samples, job.seed))
    shares = np.round(job.share_right.share_of(given.scores), 4)
    thinned, _ = vocabulary.thin(given.words, samples, job.seed)
    sizes = given.words.lengths().tolist()
    places = {key: place for place, key in enumerate(embeddings.keys)}
    letters = _letters_of(job.embeddings / unit_name("dead_letters", unit.number, "parquet"))
    n_rows = len(letters) + len(embeddings.keys)
    shard = unit_name("shards", unit.number, "tar")
    with atomic_file(folder, shard) as tar, open_unit(unit, SourceOptions(), with_images=True, need_captions=False) as (batches, content):
        writer = SampleWriter(tar, vocabulary.words)
        for batch in batches:
            # what the stage before refused has its letter already
            embedded = [(i, places[key]) for i, n in enumerate(batch.numbers.tolist()) if (key := sample_key(unit.number, n)) in places]
            labelled = [(i, place) for i, place in embedded if sizes[place]]
            bare = [i for i, place in embedded if not sizes[place]]
            letters += [make_letter("no_label", unit, batch.key(i), "no word reaches its threshold", b"") for i in bare]
            if labelled:
                chosen, rows = map(np.array, zip(*labelled, strict=True))
                writer.add(_samples(unit, batch.pick(chosen), Candidates(given.words, shares), thinned, rows, vocabulary))
        end_tar(tar)
    index, name = writer.index(), unit_name("index", unit.number, "parquet")
    records = {shard: tar.record(), name: write_table(folder, name, index)}
    stats = {"rows": n_rows, "kept": index.num_rows, "words_in_bags": len(given.scores), "words_balanced": len(thinned.values)}
    write_unit(folder, unit, letters, stats, records, content)


def _samples(unit: Unit, batch: RowBatch, given: Candidates, thinned: Ragged, rows: np.ndarray, vocabulary: Vocabulary) -> SampleColumns:
    """Return what is written of images with labels; `rows` says which labels are theirs."""
    n = len(rows)
    words = given.words.pick(rows)
    images = [image for image in batch.images or [] if image is not None]
    assert len(images) == n  # what has an embedding has an image
    return SampleColumns(
        unit=unit.number,
        numbers=batch.numbers,
        # whatever caption it may have had is not used, so it is not kept
        captions=pa.ListArray.from_arrays(pa.array([0] * (n + 1), pa.int32()), pa.array([], pa.string())),
        words=words,
        texts=join_words(pa.array(vocabulary.words, pa.string()), thinned.pick(rows), " "),
        source_keys=batch.keys(),
        sources=batch.sources,
        extra=batch.extra,
        scores=given.scores[given.words.places(rows)],
        images=images,
        extensions=batch.extensions,
        headers=[read_header(image) for image in images],
    )


def _letters_of(path: Path) -> list[DeadLetter]:
    return [DeadLetter(**row) for row in pq.read_table(path).to_pylist()]
