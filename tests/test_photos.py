"""`make photos`, in its small form."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.photos import labels_line, share_right
from benchmarks.photos_data import cut_photos, is_held, read_samples
from benchmarks.photos_results import POINTS, difference, over_seeds
from fistful.errors import UsageError

REPOSITORY = Path(__file__).parents[1]


def small_form(data_root: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.photos", "--small", "--out", str(out), "--seeds", "2"]
    environment = {**os.environ, "FISTFUL_DATA": str(data_root)}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_small_form_goes_the_whole_way_and_goes_on_where_it_was_killed(data_root: Path, tmp_path: Path) -> None:
    first = small_form(data_root, tmp_path / "out")
    labelled = tmp_path / "out" / "pseudo-scratch" / "config.json"
    while first.poll() is None and not labelled.exists():
        time.sleep(0.1)  # it is killed in the middle of labelling
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = small_form(data_root, tmp_path / "out")
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert "smoke run: one seed, which ranks nothing" in said
    assert "its tower saw ImageNet's labels" in said

    rows = json.loads(next((tmp_path / "out").glob("photos-*.json")).read_text())["rows"]
    assert rows["starts"]["scratch"]["smoke_run"]
    assert not rows["starts"]["frozen"]["smoke_run"]
    assert {"vectors", "pseudo-vectors"} == rows["starts"]["frozen"]["models"].keys() - rows["starts"]["scratch"]["models"].keys() - {
        "recipe"
    }
    for name, start in rows["starts"].items():
        assert {"captions", "bags", "balanced", "random", "pseudo"} <= start["models"].keys()
        tiny = start["sets"][f"tiny-imagenet-val, {start['prompts']}"]
        assert tiny["half"] == "test"
        assert all(scores["saw_imagenet_labels"] == (name == "frozen") for scores in tiny["models"].values())
        assert all(found["low"] <= found["mean"] <= found["high"] for found in tiny["differences"].values())
        assert (tmp_path / "out" / f"report-{name}.html").exists()
    path = next((tmp_path / "out").glob("curves-*.json"))
    assert path.stat().st_size < 200_000
    assert all(len(run["step"]) <= POINTS for run in json.loads(path.read_text())["rows"].values())


def test_the_pictures_set_aside_are_in_no_training_part(data_root: Path, tmp_path: Path) -> None:
    found = cut_photos(data_root, tmp_path, small=True)
    keys = {
        part: {sample[""] for path in (tmp_path / part).rglob("*.tar") for sample in read_samples(path)} for part in ("captioned", "held")
    }
    assert not keys["captioned"] & keys["held"]
    assert (len(keys["captioned"]), len(keys["held"])) == (sum(found["captioned"].values()), sum(found["held"].values()))
    assert cut_photos(data_root, tmp_path, small=True) == found
    with pytest.raises(UsageError, match="holds the small form; choose another --out"):
        cut_photos(data_root, tmp_path, small=False)


def test_flickr8k_sets_its_own_development_photos_aside() -> None:
    assert is_held("flickr8k", {"": b"1", "json": b'{"split": "dev"}'})
    assert not is_held("flickr8k", {"": b"1", "json": b'{"split": "train"}'})
    assert not is_held("grocery", {"": b"1"})


def test_a_difference_counts_only_if_pictures_and_seeds_tell_it_apart() -> None:
    none, all_right = np.zeros((3, 400)), np.ones((3, 400))
    assert difference(none, all_right)["told_apart"]
    mixed = np.stack([np.ones(400), np.zeros(400), np.tile([0.0, 1.0], 200)])  # seeds differ more than arms
    found = difference(np.full((3, 400), 0.0), mixed)
    assert (found["mean"], found["told_apart"], found["same_predictions"]) == (0.5, False, False)


def test_one_seed_tells_nothing_apart_and_equal_predictions_are_said_to_be_equal() -> None:
    assert difference(np.zeros((1, 400)), np.ones((1, 400)))["told_apart"] is None
    same = difference(np.ones((3, 400)), np.ones((3, 400)))
    assert (same["same_predictions"], same["told_apart"]) == (True, False)


def test_one_seed_gives_no_interval_over_seeds() -> None:
    assert over_seeds([0.25]) == {"mean": 0.25, "per_seed": [0.25]}
    assert over_seeds([None]) == {"mean": None, "per_seed": [None]}


def test_labels_are_told_beside_copying_as_many_words() -> None:
    labels = {"kept": 9, "rows": 10, "words_a_picture": 2.5, "held_out_images": 40, "held_out_precision": 0.5}
    labels |= {"held_out_share_right_of_most_frequent_words": 0.1, "held_out_nearest": {"precision": 0.3, "labels": 0.4}}
    assert labels_line(labels) == (
        "9 of 10 pictures got 2.5 words each; right on 40 held-out captioned pictures: 50.0%, of as many of the most frequent words 10.0%; "
        "copied from the nearest picture 30.0%, of as many labels 40.0%"
    )


def test_shares_are_of_all_words_given() -> None:
    assert share_right([{1, 2}, {3}], [{1}, {3, 4}]) == pytest.approx(0.6667)
