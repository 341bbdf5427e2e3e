"""Rows of a unit, whatever stands in the file."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.plain_text import MAX_TEXT
from fistful.bow.store.shard import tar_bytes
from fistful.errors import UsageError
from fistful.pipelines.read.lines import BLOCK
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.rows import BATCH_ROWS
from fistful.pipelines.read.sources import SourceOptions, check_unit, open_unit
from tests.support.pictures import picture
from tests.support.source_rows import captions, read


def test_captions_are_taken_by_the_columns_name_or_number(tmp_path: Path) -> None:
    named, plain = tmp_path / "named.tsv", tmp_path / "plain.tsv"
    named.write_text('id\tcaption\n1\ta "red" dog\n2\tblue cat \r\n')
    plain.write_text("a dog\t1\na cat\t2")

    assert captions(named) == ['a "red" dog', "blue cat"]
    assert captions(named, SourceOptions(caption="2", header=True)) == ['a "red" dog', "blue cat"]
    assert captions(named, SourceOptions(caption="2")) == ["caption", 'a "red" dog', "blue cat"]
    assert captions(plain, SourceOptions(caption="1")) == ["a dog", "a cat"]


def test_a_byte_order_mark_and_spaces_do_not_hide_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("\ufeffcaption \tid\nred dog\t1\n", encoding="utf-8")
    assert captions(tmp_path / "a.tsv") == ["red dog"]


LINE = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda s: s.strip() != ""
)


@given(st.lists(LINE, min_size=1, max_size=12), st.integers(1, 80), st.booleans(), st.booleans())
def test_wherever_a_tsv_is_cut_every_line_is_read_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], unit_bytes: int, header: bool, newline_at_end: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tsv"
    text = "\n".join([*(["caption\tid"] if header else []), *(f"{line}\t1" for line in lines)]) + "\n" * newline_at_end
    path.write_bytes(text.encode())
    options = SourceOptions(caption="caption" if header else "1")
    assert captions(path, options, PlanOptions(unit_mb=unit_bytes / 1e6)) == [line.strip() for line in lines]


FIELDS = st.lists(
    st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.text("ab,\"'\n\r\t ", max_size=8)), max_size=8
)


@given(FIELDS, st.booleans())
def test_whatever_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, fields: list[tuple[str, str]], zipped: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"a.csv{'.gz' if zipped else ''}"
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("id", "caption"), *fields])
    data = buffer.getvalue().encode()
    path.write_bytes(gzip.compress(data) if zipped else data)

    rows, letters = read(path)
    assert [row.captions[0] for row in rows] == [caption.strip() for _, caption in fields if caption.strip()]
    assert [letter.reason for letter in letters] == ["no_caption"] * sum(not caption.strip() for _, caption in fields)


def test_a_bad_first_line_of_a_range_does_not_judge_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("red dog\t1\nbad\tbad\tbad\nblue cat\t2\ngreen tree\t3\n")
    rows, letters = read(path, SourceOptions(caption="1"), PlanOptions(unit_mb=12 / 1e6))
    assert [row.captions for row in rows] == [["red dog"], ["blue cat"], ["green tree"]]
    assert [(letter.reason, letter.place) for letter in letters] == [("bad_row", "row 2")]


def test_the_hash_of_the_content_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = b"caption\nred dog\n\xff\nend"
    (tmp_path / "a.tsv").write_bytes(data)
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(data, mtime=0))
    found: dict[str, str] = {}
    for unit in plan_units((str(tmp_path),), PlanOptions(unit_mb=10 / 1e6))[0]:
        with open_unit(unit, SourceOptions(), with_images=False) as (batches, content):
            list(batches)
        found |= content
    assert found == {
        "a.tsv[0:10]": hashlib.sha256(data[:16]).hexdigest(),
        "a.tsv[10:20]": hashlib.sha256(data[16:]).hexdigest(),
        "a.tsv[20:21]": hashlib.sha256(b"").hexdigest(),
        "b.tsv.gz": hashlib.sha256(gzip.compress(data, mtime=0)).hexdigest(),
    }


def test_batches_have_a_largest_size(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"caption\n" + b"two dogs run on sand\n" * (BLOCK // 21 + 5))
    files = {f"{i}.txt": b"dog" for i in range(BATCH_ROWS + 5)}
    (tmp_path / "b.tar").write_bytes(tar_bytes(files))
    sizes = []
    for name in ("a.tsv", "b.tar"):
        unit = plan_units((str(tmp_path / name),), PlanOptions())[0][0]
        with open_unit(unit, SourceOptions(), with_images=False) as (batches, _):
            sizes.append([batch.n_read for batch in batches])
    assert sizes == [[BLOCK // 21, 5], [BATCH_ROWS, 5]]


LONG = b"x" * 5_000 + b"\n"


def test_a_line_without_an_end_is_one_refused_row_in_bounded_memory(tmp_path: Path) -> None:
    many = MAX_TEXT * 4
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"caption\nred dog\n" + b"x" * many + b"\nblue cat\n"))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"caption\nred dog\n" + b'"' + LONG * (many // len(LONG)) + b'"\nblue cat\n'))
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b'caption\nred dog\n"' + (LONG + b'","') * (many // len(LONG)) + b'x"\nblue cat\n'))
    (tmp_path / "d.tsv").write_bytes(b"caption\nred dog\n" + b"x" * (many // 3) + b"\nblue cat\n")
    tracemalloc.start()
    try:
        for name, n_bad in (("a.tsv.gz", 1), ("b.csv.gz", None), ("c.csv.gz", None), ("d.tsv", 1)):
            rows, letters = read(tmp_path / name, plan=PlanOptions(unit_mb=5))
            assert [rows[0].captions, rows[-1].captions] == [["red dog"], ["blue cat"]]
            assert n_bad is None or (len(rows), len(letters)) == (2, n_bad)
            assert letters[0].reason == "bad_row"
        assert tracemalloc.get_traced_memory()[1] < 340 << 20  # a CSV row is kept as it was, to be read again
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        (
            "a.tsv",
            b"id\tprose\n",
            SourceOptions(),
            "{path}: no column 'caption' in its first line ('id', 'prose'); "
            "--caption NAME names the caption column, --caption 2 takes the second of a file without header",
        ),
        ("a.tsv", b"red dog\n", SourceOptions(caption="2"), "{path}: its first row has 1 columns, --caption 2 needs more"),
        ("a.csv", b"1,red dog\n", SourceOptions(caption="3"), "{path}: its first row has 2 columns, --caption 3 needs more"),
    ],
)
def test_a_column_that_is_not_there_is_told_before_anything_is_written(
    tmp_path: Path, name: str, data: bytes, options: SourceOptions, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    unit = plan_units((str(tmp_path / name),), PlanOptions())[0][0]
    with pytest.raises(UsageError) as error:
        check_unit(unit, options)
    assert str(error.value) == message.format(path=tmp_path / name)


def test_what_is_no_gzip_file_is_truncated_from_the_start(tmp_path: Path) -> None:
    for name, data in (("a.tsv.gz", b"caption\nred dog\n"), ("b.csv.gz", gzip.compress(b"caption\nred dog\n")[:-20]), ("c.tar.gz", b"x")):
        (tmp_path / name).write_bytes(data)
        rows, letters = read(tmp_path / name)
        assert (rows, [letter.reason for letter in letters]) == ([], ["truncated"])


def test_a_folder_of_images_is_read_through_links_and_one_that_leads_nowhere_is_a_refused_row(tmp_path: Path) -> None:
    for name, caption in (("photos/a", "red fox"), ("elsewhere/b", "blue whale")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).with_suffix(".jfif").write_bytes(picture(format="JPEG"))
        (tmp_path / name).with_suffix(".TXT").write_text(caption)
    (tmp_path / "photos/more").symlink_to("../elsewhere")
    (tmp_path / "photos/z.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "photos/z.txt").write_text("green frog")
    (tmp_path / "photos/._a.jfif").write_bytes(b"\0\5\x16\7")

    rows, letters = read(tmp_path / "photos")
    assert [(row.source_key, row.captions, row.extension) for row in rows] == [("a", ["red fox"], "jpg"), ("more/b", ["blue whale"], "jpg")]
    assert [(x.reason, x.place, x.detail) for x in letters] == [("no_image", "z.jpg", "a link that leads nowhere")]
