"""How fast training goes: to the progress bar, to logs/, where rates belong, and to tensorboard if so asked."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from fistful.errors import UsageError
from fistful.progress import progress_bar

from .train_config import TrainConfig

LOG_EVERY_S = 10.0


class Report(Protocol):
    """Takes note of a step."""

    def __call__(self, step: int, values: Mapping[str, float | None], waited_s: float) -> None:
        """Say that `step` steps are done, the last one's values, and the time spent waiting for data so far."""
        ...


@contextlib.contextmanager
def report_speed(logs: Path, first: int, config: TrainConfig, show: bool, write: bool) -> Iterator[Report]:
    """Show how far training has come, and add a line to logs/speed.jsonl every ten seconds and at the end.

    Args:
        logs: The run's logs.
        first: Steps done before.
        config: Of the run.
        show: False for silence.
        write: Whether this process writes the logs.
    """
    start = last = time.perf_counter()
    line: dict[str, float] = {}
    board = _board(logs) if write and config.run.tensorboard else None

    def report(step: int, values: Mapping[str, float | None], waited_s: float) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds = max(now - start, 1e-9)
        rate, waiting = (step - first) * config.optimiser.batch_size / seconds, waited_s / seconds
        line.update(step=step, seconds=round(seconds, 3), samples_per_s=round(rate, 1), waiting_share=round(waiting, 4))
        loss = values["loss"]
        update(step - first, f"loss {math.nan if loss is None else loss:.3f}, {rate:.0f} samples/s, {waiting:.0%} waiting for data")
        if board is not None:
            for name, value in {**values, "samples_per_s": rate}.items():
                board.add_scalar(name, math.nan if value is None else value, step)
        if write and now - last >= LOG_EVERY_S:
            last = now
            _append(logs / "speed.jsonl", line)

    try:
        with progress_bar("train", config.optimiser.steps - first, show) as update:
            yield report
    finally:
        if board is not None:
            board.close()
        if write and line:
            _append(logs / "speed.jsonl", line)


def _board(logs: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise UsageError("--tensorboard: the package tensorboard is missing; pip install tensorboard") from None
    return SummaryWriter(str(logs / "tensorboard"))


def _append(log: Path, line: dict[str, float]) -> None:
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\n")
