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

RANK = """
import json, os, signal, sys
from fistful.errors import FistfulError
from fistful.training import loop
from fistful.training.train_config import train_config
from fistful.training.train import train

data, out, options, rank, step, number = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), *map(int, sys.argv[4:7])
take_step = loop.step

def hit(model, batch, *more):
    if batch.step == step and int(os.environ.get("RANK", "0")) == rank:
        os.kill(os.getpid(), number)
    return take_step(model, batch, *more)

loop.step = hit
try:
    train(data, out=out, config=train_config(**options))
except FistfulError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_ranks(data: str, out: Path, options: dict, hit: tuple[int, int, int] = (0, -1, 0), size: int = 2) -> list[subprocess.Popen]:
    """Start ranks and wait for all; `hit` is (rank, step, signal) of one that gets a signal. Of a killed one the others end too."""
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", RANK, data, str(out), json.dumps(options), *map(str, hit)]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE, text=True)
        for r in range(size)
    ]
    for rank in ranks:
        rank.messages = rank.communicate(timeout=240)[1]
    return ranks


def weights(run: Path) -> dict[str, torch.Tensor]:
    from fistful.training.model.export import read_model

    return read_model(run / "model").model.state_dict()


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["joint", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_learns(data, tmp_path, objective):
    """With towers that keep no batch statistics: the same losses and weights up to rounding."""
    options = {**QUICK, "model": "tiny-vit", "objective": objective, "bank": 16 if objective == "joint" else 0}
    alone = train(data, out=tmp_path / "alone", config=train_config(**options))
    assert [rank.returncode for rank in run_ranks(data, tmp_path / "two", options)] == [0, 0]
    assert manifest.verify(tmp_path / "two") == []
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(alone), rtol=1e-3)
    ours, theirs = weights(tmp_path / "two"), weights(alone)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2e-2, atol=2e-3, msg=name)
    assert manifest.read_config(tmp_path / "two")["config"]["world_size"] == 2


def test_two_processes_killed_and_started_again_end_with_the_same_bytes(data, tmp_path):
    options = {**QUICK, "objective": "joint", "bank": 16, "ema": 0.9}
    run_ranks(data, tmp_path / "whole", options)
    killed = run_ranks(data, tmp_path / "run", options, hit=(1, 3, signal.SIGKILL))
    assert [rank.returncode != 0 for rank in killed] == [True, True]  # the other one notices
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000000002.pt"]
    assert [rank.returncode for rank in run_ranks(data, tmp_path / "run", options)] == [0, 0]
    for name in ("metrics.jsonl", "model/open_clip_model.safetensors", "manifest.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(data, tmp_path):
    stopped = run_ranks(data, tmp_path / "run", QUICK, hit=(1, 3, signal.SIGTERM))
    assert [rank.returncode for rank in stopped] == [4, 4]
    assert "stopped at step 4 of 6; the same command goes on from there" in stopped[0].messages
    assert (tmp_path / "run" / "checkpoints" / "step-0000000004.pt").exists()


def test_what_is_at_fault_is_said_by_all_before_the_first_step(data, tmp_path):
    odd = run_ranks(data, tmp_path / "odd", {**QUICK, "batch_size": 9})
    assert [rank.returncode for rank in odd] == [2, 2]
    assert all("--batch-size 9: is not a multiple of 2, the number of processes" in rank.messages for rank in odd)
    train(data, out=tmp_path / "one", config=train_config(**QUICK))
    other = run_ranks(data, tmp_path / "one", QUICK)
    assert [rank.returncode for rank in other] == [2, 2]
    assert all("belongs to another configuration (world_size: 1 there, 2 asked)" in rank.messages for rank in other)


@pytest.mark.slow
def test_a_frozen_tower_is_computed_by_all(data, tmp_path):
    options = {**QUICK, "init": "tests.support.pretrained:small", "train_image": "none"}
    assert [rank.returncode for rank in run_ranks(data, tmp_path / "run", options)] == [0, 0]
    assert len(list((tmp_path / "run" / "logs" / "features").glob("*/*.npy"))) == 2


@pytest.mark.slow
def test_torchrun_starts_the_command_line(data, tmp_path):
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "fistful.training"]
    options = ["--out", str(tmp_path / "run"), "--steps", "3", "--batch-size", "8", "--text", "bag", "--no-progress"]
    done = subprocess.run([sys.executable, "-m", *command, data, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 steps of 8 samples") == 1
