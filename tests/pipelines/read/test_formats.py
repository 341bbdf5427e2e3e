"""Rows of JSONL, parquet and zst, and sources named by globs, brace lists and URLs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.shard import tar_bytes
from fistful.errors import UsageError
from fistful.pipelines.read.find_files import expand_braces, find_files
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.rows import Row
from fistful.pipelines.read.source_options import SourceOptions
from fistful.pipelines.read.sources import check_unit, open_unit
from tests.support.pictures import picture

Read = tuple[list[Row], list[DeadLetter]]


def read(*sources: object, options: SourceOptions = SourceOptions(), plan: PlanOptions = PlanOptions()) -> Read:
    rows: list[Row] = []
    letters: list[DeadLetter] = []
    for unit in plan_units(tuple(map(str, sources)), plan)[0]:
        with open_unit(unit, options, with_images=True) as (batches, content):
            for batch in batches:
                assert batch.n_read == batch.n_rows + len(batch.letters)
                rows += batch.rows
                letters += batch.letters
        assert len(content) == 1
    return rows, letters


def captions(*sources: object, options: SourceOptions = SourceOptions()) -> list[list[str]]:
    rows, letters = read(*sources, options=options)
    assert letters == []
    return [row.captions for row in rows]


def reasons(letters: list[DeadLetter]) -> list[tuple[str, str, str]]:
    return [(letter.reason, letter.place, letter.detail) for letter in letters]


# JSONL


def test_a_json_line_has_a_caption_or_a_list_of_them_and_fields_pass_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": " a red dog ", "id": 3}\n{"caption": ["a cat", "", "two cats"], "score": 0.5}')
    rows, letters = read(tmp_path / "a.jsonl", options=SourceOptions(columns="id,score"))
    assert letters == []
    assert [(row.captions, json.loads(row.extra)) for row in rows] == [
        (["a red dog"], {"id": 3, "score": None}),
        (["a cat", "two cats"], {"id": None, "score": 0.5}),
    ]


def test_every_bad_json_line_is_told(tmp_path: Path) -> None:
    lines = [
        '{"caption": "a dog"}',
        "{",
        "[1]",
        "{]",
        '{"caption": 3}',
        '{"caption": ""}',
        '{"text": "x"}',
        '{"caption": "\\ud83d"}',
        '{"caption": NaN}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows, letters = read(tmp_path / "a.jsonl")
    assert [row.captions for row in rows] == [["a dog"]]
    assert reasons(letters) == [
        ("bad_json", "row 2", "not JSON (JSONDecodeError)"),
        ("bad_json", "row 3", "expected an object, found list"),
        ("bad_json", "row 4", "not JSON (JSONDecodeError)"),
        ("bad_json", "row 5", "expected 'caption' to be a text or a list of texts"),
        ("no_caption", "row 6", "caption is empty or missing"),
        ("no_caption", "row 7", "no field 'caption' ('text')"),
        ("bad_caption", "row 8", "holds half of a surrogate pair"),
        ("no_caption", "row 9", "caption is empty or missing"),
    ]


def test_what_pandas_writes_for_a_missing_value_is_no_caption_and_words_are_taken_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,caption\n1,a dog\n2,\n3,nan\n4,NULL\n")
    (tmp_path / "a.jsonl").write_text('{"caption": "a dog"}\n{"caption": null}\n{"caption": NaN}\n{"caption": "None"}\n')
    pq.write_table(pa.table({"caption": ["a dog", None, "None"]}), tmp_path / "a.parquet")
    kept = {"a.csv": ["a dog", "nan", "NULL"], "a.jsonl": ["a dog", "None"], "a.parquet": ["a dog", "None"]}
    for name, expected in kept.items():
        rows, letters = read(tmp_path / name)
        assert [row.captions for row in rows] == [[caption] for caption in expected]
        assert {letter.reason for letter in letters} == {"no_caption"}


@given(st.lists(st.text(max_size=20).filter(str.strip), min_size=1, max_size=12), st.integers(1, 90))
def test_wherever_a_jsonl_is_cut_every_line_is_read_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], unit_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    texts = [text.encode("utf-8", "ignore").decode() or "x" for text in texts]
    path.write_text("\n".join(json.dumps({"caption": f"x{text}"}) for text in texts))
    rows, letters = read(path, plan=PlanOptions(unit_mb=unit_bytes / 1e6))
    assert [row.captions for row in rows] == [[f"x{text}".strip()] for text in texts]
    assert letters == []


def test_a_field_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prose": "a dog", "id": 1}\n' * 3)
    unit = plan_units((str(tmp_path),), PlanOptions())[0][0]
    with pytest.raises(UsageError) as error:
        check_unit(unit, SourceOptions())
    path = tmp_path / "a.jsonl"
    assert str(error.value) == f"{path}: no field 'caption' ('prose', 'id') in its first rows; --caption NAME names the field of captions"
    with pytest.raises(UsageError, match="fields of JSON have names, found --caption 2"):
        check_unit(unit, SourceOptions(caption="2"))


# Parquet


def write_parquet(path: Path, table: pa.Table, row_group_size: int = 1_000) -> Path:
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


TEXTS = ["a red dog", None, "  ", "two cats ", "a tree\u00a0"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_parquet_columns_of_any_kind_of_text_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(TEXTS, pa.string()).cast(kind) if not pa.types.is_dictionary(kind) else pa.array(TEXTS).dictionary_encode()
    path = write_parquet(tmp_path / "a.parquet", pa.table({"id": range(5), "caption": column}), 2)
    rows, letters = read(path)
    assert [(row.number, row.source_key, row.captions) for row in rows] == [
        (0, "row 1", ["a red dog"]),
        (3, "row 4", ["two cats"]),
        (4, "row 5", ["a tree"]),
    ]
    assert reasons(letters) == [("no_caption", f"row {n}", "caption is empty or missing") for n in (2, 3)]


def test_parquet_lists_of_captions_several_columns_and_others_that_pass_through(tmp_path: Path) -> None:
    table = pa.table(
        {"caption": [["a dog", " "], None, ["a cat", "two cats"]], "alt": ["x", "y", None], "id": [1, 2, None], "f": [0.5, float("nan"), 1]}
    )
    rows, letters = read(write_parquet(tmp_path / "a.parquet", table), options=SourceOptions(caption="caption,alt", columns="id,f"))
    assert letters == []
    assert [(row.captions, json.loads(row.extra)) for row in rows] == [
        (["a dog", "x"], {"id": 1, "f": 0.5}),
        (["y"], {"id": 2, "f": None}),
        (["a cat", "two cats"], {"id": None, "f": 1.0}),
    ]


def test_parquet_is_cut_by_row_groups(tmp_path: Path) -> None:
    texts = [f"caption number {i} of many" for i in range(1_000)]
    path = write_parquet(tmp_path / "a.parquet", pa.table({"caption": texts, "id": range(1_000)}), 100)
    units, _ = plan_units((str(path),), PlanOptions(unit_mb=0.01))
    assert [(unit.start, unit.stop) for unit in units] == [(i, min(i + 3, 10)) for i in range(0, 10, 3)]
    rows, letters = read(path, plan=PlanOptions(unit_mb=0.01))
    assert [row.captions for row in rows] == [[text] for text in texts]
    assert rows[300].source_key == "row 1 from row group 3"
    assert letters == []


def test_text_of_parquet_that_is_not_utf_8_is_refused_alone(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, [None, pa.array([0, 4, 9], pa.int32()).buffers()[1], pa.py_buffer(b"caf\xe9a dog")])
    rows, letters = read(write_parquet(tmp_path / "a.parquet", pa.table({"caption": bad})))
    assert [row.captions for row in rows] == [["a dog"]]
    assert reasons(letters) == [("bad_caption", "row 1", "not UTF-8 (unexpected end of data at byte 3)")]


def test_a_broken_parquet_file_is_one_refused_row(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    path = write_parquet(tmp_path / "b.parquet", pa.table({"caption": [f"dog {i}" for i in range(50_000)]}), 25_000)
    data = bytearray(path.read_bytes())
    middle = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data[middle : middle + 2_000] = bytes(2_000)
    path.write_bytes(data)
    rows, letters = read(tmp_path)
    assert [letter.reason for letter in letters] == ["truncated", "truncated"]
    assert [row.captions for row in rows] == [[f"dog {i}"] for i in range(25_000)][: len(rows)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SourceOptions(caption="text"), "{path}: no column 'text' ('caption', 'n'); --caption NAME names the column of captions"),
        (SourceOptions(caption="n"), "{path}: column 'n' is int64, expected text or lists of texts"),
        (SourceOptions(caption="1"), "{path}: columns of parquet have names, found --caption 1"),
    ],
)
def test_parquet_columns_at_fault_are_told(tmp_path: Path, options: SourceOptions, message: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.table({"caption": ["a dog"], "n": [1]}))
    with pytest.raises(UsageError) as error:
        check_unit(plan_units((str(path),), PlanOptions())[0][0], options)
    assert str(error.value) == message.format(path=path)


# Compressed files


def zst(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


def test_zst_files_are_read_as_gz_files_are(tmp_path: Path) -> None:
    table, lines = b"caption\na dog\na cat\n", b'{"caption": "a dog"}\n{"caption": "a cat"}\n'
    files = {
        "a.tsv.zst": zst(table),
        "b.csv.zst": zst(table),
        "c.jsonl.zst": zst(lines),
        "d.jsonl.gz": gzip.compress(lines),
        "e.tsv.zst": zst(table[:12]) + zst(table[12:]),
        "f.TSV.GZ": gzip.compress(table),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert captions(tmp_path / name) == [["a dog"], ["a cat"]], name
    (tmp_path / "g.tar.zst").write_bytes(zst(tar_bytes({"0.png": picture(), "0.txt": b"a dog"})))
    assert [(row.captions, row.image) for row in read(tmp_path / "g.tar.zst")[0]] == [(["a dog"], picture())]


def test_a_broken_zst_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.zst").write_bytes(zst(b"caption\na dog\n")[:-4])
    (tmp_path / "b.tar.zst").write_bytes(zst(tar_bytes({"0.txt": b"a dog"}))[:-4])
    (tmp_path / "c.tsv.zst").write_bytes(b"caption\n")
    for name in ("a.tsv.zst", "b.tar.zst", "c.tsv.zst"):
        assert [letter.reason for letter in read(tmp_path / name)[1]] == ["truncated"]


# Names of sources


def test_brace_lists_and_ranges_expand_in_order() -> None:
    assert expand_braces("a{0..2}{x,y}.tar") == ["a0x.tar", "a0y.tar", "a1x.tar", "a1y.tar", "a2x.tar", "a2y.tar"]
    assert expand_braces("{008..011}") == ["008", "009", "010", "011"]
    assert expand_braces("{9..11}") == ["9", "10", "11"]
    assert expand_braces("plain.tsv") == ["plain.tsv"]
    assert expand_braces("a{b}c") == ["a{b}c"]
    with pytest.raises(UsageError) as error:
        expand_braces("{5..3}.tar")
    assert str(error.value) == "{5..3}: expected a range such as 00000..00099"


def found(source: object, input_format: str = "auto") -> list[tuple[str, str]]:
    return [(f.relative, f.kind) for f in find_files(str(source), input_format)]


def test_globs_and_brace_lists_name_files(tmp_path: Path) -> None:
    for name in ("00000.tar", "00001.tar", "00002.tar", "b.tsv", "a{1}.tsv", "p.jpg", "q.PNG"):
        (tmp_path / name).write_bytes(b"x")
    assert found(tmp_path / "0000*.tar") == [("00000.tar", "tar"), ("00001.tar", "tar"), ("00002.tar", "tar")]
    assert found(tmp_path / "{00000..00001}.tar") == [("00000.tar", "tar"), ("00001.tar", "tar")]
    assert found(tmp_path / "a{1}.tsv") == [("a{1}.tsv", "tsv")]
    assert found(tmp_path / "*.[jP][pN]?") == [("p.jpg", "images"), ("q.PNG", "images")]
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "x.tsv").write_bytes(b"x")
    assert found(tmp_path / "in" / "**") == [("a/x.tsv", "tsv")]  # the glob meets the folder, the one in it, and the file
    with pytest.raises(UsageError) as error:
        found(tmp_path / "*.parquet")
    assert str(error.value) == f"{tmp_path}/*.parquet: no file matches"
    with pytest.raises(UsageError) as error:
        found(tmp_path / "{00002..00003}.tar")
    assert str(error.value) == f"{tmp_path}/00003.tar: no such file or folder"


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder of fsspec's memory file system with a tar, a table, JSONL, parquet and images in folders."""
    system = fsspec.filesystem("memory")
    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"caption": ["a tree", "a house"]}), table)
    files = {
        "tars/00000.tar": tar_bytes({"0.png": picture(), "0.txt": b"a red dog"}),
        "tars/00001.tar": tar_bytes({"0.png": picture(), "0.txt": b"a blue cat"}),
        "texts/a.tsv": b"caption\na dog\na cat\na tree\n",
        "lines/a.jsonl": b'{"caption": "a dog"}\n',
        "tables/a.parquet": table.getvalue().to_pybytes(),
        "photos/x/0.png": picture(),
        "photos/x/0.txt": b"a dog\n",
        "photos/1.png": picture(),
    }
    for name, data in files.items():
        system.pipe(f"/data/{name}", data)
    yield "memory://data"
    system.rm("/data", recursive=True)


