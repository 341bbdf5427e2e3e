"""fistful train, as a newcomer calls it."""

from __future__ import annotations

import json

import pytest

from fistful.bow.store import manifest
from fistful.training.config import TrainConfig
from fistful.training.run import train

QUICK = {"steps": 4, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}


def test_train_writes_a_run_folder_that_verifies(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=TrainConfig(**QUICK))
    assert manifest.verify(run) == []
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.parametrize("tower", ["transformer", "words"])
@pytest.mark.parametrize("objective", ["contrastive", "joint", "words"])
@pytest.mark.parametrize("text", ["bag", "balanced"])
def test_every_objective_goes_with_every_tower_and_text(data, tmp_path, tower, objective, text):
    run = train(data, out=tmp_path / "run", config=TrainConfig(**QUICK, text_tower=tower, objective=objective, text=text))
    assert manifest.verify(run) == []
