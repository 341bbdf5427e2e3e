"""Parquet as we write and read it, and tables joined in memory."""

from __future__ import annotations

import errno
import gc
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.embeddings import EMBEDDINGS_SCHEMA
from fistful.bow.store import tables
from fistful.bow.store.index import INDEX_SCHEMA, read_index
from fistful.bow.store.tables import join_tables, read_table, table_file, write_table
from fistful.errors import DataError

SCHEMA = pa.schema([("key", pa.string()), ("captions", pa.list_(pa.string())), ("n", pa.int64())], metadata={"about": "x"})


def rows(n: int, first: int = 0) -> pa.Table:
    numbers = range(first, first + n)
    columns = {"key": [f"k{i}" for i in numbers], "captions": [[f"caption {i}"] * (i % 3) for i in numbers], "n": list(numbers)}
    return pa.table(columns, schema=SCHEMA)


def test_joined_tables_count_text_with_64_bits_in_every_column() -> None:
    """Text of 35 million captions passes what 32 bits count; a test of so much would take minutes, so types speak for it."""
    found = join_tables([rows(2), rows(3, 2)], SCHEMA)
    assert found.schema.types == [pa.large_string(), pa.large_list(pa.large_string()), pa.int64()]
    assert {column.num_chunks for column in found.columns} == {1}
    assert found.to_pylist() == rows(5).to_pylist()
    assert join_tables([], SCHEMA).num_rows == 0
    for schema in (INDEX_SCHEMA, EMBEDDINGS_SCHEMA):
        kinds = join_tables([], schema).schema.types
        assert not [kind for kind in kinds if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind)]
        inner = [kind.value_type for kind in kinds if pa.types.is_large_list(kind)]
        assert inner
        assert not [kind for kind in inner if pa.types.is_string(kind)]


def test_an_index_is_read_with_64_bits(tmp_path: Path) -> None:
    for unit in range(2):
        write_table(tmp_path, f"index/{unit:05d}.parquet", INDEX_SCHEMA.empty_table())
    assert read_index(tmp_path).schema.field("captions").type == pa.large_list(pa.large_string())


def test_a_table_makes_the_same_bytes_however_it_is_cut_and_whatever_its_offsets(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 1000)
    whole = rows(2500)
    cuts = [0, 1, 700, 2300, 2500]
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise(cuts)]
    records = [write_table(tmp_path, f"{i}.parquet", table) for i, table in enumerate((whole, pa.concat_tables(parts)))]
    writer = tables.TableWriter(SCHEMA)
    writer.add(join_tables(parts, SCHEMA))
    records.append(writer.write(tmp_path, "2.parquet"))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", version="2.6", store_schema=False) as plain:
        plain.write_table(whole, row_group_size=1000)
        plain.add_key_value_metadata({"about": "x"})
    (tmp_path / "3.parquet").write_bytes(sink.getvalue().to_pybytes())
    assert records[0] == records[1] == records[2]
    assert (tmp_path / "3.parquet").read_bytes() == (tmp_path / "0.parquet").read_bytes()
    assert pq.ParquetFile(tmp_path / "0.parquet").num_row_groups == 3


def test_a_file_is_read_a_group_at_a_time_and_keeps_what_it_says_of_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 1000)
    write_table(tmp_path, "a.parquet", rows(2500))
    found = read_table(tmp_path / "a.parquet", SCHEMA)
    assert found["captions"].num_chunks == 3
    assert found.schema.types == SCHEMA.types
    assert found.schema.metadata[b"about"] == b"x"
    assert np.array_equal(found["n"].to_numpy(), np.arange(2500))
    write_table(tmp_path, "empty.parquet", rows(0))
    assert read_table(tmp_path / "empty.parquet", SCHEMA).num_rows == 0


def test_a_damaged_file_is_told_from_a_disk_that_fails(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.parquet: not a readable parquet file \(Parquet file size is 0 bytes\)"):
        read_table(tmp_path / "a.parquet", SCHEMA)
    pq.write_table(pa.table({"key": [["a"]], "captions": [1], "n": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: columns are list<.*>, int64, string, expected string, list<.*>, int64"):
        read_table(tmp_path / "a.parquet", SCHEMA)

    def fail(_: Path) -> None:
        raise OSError(errno.EMFILE, "Failed to open local file 'a.parquet'. Detail: ...")  # as Arrow does, without its filename

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(OSError, match="Too many open files") as error:
        read_table(tmp_path / "a.parquet", SCHEMA)
    assert error.value.filename == str(tmp_path / "a.parquet")


def test_a_file_that_is_left_half_way_leaves_nothing_and_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        with table_file(tmp_path, "a.parquet", SCHEMA, 4) as file:
            file.add(rows(5))
            raise DataError("a row is at fault")

    with pytest.raises(DataError, match="a row is at fault"):
        fails()
    gc.collect()
    assert capsys.readouterr().err == ""  # Arrow's writer would be ended when it is collected, and print a traceback
    assert not (tmp_path / "a.parquet").exists()
