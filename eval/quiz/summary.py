"""What the figures of a quiz come to: by kind of task and by task, with intervals over splits.

An interval is about these words: other splits of them into learnt and asked ones, of which five were drawn independently of each
other, would move a figure within it. It says nothing of other words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.metrics import student_interval, told_apart
from fistful.bow.tasks import KINDS

from .ask import MAIN
from .trials import N_SPLITS, SIZES, Quiz

RANDOM = "(random vectors)"
"""What the control is called among the models."""

Key = tuple[str, int]
"""Procedure, and examples learnt from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """A model's figures: of each task, by procedure and examples, a number a split."""

    model: str
    scores: list[dict[Key, np.ndarray]]
    permuted: list[dict[Key, np.ndarray]]
    """NaN where labels that are permuted change nothing."""
    guessing: list[dict[Key, np.ndarray]]


def figures_of(model: str, table: pa.Table, n_tasks: int) -> Figures:
    """Return a model's figures from its table (`ask.FIGURES_SCHEMA`)."""
    found = Figures(model, *([{} for _ in range(n_tasks)] for _ in range(3)))
    for row in table.to_pylist():
        key = row["procedure"], row["k"]
        for of_tasks, name in ((found.scores, "score"), (found.permuted, "permuted"), (found.guessing, "guessing")):
            splits = of_tasks[row["task"]].setdefault(key, np.full(N_SPLITS, np.nan))
            splits[row["split"]] = np.nan if row[name] is None else row[name]
    return found


def measured(splits: np.ndarray, name: str = "score") -> dict[str, Any]:
    """Return the mean over splits with Student's 95 % interval, null where all splits give the same; within 0 and 1."""
    if np.isnan(splits).any():
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = student_interval(splits) or (None, None)
    ends = {f"{name}_low": None if low is None else max(0.0, low), f"{name}_high": None if high is None else min(1.0, high)}
    return {name: float(splits.mean()), **ends}


def difference(splits: np.ndarray) -> dict[str, Any]:
    """Return the mean of differences, split by split, with its interval; null where all are the same."""
    low, high = student_interval(splits) or (None, None)
    return {"difference": float(splits.mean()), "low": low, "high": high}


def is_above(splits: np.ndarray) -> bool:
    """Return whether differences, split by split, are above 0 beyond what splits vary."""
    interval = student_interval(splits)
    return bool(splits[0] > 0) if interval is None else interval[0] > 0 and told_apart(*interval)  # None: all splits have the same


def by_kind(quiz: Quiz, all_figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return a row for each kind, model, procedure and number of examples: the mean of its tasks that have as many examples."""
    rows = []
    for kind in KINDS:
        numbers = [i for i, question in enumerate(quiz.questions) if question.task.kind == kind]
        for figures in all_figures:
            keys = dict.fromkeys(key for i in numbers for key in figures.scores[i])
            for key in sorted(keys, key=lambda one: (one[0] not in MAIN, *one)):
                these = [i for i in numbers if key in figures.scores[i]]
                rows.append({"kind": kind, "model": figures.model, **_figure(figures, these, key), "n_tasks": len(these)})
    return rows


def by_task(quiz: Quiz, all_figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return a row for each task, model, procedure and number of examples."""
    return [
        {"task": str(question.task), "kind": question.task.kind, "model": figures.model, **_figure(figures, [i], key)}
        for i, question in enumerate(quiz.questions)
        for figures in all_figures
        for key in figures.scores[i]
    ]


def _figure(figures: Figures, tasks: Sequence[int], key: Key) -> dict[str, Any]:
    score, permuted, guessing = (
        np.mean([of_tasks[i][key] for i in tasks], axis=0) for of_tasks in (figures.scores, figures.permuted, figures.guessing)
    )
    above = None if np.isnan(permuted).any() else is_above(score - permuted)
    said = {"procedure": key[0], "k": key[1], **measured(score), **measured(permuted, "permuted"), "above_permuted": above}
    return said | {"guessing": float(guessing.mean())}


def main_sizes(quiz: Quiz) -> dict[str, int]:
    """Return, of each kind, the number of examples by which models are compared: the most that half of its tasks have."""
    found = {}
    for kind in KINDS:
        sizes = [question.sizes for question in quiz.questions if question.task.kind == kind]
        fit = [k for k in SIZES if sizes and 2 * sum(k in of_one for of_one in sizes) >= len(sizes)]
        found |= {kind: max(fit)} if fit else {}
    return found


def comparisons(quiz: Quiz, all_figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Compare each model with the first on each kind, split by split, by the main procedure."""
    first, *others = (figures for figures in all_figures if figures.model != RANDOM)
    rows = []
    for second in others:
        for kind, k in main_sizes(quiz).items():
            these = [i for i, question in enumerate(quiz.questions) if question.task.kind == kind and k in question.sizes]
            procedure = next(name for name in MAIN if (name, k) in first.scores[these[0]])
            gains = np.mean([second.scores[i][procedure, k] - first.scores[i][procedure, k] for i in these], axis=0)
            about = {"kind": kind, "procedure": procedure, "k": k, "n_tasks": len(these)}
            rows.append({"first": first.model, "second": second.model, **about, **difference(gains)})
    return rows


def most_different(tasks: Sequence[dict[str, Any]], n: int) -> list[list[dict[str, Any]]]:
    """Return the n tasks whose scores differ most between models, each with its rows; of one model, its best and its worst tasks.

    Args:
        tasks: What `by_task` returned; of each task the main procedure with most examples counts.
        n: How many.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in tasks:
        if row["procedure"] in MAIN and row["model"] != RANDOM:
            rows = found.setdefault(row["task"], [])
            if rows and rows[0]["k"] < row["k"]:
                rows.clear()
            rows += [row] * (not rows or rows[0]["k"] == row["k"])
    groups = list(found.values())
    if groups and len(groups[0]) == 1:
        ordered = sorted((rows for rows in groups if rows[0]["procedure"] == MAIN[0]), key=lambda rows: -rows[0]["score"])
        return ordered[: n // 2] + ordered[n // 2 :][-(n - n // 2) :]
    return sorted(groups, key=lambda rows: min(row["score"] for row in rows) - max(row["score"] for row in rows))[:n]
