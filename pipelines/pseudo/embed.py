"""Embeddings of images, unit by unit: what an encoder makes of them, and which words its head sees.

A stage of `fistful label`: it reads images and writes embeddings/; nothing here knows captions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.draw import sample_key
from fistful.bow.embeddings import EMBEDDINGS_SCHEMA
from fistful.bow.pseudo import Candidates, top_words
from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.images import decode_image
from fistful.bow.store.index import unit_name
from fistful.bow.store.tables import write_table
from fistful.errors import UsageError
from fistful.training.device import device_named

from ..engine.beam import Work
from ..engine.job import DataJob, run_job
from ..engine.stage import Running, write_unit
from ..read.rows import Row
from ..read.sources import SourceOptions, open_unit
from ..read.units import Unit

DECIMALS = 5
"""Features are rounded to so many: what lies below differs between equal machines under load."""

IMAGES_A_PASS = 256


@dataclasses.dataclass(frozen=True, slots=True)
class EmbedJob:
    """What a unit of `embed` needs to know."""

    encoder: str
    """Factory spec, as training.encoder.load_encoder takes it."""
    device: str = "cpu"
    """Where it computes: cpu or cuda."""


def embed(units: list[Unit], inputs: dict[str, Any], job: EmbedJob, fingerprint: str, folder: Path, running: Running) -> Path:
    """Embed the images of units.

    Args:
        units: What to read: tars or folders of images.
        inputs: Their fingerprint.
        job: The encoder, and where it computes.
        fingerprint: The encoder's.
        folder: Folder to write: embeddings/, dead_letters/, stats.json, manifest.json.
        running: How.

    Returns:
        The folder.
    """
    for unit in units:
        if unit.kind not in ("tar", "images"):
            raise UsageError(f"{unit.path}: is a {unit.kind} file, expected tars or folders of images")
    values = device_named({"decimals": DECIMALS, "device": job.device})
    inputs = {**inputs, "encoder": fingerprint}
    stage = DataJob(verb="embed", folder=folder, values=values, inputs=inputs, units=units, running=running)
    return run_job(stage, lambda place: Work("fistful.pipelines.pseudo.embed:embed_unit", place, job, "embed"))


def embed_unit(unit: Unit, folder: Path, job: EmbedJob) -> None:
    """Embed one unit's images: writes embeddings, dead letters and stats."""
    letters: list[DeadLetter] = []
    tables: list[pa.Table] = []
    n_rows = 0
    encoder = encoder_of_this_thread(job)
    with one_thread(), open_unit(unit, SourceOptions(), with_images=True, need_captions=False) as (batches, content):
        for batch in batches:
            n_rows += batch.n_read
            letters += batch.letters
            rows = batch.rows
            starts = range(0, len(rows), IMAGES_A_PASS)
            tables += [_embed_rows(unit, rows[start : start + IMAGES_A_PASS], encoder, letters) for start in starts]
    table = pa.concat_tables(tables) if tables else EMBEDDINGS_SCHEMA.empty_table()
    name = unit_name("embeddings", unit.number, "parquet")
    records = {name: write_table(folder, name, table)}
    write_unit(folder, unit, letters, {"rows": n_rows, "kept": table.num_rows}, records, content)


def _embed_rows(unit: Unit, rows: list[Row], encoder: Any, letters: list[DeadLetter]) -> pa.Table:
    pictures, kept = [], []
    for row in rows:
        try:
            if row.image is None:
                raise Refused("no_image", "no image of a known kind")
            pictures.append(encoder.prepare(decode_image(row.image)))
            kept.append(row)
        except Refused as refused:
            letters.append(DeadLetter(refused.reason, unit.name, row.source_key, refused.detail, b""))
    if not kept:
        return EMBEDDINGS_SCHEMA.empty_table()
    pixels = np.stack(pictures)
    features = np.round(encoder.embed_images(pixels), DECIMALS)
    found = top_words(encoder.word_scores(pixels)) if encoder.word_scores else None
    return pa.table(
        {
            "key": [sample_key(unit.number, row.number) for row in kept],
            "source_key": [row.source_key for row in kept],
            "features": list(features),
            "words": _lists(found, len(kept), lambda c: c.words.values.astype(np.uint32), pa.uint32()),
            "scores": _lists(found, len(kept), lambda c: c.scores.astype(np.float32), pa.float32()),
        },
        schema=EMBEDDINGS_SCHEMA,
    )


def _lists(found: Candidates | None, n: int, values: Any, kind: pa.DataType) -> pa.Array:
    if found is None:
        return pa.array([[]] * n, pa.list_(kind))
    return pa.ListArray.from_arrays(pa.array(found.words.offsets, pa.int32()), pa.array(values(found), kind))


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


def encoder_of_this_thread(job: EmbedJob) -> Any:
    """Return the encoder, built once a thread."""
    from fistful.training.model.load import load_encoder

    if not hasattr(_threads, "load"):
        _threads.load = functools.lru_cache(maxsize=1)(load_encoder)
    return _threads.load(job.encoder, job.device)
