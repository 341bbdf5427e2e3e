"""One unit of `fistful embed`, and of the stage that `fistful label` begins with: rows in, features out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from fistful.bow.draw import sample_key
from fistful.bow.embeddings import EMBEDDINGS_SCHEMA, check_features, vectors_array, vectors_schema, write_npy
from fistful.bow.pseudo import Candidates, top_words
from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.images import decode_image
from fistful.bow.store.index import unit_name
from fistful.bow.store.tables import table_file
from fistful.training.model.encoder import features_and_shares

from .completing import Completing, missing_words
from .engine.stage import write_unit
from .read.rows import Row, RowBatch
from .read.sources import SourceOptions, open_unit
from .read.units import Unit

if TYPE_CHECKING:
    from fistful.training.model.encoder import Encoder

DECIMALS = 5
"""Features are rounded to so many: what lies below differs between equal machines under load."""

IMAGES_A_PASS = 256
AHEAD = 2 * IMAGES_A_PASS
"""Pictures that are decoded, or are to be, while others are embedded: 77 MB of 224 pixels."""
DECODERS = {"cpu": 2, "cuda": 8}
"""Threads that decode: a GPU takes what many cores read, and the cores of a CPU compute too."""
TEXTS_A_PASS = 4_096
ROW_GROUP = 4_096
"""Rows of the parquet files that are held in memory and written together: 8 MB of 512 numbers each."""

What = Literal["images", "captions"]


@dataclasses.dataclass(frozen=True, slots=True)
class EmbedJob:
    """What a unit of `embed` needs to know."""

    encoder: str
    """What names it, as fistful.load_encoder takes it."""
    fingerprint: str
    """Its own: a run may be trained anew under the same name."""
    device: str = "cpu"
    """Where it computes: cpu or cuda."""
    what: What = "images"
    source: SourceOptions = SourceOptions()
    dim: int | None = None
    """Numbers of an embedding, for files that other tools read; None: features and words, for `label`."""
    completing: Completing | None = None
    """label --complete: which words are known; the others are looked for. None: the words that the model's head sees."""


Part = tuple[dict[str, Any], np.ndarray]
"""Columns that say what n rows are, and their features, float32 (n, d)."""


def embed_unit(unit: Unit, folder: Path, job: EmbedJob) -> None:
    """Embed one unit's images or captions: writes embeddings, dead letters and stats."""
    images, encoder = job.what == "images", encoder_of_this_thread(job)
    letters: list[DeadLetter] = []
    stats: dict[str, Any] = dict.fromkeys(("rows", "kept", "embeddings", "zeros", "captions_cut"), 0)
    name, npy = (unit_name("embeddings", unit.number, end) for end in ("parquet", "npy"))
    schema = EMBEDDINGS_SCHEMA if job.dim is None else vectors_schema(job.dim, captions=not images)
    with (
        one_thread(),
        open_unit(unit, job.source, with_images=images, need_captions=not images) as (batches, content),
        table_file(folder, name, schema, ROW_GROUP) as file,
        ThreadPoolExecutor(DECODERS[job.device]) as decoders,
    ):
        if images:
            parts = _embed_images(unit, _pictures(unit, batches, encoder, decoders, (letters, stats)), encoder, job)
        else:
            parts = _embed_captions(unit, batches, encoder, letters, stats)
        for columns, features in parts:
            stats["kept"] += len(features) if images else 0
            stats["zeros"] += int((features == 0).all(axis=1).sum())
            file.add(pa.table({**columns, schema.names[-1]: vectors_array(features)} if job.dim else columns, schema=schema))
        file.finish()
        records = {name: file.record()}
        if job.dim is not None:
            records[npy] = write_npy(folder, npy, file.local())
    stats["embeddings"] = file.n_rows
    write_unit(folder, unit, letters, stats, records, content)


