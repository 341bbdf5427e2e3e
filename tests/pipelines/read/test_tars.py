"""Rows of tars as the world packs them: doubles, parts that lie apart, dots in names, other packings, no end."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pytest

from fistful.bow.store.shard import tar_bytes
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions, open_unit
from tests.support.pictures import picture

PICTURE = picture()
PAIRS = {"a.png": PICTURE, "a.txt": b"red dog", "b.png": PICTURE, "b.txt": b"blue cat"}
WHOLE = [("a", "red dog"), ("b", "blue cat")]
APART = "its parts do not stand side by side in the archive; pack it again sorted: tar --sort=name -cf NEW.tar FOLDER"


def read(
    tmp_path: Path, data: dict[str, bytes] | bytes, name: str = "a.tar", *, images: bool = True, captions: bool = True
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Keys with their captions, and the refused rows; every sample is in one of them, and no number is given twice."""
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else tar_bytes(data))
    (unit,), _ = plan_units((str(path),), PlanOptions(input_format="tar"))
    rows, letters, n_read = [], [], 0
    with open_unit(unit, SourceOptions(), with_images=images, need_captions=captions) as (batches, _content):
        for batch in batches:
            rows += batch.rows
            letters += batch.letters
            n_read += batch.n_read
    assert n_read == len(rows) + len(letters)
    assert len({row.number for row in rows}) == len(rows)
    assert all(row.number < n_read for row in rows)
    return [(row.source_key, " ".join(row.captions)) for row in rows], [(x.reason, x.place, x.detail) for x in letters]


def without_end(data: bytes) -> bytes:
    """A tar without its end marker."""
    data = data.rstrip(b"\0")
    return data + b"\0" * (-len(data) % 512)


@pytest.mark.parametrize("images", [True, False])
def test_doubles_that_macos_packs_beside_each_file_are_passed_over(tmp_path: Path, images: bool) -> None:
    files = {}
    for name, data in PAIRS.items():
        files |= {f"./._{name}": b"\0\5\x16\7", f"./{name}": data}
    assert read(tmp_path, files | {"./.DS_Store": b"x"}, images=images) == ([("./a", "red dog"), ("./b", "blue cat")], [])


@pytest.mark.parametrize("images", [True, False])
def test_all_images_and_then_all_texts_are_told_as_parts_that_lie_apart_a_row_a_sample(tmp_path: Path, images: bool) -> None:
    apart = {name: PAIRS[name] for name in ("a.png", "b.png", "a.txt", "b.txt")}
    assert read(tmp_path, apart, images=images) == ([], [("bad_name", "a", APART), ("bad_name", "b", APART)])


def test_all_texts_and_then_all_images_are_rows_for_a_count_which_needs_no_image(tmp_path: Path) -> None:
    apart = {name: PAIRS[name] for name in ("a.txt", "b.txt", "a.png", "b.png")}
    assert read(tmp_path, apart, images=False) == (WHOLE, [])
    assert read(tmp_path, apart) == ([], [("bad_name", "a", APART), ("bad_name", "b", APART)])


def test_images_whose_captions_nobody_needs_stay_though_the_texts_lie_apart(tmp_path: Path) -> None:
    apart = {name: PAIRS[name] for name in ("a.png", "b.png", "a.txt", "b.txt")}
    assert read(tmp_path, apart, captions=False) == ([("a", ""), ("b", "")], [])


def test_a_late_part_of_a_whole_sample_is_refused_and_the_sample_stays(tmp_path: Path) -> None:
    assert read(tmp_path, PAIRS | {"a.json": b"{}", "b.cls": b"1"}) == (WHOLE, [("bad_name", "a", APART)])


def test_a_name_that_stands_twice_is_told_as_such(tmp_path: Path) -> None:
    first, second = without_end(tar_bytes(PAIRS)), tar_bytes({"a.png": PICTURE, "a.txt": b"green frog"})
    assert read(tmp_path, first + second) == (WHOLE, [("bad_name", "a", "this name stands twice in the archive")])


