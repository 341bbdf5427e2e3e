"""Quizzes: what each text tower can tell apart, by kind of task, and the tasks at the ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fistful.bow.tasks import KINDS
from fistful.eval.quiz.ask import MAIN
from fistful.eval.quiz.results import warnings_of
from fistful.eval.quiz.summary import RANDOM, most_different

from .inputs import Material, QuizFolder
from .page_text import brief, number, percent, signed
from .scores import Cell, ScoreRow

N_TASKS = 10
"""Tasks that are shown of those where models differ most, or of the best and the worst of a single model."""


@dataclasses.dataclass(frozen=True, slots=True)
class KindRows:
    """A kind of task: a row a model, then what random vectors and guessing come to."""

    title: str
    rows: tuple[ScoreRow, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class QuizPart:
    """What came of one quiz."""

    name: str
    sizes: tuple[str, ...]
    """Heads of the columns: examples learnt from."""
    kinds: tuple[KindRows, ...]
    models: tuple[str, ...]
    ends: tuple[ScoreRow, ...]
    """Tasks where models differ most, or the best and the worst of one; a cell a model."""
    pairs: tuple[tuple[str, Cell, str], ...]
    """What is compared, the difference, and what may be read from it."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def quizzes_of(material: Material) -> tuple[QuizPart, ...]:
    """Build the section, a part a finished quiz."""
    place = {name: i for i, name in enumerate(material.models())}
    return tuple(_part(folder, place) for folder in material.quizzes if folder.summary)


def _part(folder: QuizFolder, place: dict[str, int]) -> QuizPart:
    summary = folder.summary
    kinds = [row for row in summary["kinds"] if row["procedure"] in MAIN]
    sizes = sorted({row["k"] for row in kinds})
    models = tuple(dict.fromkeys(row["model"] for row in kinds if row["model"] != RANDOM))
    ends = [
        ScoreRow(group[0]["task"], -1, tuple(_cell(next((r for r in group if r["model"] == model), None)) for model in models))
        for group in most_different(summary["tasks"], N_TASKS)
    ]
    return QuizPart(
        name=folder.name,
        sizes=tuple(map(str, sizes)),
        kinds=tuple(
            _kind(kind, [row for row in kinds if row["kind"] == kind], (sizes, summary["main_k"][kind]), place)
            for kind in KINDS
            if kind in summary["main_k"]
        ),
        models=models,
        ends=tuple(ends),
        pairs=tuple(_pair(row) for row in summary["comparisons"]),
        notes=tuple(summary["notes"]),
        warnings=tuple(warnings_of(summary)),
    )


def _kind(kind: str, rows: Sequence[dict[str, Any]], columns: tuple[Sequence[int], int], place: dict[str, int]) -> KindRows:
    """Return the rows of a kind; `columns` are numbers of examples, and that by which models are compared."""
    sizes, main = columns
    models = dict.fromkeys(row["model"] for row in rows)
    by_model = {model: {row["k"]: row for row in rows if row["model"] == model} for model in models}
    shown = [
        ScoreRow(model, place.get(model, -1), (*(_cell(by_k.get(k)) for k in sizes), Cell(percent(by_k[main]["permuted"]))))
        for model, by_k in by_model.items()
    ]
    any_model = next(iter(by_model.values()))
    guessing = [Cell(percent(any_model[k]["guessing"] if k in any_model else None)) for k in sizes]
    n = "/".join(number(any_model[k]["n_tasks"] if k in any_model else 0) for k in sizes)
    right = "% of questions right" if rows[0]["procedure"] == MAIN[1] else "balanced accuracy, %"
    return KindRows(f"{kind} · {n} tasks · {right}", (*shown, ScoreRow("guessing", -1, (*guessing, Cell("–")))))


def _cell(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    low, high = row["score_low"], row["score_high"]
    return Cell(percent(row["score"]), "" if low is None else f"{percent(low)}–{percent(high)}")


def _pair(row: dict[str, Any]) -> tuple[str, Cell, str]:
    about = f"{brief(row['second'])} minus {brief(row['first'])}: {row['kind']}, {row['k']} examples"
    if row["low"] is None:
        return about, Cell(signed(row["difference"])), "the same in every split"
    ahead = row["second"] if row["low"] > 0 else row["first"] if row["high"] < 0 else ""
    verdict = f"{brief(ahead)} is ahead" if ahead else "not told apart"
    return about, Cell(signed(row["difference"]), f"{signed(row['low'])} to {signed(row['high'])}"), verdict
