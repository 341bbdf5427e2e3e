"""The whole way, as one types it: read this file as a manual.

Photos with captions go in; a model learns from balanced bags, labels photos without captions, a second
model learns from both, and a page shows what they are worth. (Here the "photos" are coloured squares.)
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fistful.bow.store.files import read_json
from fistful.bow.store.shard import tar_bytes
from fistful.cli import run
from tests.support.pictures import picture

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """captioned.tar, uncaptioned.tar and test/CLASS/*.png in the folder that we stand in."""
    monkeypatch.chdir(tmp_path)
    captioned: dict[str, bytes] = {}
    uncaptioned: dict[str, bytes] = {}
    for i in range(480):
        name = list(COLOURS)[i % 3]
        red, green, blue = COLOURS[name]
        image = picture((red - i % 20, green - i // 20 % 20, blue - i // 400), size=(48, 40))  # no picture twice: held out by content
        if i < 400:
            captioned |= {f"{i:04d}.png": image, f"{i:04d}.txt": f"The {name} square is a square of paper.".encode()}
        elif i < 450:
            uncaptioned[f"{i:04d}.png"] = image
        else:
            (tmp_path / "test" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "test" / name / f"{i}.png").write_bytes(image)
    captioned |= {"9998.png": b"not an image", "9998.txt": b"a broken square"}
    Path("captioned.tar").write_bytes(tar_bytes(captioned))
    Path("uncaptioned.tar").write_bytes(tar_bytes(uncaptioned))
    return tmp_path


def fistful(command: str) -> None:
    """Type a command, and expect it to end well."""
    assert run(command.split()) == 0


def test_from_captions_to_a_model_that_labels_and_is_evaluated(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # how often does each word occur? what cannot be used is put aside, with its reason
    fistful("count captioned.tar --out counts --no-progress")
    fistful("bags captioned.tar --counts counts --out bags --rule cap --kept 0.5 --no-progress")
    assert read_json(photos / "bags" / "stats.json")["refused"] == {"bad_image": 1}

    # learn from bags, thinned anew each epoch, with a word head; keep a tenth of the photos to measure on
    train = "--text-tower words --objective joint --steps 30 --batch-size 16 --lr 0.003 --warmup 5 --threads 1 --no-progress"
    fistful(f"train bags --out first --holdout 0.1 {train}")

    assert "next: fistful train bags --out RUN" in capsys.readouterr().out

    # pictures that it learnt from are no test of it, and it says so
    fistful("evaluate first --data bags --out seen --no-progress")
    assert "the model was trained on this folder" in capsys.readouterr().out

    # give words to the photos that have none, and learn from all
    fistful("label uncaptioned.tar --model first --like bags --out labelled --no-progress")
    fistful(f"train bags labelled --out second --holdout 0.1 --evaluate-on test --evaluate-every 15 {train}")

    # what do my own photos show?
    Path("names.txt").write_text("red\ngreen\nblue\nsnellen chart\n")
    fistful("classify second test/red --names names.txt --out answers.csv --no-progress")

    # what are the two models worth, and what does it look like?
    fistful("evaluate first second --data test --out results --prompts name --no-progress")
    fistful("report first second results bags labelled --out page.html")
    fistful("verify counts bags first labelled second results")

    for result in read_json(photos / "results" / "results.json")["results"]:
        assert result["metrics"]["acc1"] > 0.6  # three colours: guessing gives a third
    assert read_json(photos / "labelled" / "stats.json")["kept"] > 25
    with open("answers.csv") as file:
        answers = [row["name"] for row in csv.DictReader(file)]
    assert len(answers) == 10
    assert answers.count("red") > 6
    said, warned = capsys.readouterr()
    assert "second: learnt no word of snellen chart (snellen chart)" in warned
    assert "results: every byte as written" in said
    assert "zero-shot, one prompt a class: " in said
    assert "next: fistful evaluate second --data test --out RESULTS" in said


def test_the_same_command_again_does_nothing_and_another_one_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fistful("count captioned.tar --out counts --no-progress")
    fistful("count captioned.tar --out counts --no-progress")
    assert "done already" in capsys.readouterr().out
    assert run(["count", "captioned.tar", "--out", "counts", "--min-length", "3", "--no-progress"]) == 2
    assert capsys.readouterr().err == (
        f"fistful: {photos}/counts: belongs to another configuration (min_length: 1 there, 3 asked); choose another --out\n"
    )