def test_several_samples_whose_keys_share_what_stands_before_a_dot_are_rows_of_their_own(tmp_path: Path) -> None:
    files = {f"shot v1.{name}": data for name, data in PAIRS.items()} | {"x.png": PICTURE, "x.txt": b"whale"}
    detail = "a dot in its name: a key ends at the first, here 'shot v1'; pack it again without"
    assert read(tmp_path, files) == ([("x", "whale")], [("bad_name", "shot v1.a", detail), ("bad_name", "shot v1.b", detail)])


def test_extensions_of_two_parts_are_named(tmp_path: Path) -> None:
    found = "found .input.png, .output.txt; a name's key ends at its first dot, so pack it again as KEY.jpg and KEY.txt"
    assert read(tmp_path, {"0.input.png": PICTURE, "0.output.txt": b"red dog"}) == ([], [("no_caption", "0", found)])
    found = "found .input.png, .txt; a name's key ends at its first dot, so pack it again as KEY.jpg and KEY.txt"
    assert read(tmp_path, {"0.input.png": PICTURE, "0.txt": b"red dog"}) == ([], [("no_image", "0", found)])
    assert read(tmp_path, {"0.input.png": PICTURE, "0.txt": b"red dog"}, images=False) == ([("0", "red dog")], [])


def test_a_sample_that_is_whole_is_kept_where_only_the_end_marker_is_missing(tmp_path: Path) -> None:
    assert read(tmp_path, without_end(tar_bytes(PAIRS))) == (
        WHOLE,
        [("truncated", "b", "archive broken after this sample (no end marker)")],
    )


@pytest.mark.parametrize("cut", [512, 700, 1_000])
def test_a_sample_in_whose_middle_an_archive_breaks_is_lost_and_said_to_be(tmp_path: Path, cut: int) -> None:
    data = tar_bytes({"a.txt": b"red dog", "b.txt": b"x" * 600})
    broken = ("truncated", "b", "archive broken in this sample (unexpected end of data)")
    assert read(tmp_path, data[: 1_024 + cut], images=False) == ([("a", "red dog")], [broken])


def test_a_tar_is_read_as_what_it_is_packed_with_whatever_it_is_called(tmp_path: Path) -> None:
    data = tar_bytes(PAIRS)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    for packed in (data, gzip.compress(data), sink.getvalue().to_pybytes()):
        for name in ("a.tar", "a.tgz", "a.tar.gz", "a.tar.zst", "a"):
            assert read(tmp_path, packed, name) == (WHOLE, [])


@pytest.mark.parametrize(
    ("packed", "kind"),
    [(bz2.compress(b"x"), "packed with bzip2"), (lzma.compress(b"x"), "packed with xz"), (b"PK\3\4" + b"x" * 600, "a zip")],
)
def test_other_packings_are_named(tmp_path: Path, packed: bytes, kind: str) -> None:
    detail = f"archive broken after this sample (it is {kind}, which is not read; pack it as .tar or .tar.gz)"
    assert read(tmp_path, packed) == ([], [("truncated", "start", detail)])


def test_a_member_called_like_an_archive_does_not_make_a_tar_one(tmp_path: Path) -> None:
    assert read(tmp_path, {"BZh.png": PICTURE, "BZh.txt": b"red dog"}) == ([("BZh", "red dog")], [])


def test_jpegs_by_other_names_are_called_jpg_in_shards(tmp_path: Path) -> None:
    jpeg = picture(format="JPEG")
    files = {"a.jfif": jpeg, "a.txt": b"red dog", "b.JPE": jpeg, "b.txt": b"blue cat"}
    assert read(tmp_path, files) == (WHOLE, [])
    (unit,), _ = plan_units((str(tmp_path / "a.tar"),), PlanOptions())
    with open_unit(unit, SourceOptions(), with_images=True) as (batches, _):
        assert [row.extension for batch in batches for row in batch.rows] == ["jpg", "jpg"]
