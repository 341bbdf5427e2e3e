"""What a quiz leaves behind: quiz.json, tasks.parquet, figures of each model, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fistful.bow.store.files import read_json
from fistful.bow.tasks import KINDS, Predicate, Relation
from fistful.terminal import show_in_line
from fistful.wording import counted, some, table

from .ask import MAIN
from .summary import RANDOM, most_different
from .trials import SIZES, Quiz

SUMMARY = "quiz.json"
TASKS = "tasks.parquet"
N_DIFFERENT = 10
"""Tasks that are printed, of those where models differ most."""

TASKS_SCHEMA = pa.schema(
    [
        ("task", pa.int32()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("k", pa.list_(pa.int32())),
        ("members", pa.list_(pa.string())),
        ("pairs", pa.list_(pa.struct([("word", pa.string()), ("answers", pa.list_(pa.string()))]))),
        ("texts", pa.list_(pa.struct([("text", pa.string()), ("label", pa.int8())]))),
    ]
)
"""A row a task: numbers of examples that it was learnt from, and its members, its pairs, or its texts of all splits."""


def tasks_table(quiz: Quiz) -> pa.Table:
    """Return the tasks of a quiz as a table."""
    rows = []
    for number, question in enumerate(quiz.questions):
        task = question.task
        row = {"task": number, "name": str(task), "kind": task.kind, "k": question.sizes, "members": [], "pairs": [], "texts": []}
        if isinstance(task, Predicate):
            row["members"] = [word for word, is_one in zip(quiz.words, task.members.tolist(), strict=True) if is_one]
        elif isinstance(task, Relation):
            row["pairs"] = [
                {"word": quiz.words[i], "answers": [quiz.words[to] for to in sorted(right)]} for i, right in task.answers.items()
            ]
        else:
            labelled = {
                quiz.texts[place]: label
                for trial in question.trials
                for places, labels in ((trial.train, trial.labels), (trial.test, trial.test_labels))
                for place, label in zip(places.tolist(), labels.tolist(), strict=True)
            }
            row["texts"] = [{"text": text, "label": label} for text, label in labelled.items()]
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=TASKS_SCHEMA)


def quiz_table(folder: str | Path) -> str:
    """Return the results of a quiz as plain-text tables for a terminal: by kind, then where models differ most, then what to know.

    Raises:
        UsageError: If it is no folder of `quiz`.
        DataError: If its summary is broken.
    """
    summary = read_json(Path(folder) / SUMMARY)
    lines = [*_kinds(summary["kinds"], summary["main_k"]), "", *_different(summary["tasks"]), ""]
    said = [*summary["notes"], *map(_difference, summary["comparisons"]), *(f"! {line}" for line in warnings_of(summary))]
    return "\n".join([*lines, *map(show_in_line, said)]) + "\n"


def _kinds(rows: Sequence[dict[str, Any]], main_k: dict[str, int]) -> list[str]:
    """Return a table by kind; what permuted labels and guessing come to is of the K by which models are compared."""
    cells = [["kind", "model", "procedure", "tasks", *(f"K = {k} [95 %]" for k in SIZES), "permuted", "guessing"]]
    for kind in KINDS:
        lines: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        for row in rows:
            if row["kind"] == kind:
                lines.setdefault((row["model"], row["procedure"]), {})[row["k"]] = row
        for place, ((model, procedure), by_k) in enumerate(lines.items()):
            if model == RANDOM and procedure not in MAIN:
                continue
            main = by_k[main_k[kind]]
            n = "/".join(f"{by_k[k]['n_tasks']:,}" for k in SIZES if k in by_k)
            scores = [interval_text(by_k.get(k), "score") for k in SIZES]
            cells.append([kind if place == 0 else "", model, procedure, n, *scores, percent(main["permuted"]), percent(main["guessing"])])
    return table(cells, range(3), rule=True)


def _different(rows: Sequence[dict[str, Any]]) -> list[str]:
    models = [*dict.fromkeys(row["model"] for row in rows if row["model"] != RANDOM)]
    cells = [["the tasks where they differ most" if len(models) > 1 else "its best and worst tasks", "K", *models]]
    for group in most_different(rows, N_DIFFERENT):
        by_model = {row["model"]: row for row in group}
        cells.append([group[0]["task"], str(group[0]["k"]), *(interval_text(by_model.get(model), "score") for model in models)])
    return table(cells, range(1), rule=True)


def interval_text(row: dict[str, Any] | None, name: str) -> str:
    """Return a figure in percent with its interval; - where there is none.

    >>> interval_text({"score": 0.5, "score_low": 0.41, "score_high": 0.59}, "score"), interval_text(None, "score")
    ('50.0 [41.0, 59.0]', '-')
    """
    if row is None or row[name] is None:
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return percent(row[name]) + (f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None else "")


def percent(value: float | None) -> str:
    """Return a share in percent, - for none."""
    return "-" if value is None else f"{100 * value:.1f}"


def _difference(row: dict[str, Any]) -> str:
    where = f"{row['second']} - {row['first']} on {row['kind']} (K = {row['k']}, {counted(row['n_tasks'], 'task')})"
    if row["low"] is None:
        return f"{where}: {100 * row['difference']:+.1f}, the same in every split"
    verdict = "" if row["low"] > 0 or row["high"] < 0 else ": not told apart"
    return f"{where}: {100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]{verdict}"


def warnings_of(summary: dict[str, Any]) -> list[str]:
    """Return what should be known before a quiz is believed: what each model cannot tell apart, and what is wrong with its texts."""
    lines = [f"{model['model']}: {line}" for model in summary["models"] for line in model["warnings"]]
    blind: dict[str, list[str]] = {}
    for row in summary["kinds"]:
        if (
            row["above_permuted"] is False
            and row["k"] == summary["main_k"][row["kind"]]
            and row["model"] != RANDOM
            and row["procedure"] in MAIN
        ):
            blind.setdefault(row["model"], []).append(row["kind"])
    lines += [f"{model}: not above its own permuted labels on {some(kinds, len(kinds))}" for model, kinds in blind.items()]
    if summary["own_table"]:
        lines += [_cannot(model, tasks) for model, tasks in not_told(summary).items()]
    return lines


def _cannot(model: str, tasks: Sequence[str]) -> str:
    return f"{model} cannot make {counted(len(tasks), 'distinction')} of your table: {some(tasks)}"


def not_told(summary: dict[str, Any]) -> dict[str, list[str]]:
    """Return, by model, the atomic tasks in which it is not above its permuted labels, with most examples."""
    found: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    for row in summary["tasks"]:
        last[row["task"]] = max(last.get(row["task"], 0), row["k"])
    for row in summary["tasks"]:
        wanted = row["kind"] == "predicate" and row["procedure"] in MAIN and row["k"] == last[row["task"]] and row["model"] != RANDOM
        if wanted and not row["above_permuted"]:
            found.setdefault(row["model"], []).append(row["task"])
    return found
