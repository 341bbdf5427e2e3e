"""Data folders as training sees them: arrays of what the index says, and the bytes of each picture."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow import vocabulary as vocabularies
from fistful.bow.draw import sample_number
from fistful.bow.store.files import hash_file
from fistful.bow.store.index import read_index, unit_name
from fistful.bow.store.manifest import fingerprint, read_config
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import Ragged
from fistful.errors import DataError, UsageError

OPEN_SHARDS = 200
"""Shards held open at a time; systems commonly allow 1,024 files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Samples:
    """All samples with a picture, of all folders, one after the other."""

    folders: list[Path]
    weights: list[float]
    fingerprints: list[str]
    vocabulary: Vocabulary
    vocabulary_sha256: str
    word_options: dict[str, Any]
    """How captions became words, as the data folder's configuration says."""
    keys: pa.StringArray
    captions: pa.ListArray
    bags: Ragged
    folder: np.ndarray
    """int32 number of each sample's folder."""
    unit: np.ndarray
    number: np.ndarray
    """uint64, what draws are keyed with."""
    pseudo: np.ndarray
    offset: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    def name(self, row: int) -> str:
        """Return what an error calls a sample."""
        return f"{self.folders[self.folder[row]]}: sample {self.keys[row].as_py()}"


def parse_folder(text: str) -> tuple[Path, float]:
    """Split FOLDER*WEIGHT.

    >>> parse_folder("bags*2")
    (PosixPath('bags'), 2.0)
    """
    name, star, weight = text.rpartition("*")
    if not star or Path(text).exists():
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UsageError(f"{text}: weight is {weight!r}, expected a number above 0, as in {name}*2")
    return Path(name), value


def read_samples(data: tuple[str, ...]) -> Samples:
    """Read the index of each data folder.

    Raises:
        UsageError: If a folder is missing or not finished, or none is given.
        DataError: If folders have different vocabularies, or no sample has a picture.
    """
    if not data:
        raise UsageError("train: found no data folder, expected DATA... as fistful bags writes them")
    folders, weights = (list(part) for part in zip(*map(parse_folder, data), strict=True))
    fingerprints = [fingerprint(folder) for folder in folders]
    sha256 = _same_vocabulary(folders)
    tables = [read_index(folder) for folder in folders]
    tables = [table.filter(pc.greater(table["image_size"], 0)) for table in tables]
    table = pa.concat_tables(tables).combine_chunks()
    if not table.num_rows:
        raise DataError(f"{folders[0]}: no sample has a picture; training needs some, see fistful bags")
    unit, row = _parse_keys(table["key"])
    vocabulary = vocabularies.read_vocabulary(folders[0])
    return Samples(
        folders=folders,
        weights=weights,
        fingerprints=fingerprints,
        vocabulary=vocabulary,
        vocabulary_sha256=sha256,
        word_options=_word_options(folders),
        keys=_chunk(table["key"]),
        captions=_chunk(table["captions"]),
        bags=_ragged(_chunk(table["words"]), len(vocabulary), folders),
        folder=np.repeat(np.arange(len(folders), dtype=np.int32), [t.num_rows for t in tables]),
        unit=unit,
        number=np.asarray(sample_number(0, row) | (unit.astype(np.uint64) << np.uint64(32))),
        pseudo=table["pseudo"].to_numpy(),
        offset=table["image_offset"].to_numpy(),
        size=table["image_size"].to_numpy(),
    )


def _same_vocabulary(folders: list[Path]) -> str:
    for folder in folders:
        if not (folder / vocabularies.FILE).exists():
            raise UsageError(f"{folder}: has no {vocabularies.FILE}; expected a folder that fistful bags wrote")
    hashes = [hash_file(folder / vocabularies.FILE)["sha256"] for folder in folders]
    for folder, found in zip(folders, hashes, strict=True):
        if found != hashes[0]:
            raise DataError(f"{folder}: has another vocabulary than {folders[0]}; make both with the same --counts (fistful label: --like)")
    return hashes[0]


def _word_options(folders: list[Path]) -> dict[str, Any]:
    """Return the options of the first folder that has them (a labelled one may have none of its own)."""
    for folder in folders:
        inputs = read_config(folder)["inputs"]
        if isinstance(inputs, dict) and "word_options" in inputs:
            return dict(inputs["word_options"])
    raise DataError(f"{folders[0]}: its config.json does not say how captions became words; expected a folder that fistful bags wrote")


def _chunk(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _parse_keys(keys: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    parts = pc.split_pattern(keys, "_").combine_chunks().flatten()
    numbers = pc.cast(parts, pa.int64()).to_numpy(zero_copy_only=False).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def _ragged(lists: pa.ListArray, n_words: int, folders: list[Path]) -> Ragged:
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.int64)
    if len(values) and values.max() >= n_words:
        raise DataError(f"{folders[0]}: word id {values.max()} in an index, the vocabulary has {n_words} words; the folder is damaged")
    return Ragged(offsets - offsets[0], values)


class ShardReader:
    """Reads pictures' bytes out of shards, from any thread."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._open: dict[tuple[int, int], int] = {}

    def read(self, row: int) -> bytes:
        """Return the bytes of a sample's picture; fewer where the shard is cut off.

        Raises:
            DataError: If the shard is missing.
        """
        samples = self._samples
        return os.pread(self._handle(int(samples.folder[row]), int(samples.unit[row])), samples.size[row], samples.offset[row])

    def _handle(self, folder: int, unit: int) -> int:
        if (folder, unit) not in self._open:
            if len(self._open) >= OPEN_SHARDS:
                self.close()
            path = self._samples.folders[folder] / unit_name("shards", unit, "tar")
            try:
                self._open[folder, unit] = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise DataError(f"{path}: missing; the index of {self._samples.folders[folder]} names it") from None
        return self._open[folder, unit]

    def close(self) -> None:
        """Close all shards."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()
