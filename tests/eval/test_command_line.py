"""The command line of the evaluation verbs: what they print, and faults as whole messages."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import fistful
from fistful.cli import run
from tests.support.squares import SQUARES, square

MODEL = "tests.support.colours:ColourEncoder"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with five photos, names for them, and things that are neither."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    for i, colour in enumerate([*SQUARES.values(), SQUARES["red"]]):
        Path(f"mine/{i}.png").write_bytes(square(colour, i))
    Path("mine/broken.jpg").write_bytes(b"nothing")
    Path("names.txt").write_text("something red\na green thing\nblue\n")
    Path("reds.txt").write_text("red one\nred two\n")
    Path("one.txt").write_text("red\n")
    Path("latin.txt").write_bytes(b"caf\xe9\nred\n")
    Path("empty").mkdir()
    return tmp_path


def test_images_of_ones_own_are_named_by_ones_own_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", MODEL, "mine", "--names", "names.txt", "--top", "2", "--out", "answers.csv"]) == 0
    assert capsys.readouterr().out == (
        "image            is             the best, with their probabilities\n"
        "mine/0.png       something red  something red 100%, a green thing 0%\n"
        "mine/1.png       a green thing  a green thing 100%, blue 0%\n"
        "mine/2.png       blue           blue 100%, a green thing 0%\n"
        "mine/3.png       something red  something red 100%, a green thing 0%\n"
        "mine/broken.jpg  not readable   bad_image: not a JPEG, PNG, WEBP image (UnidentifiedImageError; starts with b'nothing')\n"
        "5 images: 2 something red, 1 a green thing, 1 blue, 1 not readable\n"
        "all answers lie in answers.csv\n"
    )
    with Path("answers.csv").open() as file:
        assert [(row["image"], row["name"]) for row in csv.DictReader(file)][:2] == [
            ("mine/0.png", "something red"),
            ("mine/1.png", "a green thing"),
        ]
    assert run(["classify", MODEL, "mine/0.png", "--names", "reds.txt", "--threshold", "0.9", "--out", "a/b.jsonl"]) == 0
    assert "none of these" in capsys.readouterr().out
    assert json.loads(Path("a/b.jsonl").read_text())["name"] is None


def test_the_verb_is_a_function_too(here: Path) -> None:
    names = ["something red", "a green thing"]
    assert [a.name for a in fistful.load(MODEL).classify(["mine/1.png"], names, fistful.ClassifyConfig(top=1))] == ["a green thing"]
    (answer,) = fistful.classify(MODEL, "mine/0.png", names="names.txt")
    assert answer.name == "something red"


FAULTS = [
    ("classify", 'Command "classify" parameter MODEL requires an argument. fistful classify --help shows what there is.'),
    (
        "classify {model} --names names.txt",
        "no IMAGES given; expected image files, folders, tars or parquet of them, or a table that names them",
    ),
    ("classify {model} mine", 'Command "classify" parameter --names requires an argument. fistful classify --help shows what there is.'),
    (
        "classify {model} mine --names none.txt",
        "--names none.txt: no such file; expected one class name on each line, or a TSV with the columns folder and name",
    ),
    ("classify {model} mine --names one.txt", "--names one.txt: found 1 names, expected two or more"),
    (
        "classify {model} mine --names latin.txt",
        "--names latin.txt: not UTF-8 (invalid continuation byte at byte 3); expected one class name on each line, "
        "or a TSV with the columns folder and name, in UTF-8: iconv -f cp1252 -t utf-8 latin.txt > NEW, if it is Windows-1252 or Latin-1",
    ),
    ("classify {model} none.png --names names.txt", "none.png: no such image or folder"),
    (
        "classify {model} empty --names names.txt",
        "empty: no images; expected files that end in jpg, jpeg, png, webp, jfif, jpe, folders of them, "
        "tars or parquet files of them, or a table that names them",
    ),
    (
        "classify nowhere mine --names names.txt",
        "nowhere: no such folder; expected a run folder, an open_clip folder, or package.module:function",
    ),
    (
        "classify mine mine --names names.txt",
        "mine: has no model (neither fistful.json nor open_clip_config.json); expected a run folder or an open_clip folder",
    ),
    ("classify {model} mine --names names.txt --out a.txt", "--out a.txt: expected a file that ends in .csv or .jsonl"),
    ("classify {model} mine --names names.txt --threshold 2", "--threshold 2.0: expected a probability, 0 to 1"),
    ("classify {model} mine --names names.txt --top 0", "--top 0: expected 1 or more"),
]


@pytest.mark.parametrize(("command", "message"), FAULTS, ids=[command for command, _ in FAULTS])
def test_a_call_at_fault_ends_with_2_in_one_line_that_says_what_to_do(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert run(command.format(model=MODEL).split()) == 2
    assert capsys.readouterr() == ("", f"fistful: {message}\n")


def test_images_none_of_which_can_be_read_end_with_3(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", MODEL, "mine/broken.jpg", "--names", "names.txt"]) == 3
    assert capsys.readouterr().err == (
        "names.txt: 3 class names, one a line: something red, a green thing, blue\n"
        "fistful: mine/broken.jpg: cannot be read (bad_image: not a JPEG, PNG, WEBP image (UnidentifiedImageError; "
        "starts with b'nothing')); expected at least one image that can\n"
    )


def test_captioned_pictures_give_retrieval_and_tagging(
    captioned: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(captioned.parent)
    command = ["zero-shot", MODEL, "--data", captioned.name, "--out", "results", "--no-progress"]
    assert run(command) == 0
    first = capsys.readouterr().out
    head = "model  data  image R@1  R@5 [95 %]  R@10  text R@1  R@5 [95 %]  R@10  chance R@5  tags P@3  AP macro  images"
    assert first.splitlines()[0].split() == head.split()
    assert first.splitlines()[2].split()[:2] == ["colours", "photos-bags"]
    assert first.endswith("results and predictions lie in results\n")
    assert run(command) == 0
    assert capsys.readouterr().out == f"done already:\n{first}"


def test_a_run_that_has_no_model_yet_is_said_to_be_unfinished(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text('{"verb": "train"}')
    assert run(["classify", "run", "mine", "--names", "names.txt"]) == 2
    assert capsys.readouterr().err == "fistful: run: training is not finished (no model yet); the same fistful train goes on\n"
