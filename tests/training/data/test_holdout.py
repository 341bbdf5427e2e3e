"""What is held out is a picture with all of its copies, whatever their keys and wherever they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fistful.bow.store.index import read_index
from fistful.errors import UsageError
from fistful.pipelines.pseudo.held_out import held_pictures
from fistful.training.data.holdout import hidden_rows
from fistful.training.data.reading import read_samples
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data

QUICK = {"steps": 1, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag"}
HALF = train_config(holdout=0.5, progress=False)


@pytest.fixture
def copied(tmp_path):
    """Write data folders in which every twelfth picture is the same: twelve pictures under 48 keys."""
    return lambda name, pictures=12, **more: make_data(tmp_path / name, pictures=pictures, **more)


def pictures_of(samples):
    """Which of the twelve pictures each sample has: unit 0 holds the even ones."""
    return (samples.number.astype(np.int64) % 2**32 * 2 + samples.unit) % 12


def test_copies_of_a_picture_that_is_held_out_are_not_shown_either(copied, tmp_path):
    samples = read_samples((copied("data"),))
    hidden, picture = hidden_rows(HALF, samples, tmp_path / "cache"), pictures_of(samples)
    assert 0 < len(set(picture[hidden])) < 12
    assert not set(picture[hidden]) & set(picture[~hidden])


def test_training_and_labelling_agree_on_what_is_held_out(copied, tmp_path):
    folder = copied("data", n=192, pictures=96)
    held, samples = held_pictures(Path(folder), 0.5), read_samples((folder,))
    assert held.tolist() == hidden_rows(HALF, samples, tmp_path / "cache").tolist()
    assert read_index(Path(folder)).num_rows == len(held) == 192


def test_pseudo_labelled_copies_are_hidden_and_other_pseudo_labelled_pictures_are_not(copied, data, tmp_path):
    copies = copied("copies", pseudo=True, n=24)
    samples = read_samples((data, copies))
    assert not hidden_rows(HALF, read_samples((copies,)), tmp_path / "a").any()  # nothing captioned, nothing to measure on
    hidden = hidden_rows(HALF, samples, tmp_path / "b")
    held = hidden[:48][np.argsort([*range(0, 48, 2), *range(1, 48, 2)])]  # by the number of the picture
    assert hidden[48:].tolist() == [held[number % 12] for number in [*range(0, 24, 2), *range(1, 24, 2)]]


def test_contents_are_read_once_a_run(write_data, tmp_path):
    samples = read_samples((write_data(tmp_path / "data"),))
    first = hidden_rows(HALF, samples, tmp_path / "cache")
    shutil.rmtree(tmp_path / "data" / "shards")
    assert first.tolist() == hidden_rows(HALF, samples, tmp_path / "cache").tolist()


def test_a_run_says_how_it_held_out_and_is_no_longer_the_run_of_earlier_versions(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, holdout=0.2))
    assert json.loads((run / "model" / "fistful.json").read_text())["lineage"]["holdout_by"] == "content"
    config = json.loads((run / "config.json").read_text())
    assert config["config"].pop("holdout_by") == "content"
    (run / "config.json").write_text(json.dumps({**config, "id": "earlier"}))
    with pytest.raises(UsageError, match="belongs to another configuration \\(holdout_by: None there, 'content' asked\\)"):
        train(data, out=run, config=train_config(**QUICK, holdout=0.2))
