"""Embeddings on disk: a row an image or a caption.

Those of `fistful label` stand beside the words that the model's head sees; those of `fistful embed` are for
other tools, as parquet and as numpy's own files (docs/decisions/0025-embeddings.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fistful.errors import DataError

from .pseudo import Candidates
from .ragged import Ragged
from .store.files import atomic_file
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
"""`features` have length 1; `words` are those of largest share by the encoder's head, largest first (none without a head);
`scores` the natural logarithms of these shares."""


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
        keys, source_keys = ([of[i] for i in rows] for of in (self.keys, self.source_keys))
        return Embeddings(keys, source_keys, self.features[rows], self.candidates.pick(rows))


def read_embeddings(paths: list[Path]) -> Embeddings:
    """Read embeddings files, one after the other.

    Raises:
        UsageError: If one is missing.
        DataError: If one is broken.
    """
    table = join_tables([read_table(path, EMBEDDINGS_SCHEMA) for path in paths], EMBEDDINGS_SCHEMA)
    features = table["features"].combine_chunks().flatten().to_numpy()
    return Embeddings(
        table["key"].to_pylist(),
        table["source_key"].to_pylist(),
        features.reshape(table.num_rows, -1) if table.num_rows else np.zeros((0, 0), np.float32),
        Candidates(
            Ragged.of_lists(table["words"].combine_chunks()),
            table["scores"].combine_chunks().flatten().to_numpy().astype(np.float64).round(4),
        ),
    )


def vectors_schema(dim: int, *, captions: bool) -> pa.Schema:
    """Return the columns of a file of embeddings for other tools; `extra` is JSON, as in a data folder's index.

    Args:
        dim: Numbers of an embedding.
        captions: Whether a row is a caption, which then stands beside its embedding; else it is an image.
    """
    names = ["key", "source_key", *(["caption"] if captions else []), "extra"]
    return pa.schema([*((name, pa.string()) for name in names), ("embedding", pa.list_(pa.float32(), dim))])


def vectors_array(rows_ND: np.ndarray) -> pa.FixedSizeListArray:
    """Return float32 (n, d) as a column of lists of d numbers."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows_ND, np.float32).ravel()), rows_ND.shape[1])


def write_npy(folder: Path, name: str, table: str | Path) -> dict[str, Any]:
    """Write the embeddings of a parquet file as FOLDER/NAME, a numpy file of float32 (n, d), and return its size and hash.

    It is read and written group by group, so that neither has to fit into memory.
    """
    source = pq.ParquetFile(table)
    dim = source.schema_arrow.field("embedding").type.list_size
    with atomic_file(folder, name) as file:
        about = {"descr": "<f4", "fortran_order": False, "shape": (source.metadata.num_rows, dim)}
        np.lib.format.write_array_header_1_0(file, about)  # pyright: ignore[reportArgumentType]
        for group in range(source.num_row_groups):
            for chunk in source.read_row_group(group, columns=["embedding"])["embedding"].chunks:
                file.write(chunk.flatten().to_numpy().astype("<f4").tobytes())
    return file.record()


def check_features(features: np.ndarray, what: Sequence[str], model: str, *, zeros_allowed: bool) -> np.ndarray:
    """Return features if they are finite and of length 1.

    Args:
        features: float (n, d).
        what: What each row is of.
        model: What the user called the model.
        zeros_allowed: Whether rows of length 0 are fine too, as of a text without one known word.

    Raises:
        DataError: If not; the message names the first.
    """
    lengths = np.linalg.norm(features.astype(np.float64), axis=1)
    fine = np.isclose(lengths, 1.0, atol=1e-3) | (zeros_allowed & (lengths == 0))
    if not fine.all():
        first = int(np.flatnonzero(~fine)[0])
        raise DataError(
            f"{what[first]!r}: {model} gives features of length {lengths[first]:.4g}, expected 1; the model or its encoder is broken"
        )
    return features
