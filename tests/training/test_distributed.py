"""Several processes that train together, as torchrun starts them (gloo, two on one machine)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fistful.bow.store import manifest
from fistful.training.train import train
from fistful.training.train_config import train_config

QUICK = {"steps": 6, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag", "checkpoint_every": 2}

pytestmark = pytest.mark.xdist_group("ranks")  # one process starts them once

RANK = """
import json, os, signal, sys
from fistful.errors import FistfulError
from fistful.training import loop
from fistful.training.train_config import train_config
from fistful.training.train import train

data, jobs, take_step = sys.argv[1], json.loads(sys.argv[2]), loop.step
for port, out, options, (rank, step, number) in jobs:
    def hit(model, batch, *more):
        if batch.step == step and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), number)
        return take_step(model, batch, *more)

    loop.step, os.environ["MASTER_PORT"] = hit, str(port)
    try:
        train(data, out=out, config=train_config(**options))
        print(json.dumps([0, ""]), flush=True)
    except FistfulError as error:
        print(json.dumps([error.exit_code, str(error)]), flush=True)
"""

NOBODY = (0, -1, 0)
Job = tuple[Path, dict, tuple[int, int, int]]
"""A run folder, the options, and (rank, step, signal) of who gets a signal. Of a killed rank the others end too."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_ranks(data: str, *jobs: Job, size: int = 2) -> tuple[list[int], list[list[tuple[int, str]]]]:
    """Train one job after the other in ranks that are started once; return how each rank ended, and its jobs: exit code and message."""
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    given = json.dumps([(free_port(), str(out), options, hit) for out, options, hit in jobs])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, data, given],
            env={**os.environ, **shared, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for r in range(size)
    ]
    said = [[tuple(json.loads(line)) for line in rank.communicate(timeout=240)[0].splitlines()] for rank in ranks]
    return [rank.returncode for rank in ranks], said


def weights(run: Path) -> dict[str, torch.Tensor]:
    from fistful.training.model.export import read_model

    return read_model(run / "model").model.state_dict()


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


LEARN = {**QUICK, "model": "tiny-vit", "objective": "joint", "bank": 16}
PARTS = {**QUICK, "model": "tiny-vit", "accumulation": 2}
REMEMBER = {**QUICK, "objective": "joint", "bank": 16, "ema": 0.9}


@pytest.fixture(scope="module")
def ended(data, tmp_path_factory):
    """Jobs of two ranks, one after the other: two at fault, one stopped, two whole, one killed; then this one again, in new ranks."""
    root = tmp_path_factory.mktemp("ranks")
    train(data, out=root / "one", config=train_config(**QUICK))
    jobs = {
        "odd": ({**QUICK, "batch_size": 9}, NOBODY),
        "one": (QUICK, NOBODY),
        "stopped": (QUICK, (1, 3, signal.SIGTERM)),
        "learn": (LEARN, NOBODY),
        "parts": (PARTS, NOBODY),
        "whole": (REMEMBER, NOBODY),
        "run": (REMEMBER, (1, 3, signal.SIGKILL)),
    }
    codes, said = run_ranks(data, *[(root / name, *job) for name, job in jobs.items()])
    assert [code != 0 for code in codes] == [True, True]  # of the killed one the other notices
    assert [p.name for p in (root / "run" / "checkpoints").iterdir()] == ["step-0000000002.pt"]
    assert run_ranks(data, (root / "run", REMEMBER, NOBODY)) == ([0, 0], [[(0, "")], [(0, "")]])
    return root, {name: [rank[i] for rank in said] for i, name in enumerate([*jobs][:-1])}


def check_learnt_as_one(data, two, tmp_path, options):
    """With towers that keep no batch statistics: the same losses and weights up to rounding."""
    alone = train(data, out=tmp_path / "alone", config=train_config(**options))
    assert manifest.verify(two) == []
    np.testing.assert_allclose(losses(two), losses(alone), rtol=1e-5)
    ours, theirs = weights(two), weights(alone)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-4, msg=name)
    assert manifest.read_config(two)["config"]["world_size"] == 2


@pytest.mark.parametrize(("name", "options"), [("learn", LEARN), ("parts", PARTS)])
def test_two_processes_learn_what_one_learns(data, ended, tmp_path, name, options):
    root, said = ended
    assert said[name] == [(0, ""), (0, "")]
    check_learnt_as_one(data, root / name, tmp_path, options)


OTHERS = {
    "sigmoid": {"objective": "sigmoid", "optimizer": "sgd", "lr": 0.1, "clip_norm": 1.0},
    "words": {"objective": "words"},
    "tower_words": {"text_tower": "words", "tower_word_weight": 0.5, "accumulation": 2},
    "weights_that_nothing_reaches": {"objective": "words", "accumulation": 2},
}


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_with_other_losses(data, tmp_path):
    options = {name: {**QUICK, "model": "tiny-vit", **more} for name, more in OTHERS.items()}
    assert run_ranks(data, *[(tmp_path / name, given, NOBODY) for name, given in options.items()])[0] == [0, 0]
    for name, given in options.items():
        check_learnt_as_one(data, tmp_path / name, tmp_path / f"{name}-alone", given)


@pytest.mark.slow
def test_three_processes_that_are_stopped_go_on_to_the_same_bytes(data, tmp_path):
    """Sums of three numbers round by their order, which is that of the messages in which gradients are sent."""
    options = {**LEARN, "batch_size": 12, "accumulation": 2}
    _, said = run_ranks(data, (tmp_path / "whole", options, NOBODY), (tmp_path / "run", options, (2, 2, signal.SIGTERM)), size=3)
    assert [code for code, _ in said[0]] == [0, 4]
    assert run_ranks(data, (tmp_path / "run", options, NOBODY), size=3)[0] == [0, 0, 0]
    for name in ("metrics.jsonl", "model/open_clip_model.safetensors", "manifest.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_processes_killed_and_started_again_end_with_the_same_bytes(ended):
    root, said = ended
    assert said["whole"] == [(0, ""), (0, "")]
    for name in ("metrics.jsonl", "model/open_clip_model.safetensors", "manifest.json"):
        assert (root / "run" / name).read_bytes() == (root / "whole" / name).read_bytes()


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(ended):
    root, said = ended
    assert [code for code, _ in said["stopped"]] == [4, 4]
    assert "stopped at step 4 of 6; the same command goes on from there" in said["stopped"][0][1]
    assert (root / "stopped" / "checkpoints" / "step-0000000004.pt").exists()


def test_what_is_at_fault_is_said_by_all_before_the_first_step(ended):
    _, said = ended
    for code, message in said["odd"]:
        assert (code, "--batch-size 9: is not a multiple of 2, the number of processes" in message) == (2, True)
    for code, message in said["one"]:
        assert (code, "belongs to another configuration (world_size: 1 there, 2 asked)" in message) == (2, True)


@pytest.mark.slow
def test_a_frozen_tower_is_computed_by_all(data, tmp_path):
    options = {**QUICK, "init": "tests.support.pretrained:small", "train_image": "none"}
    assert run_ranks(data, (tmp_path / "run", options, NOBODY))[0] == [0, 0]
    assert len(list((tmp_path / "run" / "logs" / "features").glob("*/*.npy"))) == 2


@pytest.mark.slow
def test_torchrun_starts_the_command_line(data, tmp_path):
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "fistful.training"]
    options = ["--out", str(tmp_path / "run"), "--steps", "3", "--batch-size", "8", "--text", "bag", "--no-progress"]
    done = subprocess.run([sys.executable, "-m", *command, data, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 steps of 8 samples") == 1
