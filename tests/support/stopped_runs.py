"""A training run that is stopped and goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fistful.errors import Interrupted
from fistful.training.train import train
from fistful.training.train_config import TrainConfig


def check_same_bytes_after_a_stop(data: str, folder: Path, config: TrainConfig) -> None:
    """Check that a run of four steps, evaluated each second and stopped after that, ends with the bytes of one that was not."""
    calls = []

    def stop(_: object) -> dict[str, float]:
        calls.append(None)
        if len(calls) == 2:  # after the second step
            os.kill(os.getpid(), signal.SIGTERM)
        return {"score": 1.0}

    whole = train(data, out=folder / "whole", config=config, evaluate=lambda _: {"score": 1.0})
    with pytest.raises(Interrupted, match="stopped at step 3 of 4"):
        train(data, out=folder / "run", config=config, evaluate=stop)
    run = train(data, out=folder / "run", config=config, evaluate=stop)
    assert (run / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
