"""fistful train, as a newcomer calls it; and every objective with every text tower."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fistful.bow.store import manifest
from fistful.training.model.export import read_model
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.stopped_runs import check_same_bytes_after_a_stop

QUICK = {"steps": 4, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}
REACHED = {
    "contrastive": {"image", "text", "scale"},
    "sigmoid": {"image", "text", "scale", "bias"},
    "words": {"image", "head"},
    "joint": {"image", "text", "scale", "head"},
    "joint-sigmoid": {"image", "text", "scale", "bias", "head"},
}
"""Parts that an objective's gradient reaches."""


def test_train_writes_a_run_folder_that_verifies(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert manifest.verify(run) == []
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def part_of(name: str) -> str:
    """Return which part a parameter belongs to."""
    for part in ("visual", "head", "logit_scale", "logit_bias"):
        if name.removeprefix("clip.").startswith(part):
            return {"visual": "image", "logit_scale": "scale", "logit_bias": "bias"}.get(part, part)
    return "text"


@pytest.mark.parametrize("tower", ["transformer", "words"])
@pytest.mark.parametrize("objective", list(REACHED))
def test_every_objective_goes_with_every_tower(data, tmp_path, tower, objective):
    """Losses are numbers, and the last step changes the parts that gradients should reach, and no others."""
    scores = iter([0.0, 2.0, 1.0])  # the best is of the third step
    options = {**QUICK, "text_tower": tower, "objective": objective, "evaluate_every": 3}
    run = train(data, out=tmp_path / "run", config=train_config(**options), evaluate=lambda _: {"score": next(scores)})
    third, last = (dict(read_model(run / name).model.named_parameters()) for name in ("best", "model"))
    assert {part_of(name) for name in last if not torch.equal(third[name], last[name])} == REACHED[objective]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)


@pytest.mark.parametrize(("objective", "tower"), [("joint", "transformer"), ("joint-sigmoid", "words")])
def test_whatever_a_run_remembers_a_stopped_one_goes_on_to_the_same_bytes(data, tmp_path, objective, tower):
    """Weights, their running mean, the optimiser's moments, the bank, the scores."""
    options = {**QUICK, "text_tower": tower, "objective": objective, "ema": 0.9, "evaluate_every": 2}
    config = train_config(**options, bank=16 if objective == "joint" else 0)
    check_same_bytes_after_a_stop(data, tmp_path, config)


@pytest.mark.parametrize("objective", ["sigmoid", "joint-sigmoid"])
def test_open_clip_reads_a_model_with_a_bias(data, tmp_path, objective):
    import open_clip

    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, objective=objective, text="bag"))
    model = open_clip.create_model(f"local-dir:{run / 'model'}", require_pretrained=True)
    assert model.logit_bias.item() == pytest.approx(-10, abs=0.1)
    assert model.logit_bias.item() != -10