def test_urls_are_read_as_local_files_are(memory: str) -> None:
    assert captions(f"{memory}/tars") == captions(f"{memory}/tars/*.tar") == captions(f"{memory}/tars/{{00000..00001}}.tar")
    assert captions(f"{memory}/tars") == [["a red dog"], ["a blue cat"]]
    assert captions(f"{memory}/lines/a.jsonl") == [["a dog"]]
    assert captions(f"{memory}/tables") == [["a tree"], ["a house"]]
    rows, letters = read(f"{memory}/texts/a.tsv", plan=PlanOptions(unit_mb=9 / 1e6))
    assert [row.captions for row in rows] == [["a dog"], ["a cat"], ["a tree"]]
    assert letters == []
    rows, letters = read(f"{memory}/photos")
    assert [(row.source_key, row.captions, row.image) for row in rows] == [("x/0", ["a dog"], picture())]
    assert [(letter.reason, letter.place) for letter in letters] == [("no_caption", "1")]


def test_what_a_url_is_called_does_not_depend_on_where_it_lies(memory: str, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    for name in ("00000.tar", "00001.tar"):
        (tmp_path / "tars" / name).write_bytes(fsspec.open(f"{memory}/tars/{name}").open().read())  # pyright: ignore[reportAttributeAccessIssue]
    local, remote = plan_units((str(tmp_path / "tars"),), PlanOptions()), plan_units((f"{memory}/tars",), PlanOptions())
    assert local[1] == remote[1]
    assert [unit.name for unit in local[0]] == [unit.name for unit in remote[0]]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://data/nothing.tsv", "memory://data/nothing.tsv: no such file or folder"),
        ("memory://data/*.tsv", "memory://data/*.tsv: no file matches"),
        ("nosuch://a/b.tsv", "nosuch://a/b.tsv: Protocol not known: nosuch"),
    ],
)
def test_urls_at_fault_are_told(url: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        find_files(url, "auto")
    assert str(error.value) == message


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/a.tar", "s3"), ("gs://bucket/a.tar", "gcs")])
def test_a_missing_package_for_a_bucket_is_named_with_the_extra_that_brings_it(
    url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("s3", "gs"):  # where other tests have imported them
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UsageError) as error:
        find_files(url, "auto")
    assert str(error.value) == f"{url}: needs a package that is not installed; pip install 'fistful[{extra}]'"


def test_a_local_name_that_looks_like_a_chain_of_urls_is_only_a_name(tmp_path: Path) -> None:
    path = tmp_path / "simplecache::x.tsv"
    path.write_bytes(b"caption\na dog\n")
    assert captions(path) == [["a dog"]]
