"""Classifying one's own images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.balance import Balance
from fistful.bow.store.kinds import PassedOver
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import Limits, choose_words, count_table, write_vocabulary
from fistful.errors import DataError, UsageError
from fistful.eval.sets.class_names import ClassName
from fistful.eval.tasks.classify import Answer, ClassifyConfig, LoadedModel, answers_table, classify, load, never_learnt
from fistful.eval.tasks.own_images import find_images
from fistful.training.model.own import checked
from tests.support.colours import ColourEncoder
from tests.support.squares import SQUARES, square


def test_a_loaded_model_classifies_images_by_any_names(squares, colours):
    model = load(colours())
    found = model.classify([squares / "red" / "0.png", squares / "green" / "1.png"], ["a green thing", "something red"])
    assert [answer.name for answer in found] == ["something red", "a green thing"]
    assert all(0.99 < answer.probability <= 1.0 for answer in found)


def test_the_head_is_asked_for_a_phrase_as_a_whole(squares):
    encoder = ColourEncoder(head=True)
    encoder.words = ["red", "pale green", "blue"]
    found = LoadedModel(checked(encoder, "colours")).classify(
        [squares / "green" / "1.png"], ["Pale green", "blue"], ClassifyConfig(prompts="head")
    )
    assert [answer.name for answer in found] == ["Pale green"]


def test_classify_writes_csv_and_jsonl_with_what_cannot_be_read(squares, colours, tmp_path):
    (squares / "blue" / "z.jpg").write_bytes(b"nothing")
    (tmp_path / "names.txt").write_text("red\nblue\n")
    found = classify(colours(), str(squares / "blue"), names=str(tmp_path / "names.txt"), out=tmp_path / "out" / "a.csv")
    rows = list(csv.DictReader((tmp_path / "out" / "a.csv").open()))
    assert [(Path(r["image"]).name, r["name"]) for r in rows] == [
        ("0.png", "red"),
        ("1.png", "blue"),
        ("2.png", "blue"),
        ("3.png", "blue"),
        ("z.jpg", ""),
    ]
    assert rows[4]["error"].startswith("bad_image: not a JPEG, PNG, WEBP image")
    classify(colours(), str(squares / "blue"), names=str(tmp_path / "names.txt"), out=tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["red", "blue", "blue", "blue", None]
    assert answers_table(found).splitlines()[1].split()[1:4] == ["red", "red", "100%,"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.csv"]


def test_below_the_threshold_it_is_none_of_these(squares, colours, tmp_path):
    (tmp_path / "names.tsv").write_text("folder\tname\twords\n0\tred one\tred\n1\tred two\tred\n")
    config = ClassifyConfig(threshold=0.9)
    (found,) = classify(colours(), str(squares / "red" / "0.png"), names=str(tmp_path / "names.tsv"), config=config)
    assert (found.name, found.probability, found.top) == (None, 0.5, [("red one", 0.5), ("red two", 0.5)])
    assert "none of these" in answers_table([found])


@pytest.mark.parametrize(
    ("images", "names", "out", "message"),
    [
        ("missing.png", "red\nblue\n", None, "missing.png: no such image or folder"),
        ("", "red\nblue\n", "x.txt", "--out x.txt: expected a file that ends in .csv or .jsonl"),
        ("", "red\n", None, "--names {names}: found 1 names, expected two or more"),
        ("", "red\nred\n", None, "--names {names}: found 'red' more than once, expected each name once"),
    ],
)
def test_calls_at_fault_say_what_to_do(squares, colours, tmp_path, images, names, out, message):
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(UsageError) as error:
        classify(colours(), images or str(squares), names=str(tmp_path / "names.txt"), out=out)
    assert str(error.value) == message.format(names=tmp_path / "names.txt")


@pytest.mark.parametrize("fields", [{"top": 0}, {"threshold": 1.5}, {"batch_size": 0}, {"prompts": "nope"}, {"prompts": "set"}])
def test_options_at_fault_are_refused(fields):
    with pytest.raises(UsageError):
        ClassifyConfig(**fields)


def test_cells_of_a_csv_are_no_formulas_and_numbers_stay_numbers(squares, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(squares / "red")
    names = ["=1+1 a", "+ red", "- green", "@ blue"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    Path("0.png").rename("=1+1.png")
    classify(colours(), "=1+1.png", names=str(tmp_path / "names.txt"), out=tmp_path / "a.csv", config=ClassifyConfig(top=4))
    (row,) = csv.DictReader((tmp_path / "a.csv").open())
    assert (row["image"], row["name"]) == ("'=1+1.png", "'+ red")
    assert float(row["probability"]) > 0.9
    assert row["top"].startswith("'+ red ")
    classify(colours(), "=1+1.png", names=str(tmp_path / "names.txt"), out=tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text())["name"] == "+ red"  # no spreadsheet opens it


def test_a_folder_of_broken_images_is_the_datas_fault(squares, colours, tmp_path):
    (tmp_path / "names.txt").write_text("red\nblue\n")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError) as error:
        classify(colours(), str(tmp_path / "bad.png"), names=str(tmp_path / "names.txt"), out=tmp_path / "a.csv")
    assert str(error.value).startswith(f"{tmp_path}/bad.png: cannot be read (bad_image: not a JPEG, PNG, WEBP image")
    assert (tmp_path / "a.csv").exists()


def test_a_table_needs_no_folders_but_a_column_of_names(squares, colours, tmp_path):
    table = tmp_path / "names.tsv"
    table.write_text("name\twords\none\tred\nother\tgreen\n")
    (found,) = classify(colours(), str(squares / "red" / "0.png"), names=str(table), config=ClassifyConfig(synonyms=True))
    assert found.name == "one"
    table.write_text("class\twords\none\tred\nother\tgreen\n")
    with pytest.raises(UsageError, match="its first row has the columns 'class', 'words', expected one called name"):
        classify(colours(), str(squares / "red" / "0.png"), names=str(table))


def test_images_may_come_from_an_iterator_and_are_not_used_up_by_the_check(squares, colours):
    found = load(colours()).classify((squares / "red").glob("*.png"), (name for name in ("red", "green")))
    assert len(found) == 4
    assert {answer.name for answer in found} == {"red"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", ""], "names: found '' in place 2, expected a class name"),
        (["cat", " \t"], "names: found ' \\t' in place 2, expected a class name"),
        (["cat", None], "names: found None in place 2, expected a class name"),
        ([1, "cat"], "names: found 1 in place 1, expected a class name"),
        (["cat"], "names: found 1 names, expected two or more"),
        (["cat", "cat"], "names: found 'cat' more than once, expected each name once"),
        (
            ["cat", "cat "],
            "names: found 'cat' and 'cat ', which are one text to a model; expected names that differ in more than case and blanks",
        ),
        (
            ["Cat", "cat"],
            "names: found 'Cat' and 'cat', which are one text to a model; expected names that differ in more than case and blanks",
        ),
    ],
)
def test_names_that_no_model_can_tell_apart_or_read_are_refused(squares, colours, names, message):
    with pytest.raises(UsageError) as error:
        load(colours()).classify([squares / "red" / "0.png"], names)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("n.tsv", "name\nred\ngreen\n"),
        ("n.csv", "name\nred\ngreen\n"),
        ("n.csv", 'folder,name,words\na,red,"scarlet, red"\nb,green,\n'),
        ("n.txt", "\ufeffID;Name\r\n0;red\r\n\r\n1;green\r\n"),
        ("n.txt", "red\n\n  green \n"),
        ("n.csv", "red\ngreen\n"),
    ],
)
def test_a_header_is_no_class_whatever_parts_the_columns(squares, colours, tmp_path, capsys, file, text):
    (tmp_path / file).write_text(text)
    (found,) = classify(colours(), str(squares / "green" / "0.png"), names=str(tmp_path / file))
    assert sorted(name for name, _ in found.top) == ["green", "red"]
    assert f"{file}: 2 class names, " in capsys.readouterr().err


def test_a_model_without_a_text_tower_is_asked_by_its_head(squares, tmp_path):
    (tmp_path / "names.txt").write_text("red\nblue\n")
    silent, names = "tests.eval.test_evaluate:without_text_tower", str(tmp_path / "names.txt")
    with pytest.raises(UsageError, match=r"has no text tower .* so that it embeds images alone; --prompts head asks its word head$"):
        classify(silent, str(squares), names=names)
    assert classify(silent, str(squares), names=names, config=ClassifyConfig(prompts="head"))[0].name in ("red", "blue")


def test_one_string_in_place_of_a_list_is_refused(squares, colours):
    model, image = load(colours()), str(squares / "red" / "0.png")
    with pytest.raises(UsageError, match="images: expected a list of paths of image files"):
        model.classify(image, ["red", "green"])
    with pytest.raises(UsageError, match="names: found the string 'red', expected a list of class names"):
        model.classify([image], "red")
    assert repr(model) == "LoadedModel()"


def test_a_file_that_cannot_be_written_is_called_by_its_name(squares, colours, tmp_path):
    (tmp_path / "names.txt").write_text("red\nblue\n")
    too_long = tmp_path / ("x" * 252 + ".csv")
    with pytest.raises(OSError, match="name too long") as error:
        classify(colours(), str(squares / "red"), names=str(tmp_path / "names.txt"), out=too_long)
    assert error.value.filename == str(too_long)


def test_names_do_nothing_to_a_terminal():
    text = answers_table([Answer("a\x1b[2J\udc80.png", "red", 1.0, [("red", 1.0)])] * 60)
    assert text.splitlines()[1] == r"a\u001b[2J\udc80.png  red  red 100%"
    assert text.splitlines()[-2:] == ["and 10 more images", "60 images: 60 red"]


def test_folders_of_images_are_listed_by_the_rule_that_count_reads_by(tmp_path):
    for name in ("photos/a.jfif", "photos/._a.jfif", "photos/b.gif", "elsewhere/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "photos/more").symlink_to("../elsewhere")
    passed = PassedOver()
    found = find_images([str(tmp_path / "photos")], passed)
    assert [Path(image.source).relative_to(tmp_path).as_posix() for image in found] == ["photos/a.jfif", "photos/more/c.png"]
    assert [said for _, said, _ in passed.said()] == [
        "1 picture of a kind that is not read (.gif), such as b.gif",
        "1 hidden file or folder, such as ._a.jfif",
    ]


def test_a_class_one_of_whose_names_was_learnt_is_not_called_unknown(tmp_path):
    (tmp_path / "open_clip_config.json").write_text("{}")
    counts = count_table(["dog"], np.array([3]), np.array([3]))
    write_vocabulary(tmp_path, choose_words(counts, 3, Limits(min_count=1), Balance()))
    classes = [ClassName("0", "canine", ("dog",)), ClassName("1", "feline", ("puss",))]
    assert never_learnt(str(tmp_path), classes) == [f"{tmp_path}: learnt no word of canine (canine), feline (feline)"]
    assert never_learnt(str(tmp_path), classes, synonyms=True) == [f"{tmp_path}: learnt no word of feline (feline)"]


def test_globs_are_found_here_where_no_shell_expanded_them(squares):
    found = find_images([str(squares / "**" / "[01].png")])
    assert [Path(image.source).relative_to(squares).as_posix() for image in found] == [
        f"{c}/{i}.png" for c in ("blue", "green", "red") for i in "01"
    ]
    assert find_images([str(squares / "r*")]) == find_images([str(squares / "red")])
    (squares / "red" / "[1].png").write_bytes(b"")
    assert [Path(image.source).name for image in find_images([str(squares / "red" / "[1].png")])] == [
        "[1].png"
    ]  # there is a file of that name
    with pytest.raises(UsageError) as error:
        find_images([str(squares / "*.gif")])
    assert str(error.value) == f"{squares}/*.gif: no file matches"


ROWS = ["red/0.png", "green/1.png", "red/0.png"]


def csv_of(path: Path) -> None:
    path.write_text("id,file\n" + "".join(f"{i},{name}\n" for i, name in enumerate(ROWS)))


def tsv_of(path: Path) -> None:
    path.write_text("image\n" + "".join(f"{name}\n" for name in ROWS))


def jsonl_of(path: Path) -> None:
    path.write_text("".join(json.dumps({"image": name}) + "\n" for name in ROWS))


def parquet_of(path: Path) -> None:
    pq.write_table(pa.table({"image": ROWS}), path)


def json_of(path: Path) -> None:
    path.write_text(json.dumps([{"image": name} for name in ROWS]))


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", csv_of), ("a.tsv", tsv_of), ("a.jsonl", jsonl_of), ("a.parquet", parquet_of), ("a.json", json_of)]
)
def test_a_table_names_images_each_once(squares, colours, tmp_path, name, write):
    write(squares / name)
    (tmp_path / "names.txt").write_text("red\ngreen\n")
    found = classify(colours(), str(squares / name), names=str(tmp_path / "names.txt"))
    assert [(answer.image, answer.name) for answer in found] == [
        ("red/0.png", "red"),
        ("green/1.png", "green"),
    ]
    write(tmp_path / name)
    elsewhere = ClassifyConfig(images_root=str(squares))
    assert classify(colours(), str(tmp_path / name), names=str(tmp_path / "names.txt"), config=elsewhere) == found


def test_each_row_of_a_table_gets_an_answer_that_says_what_is_wrong(squares, colours, tmp_path):
    names = ["red/0.png", "gone.png", "red/1.PNG", "../names.txt.png", "http://x.org/a.png", ""]
    (squares / "a.csv").write_text("image,id\n" + "".join(f"{name},1\n" for name in names) + "red/1.png,many,cells\n")
    (tmp_path / "names.txt").write_text("red\ngreen\n")
    found = classify(colours(), str(squares / "a.csv"), names=str(tmp_path / "names.txt"), out=tmp_path / "out.csv")
    assert [(answer.image, (answer.error or "").partition("; --")[0]) for answer in found] == [
        ("red/0.png", ""),
        ("gone.png", "no_image: no such file"),
        ("red/1.PNG", "no_image: no such file; its name differs from 1.png by case only"),
        (f"{squares}/a.csv row 7", "bad_row: 3 columns, expected 2; quote texts that have commas"),
        (f"{squares}/a.csv a.csv", "no_image: row 6 of those that can be read names no picture"),
        ("../names.txt.png", "bad_name: leads out of the folder that names start from"),
        ("http://x.org/a.png", "no_image: lies on the web, which is not fetched here; img2dataset fetches such lists"),
    ]
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 8


def test_a_table_of_images_without_one_row_that_can_be_read_says_why(squares):
    path = squares / "a.csv"
    path.write_bytes("image;Gr\u00f6\u00dfe\n\u00e4/0.png;1\n\u00e4/1.png;2\n".encode("cp1252"))
    with pytest.raises(UsageError) as error:
        find_images([str(path)])
    assert str(error.value) == (
        f"{path}: none of its rows can be read; the first: row 1: not UTF-8 (invalid continuation byte at byte 0): "
        f"iconv -f cp1252 -t utf-8 {path} > NEW, if it is Windows-1252 or Latin-1"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,kind\n1,2\n", "no column names images ('number', 'kind'); expected one of paths such as image or file_name"),
        (
            "image\ngone.png\n",
            "none of the images that it names, such as gone.png, lies in its folder or beside it; --images-root FOLDER says where",
        ),
    ],
)
def test_a_table_without_images_says_what_was_looked_for(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UsageError) as error:
        find_images([str(tmp_path / "a.csv")])
    assert str(error.value) == f"{tmp_path}/a.csv: {message}"


def tars_of(folder: Path, pictures: dict[str, bytes]) -> None:
    texts = {f"{name}.txt": b"a text" for name in list(pictures)[:1]}
    (folder / "00000.tar").write_bytes(tar_bytes({**{f"{name}.png": data for name, data in pictures.items()}, **texts, "9.txt": b"alone"}))


def parquets_of(folder: Path, pictures: dict[str, bytes]) -> None:
    states = [*("success" for _ in pictures), "failed_to_download"]
    pq.write_table(pa.table({"jpg": [*pictures.values(), None], "status": states}), folder / "00000.parquet")


@pytest.mark.parametrize(("write", "keys", "error"), [(tars_of, ("0", "1", "9"), "no_image: "), (parquets_of, None, "not_fetched: status")])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_images_in_tars_and_parquet_are_read(colours, tmp_path, write, keys, error, whole_folder):
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", {"0": square(SQUARES["red"]), "1": square(SQUARES["green"])})
    (tmp_path / "names.txt").write_text("red\ngreen\n")
    spec = tmp_path / "set" if whole_folder else next((tmp_path / "set").iterdir())
    found = classify(colours(), str(spec), names=str(tmp_path / "names.txt"))
    assert [answer.name for answer in found] == ["red", "green", None]
    assert (found[2].error or "").startswith(error)
    if keys:
        assert [answer.image for answer in found] == [f"00000.tar/{key}" for key in keys]
