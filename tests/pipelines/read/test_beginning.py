"""Text as the world has it: marks, empty lines, separators, encodings, quotes that never close."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.plain_text import MARK
from fistful.bow.store.shard import tar_bytes
from fistful.errors import UsageError
from fistful.pipelines.read.beginning import first_line
from fistful.pipelines.read.lines import read_blocks
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.records import READ_AGAIN, CsvText
from fistful.pipelines.read.source_options import SourceOptions
from fistful.pipelines.read.sources import check_unit
from tests.support.source_rows import captions, read

FIRST = SourceOptions(caption="1")


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("a.tsv", b"zebra runs\t1\nzebra sits\t2\n", FIRST),
        ("a.tsv", b"zebra runs\nzebra sits\n", FIRST),
        ("a.tsv", b"caption\tid\nzebra runs\t1\nzebra sits\t2\n", SourceOptions()),
        ("a.csv", b'"zebra runs",1\r\n"zebra sits",2\r\n', FIRST),
        ("a.csv", b"zebra runs,1\nzebra sits,2\n", FIRST),
        ("a.csv", b'"caption",id\n"zebra runs",1\nzebra sits,2\n', SourceOptions()),
        ("a.jsonl", b'{"caption": "zebra runs"}\n{"caption": "zebra sits"}\n', SourceOptions()),
    ],
)
@pytest.mark.parametrize("unit_bytes", [1, 14, 10_000])
def test_a_byte_order_mark_and_empty_lines_change_nothing_wherever_units_begin(
    tmp_path: Path, name: str, data: bytes, options: SourceOptions, unit_bytes: int
) -> None:
    end = b"\r\n" if b"\r\n" in data else b"\n"
    spaced = end * 3 + data.replace(end, end * 3) + end
    for text in (data, MARK + data, spaced, MARK + spaced, MARK + data.replace(b"\n", b"\n\n\r\n").removesuffix(b"\n")):
        path = write(tmp_path, name, text)
        assert captions(path, options, PlanOptions(unit_mb=unit_bytes / 1e6)) == ["zebra runs", "zebra sits"]


def test_a_line_of_separators_or_a_quoted_nothing_is_a_row(tmp_path: Path) -> None:
    for name, data in (("a.tsv", b"caption\tid\n\t\n\nred fox\t1\n"), ("a.csv", b'caption\n""\n\nred fox\n')):
        rows, letters = read(write(tmp_path, name, data))
        assert [(row.number, row.captions) for row in rows] == [(1, ["red fox"])]
        assert [(letter.reason, letter.place) for letter in letters] == [("no_caption", "row 1")]


@given(st.integers(0, 9), st.booleans(), st.sampled_from([b"\n", b"\r\n"]))
def test_the_first_line_is_found_behind_empty_ones(n_empty: int, marked: bool, end: bytes) -> None:
    before = MARK * marked + end * n_empty
    assert first_line(io.BytesIO(before + b"id\tcaption" + end + b"1\tred")) == (b"id\tcaption" + end, len(before))


def test_captions_of_files_and_tars_may_begin_with_a_mark_and_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder, "a.png", b"")
    write(folder, "a.txt", MARK + "zebra\u2028runs\r\nzebra\x85sits".encode())
    assert captions(folder) == ["zebra\u2028runs", "zebra\x85sits"]
    tar = write(tmp_path, "a.tar", tar_bytes({"1.txt": MARK + b"zebra runs", "2.json": MARK + b'{"captions": ["zebra sits"]}'}))
    assert captions(tar) == ["zebra runs", "zebra sits"]
    rows, letters = read(write(tmp_path, "b.tar", tar_bytes({"1.txt": "zebra".encode("utf-16")})))
    assert (rows, [(letter.reason, letter.detail) for letter in letters]) == ([], [("bad_caption", "not UTF-8 but UTF-16")])


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"id;caption\n1;red fox, running\n", SourceOptions()),
        (b"id|caption\n1|red fox, running\n", SourceOptions()),
        (b"id| caption\n1| red fox, running\n", SourceOptions()),
        (b"id\tcaption\n1\tred fox, running\n", SourceOptions()),
        (b'id;"caption"\n1;"red fox, running"\n', SourceOptions(caption="caption", columns="id")),
        (b"id;caption\n1;red fox, running\n", SourceOptions(caption="2", header=True)),
        (b'\n\nsep=;\r\n"1";"red fox, running"\r\n', SourceOptions(caption="2")),
        (MARK + b'"sep=|"\nid|caption\n1|red fox, running\n', SourceOptions()),
        (b'sep=,\r\nid,caption\r\n1,"red fox, running"\r\n', SourceOptions()),
    ],
)
def test_what_parts_the_columns_of_a_csv_is_seen_in_its_first_line(tmp_path: Path, data: bytes, options: SourceOptions) -> None:
    assert captions(write(tmp_path, "a.csv", data), options) == ["red fox, running"]


def test_a_comma_parts_columns_wherever_it_can(tmp_path: Path) -> None:
    assert captions(write(tmp_path, "a.csv", b"caption,a;b\nred fox,1\n")) == ["red fox"]
    assert captions(write(tmp_path, "b.csv", b"caption\nred; fox\n")) == ["red; fox"]
    assert captions(write(tmp_path, "c.csv", b"red; fox,1\n"), FIRST) == ["red; fox"]


TELLS = "--caption NAME names the caption column, --caption {} takes the {} of a file without header"
TABS = "; a TSV has tabs between its columns, --input-format csv reads one with commas"
NEEDS = "its first row has 1 columns, --caption 2 needs more; if "
ICONV = "expected UTF-8: iconv -f {0} -t utf-8 {{path}} > NEW"
OBJECTS = "is one JSON array, expected one object on each line: jq -c '.[]' {path} > NEW"
TWICE = "column 'caption' is there 2 times in its first line; --caption 1 --header takes the first"
MACS = "its lines end with CR alone, as on old Macs, expected LF: tr '\\r' '\\n' < {path} > NEW"


def wide(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


@pytest.mark.parametrize(
    ("name", "data", "asked", "message"),
    [
        ("a.csv", b"id;text\n1;red\n", "caption", "no column 'caption' in its first line ('id', 'text'); " + TELLS.format(2, "second")),
        ("a.csv", b"text\nred\n", "caption", "no column 'caption' in its first line ('text'); " + TELLS.format(1, "first")),
        ("a.tsv", b"id,caption\n1,red\n", "caption", "no column 'caption' in its first line ('id,caption')" + TABS),
        ("a.csv", b"1;red\n", "2", NEEDS + "semicolons part its columns, --delimiter semicolon says so"),
        ("a.csv", b"1\tred\n", "2", NEEDS + "tabs part its columns, --input-format tsv reads it"),
        ("a.csv", b"id,caption\r1,red\r", "caption", MACS),
        ("a.tsv", wide("caption\nred\n", "utf-16"), "caption", "not UTF-8 but UTF-16, " + ICONV.format("UTF-16")),
        ("a.tsv", wide("red fox\n", "utf-16-le"), "1", "not UTF-8 but UTF-16LE, " + ICONV.format("UTF-16LE")),
        ("a.jsonl", wide('{"caption": "red"}\n', "utf-16"), "caption", "not UTF-8 but UTF-16, " + ICONV.format("UTF-16")),
        ("a.jsonl", b'[\n{"caption": "red"}\n]\n', "caption", OBJECTS),
        ("a.tsv", b"caption\tid\tcaption\nred\t1\tblue\n", "caption", TWICE),
    ],
)
def test_what_is_not_read_is_named_as_what_it_is(tmp_path: Path, name: str, data: bytes, asked: str, message: str) -> None:
    path = write(tmp_path, name, data)
    (unit,) = plan_units((str(path),), PlanOptions())[0]
    with pytest.raises(UsageError) as error:
        check_unit(unit, SourceOptions(caption=asked))
    assert str(error.value) == f"{path}: {message.format(path=path)}"


def test_a_field_of_json_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"alt, text": "red fox", "a,b": 1}\n{"alt": "blue", "text": "whale"}\n')
    rows, letters = read(path, SourceOptions(caption="alt, text", columns="a,b"))
    assert letters == []
    assert [(row.captions, row.extra) for row in rows] == [(["red fox"], '{"a,b":1}'), (["blue", "whale"], '{"a":null,"b":null}')]


# Quotes that never close


@pytest.mark.parametrize("stray", [b'3,"red animal', b'"3,red animal'])
@pytest.mark.parametrize("later", [b"", b'14,the "big" one\n', b'14,"animal, kind"\n', b'14,"a ""b"" c"\n', b"\n\n"])
def test_a_quote_that_never_closes_costs_its_line_alone(tmp_path: Path, stray: bytes, later: bytes) -> None:
    lines = b"".join(b"%d,animal kind\n" % i for i in range(10, 14))
    rows, letters = read(write(tmp_path, "a.csv", b"id,caption\n1,a\n2,b\n" + stray + b"\n" + lines + later + b"15,last one"))
    assert [row.captions[0] for row in rows][:2] == ["a", "b"]
    assert [row.captions[0] for row in rows][2:6] == ["animal kind"] * 4
    assert rows[-1].captions == ["last one"]
    assert [(letter.reason, letter.place, letter.detail, letter.raw) for letter in letters] == [
        ("bad_row", "row 3", "not CSV (a quote that never closes)", stray + b"\n")
    ]


def test_the_last_line_may_be_the_one_whose_quote_never_closes(tmp_path: Path) -> None:
    rows, letters = read(write(tmp_path, "a.csv", b'caption\nred\n"blue'))
    assert [row.captions for row in rows] == [["red"]]
    assert [(letter.reason, letter.place, letter.raw) for letter in letters] == [("bad_row", "row 2", b'"blue')]


def test_quoted_captions_of_several_lines_are_read_as_ever(tmp_path: Path) -> None:
    data = b'caption,id\n"red\nfox ""x""\n\nruns",1\n"blue\r\nwhale",2\n'
    assert captions(write(tmp_path, "a.csv", data)) == ['red\nfox "x"\n\nruns', "blue\r\nwhale"]


def test_what_is_read_again_behind_open_quotes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these lines leaves a quote open, read from outside one and from inside, so that each would be read to the end of the file."""
    monkeypatch.setattr("fistful.pipelines.read.records.MAX_TEXT", 2_000)
    data = b'a"b,"c\n' * 5_000
    n_read = 0

    def blocks():
        nonlocal n_read
        for block in read_blocks(io.BytesIO(data)):
            n_read += len(block)
            yield block

    source = CsvText(blocks())
    records = list(iter(source.next_record, None))
    assert n_read == len(data)
    assert source._n_again <= READ_AGAIN * len(data) + 2_000
    assert not any(isinstance(record, list) for record in records)
    assert records[-1] is not None
