"""RUN/metrics.jsonl: a line of losses for each step, or for each of some steps, and one of scores for each evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from fistful.bow.store.files import write_bytes
from fistful.errors import DataError

METRICS = "metrics.jsonl"
METRIC_LINES = 2_000
"""At most so many lines of losses a run; short runs have one a step."""
UNMOVED = 1e-6
"""A loss that differs by no more than this share of itself, over a whole run, has not moved."""


def write_metrics(file: TextIO, step: int, values: Mapping[str, Any]) -> None:
    """Write what is to note of a step as a line."""
    file.write(json.dumps({"step": step, **values}, sort_keys=True) + "\n")


def truncate_metrics(run: Path, step: int, evaluated: set[float]) -> None:
    """Drop the lines of steps and evaluations that will come again, a half-written last line among them."""
    path = run / METRICS
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            break
        if value["step"] > step or ("scores" in value and value["step"] not in evaluated):
            break
        kept.append(line + "\n")
    write_bytes(run, METRICS, "".join(kept).encode())


def check_learnt(run: Path) -> None:
    """Check that a run that took its steps learnt something from them.

    Raises:
        DataError: If all steps were skipped, or the loss never moved.
    """
    losses = [row["loss"] for row in map(json.loads, (run / METRICS).read_text().splitlines()) if "loss" in row]
    known = [loss for loss in losses if loss is not None]
    if losses and not known:
        raise DataError(
            f"{run}: nothing was learnt: the loss was no number in any of {len(losses)} steps, and all were skipped; "
            "a smaller --lr may help, in another --out"
        )
    if len(known) > 1 and max(known) - min(known) <= UNMOVED * abs(known[0]):
        raise DataError(
            f"{run}: nothing was learnt: the loss was {known[0]:.6g} from the first step to the last; "
            "expected pictures and texts that differ, and a --batch-size above 1"
        )
