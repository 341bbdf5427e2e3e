"""Which folders are classes, and what the classes are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from fistful.errors import DataError, UsageError
from fistful.eval.sets.class_names import ClassName, name_classes, odd_names, read_table
from fistful.eval.sets.layouts import open_set
from tests.support.evaluation_sets import clip_benchmark_set, make, write_parquet
from tests.support.squares import SQUARES, square

RED = square(SQUARES["red"])
COLUMNS = (
    ", expected one called name, and folder, wnid or id if names belong to folders or numbers; "
    "if each line is one class name, put a line above them that says name"
)


def test_what_lies_beside_wordnet_ids_does_not_make_names_of_them(tmp_path: Path) -> None:
    root = make(tmp_path, "n01440764/a.jpg", "n02012849/b.jpg", "__MACOSX/n01440764/c.jpg", "boxes/a.xml")
    (root / "lost+found").mkdir()
    (root / "empty").mkdir()
    opened = open_set(str(root), None)
    assert [entry.name for entry in opened.classes] == ["tench", "crane bird"]
    assert opened.n_images == 2
    assert opened.warnings == [f"the folder {name!r} is taken for no class" for name in ("boxes", "empty", "lost+found")]


def test_a_class_among_wordnet_ids_is_called_by_its_folder_and_that_is_said(tmp_path: Path) -> None:
    opened = open_set(str(make(tmp_path, "n01440764/a.jpg", "n02012849/b.jpg", "big_dog/c.jpg")), None)
    assert [entry.name for entry in opened.classes] == ["big dog", "tench", "crane bird"]
    assert opened.warnings == ["2 of 3 class folders are WordNet ids, the others are taken as names: 'big_dog'"]


def test_a_class_without_images_stays_a_choice_unless_its_folder_holds_something_else(tmp_path: Path) -> None:
    root = make(tmp_path, "cat/a.jpg", "dog/b.jpg", "owl/c.gif", "notes/d.md")
    (root / "cow").mkdir()
    opened = open_set(str(root), None)
    assert [entry.name for entry in opened.classes] == ["cat", "cow", "dog", "owl"]
    assert opened.warnings == [
        "class 'cow' has no image",
        "class 'owl' has no image",
        "the folder 'notes' is taken for no class",
        "1 .gif files are not read",
    ]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("train/cat/a.jpg", "val/cat/b.jpg", "annotations/a.xml"), "its folders train, val are splits, not classes"),
        (("train/cat/a.jpg", "val/cat/b.jpg", "other/c.jpg"), "its folders train, val are splits, not classes"),
        (
            ("a/airfield/1.jpg", "a/bakery/shop/2.jpg", "b/bank/3.jpg"),
            "its folders 'a', 'b' are letters, not classes; those lie within, such as a/airfield: move them up into one folder",
        ),
    ],
)
def test_folders_that_hold_the_classes_are_refused(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as error:
        open_set(str(make(tmp_path, *paths)), None)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "paths", [("train/a.jpg", "test/b.jpg", "bus/c.jpg"), ("a/1.jpg", "b/2.jpg"), ("a/images/1.jpg", "b/images/2.jpg")]
)
def test_vehicles_and_letters_may_be_classes(tmp_path: Path, paths: tuple[str, ...]) -> None:
    opened = open_set(str(make(tmp_path, *paths)), None)
    assert [entry.name for entry in opened.classes] == sorted(path.split("/")[0] for path in paths)
    assert opened.warnings == []


def test_folders_within_classes_are_joined_and_that_is_said(tmp_path: Path) -> None:
    opened = open_set(str(make(tmp_path, "dog/poodle/a.jpg", "dog/beagle/b.jpg", "cat/c.jpg")), None)
    assert [entry.name for entry in opened.classes] == ["cat", "dog"]
    assert opened.warnings == [
        "2 folders within classes were joined; if they are the classes, move them up into one folder: 'dog/beagle', 'dog/poodle'"
    ]


def test_numbers_say_nothing_unless_they_are_imagenets(tmp_path: Path) -> None:
    opened = open_set(str(make(tmp_path, "0/a.jpg", "1/b.jpg", "10/c.jpg")), None)
    assert [entry.name for entry in opened.classes] == ["0", "1", "10"]
    assert opened.warnings == [
        "3 classes are called by numbers, which say nothing of what is in them ('0', '1', '10'); --names FILE gives names"
    ]
    classes, warnings = name_classes(sorted(str(i) for i in range(1000)), None)
    assert [(entry.folder, entry.name) for entry in classes[:3]] == [("0", "tench"), ("1", "goldfish"), ("10", "brambling")]
    assert warnings == ["the folders 0 to 999 are taken for ImageNet's classes in their usual order; --names says otherwise"]


def test_a_class_that_is_alone_is_told(tmp_path: Path) -> None:
    opened = open_set(str(make(tmp_path, "cat/a.jpg")), None)
    assert opened.warnings == ["'cat' is the only class, so every answer is right; a score needs two or more"]


def test_names_that_are_one_text_to_a_model_are_told() -> None:
    classes = [ClassName("a", "Cat"), ClassName("b", "cat "), ClassName("c", "dog"), ClassName("d", "dog")]
    assert odd_names(classes) == [
        "the names 'Cat', 'cat ' are one text to a model, shared by the classes a, b",
        "the name 'dog' is shared by the classes c, d",
    ]


def test_many_names_that_are_one_text_to_a_model_make_one_line() -> None:
    classes = [ClassName(name, name) for name in ("CAT", "COW", "DOG", "OWL", "PIG", "cat", "cow", "dog", "owl")]
    assert odd_names(classes) == [
        "4 names are one text to a model, shared by several classes: 'CAT' and 'cat', 'COW' and 'cow', 'DOG' and 'dog' and 1 more"
    ]


def test_empty_names_are_refused_wherever_a_set_has_them(tmp_path: Path) -> None:
    root = clip_benchmark_set(tmp_path / "wds", [{"a.jpg": RED, "a.cls": b"1"}], "cat\n\ndog\n")
    with pytest.raises(DataError, match=r"classnames.txt row 2: found no class name, expected one in each row"):
        open_set(str(root), None)
    path = write_parquet(tmp_path / "a.parquet", [RED, RED], [0, 1], ["cat", " "])
    with pytest.raises(UsageError, match="the name of its class 1 is empty; --names with the columns id and name gives one"):
        open_set(str(path), None)
    path = write_parquet(tmp_path / "b.parquet", [RED, RED], ["cat", ""])
    opened = open_set(str(path), None)
    assert [entry.name for entry in opened.classes] == ["cat"]
    assert [letter.reason for letter in opened.read() if hasattr(letter, "reason")] == ["no_label"]


def test_names_of_a_set_in_shards_may_come_from_a_table_in_any_order(tmp_path: Path) -> None:
    root = clip_benchmark_set(tmp_path / "wds", [{"a.jpg": RED, "a.cls": b"1"}])
    (tmp_path / "n.csv").write_text("id,name\n1,puppy\n0,kitten\n")
    assert [entry.name for entry in open_set(str(root), str(tmp_path / "n.csv")).classes] == ["kitten", "puppy"]
    (tmp_path / "n.csv").write_text("id,name\n1,puppy\n2,kitten\n")
    with pytest.raises(UsageError, match=r"its column id holds '1', ..., expected the numbers in .cls, from 0"):
        open_set(str(root), str(tmp_path / "n.csv"))


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("n.csv", b"a,cat\nb,dog\n", "--names {path}: its first row has the columns 'a', 'cat'" + COLUMNS),
        ("n.csv", b"id;klasse\r\n1;dog\r\n2;cat\r\n", "--names {path}: its first row has the columns 'id', 'klasse'" + COLUMNS),
        ("n.txt", b"id|Klasse\n1|dog\n", "--names {path}: its first row has the columns 'id', 'klasse'" + COLUMNS),
        ("n.txt", b"id,Klasse\n\n1,dog\n", "--names {path}: its first row has the columns 'id', 'klasse'" + COLUMNS),
        ("n.csv", b"folder,name\na,crane, bird\n", "{path} row 2: found 3 cells, expected 2 as in the first row"),
        (
            "n.csv",
            b"folder,name,name\na,b,c\n",
            "--names {path}: its first row has the columns 'folder', 'name', 'name'" + COLUMNS,
        ),
        ("n.csv", b'folder,name\na,"crane\nb,dog\n', "{path}: not readable as a table (unexpected end of data)"),
        ("n.tsv", b"folder\tname\na\t\n", "{path} row 2: found folder 'a' and name '', expected both"),
        (
            "n.txt",
            b"caf\xe9\n",
            "--names {path}: not UTF-8 (invalid continuation byte at byte 3); expected one class name on each line, or a TSV with the "
            "columns folder and name, in UTF-8: iconv -f cp1252 -t utf-8 {path} > NEW, if it is Windows-1252 or Latin-1",
        ),
    ],
)
def test_a_file_of_names_at_fault_says_where(tmp_path: Path, file: str, data: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(data)
    with pytest.raises((UsageError, DataError)) as error:
        read_table(tmp_path / file)
    assert str(error.value) == message.format(path=tmp_path / file)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Klasse\r\ndog\r\ncat\r\n", "n.csv: 3 class names, one a line: Klasse, dog, cat"),
        ("dog; big\ncat\n", "n.csv: 2 class names, one a line: dog; big, cat"),
        ("name\ndog, big\ncat, small\n", "n.csv: 2 class names, of its column name: dog, big, cat, small"),
        ("id;name\n0;dog\n1;cat\n", "n.csv: 2 class names, of its column name: dog, cat"),
    ],
)
def test_how_a_file_of_names_was_read_is_said(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "n.csv").write_text(text)
    assert read_table(tmp_path / "n.csv").taken == line


def test_a_list_for_a_set_in_shards_is_told_with_its_results(tmp_path: Path) -> None:
    root = clip_benchmark_set(tmp_path / "wds", [{"a.jpg": RED, "a.cls": b"1"}])
    (tmp_path / "n.txt").write_text("Klasse\nkitten\n")
    assert open_set(str(root), str(tmp_path / "n.txt")).taken == ["n.txt: 2 class names, one a line: Klasse, kitten"]
    assert open_set(str(root), None).taken == []
