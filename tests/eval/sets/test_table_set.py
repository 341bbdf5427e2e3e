"""Evaluation sets in tables that name pictures and their labels."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.dead_letters import DeadLetter
from fistful.errors import UsageError
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, results_table
from fistful.eval.sets.evaluation_set import EvalSet, Sample
from fistful.eval.sets.layouts import open_set
from fistful.eval.sets.set_options import SetOptions
from tests.support.evaluation_sets import RED, make

QUIET = EvaluateConfig(progress=False, prompts=("name",))


def table(path: Path, *rows: str, header: str = "image,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def seen(opened: EvalSet) -> list[tuple[str, list[str]]]:
    return [(s.name, [opened.classes[i].name for i in s.classes()]) for s in opened.read() if isinstance(s, Sample)]


def test_a_csv_of_paths_and_labels_scores_as_its_class_folders_do(squares, colours, tmp_path):
    rows = [f"{path.relative_to(squares)},{path.parent.name}" for path in sorted(squares.rglob("*.png"))]
    labels = table(squares / "labels.csv", *rows, header="file_name,class")
    out = evaluate(colours(), data=(str(squares), str(labels)), out=tmp_path / "r", config=QUIET)
    folders, listed = read_results(out)
    assert (folders["dataset"], listed["dataset"]) == ("squares", "squares-labels")
    assert listed["metrics"] == folders["metrics"]
    copied, beside = folders["warnings"][1], f"labels.csv names pictures and their labels, and is not read; --data {labels} takes it"
    assert (folders["warnings"], listed["warnings"]) == ([beside, copied], [copied])
    assert "squares-labels: labels.csv: pictures in its column file_name, labels in its column class: 12 pictures" in results_table(out)


def csv_set(root: Path) -> Path:
    return table(root / "t.csv", "pics/a.png,tabby_cat", "pics/b.png,dog")


def tsv_set(root: Path) -> Path:
    return table(root / "t.tsv", "a.png\ttabby_cat", "b.png\tdog", header="filename\tCategory")


def jsonl_set(root: Path) -> Path:
    rows = [{"file_name": "pics/a.png", "class_name": "tabby_cat"}, {"file_name": "pics/b.png", "class_name": "dog"}]
    (root / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root / "t.jsonl"


def parquet_set(root: Path) -> Path:
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "target": ["tabby_cat", "dog"]}), root / "t.parquet")
    return root / "t.parquet"


@pytest.mark.parametrize("write", [csv_set, tsv_set, jsonl_set, parquet_set])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_tables_are_read_by_name_and_as_the_folder_that_holds_one(tmp_path, write, whole_folder):
    root = make(tmp_path / "pets", "pics/a.png", "pics/b.png")
    path = write(root)
    opened = open_set(str(root if whole_folder else path), None)
    assert [(Path(name).name, names) for name, names in seen(opened)] == [("a.png", ["tabby cat"]), ("b.png", ["dog"])]
    assert (opened.name, opened.n_images, opened.warnings) == ("pets" if whole_folder else "t", 2, [])


def test_several_labels_of_a_picture_make_a_multi_label_set(tmp_path):
    make(tmp_path, "a.png", "b.png")
    opened = open_set(str(table(tmp_path / "t.csv", "a.png,cat", "b.png,dog", "./a.png,dog", "b.png,dog")), None)
    assert opened.multilabel
    assert seen(opened) == [("a.png", ["cat", "dog"]), ("b.png", ["dog"])]
    assert opened.warnings == ["1 of 2 pictures has several labels, so any number of classes may be right: mean average precision"]
    rows = [{"image": "a.png", "labels": ["cat", "dog"]}, {"image": "b.png", "labels": []}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listed = open_set(str(tmp_path / "t.jsonl"), None)
    assert (listed.multilabel, seen(listed), listed.warnings) == (True, [("a.png", ["cat", "dog"]), ("b.png", [])], [])


def test_labels_that_are_numbers_need_names_and_a_text_beside_them_is_better(tmp_path):
    make(tmp_path, "a.png", "b.png")
    rows = [{"image": "a.png", "label": 1}, {"image": "b.png", "label": 0}, {"image": "c.png", "label": -1}]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UsageError) as error:
        open_set(str(path), None)
    assert str(error.value) == (
        f"{path}: its labels (column label) are numbers, such as 1, without names; --names FILE, a TSV with the columns id and name, "
        "says what they are"
    )
    (tmp_path / "names.tsv").write_text("id\tname\n0\tcat\n1\tdog\n")
    assert seen(open_set(str(path), str(tmp_path / "names.tsv"))) == [("a.png", ["dog"]), ("b.png", ["cat"])]
    both = table(tmp_path / "both.csv", "a.png,1,dog", "b.png,0,cat", header="image,label,class_name")
    assert seen(open_set(str(both), None)) == [("a.png", ["dog"]), ("b.png", ["cat"])]
    floats = table(tmp_path / "floats.csv", "a.png,1.0", "b.png,0.0")
    assert seen(open_set(str(floats), str(tmp_path / "names.tsv"))) == [("a.png", ["dog"]), ("b.png", ["cat"])]


def test_what_cannot_be_used_becomes_a_dead_letter_with_its_reason(tmp_path):
    make(tmp_path / "out", "secret.png")
    make(tmp_path / "in", "a.png", "b.png")
    rows = ["a.png,cat", "gone.png,dog", "../out/secret.png,cat", "b.png,", ",cat", "a.png,cat,more", "http://x.org/a.png,cat"]
    opened = open_set(str(table(tmp_path / "in" / "t.csv", *rows)), None)
    found = list(opened.read())
    assert [(one.place, one.reason, one.detail.split(";")[0]) for one in found if isinstance(one, DeadLetter)] == [
        ("row 6", "bad_row", "3 columns, expected 2"),
        ("t.csv", "no_image", "row 5 of those that can be read names no picture"),
        ("gone.png", "no_image", "no such file"),
        ("../out/secret.png", "bad_name", "leads out of the folder that names start from"),
        ("b.png", "no_label", "has no label"),
        ("http://x.org/a.png", "no_image", "lies on the web, which is not fetched here"),
    ]
    assert [one.name for one in found if isinstance(one, Sample)] == ["a.png"]
    assert opened.n_images == len(found)


def test_a_table_without_one_row_that_can_be_read_says_why(tmp_path):
    make(tmp_path, "a.png", "b.png")
    path = tmp_path / "t.csv"
    path.write_bytes("image,label\na.png,K\u00e4fer\nb.png,B\u00e4r\n".encode("cp1252"))
    with pytest.raises(UsageError) as error:
        open_set(str(path), None)
    assert str(error.value) == (
        f"{path}: none of its rows can be read; the first: row 1: not UTF-8 (invalid continuation byte at byte 1): "
        f"iconv -f cp1252 -t utf-8 {path} > NEW, if it is Windows-1252 or Latin-1"
    )


def test_pictures_that_refused_rows_name_are_not_said_to_be_unnamed(tmp_path):
    make(tmp_path, "a.png", "b.png", "c.png")
    table(tmp_path / "t.csv", "a.png,cat", "b.png,dog,more")
    assert open_set(str(tmp_path), None).warnings[0] == "1 picture lies beside t.csv and is named by no row, such as c.png"


def test_the_content_of_pictures_and_table_counts(tmp_path):
    make(tmp_path, "a.png", "b.png")
    path = table(tmp_path / "t.csv", "a.png,cat", "b.png,dog")
    prints = [open_set(str(path), None).fingerprint()]
    table(path, "a.png,dog", "b.png,cat")
    prints.append(open_set(str(path), None).fingerprint())
    (tmp_path / "b.png").write_bytes(RED + b"x")
    prints.append(open_set(str(path), None).fingerprint())
    assert len({json.dumps(one) for one in prints}) == 3


def test_a_split_is_taken_where_the_table_says_it(tmp_path):
    make(tmp_path, "a.png", "b.png", "c.png")
    path = table(tmp_path / "t.csv", "a.png,cat,train", "b.png,cat,test", "c.png,dog,train", header="image,label,split")
    opened = open_set(str(path), None, options=SetOptions(split="test"))
    assert (seen(opened), [c.name for c in opened.classes], opened.warnings) == ([("b.png", ["cat"])], ["cat", "dog"], [])
    assert open_set(str(path), None).warnings == ["the splits test, train are scored together; --split takes one"]
    with pytest.raises(UsageError) as error:
        open_set(str(path), None, options=SetOptions(split="val"))
    assert str(error.value) == f"--split val: {path} has the splits test, train"
    with pytest.raises(UsageError) as error:
        open_set(str(make(tmp_path / "folders", "cat/a.png", "dog/b.png")), None, options=SetOptions(split="val"))
    assert str(error.value) == f"--split val: {tmp_path}/folders is no table that says splits; name the folder or the files of one split"


def test_pictures_may_lie_elsewhere(tmp_path):
    make(tmp_path / "pictures", "a.png", "b.png")
    (tmp_path / "tables").mkdir()
    path = table(tmp_path / "tables" / "t.csv", "a.png,cat", "b.png,dog")
    elsewhere = SetOptions(images_root=str(tmp_path / "pictures"))
    assert seen(open_set(str(path), None, options=elsewhere)) == [("a.png", ["cat"]), ("b.png", ["dog"])]


def test_results_of_another_split_are_others(squares, colours, tmp_path):
    rows = [f"{path.relative_to(squares)},{path.parent.name},{path.stem}" for path in sorted(squares.rglob("*.png"))]
    data = str(table(tmp_path / "squares" / "t.csv", *rows, header="image,label,split"))
    out = evaluate(colours(), data=(data,), out=tmp_path / "r", config=dataclasses.replace(QUIET, split="1"))
    assert read_results(out)[0]["metrics"]["n"] == 3
    with pytest.raises(UsageError, match="belongs to another configuration"):
        evaluate(colours(), data=(data,), out=out, config=dataclasses.replace(QUIET, split="2"))


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "image,kind",
            "a.png,cat",
            "names pictures in its column image, and has neither labels nor captions ('image', 'kind'); expected a column label, labels, "
            "class, class_name, category, target, cls or fine_label; --label COLUMN or --caption COLUMN says which it is",
        ),
        (
            "number,label",
            "1,cat",
            "no column names pictures ('number', 'label'); expected one of paths such as image, file_name or path; "
            "--image COLUMN says which it is",
        ),
        (
            "image,label",
            "gone.png,cat",
            "none of the first 1 pictures in its column image, such as gone.png, lies in its folder or beside it; "
            "--images-root FOLDER says where they lie",
        ),
        (
            "url,label",
            "https://x.org/a.png,cat",
            "names pictures on the web, which are not fetched here; img2dataset --url_list t.csv --input_format csv --url_col url "
            "--output_format files --output_folder DIR does",
        ),
    ],
)
def test_a_table_at_fault_says_what_was_found_and_expected(tmp_path, header, row, message):
    make(tmp_path, "a.png")
    path = table(tmp_path / "t.csv", row, header=header)
    with pytest.raises(UsageError) as error:
        open_set(str(path), None)
    assert str(error.value) == f"{path}: {message}"


def test_a_folder_with_two_such_tables_says_which_to_name(tmp_path):
    make(tmp_path, "a.png", "b.png")
    for name in ("test.csv", "train.csv"):
        table(tmp_path / name, "a.png,cat", "b.png,dog")
    with pytest.raises(UsageError) as error:
        open_set(str(tmp_path), None)
    assert str(error.value) == (
        f"{tmp_path}: holds several tables of pictures and labels, test.csv and train.csv; name one, such as --data {tmp_path}/test.csv"
    )


def test_a_folder_tells_of_pictures_that_its_table_leaves_out(tmp_path):
    make(tmp_path / "set", "images/a.png", "images/b.png", "images/c.png")
    table(tmp_path / "set" / "t.csv", "a.png,cat,a cat", "b.png,dog,a dog", header="image,label,caption")
    assert open_set(str(tmp_path / "set"), None).warnings == [
        "t.csv has captions too, which are not read: it was taken for a set of labels",
        "1 picture lies beside t.csv and is named by no row, such as images/c.png",
    ]


def test_evaluation_brings_no_beam():
    modules = "fistful.eval.evaluate, fistful.eval.sets.table_set, fistful.eval.sets.caption_set, fistful.eval.tasks.classify"
    code = f"import sys, {modules}; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


COMPANY = "Nr.|Bild|Beschreibung|Klasse|label"
"""The header of a table whose columns are called as somebody likes."""


def company(root: Path) -> Path:
    make(root, "a.png", "b.png")
    rows = ["1|a.png|a cat|red|7", "2|b.png|a dog|green|8"]
    return table(root / "t.csv", *rows, header=COMPANY)


def test_columns_are_called_as_one_says(tmp_path):
    path = company(tmp_path)
    options = SetOptions(label="Klasse", image="Bild", delimiter="bar")
    assert seen(open_set(str(path), None, options=options)) == [("a.png", ["red"]), ("b.png", ["green"])]
    path.write_text("a.png,cat\nb.png,dog\n")
    assert seen(open_set(str(path), None, options=SetOptions(image="1", label="2"))) == [("a.png", ["cat"]), ("b.png", ["dog"])]


def test_columns_inside_parquet_are_called_as_one_says(tmp_path):
    pq.write_table(pa.table({"Bild": [RED, RED], "Klasse": ["cat", "dog"]}), tmp_path / "a.parquet")
    for spec in (tmp_path, tmp_path / "a.parquet"):
        opened = open_set(str(spec), None, options=SetOptions(image="Bild", label="Klasse"))
        assert [entry.name for entry in opened.classes] == ["cat", "dog"]
    with pytest.raises(UsageError, match=r"has no column image or .* found Bild, Klasse; --image COLUMN says which it is"):
        open_set(str(tmp_path / "a.parquet"), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "Klase"}, "--label Klase: {path} has no such column ('Nr.', 'Bild', 'Beschreibung', 'Klasse', 'label')"),
        ({"image": "Bid"}, "--image Bid: {path} has no such column ('Nr.', 'Bild', 'Beschreibung', 'Klasse', 'label')"),
        ({"delimiter": "semicolon"}, "{path}: no column names pictures ('Nr.|Bild|Beschreibung|Klasse|label'); expected one of paths"),
        ({"caption": "a", "label": "b"}, "--caption a --label b: a table is asked for its captions or its labels; give one"),
    ],
)
def test_columns_that_are_not_there_are_told(colours, tmp_path, options, message):
    path = company(tmp_path)
    with pytest.raises(UsageError) as error:
        evaluate(colours(), data=(str(path),), out=tmp_path / "r", config=EvaluateConfig(progress=False, **options))
    assert str(error.value).startswith(message.format(path=path))


def test_sets_without_columns_refuse_what_is_asked_of_columns(squares, colours, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.png").write_bytes(RED)
    (tmp_path / "c" / "a.txt").write_text("red")
    for spec, kind in ((squares, "is no table, so has no columns"), (tmp_path / "c", "has captions and no labels")):
        with pytest.raises(UsageError, match=f"--label Klasse: {spec} {kind}; leave it out"):
            evaluate(colours(), data=(str(spec),), out=tmp_path / "r", config=dataclasses.replace(QUIET, label="Klasse"))


def test_results_by_other_columns_are_others(colours, tmp_path):
    path = company(tmp_path)
    evaluate(colours(), data=(str(path),), out=tmp_path / "r", config=dataclasses.replace(QUIET, label="Klasse", delimiter="bar"))
    with pytest.raises(UsageError, match="belongs to another configuration"):
        evaluate(colours(), data=(str(path),), out=tmp_path / "r", config=dataclasses.replace(QUIET, label="Beschreibung", delimiter="bar"))
