"""What an evaluation leaves behind: CLIP_benchmark's result files, a summary, predictions, and a table.

Why a file per result and a summary beside them: docs/decisions/0011-results.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.store.files import read_json
from fistful.eval.names import ClassName
from fistful.eval.zeroshot import Predictions

SUMMARY = "results.json"
PREDICTIONS_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("sha256", pa.string()),
        ("source", pa.string()),
        ("label", pa.int32()),
        ("rank", pa.int32()),
        ("top", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
    ]
)
"""A row a used image: `rank` counts the classes before the true one, `top` are the best, best first."""

CLASSES_SCHEMA = pa.schema(
    [
        ("class", pa.int32()),
        ("folder", pa.string()),
        ("name", pa.string()),
        ("n", pa.int32()),
        ("recall1", pa.float64()),
        ("recall5", pa.float64()),
        ("covered", pa.bool_()),
        ("df", pa.int64()),
    ]
)
"""A row a class: `covered` and `df` (of its rarest word) are null without a vocabulary."""


def result_name(*parts: str) -> str:
    """Return a file name for a result.

    >>> result_name("tiny/rn50", "cifar10", "openai80")
    'tiny_rn50--cifar10--openai80'
    """
    return "--".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts)


def predictions_table(
    images: Sequence[str], sha256: Sequence[str], sources: Sequence[str], labels: np.ndarray, found: Predictions
) -> pa.Table:
    """Return predictions as a table, in the order of the images."""
    return pa.table(
        {
            "image": pa.array(images, pa.string()),
            "sha256": pa.array(sha256, pa.string()),
            "source": pa.array(sources, pa.string()),
            "label": labels.astype(np.int32),
            "rank": found.ranks,
            "top": found.top.tolist(),
            "scores": found.scores.tolist(),
        },
        schema=PREDICTIONS_SCHEMA,
    )


def classes_table(
    classes: Sequence[ClassName], labels: np.ndarray, ranks: np.ndarray, covered: np.ndarray | None, df: np.ndarray | None
) -> pa.Table:
    """Return a row a class: images, recall, and what the vocabulary says of its words."""
    n = np.bincount(labels, minlength=len(classes))
    recalls = [np.bincount(labels[ranks < k], minlength=len(classes)) / np.maximum(n, 1) for k in (1, 5)]
    none_seen = n == 0
    return pa.table(
        {
            "class": np.arange(len(classes), dtype=np.int32),
            "folder": [entry.folder for entry in classes],
            "name": [entry.name for entry in classes],
            "n": n.astype(np.int32),
            "recall1": pa.array(recalls[0], mask=none_seen),
            "recall5": pa.array(recalls[1], mask=none_seen),
            "covered": pa.nulls(len(classes), pa.bool_()) if covered is None else pa.array(covered),
            "df": pa.nulls(len(classes), pa.int64()) if df is None else pa.array(df),
        },
        schema=CLASSES_SCHEMA,
    )


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """Return the results of a folder that `evaluate` wrote, in the order asked for.

    Raises:
        UsageError: If it is not such a folder.
        DataError: If its summary is broken.
    """
    return list(read_json(Path(folder) / SUMMARY)["results"])


def results_table(folder: str | Path) -> str:
    """Return the results as a plain-text table for a terminal, with their warnings below."""
    results = read_results(folder)
    head = ["model", "data", "prompts", "top-1 [95 %]", "top-5 [95 %]", "chance", "images", "refused"]
    rows = [head, *([*_labels(r), *_figures(r)] for r in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
    warnings = dict.fromkeys(f"! {r['model']} on {r['dataset']}: {line}" for r in results for line in r["warnings"])
    paired = [_difference(comparison) for comparison in read_json(Path(folder) / SUMMARY)["comparisons"]]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *paired, *warnings]) + "\n"


def _difference(found: dict[str, Any]) -> str:
    difference, low, high = (100 * found[name] for name in ("acc1_difference", "acc1_low", "acc1_high"))
    verdict = "" if low > 0 or high < 0 else ": not told apart"
    where = f"{found['dataset']}, {found['prompts']}"
    return f"{found['second']} - {found['first']} on {where}: top-1 {difference:+.1f} [{low:+.1f}, {high:+.1f}]{verdict}"


def _labels(result: dict[str, Any]) -> list[str]:
    return [result["model"], result["dataset"], result["prompts"]]


def _figures(result: dict[str, Any]) -> list[str]:
    figures = result["metrics"]
    return [
        _percent(figures, "acc1"),
        _percent(figures, "acc5"),
        f"{100 * figures['chance1']:.1f}",
        str(figures["n"]),
        str(sum(result["refused"].values())),
    ]


def _percent(figures: dict[str, Any], name: str) -> str:
    value = figures.get(name)
    if value is None:
        return "-"
    return f"{100 * value:.1f} [{100 * figures[name + '_low']:.1f}, {100 * figures[name + '_high']:.1f}]"