def _pictures(
    unit: Unit, batches: Iterable[RowBatch], encoder: Encoder, decoders: ThreadPoolExecutor, kept: tuple[list[DeadLetter], dict[str, Any]]
) -> Iterator[tuple[Row, np.ndarray]]:
    """Yield pictures in order, decoded ahead while others are embedded; `kept` gets a letter for each that cannot be read, and the rows."""
    letters, stats = kept
    waiting: deque[tuple[Row, Future[np.ndarray]] | RowBatch] = deque()

    def next_one() -> Iterator[tuple[Row, np.ndarray]]:
        found = waiting.popleft()
        if isinstance(found, RowBatch):
            letters.extend(found.letters)
            return
        row, picture = found
        try:
            yield row, picture.result()
        except Refused as refused:
            letters.append(DeadLetter(refused.reason, unit.name, row.source_key, refused.detail, b""))

    for batch in batches:
        stats["rows"] += batch.n_read
        waiting.append(batch)
        for row in batch.rows:
            waiting.append((row, decoders.submit(_prepared, row.image, encoder)))
            if len(waiting) > AHEAD:
                yield from next_one()
    while waiting:
        yield from next_one()


def _prepared(image: bytes | None, encoder: Encoder) -> np.ndarray:
    if image is None:
        raise Refused("no_image", "no image of a known kind")
    return encoder.prepare(decode_image(image))


def _embed_images(unit: Unit, pictures: Iterator[tuple[Row, np.ndarray]], encoder: Encoder, job: EmbedJob) -> Iterator[Part]:
    """Yield images, IMAGES_A_PASS at a time."""
    while part := list(itertools.islice(pictures, IMAGES_A_PASS)):
        rows, pixels = [row for row, _ in part], np.stack([picture for _, picture in part])
        with_words = job.dim is None and encoder.word_shares is not None and job.completing is None
        features, shares = features_and_shares(encoder, pixels) if with_words else (encoder.embed_images(pixels), None)
        keys = [row.source_key for row in rows]
        features = np.round(check_features(features, keys, encoder.name, zeros_allowed=True), DECIMALS)
        columns: dict[str, Any] = {"key": [sample_key(unit.number, row.number) for row in rows], "source_key": keys}
        if job.dim is not None:
            columns["extra"] = [row.extra for row in rows]
        else:
            found = None if shares is None else top_words(shares)
            if job.completing is not None:
                found = missing_words(encoder, pixels, job.completing.known(keys, [row.captions for row in rows]))
            columns["features"] = list(features)
            columns["words"] = _lists(found, len(rows), lambda c: c.words.values.astype(np.uint32), pa.uint32())
            columns["scores"] = _lists(found, len(rows), lambda c: c.scores.astype(np.float32), pa.float32())
        yield columns, features


def _lists(found: Candidates | None, n: int, values: Any, kind: pa.DataType) -> pa.Array:
    if found is None:
        return pa.array([[]] * n, pa.list_(kind))
    return pa.ListArray.from_arrays(pa.array(found.words.offsets, pa.int32()), pa.array(values(found), kind))


def _embed_captions(
    unit: Unit, batches: Iterable[RowBatch], encoder: Encoder, letters: list[DeadLetter], stats: dict[str, Any]
) -> Iterator[Part]:
    """Yield captions, a row each; a sample with several has its keys in several rows."""
    for batch in batches:
        stats["rows"] += batch.n_read
        stats["kept"] += batch.n_rows
        letters += batch.letters
        for part in batch.slices(TEXTS_A_PASS):
            texts, n_each = part.captions.to_pylist(), np.diff(part.groups)
            if not texts:
                continue
            features = np.round(check_features(encoder.embed_texts(texts), texts, encoder.name, zeros_allowed=True), DECIMALS)
            stats["captions_cut"] += encoder.n_cut(texts)
            keys = [sample_key(unit.number, number) for number in part.numbers.tolist()]
            extra = [part.extra] * part.n_rows if isinstance(part.extra, str) else part.extra
            of_rows = {"key": keys, "source_key": part.keys(), "extra": extra}
            columns = {name: np.repeat(np.array(values, object), n_each) for name, values in of_rows.items()}
            yield {**columns, "caption": part.captions}, features


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Compute with one thread: with more, sums round differently, and workers would take each other's cores."""
    torch = sys.modules.get("torch")
    if torch is None:  # an encoder of the user's own without it
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_threads = threading.local()


def encoder_of_this_thread(job: EmbedJob) -> Encoder:
    """Return the encoder, built once a thread as long as it is the same."""
    if not hasattr(_threads, "load"):
        _threads.load = functools.lru_cache(maxsize=1)(_load_encoder)
    return _threads.load(job.encoder, job.fingerprint, job.device)


def _load_encoder(name: str, _fingerprint: str, device: str) -> Encoder:
    from fistful.training.model.load import load_encoder

    return load_encoder(name, device)
