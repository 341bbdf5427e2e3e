"""The captioned data that labels shall be like, beside what a model makes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fistful.bow.draw import number_of_key
from fistful.bow.embeddings import Embeddings, read_embeddings
from fistful.bow.ragged import Ragged
from fistful.bow.store.index import read_index
from fistful.errors import DataError


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionedData:
    """The captioned data that labels shall be like."""

    embeddings: Embeddings
    bags: Ragged
    samples: np.ndarray
    rows: np.ndarray
    """The row of each image in the index of the data folder: of broken ones there is no embedding."""


def same_pictures(features: np.ndarray) -> np.ndarray:
    """Return for each image a number, the same for images of equal features: one picture in several rows, as a row a caption has it."""
    rows = np.ascontiguousarray(features)
    return np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel(), return_inverse=True)[1]


def read_like(embeddings_folder: Path, like: Path) -> CaptionedData:
    """Read captioned embeddings beside their bags.

    Raises:
        DataError: If the images of the data folder and its index do not fit.
    """
    paths = sorted((embeddings_folder / "embeddings").glob("*.parquet"), key=lambda p: int(p.stem))
    embeddings = read_embeddings(paths)
    index = read_index(like)
    place = {key: row for row, key in enumerate(index["key"].to_pylist())}
    rows = np.array([place.get(key, -1) for key in embeddings.source_keys])
    if len(rows) == 0 or (rows < 0).any():
        raise DataError(f"{like}: its shards and its index name different samples; fistful verify {like} tells what changed")
    bags = Ragged.of_lists(index["words"].combine_chunks())
    samples = np.array([number_of_key(key) for key in embeddings.source_keys], np.uint64)
    return CaptionedData(embeddings, bags.pick(rows), samples, rows)
