"""What may be wrong in tables that name pictures, and what is said of it."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.files import open_input, read_json
from fistful.bow.store.kinds import PassedOver
from fistful.errors import DataError, UsageError
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.source_options import SourceOptions
from fistful.pipelines.read.sources import check_unit, open_unit
from tests.support.pictures import picture
from tests.support.source_rows import read


def table(folder: Path, *rows: str, header: str = "image,caption", name: str = "data.csv") -> Path:
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())


def taken(source: Path, options: SourceOptions = SourceOptions()) -> list[str]:
    """What is said of a source: what it was taken for, and what of it is not read."""
    plan_units((str(source),), PlanOptions(), passed := PassedOver(), options)
    return [*passed.taken, *passed.lines()]


def test_rows_of_one_picture_become_one_sample_wherever_they_stand(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    table(tmp_path, "a.jpg,a red car", "b.jpg,a dog", "./a.jpg,a fast car", "a.jpg,")
    rows, letters = read(tmp_path)
    assert [(row.source_key, row.captions, row.image == picture()) for row in rows] == [
        ("a", ["a red car", "a fast car"], True),
        ("b", ["a dog"], True),
    ]
    assert letters == []
    assert taken(tmp_path) == ["data.csv: table of pictures (column image): 2 pictures, 3 captions"]


def test_each_picture_that_cannot_be_read_is_refused_with_its_reason(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside, "secret.jpg")
    home = tmp_path / "home"
    put(home, "a.jpg")
    (home / "folder.jpg").mkdir()
    (home / "out.jpg").symlink_to(outside / "secret.jpg")
    (home / "nowhere.jpg").symlink_to(home / "gone")
    (home / "linked").symlink_to(outside)
    os.mkfifo(home / "pipe.jpg")
    names = [
        "a.jpg",
        "gone.jpg",
        "pipe.jpg",
        "../outside/secret.jpg",
        "folder.jpg",
        "out.jpg",
        "nowhere.jpg",
        "linked/secret.jpg",
        "http://x.org/a.jpg",
        "",
    ]
    table(home, *(f"{name},a caption" for name in names), "too,many,columns", f"{outside}/secret.jpg,an absolute path")
    rows, letters = read(home)
    assert [(row.source_key, row.captions) for row in rows] == [("a", ["a caption"]), (f"{outside}/secret", ["an absolute path"])]
    assert {(letter.place, letter.reason, letter.detail.split(";")[0]) for letter in letters} == {
        ("gone.jpg", "no_image", "no such file"),
        ("pipe.jpg", "no_image", "no such file"),
        ("../outside/secret.jpg", "bad_name", "leads out of the folder that names start from"),
        ("folder.jpg", "no_image", "a folder, expected a picture"),
        ("out.jpg", "bad_name", "a link that leads out of the folder that names start from"),
        ("nowhere.jpg", "no_image", "a link that leads nowhere"),
        ("linked/secret.jpg", "bad_name", "leads out of the folder that names start from, by a linked folder"),
        ("http://x.org/a.jpg", "no_image", "lies on the web, which is not fetched here"),
        ("data.csv", "no_image", "row 10 of those that can be read names no picture"),
        ("row 11", "bad_row", "3 columns, expected 2"),
    }


def test_pictures_are_looked_for_beside_and_above_the_table_or_where_the_option_says(tmp_path: Path) -> None:
    put(tmp_path, "set/val2017/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "set/annotations").mkdir()
    path = table(tmp_path / "set/annotations", "a.jpg,a red car")
    assert [row.source_key for row in read(path)[0]] == ["a"]
    path = table(tmp_path / "set/annotations", "b.jpg,a dog", name="other.csv")
    assert taken(path) == [
        "other.csv: captions alone; its column image names pictures such as b.jpg, and none of the first 1 lies in its folder "
        "or beside it; --images-root FOLDER says where they lie"
    ]
    options = SourceOptions(images_root=str(tmp_path / "elsewhere"))
    assert taken(path, options) == ["other.csv: table of pictures (column image): 1 picture, 1 caption"]


def test_pictures_are_looked_for_up_to_the_folder_that_was_given_or_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "images/a.jpg", "data/photos/b.jpg", "c.jpg")
    (tmp_path / "data/tables").mkdir()
    path = table(tmp_path / "data/tables", "photos/b.jpg,a dog", "photos/../../c.jpg,a cat", name="t.csv")
    rows, letters = read(tmp_path / "data")
    assert [row.source_key for row in rows] == ["photos/b"]
    assert [(letter.place, letter.reason) for letter in letters] == [("../c.jpg", "no_image")]
    table(tmp_path / "data/tables", "images/a.jpg,a red car", name="t.csv")
    assert taken(path)[0].startswith("t.csv: captions alone; its column image names pictures such as images/a.jpg, and none ")
    monkeypatch.chdir(tmp_path)
    assert [row.source_key for row in read(Path("data/tables/t.csv"))[0]] == ["images/a"]
    assert read(Path("data"))[0][0].image is None  # the folder that was given ends below them


def test_names_that_lead_up_from_the_table_stay_in_the_folder_that_was_given(tmp_path: Path) -> None:
    put(tmp_path, "set/images/a.jpg", "secret.jpg")
    (tmp_path / "set/tables").mkdir()
    names = ("../images/a.jpg", "images/../../images/a.jpg", "../images/./a.jpg", "../../secret.jpg", "../../set/gone.jpg")
    path = table(tmp_path / "set/tables", *(f"{name},a car" for name in names))
    for source, options in ((tmp_path / "set", SourceOptions()), (path, SourceOptions(images_root=str(tmp_path / "set")))):
        rows, letters = read(source, options)
        assert [(row.source_key, row.image) for row in rows] == [("../images/a", picture())]
        assert [(letter.place, letter.reason) for letter in letters] == [
            ("../../secret.jpg", "bad_name"),
            ("../../set/gone.jpg", "no_image"),
        ]
    assert read(path)[0][0].image is None


def test_names_that_differ_from_a_file_by_case_or_normal_form_only_are_told(tmp_path: Path) -> None:
    put(tmp_path, "Images/a.jpg", "b.jpg", unicodedata.normalize("NFD", "schön.jpg"))
    names = ("images/a.jpg", "b.JPG", unicodedata.normalize("NFC", "schön.jpg"), unicodedata.normalize("NFC", "SCHÖN.jpg"), "c.jpg")
    path = table(tmp_path, *(f"{name},a caption" for name in names))
    nfd = unicodedata.normalize("NFD", "schön.jpg")
    assert [letter.detail for letter in read(path, SourceOptions(images_root=str(tmp_path)))[1]] == [
        "no such file; its name differs from Images/a.jpg by case only",
        "no such file; its name differs from b.jpg by case only",
        f"no such file; its name differs from {nfd} by Unicode's normal form only",
        f"no such file; its name differs from {nfd} by case and Unicode's normal form only",
        "no such file",
    ]
    (tmp_path / "tables").mkdir()
    table(tmp_path / "tables", "images/A.jpg,a dog", name="t.csv")
    said = "none of the first 1 lies in its folder or beside it (the first differs from Images/a.jpg by case only); --images-root"
    assert any(line.startswith("tables/t.csv") and said in line for line in taken(tmp_path))
    table(tmp_path, "B.jpg,a dog")
    said = "none of the first 1 lies in its folder or beside it (the first differs from b.jpg by case only); --images-root FOLDER"
    assert said in taken(path)[0]


def test_the_head_of_a_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.jpg")
    path = table(tmp_path, "a.jpg,a red car")
    opened: list[str] = []
    monkeypatch.setattr("fistful.pipelines.read.table_head.open_input", lambda name: opened.append(name) or open_input(name))
    taken(tmp_path)
    assert opened == [str(path)]
    table(tmp_path, "a.jpg,a fast car", header="file_name,caption")
    assert taken(tmp_path) == ["data.csv: table of pictures (column file_name): 1 picture, 1 caption"]


def test_a_stray_table_beside_pictures_is_said(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(5)))
    table(tmp_path, "1,a price", header="id,text", name="prices.csv")
    assert {unit.kind for unit in plan_units((str(tmp_path),), PlanOptions())[0]} == {"csv"}
    (tmp_path / "0.txt").write_text("a red car")
    assert {unit.kind for unit in plan_units((str(tmp_path),), PlanOptions())[0]} == {"images"}
    assert taken(tmp_path) == [
        "5 pictures, with texts: 1 .txt",
        "1 file of another kind (.csv), such as prices.csv: of a folder one kind is read; name such a file itself to read it",
    ]


def test_what_a_folder_was_taken_for_is_said_of_tars_and_of_every_sort_of_texts(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(6)))
    for name in ("0.txt", "0.json", "1.TXT", "2.caption", "3.json", "captions/4.txt", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert taken(tmp_path) == ["6 pictures, with texts: 1 .txt, 1 .TXT, 1 .caption, 1 .json, 1 in a folder captions/"]
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / "b.tgz").write_bytes(b"")
    assert taken(tmp_path)[0] == "2 tars"


def test_pictures_that_the_table_does_not_name_are_said(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    table(tmp_path, "a.jpg,a red car")
    assert taken(tmp_path)[1].startswith("2 pictures that no table names, such as ")


@pytest.mark.parametrize(
    ("name", "header", "bad"),
    [
        ("data.csv", b"image,caption", b"b.jpg,a caf\xe9"),
        ("data.csv", b"image,caption", b"b.jpg,a dog, a cat"),
        ("data.csv", b"caption;image;n", b'"a dog" of; b.jpg;1;2'),
        ("data.csv", b"image,caption", b'b.jpg,"a dog'),
        ("data.tsv", b"image\tcaption", b"./b.jpg\ta caf\xe9"),
    ],
)
def test_a_picture_that_a_refused_row_names_is_named(tmp_path: Path, name: str, header: bytes, bad: bytes) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    fine = {b"image,caption": b"a.jpg,a car", b"caption;image;n": b"a car;a.jpg;1", b"image\tcaption": b"a.jpg\ta car"}[header]
    (tmp_path / name).write_bytes(b"\n".join([header, *[fine] * 20, bad]) + b"\n")
    assert [letter.place for letter in read(tmp_path)[1]] == ["row 21"]
    assert len(taken(tmp_path)) == 1


def test_a_picture_that_a_refused_row_of_another_format_names_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "Gr\u00f6\u00dfe/b.jpg", "c.jpg", "d.jpg")
    rows = [{"image": "a.jpg", "caption": "a car"}, {"image": "c.jpg", "caption": 1}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.csv").write_bytes("image;caption\na.jpg;a car\nGr\u00f6\u00dfe/b.jpg;a dog\n".encode("cp1252"))
    texts = pa.array([b"a car", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": ["a.jpg", "d.jpg"], "caption": texts}), tmp_path / "c.parquet")
    assert [letter.reason for letter in read(tmp_path)[1]] == ["bad_json", "bad_caption", "bad_caption"]
    assert not [line for line in taken(tmp_path) if "no table names" in line]


def test_names_of_pictures_that_are_not_utf8_are_told(tmp_path: Path) -> None:
    put(tmp_path, "Gr\u00f6\u00dfe/a.jpg")
    (tmp_path / "data.csv").write_bytes("image,caption\nGr\u00f6\u00dfe/a.jpg,a car\n".encode("cp1252"))
    said = f"; they are not UTF-8: iconv -f cp1252 -t utf-8 {tmp_path}/data.csv > NEW, if it is Windows-1252 or Latin-1; --images-root"
    assert said in taken(tmp_path / "data.csv")[0]


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        (["a.jpg;ein K\u00e4fer", "b.jpg;ein B\u00e4r"], "t.csv row 1: not UTF-8 (invalid continuation byte at byte 5)"),
        (["a.jpg;a dog; a cat", "b.jpg;a dog; a car"], "t.csv row 1: 3 columns, expected 2; quote texts that have semicolons"),
    ],
)
def test_a_table_of_pictures_whose_rows_are_all_refused_says_why(tmp_path: Path, rows: list[str], first: str) -> None:
    put(tmp_path / "in", "a.jpg", "b.jpg")
    (tmp_path / "in/t.csv").write_bytes("\r\n".join(["bild;caption", *rows, ""]).encode("cp1252"))
    for source in (SourceOptions(), SourceOptions(caption="caption"), SourceOptions(image="bild")):
        config = CountConfig(source=source, running=Running(progress=False))
        with pytest.raises(DataError) as error:
            count(str(tmp_path / "in"), out=tmp_path / f"out-{source.caption}-{source.image}", config=config)
        assert f"2 of 2 rows refused ({'bad_row' if 'columns' in first else 'bad_caption'} 2; the first: {first})" in str(error.value)
        assert "no table names" not in str(error.value)
        assert ("iconv -f cp1252 -t utf-8 FILE > NEW" in str(error.value)) == ("UTF-8" in first)
    with pytest.raises(UsageError, match=r"its first row has 1 columns, --caption 2 needs more; if semicolons part its columns"):
        check_unit(
            plan_units((str(tmp_path / "in/t.csv"),), PlanOptions(), None, by_number := SourceOptions(caption="2", image="1"))[0][0],
            by_number,
        )


def test_the_web_is_not_fetched(tmp_path: Path) -> None:
    path = table(tmp_path, "http://x.org/a.jpg,a red car", header="url,caption")
    assert "img2dataset --url_list data.csv --input_format csv --url_col url --caption_col caption --output_format" in taken(path)[0]
    with pytest.raises(UsageError, match=r"--image url: .* names pictures on the web, which are not fetched here; img2dataset"):
        taken(path, SourceOptions(image="url"))


def test_a_split_is_taken_where_one_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    path = table(tmp_path, "a.jpg,a red car,train", "b.jpg,a dog,test", header="image,caption,split")
    assert [unit.stop for unit in plan_units((str(path),), PlanOptions(), None, SourceOptions(split="test"))[0]] == [1]
    with pytest.raises(UsageError, match="has no split 'val'; its column split has test, train"):
        taken(path, SourceOptions(split="val"))
    images = [
        {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": "a dog"}]} for name, split in (("a", "train"), ("b", "val"))
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    path.unlink()
    assert taken(tmp_path) == [
        "dataset.json: Karpathy's captions (splits train, val together; --split takes one): 2 pictures, 2 captions",
    ]
    # what the other split names is not said to be left out
    assert taken(tmp_path, SourceOptions(split="val")) == ["dataset.json: Karpathy's captions: 1 picture, 1 caption"]


def test_a_table_without_header_is_read_by_numbers(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    path = table(tmp_path, "a.jpg#1\ta fast car", "b.jpg#0\ta dog", header="a.jpg#0\ta red car", name="flickr.tsv")
    assert taken(path, SourceOptions(caption="2")) == ["flickr.tsv: table of pictures (column 1): 2 pictures, 3 captions"]
    for options in (SourceOptions(caption="2"), SourceOptions(caption="2", image="1")):
        rows, _ = read(path, options)
        assert [(row.source_key, row.captions) for row in rows] == [("a", ["a red car", "a fast car"]), ("b", ["a dog"])]


@pytest.mark.parametrize(("delimiter", "sign"), [("semicolon", ";"), ("bar", "|"), ("tab", "\t"), ("~", "~")])
def test_a_delimiter_can_be_said(tmp_path: Path, delimiter: str, sign: str) -> None:
    put(tmp_path, "a.jpg")
    table(tmp_path, f"a.jpg{sign}a car, red", header=f"image{sign}caption")
    assert [row.captions for row in read(tmp_path / "data.csv", SourceOptions(delimiter=delimiter))[0]] == [["a car, red"]]


def test_names_that_windows_wrote_are_found(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    table(tmp_path, r"images\a.jpg,a red car")
    assert [row.source_key for row in read(tmp_path)[0]] == ["images/a"]


def test_pictures_inside_parquet_and_what_img2dataset_failed_to_fetch(tmp_path: Path) -> None:
    images = pa.array([picture(), None, picture()], pa.large_binary())
    columns = {
        "jpg": images.dictionary_encode(),
        "caption": ["a car", "a dog", "a cat"],
        "status": ["success", "failed_to_download", "success"],
    }
    pq.write_table(pa.table(columns), tmp_path / "00000.parquet")
    rows, letters = read(tmp_path)
    assert [(row.captions, row.image, row.extension) for row in rows] == [(["a car"], picture(), "png"), (["a cat"], picture(), "png")]
    assert [(letter.reason, letter.detail) for letter in letters] == [("not_fetched", "status failed_to_download")]
    (unit,) = plan_units((str(tmp_path),), PlanOptions())[0]
    with open_unit(unit, SourceOptions(), with_images=False) as (batches, _):
        assert [(batch.captions.to_pylist(), len(batch.letters)) for batch in batches] == [(["a car", "a cat"], 1)]


def test_json_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(UsageError, match=r"is JSON of a kind that is not read; expected COCO's captions"):
        plan_units((str(tmp_path / "x.json"),), PlanOptions())


def test_pictures_without_captions_are_refused_where_captions_are_needed(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    path = table(tmp_path, "a.jpg,1", header="image,price")
    (unit,) = plan_units((str(path),), PlanOptions())[0]
    with pytest.raises(UsageError, match=r"has no captions \(its columns: 'image', 'price'\); --caption COLUMN says which"):
        check_unit(unit, SourceOptions())


def test_a_picture_that_two_tables_name_is_said(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    table(tmp_path, "a.jpg,a red car", name="one.csv")
    table(tmp_path, "a.jpg,a fast car", "b.jpg,a dog", name="two.csv")
    assert "1 picture is named by several of these: each makes a sample of it" in taken(tmp_path)


def test_addresses_of_files_are_no_unnamed_pictures(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    table(tmp_path, f"file://{tmp_path}/a.jpg,a red car")
    assert [row.captions for row in read(tmp_path)[0]] == [["a red car"]]
    assert taken(tmp_path) == ["data.csv: table of pictures (column image): 1 picture, 1 caption"]


def test_parquet_with_pictures_inside_is_read_beside_pictures(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    pq.write_table(pa.table({"path": ["a.jpg"], "image": [picture()], "caption": ["a red car"]}), tmp_path / "t.parquet")
    assert [(row.captions, row.image) for row in read(tmp_path)[0]] == [(["a red car"], picture())]


def test_json_that_names_no_pictures_is_said(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "captions.json").write_text('{"a.jpg": "a red car"}')
    assert any("such as captions.json" in line for line in taken(tmp_path))


def test_a_column_of_pictures_that_is_not_there_is_named_by_its_option(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    with pytest.raises(UsageError, match=r"no column 'bild' in its first line \('image', 'caption'\); --image NAME names"):
        taken(table(tmp_path, "a.jpg,a red car"), SourceOptions(image="bild"))


def test_what_img2dataset_failed_to_fetch_does_not_count_as_bad(tmp_path: Path) -> None:
    states = ["success"] * 2 + ["failed_to_resize"] * 6
    pq.write_table(pa.table({"jpg": [picture()] * 8, "caption": ["a car"] * 8, "status": states}), tmp_path / "00000.parquet")
    out = count(str(tmp_path / "00000.parquet"), out=tmp_path / "c", config=CountConfig(running=Running(progress=False)))
    assert read_json(out / "stats.json")["refused"] == {"not_fetched": 6}
