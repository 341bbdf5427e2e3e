"""The index of a data folder: every reader takes it with and without distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fistful.bow.store.index import INDEX_SCHEMA, LABELLED_SCHEMA, LIKELY, read_index, read_likely
from fistful.bow.store.tables import write_table
from fistful.errors import DataError


def write_index(folder: Path, schema: pa.Schema, *units: list[list[tuple[int, float]]]) -> Path:
    """Write an index whose samples have nothing but likely words."""
    for unit, rows in enumerate(units):
        empty = {field.name: [None] * len(rows) for field in INDEX_SCHEMA}
        words, shares = ([[pair[i] for pair in row] for row in rows] for i in (0, 1))
        columns = [*(pa.array(empty[field.name], field.type) for field in INDEX_SCHEMA), pa.array(words, pa.list_(pa.uint32()))]
        halves = pa.array(np.array([x for row in shares for x in row], np.float16))
        ends = pa.array(np.cumsum([0, *map(len, shares)]), pa.int32())
        columns.append(pa.ListArray.from_arrays(ends, halves))
        write_table(folder, f"index/{unit:05d}.parquet", pa.table(columns[: len(schema)], schema=schema))
    return folder


def test_the_likely_words_of_each_sample_are_read_in_the_order_of_the_index(tmp_path: Path) -> None:
    folder = write_index(tmp_path, LABELLED_SCHEMA, [[(4, 0.5), (1, 0.25)], []], [[(7, 0.125)]])
    found = read_likely(folder)
    assert found is not None
    assert [row.tolist() for row in found[0]] == [[4, 1], [], [7]]
    assert (found[1].tolist(), found[1].dtype) == ([0.5, 0.25, 0.125], np.float32)
    index = read_index(folder)
    assert (index.schema.names, index.num_rows) == (INDEX_SCHEMA.names, 3)


def test_an_index_without_them_says_none_of_them(tmp_path: Path) -> None:
    assert read_likely(write_index(tmp_path, INDEX_SCHEMA, [[], []])) is None
    assert read_index(tmp_path).num_rows == 2


def test_an_index_of_other_columns_is_refused(tmp_path: Path) -> None:
    half = pa.schema([*INDEX_SCHEMA, LABELLED_SCHEMA.field(LIKELY[0])])
    with pytest.raises(DataError, match=r"columns are .*expected"):
        read_index(write_index(tmp_path, half, [[(4, 0.5)]]))
