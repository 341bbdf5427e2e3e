"""How fast training goes: to the progress bar, and to logs/, where rates belong."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fistful.progress import progress_bar

LOG_EVERY_S = 10.0


class Report(Protocol):
    """Takes note of a step."""

    def __call__(self, step: int, loss: float, waited_s: float) -> None:
        """Say that `step` steps are done, the last one's loss, and the time spent waiting for data so far."""
        ...


@contextlib.contextmanager
def report_speed(log: Path, first: int, steps: int, batch_size: int, show: bool) -> Iterator[Report]:
    """Show how far training has come, and add a line to the log every ten seconds and at the end.

    Args:
        log: A file of JSON lines.
        first: Steps done before.
        steps: Steps in all.
        batch_size: Samples a step.
        show: False for silence.
    """
    start = last = time.perf_counter()
    line: dict[str, float] = {}

    def report(step: int, loss: float, waited_s: float) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds = max(now - start, 1e-9)
        rate, waiting = (step - first) * batch_size / seconds, waited_s / seconds
        line.update(step=step, seconds=round(seconds, 3), samples_per_s=round(rate, 1), waiting_share=round(waiting, 4))
        update(step - first, f"loss {loss:.3f}, {rate:.0f} samples/s, {waiting:.0%} waiting for data")
        if now - last >= LOG_EVERY_S:
            last = now
            _append(log, line)

    try:
        with progress_bar("train", steps - first, show) as update:
            yield report
    finally:
        if line:
            _append(log, line)


def _append(log: Path, line: dict[str, float]) -> None:
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\n")
