"""Parquet columns as pandas, polars and datasets write them, and files that are damaged."""

from __future__ import annotations

import datetime
import decimal
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.dead_letters import DeadLetter
from fistful.errors import UsageError
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.rows import Row
from fistful.pipelines.read.sources import SourceOptions, open_unit

TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
DICTIONARIES = [pa.dictionary(pa.int32(), kind) for kind in (pa.string(), pa.large_string())]
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]


def read(path: Path, table: pa.Table | None = None, columns: str = "") -> tuple[list[Row], list[DeadLetter]]:
    if table is not None:
        pq.write_table(table, path)
    rows, letters = [], []
    for unit in plan_units((str(path),), PlanOptions())[0]:
        with open_unit(unit, SourceOptions(columns=columns), with_images=False) as (batches, _):
            for batch in batches:
                rows += batch.rows
                letters += batch.letters
    return rows, letters


@pytest.mark.parametrize("kind", [*TEXTS, *DICTIONARIES], ids=str)
def test_captions_are_read_from_every_type_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    rows, letters = read(tmp_path / "a.parquet", pa.table({"caption": pa.array(["red fox", None, " café "], kind)}))
    assert [row.captions for row in rows] == [["red fox"], ["café"]]
    assert [(x.reason, x.place) for x in letters] == [("no_caption", "row 2")]


@pytest.mark.parametrize("kind", [form(kind) for form in LISTS for kind in (*TEXTS[:3], *DICTIONARIES)], ids=str)
def test_captions_are_read_from_every_type_of_list(tmp_path: Path, kind: pa.DataType) -> None:
    rows, letters = read(tmp_path / "a.parquet", pa.table({"caption": pa.array([["red fox", None, "dog"], [], None, [""]], kind)}))
    assert [row.captions for row in rows] == [["red fox", "dog"]]
    assert [(x.reason, x.place) for x in letters] == [("no_caption", f"row {n}") for n in (2, 3, 4)]


def test_captions_are_read_from_lists_of_a_fixed_size_and_lists_of_lists(tmp_path: Path) -> None:
    fixed = pa.array([["red fox", "dog"]], pa.list_(pa.string(), 2))
    assert [row.captions for row in read(tmp_path / "a.parquet", pa.table({"caption": fixed}))[0]] == [["red fox", "dog"]]
    nested = pa.array([[["red fox"], ["dog"]]])
    assert [row.captions for row in read(tmp_path / "a.parquet", pa.table({"caption": nested}))[0]] == [["red fox", "dog"]]


@pytest.mark.parametrize("empty", [pa.nulls(1), pa.array([[]], pa.list_(pa.null()))], ids=["null", "empty list"])
def test_a_file_whose_captions_are_all_missing_is_refused_row_by_row_and_the_others_are_read(tmp_path: Path, empty: pa.Array) -> None:
    pq.write_table(pa.table({"caption": ["red fox"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"caption": empty}), tmp_path / "b.parquet")
    rows, letters = read(tmp_path)
    assert [row.captions for row in rows] == [["red fox"]]
    assert [(x.file, x.reason) for x in letters] == [("b.parquet", "no_caption")]


TIME = datetime.datetime.fromisoformat("2020-01-02T03:04:05")


@pytest.mark.parametrize(
    ("column", "written"),
    [
        (pa.array([[TIME, None]], pa.list_(pa.timestamp("us"))), ["2020-01-02 03:04:05", None]),
        (pa.array([{"bytes": b"\xff", "path": "a"}]), {"bytes": "b'\\xff'", "path": "a"}),
        (pa.array([[decimal.Decimal("1.50")]]), ["1.50"]),
        (pa.array([{"a": [float("nan"), 1.5], "b": {"c": datetime.date(2020, 1, 2)}}]), {"a": [None, 1.5], "b": {"c": "2020-01-02"}}),
        (pa.array([[("k", TIME)]], pa.map_(pa.string(), pa.timestamp("us"))), [["k", "2020-01-02 03:04:05"]]),
        (pa.array([1_600_000_000_123_456_789], pa.timestamp("ns")), "2020-09-13 12:26:40.123456789"),
        (pa.array([[1_600_000_000_123_456_789]], pa.list_(pa.timestamp("ns"))), ["2020-09-13 12:26:40.123456789"]),
        (pa.array([{"t": 1_600_000_000_123_456_789}], pa.struct([("t", pa.timestamp("ns"))])), {"t": "2020-09-13 12:26:40.123456789"}),
        (pa.array(["x"], pa.string_view()), "x"),
        (pa.array([["x"]], pa.large_list(pa.dictionary(pa.int32(), pa.string()))), ["x"]),
        (pa.array([["x"]], pa.list_view(pa.string_view())), ["x"]),
        (pa.array(["x"]).dictionary_encode(), "x"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_columns_that_pass_through_are_written_as_json_however_they_nest(tmp_path: Path, column: pa.Array, written: Any) -> None:
    rows, letters = read(tmp_path / "a.parquet", pa.table({"caption": ["red fox"], "more": column}), columns="more")
    assert letters == []
    assert json.loads(rows[0].extra) == {"more": written}


def test_a_file_with_a_damaged_footer_is_one_refused_row_and_the_others_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["red fox"]}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-40] + b"\xff" * 32 + data[-8:])
    rows, letters = read(tmp_path)
    assert [row.captions for row in rows] == [["red fox"]]
    assert [(x.file, x.reason, x.place) for x in letters] == [("b.parquet", "truncated", "row 1")]
    assert letters[0].detail.startswith("file broken from here on (")


def test_no_damage_of_a_footer_ends_a_job(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"caption": ["red fox", "dog"] * 50, "n": range(100)}), path, row_group_size=30)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    chance, broken, unnamed = random.Random(0), 0, 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 2, 8])):
            damaged[chance.randrange(footer, len(data))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            _, letters = read(path)
        except UsageError:  # its name or its type was hit: the call could be at fault
            unnamed += 1
        else:
            broken += any(x.reason == "truncated" for x in letters)
    assert broken > 50 > unnamed
