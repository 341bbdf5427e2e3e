"""fistful train, as a newcomer calls it; and every objective with every text tower."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from fistful.bow.store import manifest
from fistful.errors import Interrupted
from fistful.training import loop
from fistful.training.train import train
from fistful.training.train_config import train_config

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
def test_every_objective_goes_with_every_tower(data, tmp_path, monkeypatch, tower, objective):
    """Losses are numbers, gradients reach what they should, and a stopped run goes on to the same bytes."""
    step, reached = loop.step, set()

    def watch(model, batch, *more):
        if batch.step == 2 and (tmp_path / "run").exists() and not (tmp_path / "run" / "checkpoints").exists():
            os.kill(os.getpid(), signal.SIGTERM)
        taken = step(model, batch, *more)
        reached.update(part_of(n) for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any()))
        return taken

    monkeypatch.setattr(loop, "step", watch)
    options = {**QUICK, "text_tower": tower, "objective": objective, "bank": 16 if objective in ("contrastive", "joint") else 0}
    whole = train(data, out=tmp_path / "whole", config=train_config(**options, ema=0.9))
    assert reached == REACHED[objective]
    with pytest.raises(Interrupted):
        train(data, out=tmp_path / "run", config=train_config(**options, ema=0.9))
    run = train(data, out=tmp_path / "run", config=train_config(**options, ema=0.9))
    assert (run / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert torch.isfinite(torch.tensor(losses)).all()


@pytest.mark.parametrize("objective", ["sigmoid", "joint-sigmoid"])
def test_open_clip_reads_a_model_with_a_bias(data, tmp_path, objective):
    import open_clip

    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, objective=objective, text="bag"))
    model = open_clip.create_model(f"local-dir:{run / 'model'}", require_pretrained=True)
    assert model.logit_bias.item() == pytest.approx(-10, abs=0.1)
    assert model.logit_bias.item() != -10
