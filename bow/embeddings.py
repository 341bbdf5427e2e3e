"""Embeddings on disk: a row an image, with its features and its best words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from .pseudo import Candidates
from .ragged import Ragged
from .store.tables import join_tables, read_table

EMBEDDINGS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source_key", pa.string()),
        ("features", pa.list_(pa.float32())),
        ("words", pa.list_(pa.uint32())),
        ("scores", pa.list_(pa.float32())),
    ]
)
"""`features` have length 1; `words` are the best by the encoder's head, best first (none without a head)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of n images."""

    keys: list[str]
    source_keys: list[str]
    features: np.ndarray
    """float32 (n, d)."""
    candidates: Candidates
    """The head's words; without any where there is no head."""

    def take(self, rows: np.ndarray) -> Embeddings:
        """Return some of the images."""
        words = self.candidates.words
        return Embeddings(
            [self.keys[i] for i in rows],
            [self.source_keys[i] for i in rows],
            self.features[rows],
            Candidates(words.pick(rows), self.candidates.scores[words.places(rows)]),
        )


def read_embeddings(paths: list[Path]) -> Embeddings:
    """Read embeddings files, one after the other.

    Raises:
        UsageError: If one is missing.
        DataError: If one is broken.
    """
    table = join_tables([read_table(path, EMBEDDINGS_SCHEMA) for path in paths], EMBEDDINGS_SCHEMA)
    words = table["words"].combine_chunks()
    features = table["features"].combine_chunks().flatten().to_numpy()
    offsets = words.offsets.to_numpy().astype(np.int64)
    return Embeddings(
        table["key"].to_pylist(),
        table["source_key"].to_pylist(),
        features.reshape(table.num_rows, -1) if table.num_rows else np.zeros((0, 0), np.float32),
        Candidates(
            Ragged(offsets - offsets[0], words.flatten().to_numpy().astype(np.int64)),
            table["scores"].combine_chunks().flatten().to_numpy().astype(np.float64).round(4),
        ),
    )
