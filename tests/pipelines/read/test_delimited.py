"""Rows of TSV and CSV: blocks that become columns at once give what going row by row gives."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.plain_text import encoding_of
from fistful.errors import UsageError
from fistful.pipelines.read import delimited as tables
from fistful.pipelines.read.delimited import read_table
from fistful.pipelines.read.lines import read_blocks
from fistful.pipelines.read.rows import Row
from fistful.pipelines.read.source_options import SourceOptions
from fistful.pipelines.read.units import Unit
from tests.support.source_rows import read as read_file
from tests.support.strategies import WHITE

Read = tuple[list[Row], list[DeadLetter]]


def read(data: bytes, options: SourceOptions, kind: str = "tsv", need_captions: bool = True) -> Read:
    unit = Unit(0, kind, "a", "a", 0, len(data))  # pyright: ignore[reportArgumentType]
    rows: list[Row] = []
    letters: list[DeadLetter] = []
    n_read = 0
    for batch in read_table(unit, options, read_blocks(io.BytesIO(data)), None, need_captions):
        assert batch.n_read == batch.n_rows + len(batch.letters)
        assert [caption.strip() for caption in batch.captions.to_pylist()] == batch.captions.to_pylist()
        rows += batch.rows
        letters += batch.letters
        n_read += batch.n_read
    assert n_read == len(rows) + len(letters)
    return rows, letters


def read_slowly(data: bytes, options: SourceOptions, kind: str = "tsv", need_captions: bool = True) -> Read:
    patch = pytest.MonkeyPatch()
    with patch.context() as p:
        p.setattr(tables, "_parse_at_once", lambda *_: None)
        p.setattr(tables, "_batch_of_strings", lambda records, number, layout: tables._batch_of_records(as_bytes(records), number, layout))
        return read(data, options, kind, need_captions)


def as_bytes(records: list[tables.Strings]) -> list[tables.Record]:
    return [[field.encode("utf-8", "surrogateescape") for field in r] if isinstance(r, list) else r for r in records]


def by_number(letters: list[DeadLetter]) -> list[tuple[str, ...]]:
    return sorted((letter.place, letter.reason, letter.detail, str(letter.raw)) for letter in letters)


def test_a_refused_row_of_a_csv_is_kept_as_a_csv_has_it() -> None:
    letters = read(b'id;caption\n1;2;"red; dog"\n3;caf\xe9\n4;"red ""dog"\n', SourceOptions(), "csv")[1]
    assert [(letter.reason, letter.raw) for letter in letters] == [("bad_row", b'1;2;"red; dog"'), ("bad_caption", b"3;caf\xe9")]


def test_columns_are_taken_by_name_or_number_several_of_them_and_others_pass_through() -> None:
    data = b"id\talt\tcaption\n7\ta cat\t a dog \n8\t\ta tree\n"
    rows, letters = read(data, SourceOptions(caption="caption,alt", columns="id"))
    assert [(row.number, row.source_key, row.captions, row.extra) for row in rows] == [
        (0, "row 1", ["a dog", "a cat"], '{"id":"7"}'),
        (1, "row 2", ["a tree"], '{"id":"8"}'),
    ]
    assert letters == []
    assert read(data, SourceOptions(caption="3,2", columns="1", header=True)) == (rows, [])
    assert [row.captions for row in read(data, SourceOptions(caption="3"))[0]] == [["caption"], ["a dog"], ["a tree"]]
    assert [row.extra for row in read(data, SourceOptions(caption="3", columns="1"))[0]] == ['{"1":"id"}', '{"1":"7"}', '{"1":"8"}']


def test_a_name_with_a_comma_is_a_name_if_the_file_has_it() -> None:
    assert [row.captions for row in read(b"a,b\ta\tb\nx\ty\tz\n", SourceOptions(caption="a,b"))[0]] == [["x"]]


PIECES = st.one_of(
    st.sampled_from(
        [b"\t", b"\t", b"\n", b"\n", b"\r\n", b"\r", b"", b" ", b'"', b",", b",", b"\xff", b"\xef\xbb\xbf", b"\0", b"\x1c", b"\\"]
    ),
    st.sampled_from([c.encode() for c in WHITE]),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
DATA = st.lists(PIECES, max_size=40).map(b"".join)
OPTIONS = st.sampled_from(
    [
        SourceOptions(caption="1"),
        SourceOptions(caption="2"),
        SourceOptions(caption="2,1", columns="1"),
        SourceOptions(caption="1", header=True),
    ]
)


@settings(max_examples=300)
@given(DATA, OPTIONS, st.sampled_from(["tsv", "csv"]), st.booleans())
def test_any_bytes_give_the_same_rows_at_once_and_one_by_one(data: bytes, options: SourceOptions, kind: str, need_captions: bool) -> None:
    assume(b"\n" in data or b"\r" not in data.rstrip(b"\r"))  # else refused as a whole
    assume(not encoding_of(data))
    quick = read(data, options, kind, need_captions)
    slow = read_slowly(data, options, kind, need_captions)
    assert quick[0] == slow[0]
    assert by_number(quick[1]) == by_number(slow[1])


LINES = st.lists(
    st.one_of(
        st.just("a dog\t1"), st.just("a dog\t1"), st.just("\t1"), st.just("one\ttwo\tthree"), st.just("only"), st.just("caf\udce9\t1")
    ),
    min_size=1,
    max_size=60,
)


@given(LINES, st.integers(8, 200), st.sampled_from(["tsv", "csv"]))
def test_one_odd_row_does_not_slow_its_whole_block_down_and_is_told_alone(lines: list[str], piece: int, kind: str) -> None:
    text = "\n".join(lines).replace("\t", "," if kind == "csv" else "\t")
    data = text.encode("utf-8", "surrogateescape")
    patch = pytest.MonkeyPatch()
    with patch.context() as p:
        p.setattr(tables, "PIECE", piece)
        quick = read(data, SourceOptions(caption="1"), kind)
    slow = read_slowly(data, SourceOptions(caption="1"), kind)
    assert quick[0] == slow[0]
    assert by_number(quick[1]) == by_number(slow[1])


FIELD = st.text('ab ,"\n\té犬', max_size=6)


@given(st.lists(st.tuples(FIELD, FIELD), max_size=30), st.integers(20, 200), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_quoted_newline_is_never_torn_wherever_blocks_end(fields: list[tuple[str, str]], block: int, quoting: int) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=quoting, lineterminator="\n").writerows([("caption", "id"), *fields])  # pyright: ignore[reportArgumentType]
    patch = pytest.MonkeyPatch()
    with patch.context() as p:
        p.setattr("fistful.pipelines.read.lines.BLOCK", block)
        p.setattr("fistful.pipelines.read.lines.LITTLE", block)
        rows, letters = read(buffer.getvalue().encode(), SourceOptions(), "csv", need_captions=False)
    expected = [[caption.strip()] if caption.strip() else [] for caption, _ in fields]
    assert [row.captions for row in rows] == expected
    assert letters == []


@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.integers(1, 40), st.booleans())
def test_blocks_are_whole_lines_and_all_of_them(lines: list[bytes], block: int, newline_at_end: bool) -> None:
    data = b"\n".join(lines) + b"\n" * newline_at_end
    patch = pytest.MonkeyPatch()
    with patch.context() as p:
        p.setattr("fistful.pipelines.read.lines.BLOCK", block)
        p.setattr("fistful.pipelines.read.lines.LITTLE", 3)
        blocks = list(read_blocks(io.BytesIO(data)))
        for n_bytes in (1, 5, 17):  # lines that start within so many bytes
            part = b"".join(read_blocks(io.BytesIO(data), n_bytes))
            end = data.find(b"\n", n_bytes - 1) + 1 or len(data)
            assert part == data[:end]
    assert b"".join(blocks) == data
    assert all(b.endswith(b"\n") for b in blocks[:-1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"caption": "0"}, "--caption 0: columns are numbered from 1"),
        ({"caption": ","}, "--caption ,: expected names or numbers of columns, each once"),
        ({"caption": "a,a"}, "--caption a,a: expected names or numbers of columns, each once"),
        ({"caption": "a", "columns": "2"}, "--caption a --columns 2: expected both by name or both by number"),
        ({"caption": "1", "columns": "a"}, "--caption 1 --columns a: expected both by name or both by number"),
    ],
)
def test_columns_that_make_no_sense_are_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        SourceOptions(**fields)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


def test_a_column_that_passes_through_must_be_there() -> None:
    with pytest.raises(UsageError, match=r"^a: no column 'id' in its first line \('caption'\); "):
        read(b"caption\na dog\n", SourceOptions(columns="id"))


def test_batches_can_be_picked_from_and_sliced() -> None:
    unit = Unit(0, "tsv", "a", "a", 0, 0)
    data = b"a\tb\n1\t2\n3\t\n\t4\n5\t6\n"
    (batch,) = read_table(unit, SourceOptions(caption="a,b"), read_blocks(io.BytesIO(data)), None, True)
    import numpy as np

    rows = batch.rows
    assert batch.pick(np.array([3, 0])).rows == [rows[3], rows[0]]
    assert [row for part in batch.slices(3) for row in part.rows] == rows
    assert [part.n_read for part in batch.slices(3)] == [4, 0]
    assert dataclasses.replace(batch, letters=[]).keys() == ["row 1", "row 2", "row 3", "row 4"]


def test_quotes_behind_a_backslash_are_refused_by_name_and_lose_no_word_in_silence(tmp_path):
    # Spark's way: what the csv module makes of it is 'the \\dog\\" walks"'
    (tmp_path / "a.csv").write_text('id,caption\n0,"the \\"dog\\" walks"\n1,"a cat"\n2,"C:\\"\n')
    rows, letters = read_file(tmp_path / "a.csv")
    assert [row.captions for row in rows] == [["a cat"], ["C:\\"]]
    assert [(letter.reason, letter.detail) for letter in letters] == [
        ("bad_row", 'a quote behind a backslash, expected a doubled one ("")')
    ]
