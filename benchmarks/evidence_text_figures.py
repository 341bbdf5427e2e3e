"""Figures of students that label texts: means over seeds with Student's 95 % intervals, retention, shares of the gap, differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .measure import over_seeds

Scores = Mapping[str, Mapping[str, Mapping[int, float]]]
"""By task, row and seed, 0 to 1."""
PAIRS = (
    ("kd 1", "kd 4"),
    ("scratch 4", "kd 4"),
    ("scratch 1", "kd 1"),
    ("kd 4", "kd+ft 4"),
    ("tfidf", "kd 4"),
    ("tfidf", "kd+ft 4"),
    ("tfidf", "teacher"),
    ("teacher", "kd+ft 4"),
    ("embeds 1", "embeds 4"),
    ("model2vec", "embeds 4"),
    ("model2vec", "kd 4"),
    ("kd 4", "embeds 4"),
)
"""First and second row of each difference, second - first."""
STUDENTS = ("kd 4", "kd+ft 4", "kd 1", "kd+ft 1", "embeds 4", "embeds 1")
MEAN = "mean of tasks"


def figures_of(scores: Scores) -> dict[str, Any]:
    """Return means, retention, shares of the gap and differences by task, and over the tasks that all compared rows have, in percent."""
    rows = [*dict.fromkeys(row for of_task in scores.values() for row in of_task)]
    pairs = {f"{second} - {first}": (lambda a, b: b - a, (first, second)) for first, second in PAIRS}
    retention = {row: (lambda teacher, row: row / teacher, ("teacher", row)) for row in STUDENTS}
    gap = {f"{row}, from scratch {row[-1]} to teacher": (_share, (f"scratch {row[-1]}", "teacher", row)) for row in STUDENTS}
    return {
        "means": {row: _over(scores, lambda x: x, (row,)) for row in rows},
        "differences": {name: _over(scores, *how) for name, how in pairs.items()},
        "retention": {name: _over(scores, *how) for name, how in retention.items()},
        "share_of_the_gap": {name: _over(scores, *how, of_means=True) for name, how in gap.items()},
    }


def _share(bottom: float, top: float, row: float) -> float:
    """Return what of the gap is closed; NaN where there is none."""
    return (row - bottom) / (top - bottom) if top > bottom else np.nan


def _over(scores: Scores, figure: Callable[..., float], rows: tuple[str, ...], *, of_means: bool = False) -> dict[str, Any]:
    """Return a figure of some rows, by task and for all, each paired by seed.

    Args:
        scores: Of all rows.
        figure: What is made of the rows' scores.
        rows: Which.
        of_means: For all tasks the figure of the mean scores is told, not the mean of the figures, which a task without a gap would upset.
    """
    having = {name: of_task for name, of_task in scores.items() if all(row in of_task for row in rows)}
    found, by_seed = {}, {}
    for name, of_task in having.items():
        seeds = sorted(set.intersection(*(set(of_task[row]) for row in rows)))
        found[name] = over_seeds([figure(*(of_task[row][seed] for row in rows)) for seed in seeds], digits=2)
        for seed in seeds:
            by_seed.setdefault(seed, []).append([of_task[row][seed] for row in rows])
    whole = [values for _, values in sorted(by_seed.items()) if len(values) == len(having)]
    if len(having) > 1 and whole:
        values = [figure(*np.mean(part, axis=0)) if of_means else float(np.mean([figure(*row) for row in part])) for part in whole]
        found[MEAN] = {**over_seeds(values, digits=2), "tasks": len(having)}
    return found
