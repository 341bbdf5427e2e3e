"""What an evaluation leaves behind: CLIP_benchmark's result files, a summary, predictions, and a table.

Why a file per result and a summary beside them: docs/decisions/0011-results.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.metrics import told_apart
from fistful.bow.store.file_names import file_name
from fistful.bow.store.files import read_json
from fistful.terminal import show_in_line
from fistful.wording import counted, some, table

from .sets.class_names import ClassName
from .tasks.multilabel import NAME as MEAN_AP
from .tasks.multilabel import average_precisions
from .tasks.zeroshot import Predictions

SUMMARY = "results.json"
RETRIEVAL = "zeroshot_retrieval"
"""CLIP_benchmark's name of the task."""
PAIRED = {"acc1": "top-1", MEAN_AP: "mean AP", "image_retrieval_recall@5": "image R@5", "text_retrieval_recall@5": "text R@5"}
"""Measures whose paired differences are printed and shown, and their short names."""
IMAGE_FIELDS = [("image", pa.string()), ("sha256", pa.string()), ("source", pa.string())]
"""What every table with a row an image begins with."""
CLASS_FIELDS = [("class", pa.int32()), ("folder", pa.string()), ("name", pa.string()), ("n", pa.int32())]
VOCABULARY_FIELDS = [("covered", pa.bool_()), ("df", pa.int64())]
"""What every table with a row a class begins and ends with: `covered` and `df` (of its rarest word) are null without a vocabulary."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        *IMAGE_FIELDS,
        ("label", pa.int32()),
        ("rank", pa.int32()),
        ("top", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
    ]
)
"""A row a used image: `rank` counts the classes before the true one, `top` are the best, best first."""

CLASSES_SCHEMA = pa.schema([*CLASS_FIELDS, ("recall1", pa.float64()), ("recall5", pa.float64()), *VOCABULARY_FIELDS])
"""A row a class: its recall at 1 and at 5, null for a class without an image."""

MULTILABEL_PREDICTIONS_SCHEMA = pa.schema([*IMAGE_FIELDS, ("labels", pa.list_(pa.int32())), ("scores", pa.list_(pa.float32()))])
"""A row a used image of a multi-label set: its classes, and the score of every class."""

MULTILABEL_CLASSES_SCHEMA = pa.schema([*CLASS_FIELDS, ("average_precision", pa.float64()), *VOCABULARY_FIELDS])
"""A row a class of a multi-label set: `average_precision` is null for a class without an image."""

RANKS_SCHEMA = pa.schema([*IMAGE_FIELDS, ("rank", pa.int32()), ("caption_ranks", pa.list_(pa.int32()))])
"""A row a captioned image: `rank` counts the captions of others before its best own, `caption_ranks` other images, by caption."""

WORDS_SCHEMA = pa.schema([("word", pa.string()), ("df", pa.int64()), ("n", pa.int64()), ("ap", pa.float64())])
"""A row a word that enough images have: `n` images, and its average precision."""


def result_name(*parts: str) -> str:
    """Return what the files of a result are called, without extension: no other model, set or prompt set has the same.

    >>> result_name("rn50", "cifar10", "openai80")
    'rn50--cifar10--openai80'
    """
    return file_name(*parts)


def kept_result(folder: Path, stem: str, model_fingerprint: str) -> dict[str, Any] | None:
    """Return a result that an interrupted evaluation left behind; None where there is none of this very model."""
    path = folder / "results" / f"{stem}.json"
    result = read_json(path) if path.exists() else None
    return result if result is not None and result["model_fingerprint"] == model_fingerprint else None


def predictions_table(
    images: Sequence[str], sha256: Sequence[str], sources: Sequence[str], labels: np.ndarray, predictions: Predictions
) -> pa.Table:
    """Return predictions as a table, in the order of the images."""
    said = {
        "label": labels.astype(np.int32),
        "rank": predictions.ranks,
        "top": predictions.top.tolist(),
        "scores": predictions.scores.tolist(),
    }
    return pa.table({**_of_images(images, sha256, sources), **said}, schema=PREDICTIONS_SCHEMA)


def multilabel_predictions_table(
    images: Sequence[str], sha256: Sequence[str], sources: Sequence[str], truth_NC: np.ndarray, scores_NC: np.ndarray
) -> pa.Table:
    """Return what is said of the images of a multi-label set as a table, in their order."""
    said = {"labels": [np.flatnonzero(row).tolist() for row in truth_NC], "scores": scores_NC.tolist()}
    return pa.table({**_of_images(images, sha256, sources), **said}, schema=MULTILABEL_PREDICTIONS_SCHEMA)


def classes_table(
    classes: Sequence[ClassName], labels: np.ndarray, ranks: np.ndarray, covered: np.ndarray | None, df: np.ndarray | None
) -> pa.Table:
    """Return a row a class: images, recall, and what the vocabulary says of its words."""
    n = np.bincount(labels, minlength=len(classes))
    recalls = [np.bincount(labels[ranks < k], minlength=len(classes)) / np.maximum(n, 1) for k in (1, 5)]
    said = {f"recall{k}": pa.array(recall, mask=n == 0) for k, recall in zip((1, 5), recalls, strict=True)}
    return pa.table({**_of_classes(classes, n, covered, df), **said}, schema=CLASSES_SCHEMA)


def multilabel_classes_table(
    classes: Sequence[ClassName], truth_NC: np.ndarray, scores_NC: np.ndarray, covered: np.ndarray | None, df: np.ndarray | None
) -> pa.Table:
    """Return a row a class: images, average precision, and what the vocabulary says of its words."""
    precisions_C = average_precisions(scores_NC, truth_NC)
    said = {"average_precision": pa.array(precisions_C, mask=np.isnan(precisions_C))}
    return pa.table({**_of_classes(classes, truth_NC.sum(axis=0), covered, df), **said}, schema=MULTILABEL_CLASSES_SCHEMA)


def _of_images(images: Sequence[str], sha256: Sequence[str], sources: Sequence[str]) -> dict[str, Any]:
    columns = (images, sha256, sources)
    return {name: pa.array(column, kind) for (name, kind), column in zip(IMAGE_FIELDS, columns, strict=True)}


def _of_classes(classes: Sequence[ClassName], n: np.ndarray, covered: np.ndarray | None, df: np.ndarray | None) -> dict[str, Any]:
    return {
        "class": np.arange(len(classes), dtype=np.int32),
        "folder": [entry.folder for entry in classes],
        "name": [entry.name for entry in classes],
        "n": n.astype(np.int32),
        "covered": pa.nulls(len(classes), pa.bool_()) if covered is None else pa.array(covered),
        "df": pa.nulls(len(classes), pa.int64()) if df is None else pa.array(df),
    }


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """Return the results of a folder that `evaluate` wrote, in the order asked for.

    Raises:
        UsageError: If it is not such a folder.
        DataError: If its summary is broken.
    """
    return list(read_json(Path(folder) / SUMMARY)["results"])


def results_table(folder: str | Path) -> str:
    """Return the results as plain-text tables for a terminal, with comparisons and warnings below."""
    results = read_results(folder)
    tables = [
        _classification([r for r in results if "acc1" in r["metrics"]]),
        _several_labels([r for r in results if MEAN_AP in r["metrics"]]),
        _retrieval([r for r in results if r["task"] == RETRIEVAL]),
        _reranked([r for r in results if "reranked_passes" in r["metrics"]]),
    ]
    models: dict[tuple[str, str], dict[str, None]] = {}
    for r in results:
        for line in r["warnings"]:
            models.setdefault((r["dataset"], line), {})[r["model"]] = None
    warnings = [f"! {some(list(names))} on {dataset}: {line}" for (dataset, line), names in models.items()]
    paired = [line for comparison in read_json(Path(folder) / SUMMARY)["comparisons"] for line in _differences(comparison)]
    facts = dict.fromkeys(line for r in results for line in _facts(r))
    lines = [show_in_line(line) for line in (*facts, *paired, *warnings)]
    return "\n\n".join(table for table in tables if table) + "\n" + "".join(f"{line}\n" for line in lines)


def _facts(result: dict[str, Any]) -> list[str]:
    """Return what a set was taken for, and what was looked for and is as it should be; what is not is a warning."""
    metrics, dataset = result["metrics"], result["dataset"]
    lines = [f"{dataset}: {line}" for line in result.get("taken", [])]
    lines += [f"{dataset}: none of the {counted(metrics['n'], 'image')} is a near-duplicate of a training image"] * (
        result.get("near_duplicates") == 0
    )
    n_classes = metrics.get("n_classes")
    if n_classes and metrics.get("covered_n_classes") == n_classes:
        lines.append(f"{dataset}: the vocabulary has the words of all {counted(n_classes, 'class', 'classes')}")
    return lines


def _classification(results: Sequence[dict[str, Any]]) -> str:
    rows = [["model", "data", "prompts", "top-1 [95 %]", "top-5 [95 %]", "chance", "images", "refused"]]
    for r in results:
        m = r["metrics"]
        scores = [_percent(m, "acc1"), _percent(m, "acc5"), f"{100 * m['chance1']:.1f}"]
        rows.append([r["model"], r["dataset"], r["prompts"], *scores, f"{m['n']:,}", f"{sum(r['refused'].values()):,}"])
    return "\n".join(table(rows, range(3), rule=True)) if results else ""


def _several_labels(results: Sequence[dict[str, Any]]) -> str:
    rows = [["model", "data", "prompts", "mean AP [95 %]", "chance", "images", "refused"]]
    for r in results:
        m = r["metrics"]
        chance = f"{100 * m[f'chance_{MEAN_AP}']:.1f}"
        rows.append(
            [r["model"], r["dataset"], r["prompts"], _percent(m, MEAN_AP), chance, f"{m['n']:,}", f"{sum(r['refused'].values()):,}"]
        )
    return "\n".join(table(rows, range(3), rule=True)) if results else ""


def _retrieval(results: Sequence[dict[str, Any]]) -> str:
    more = ["R@5 [95 %]", "R@10"]
    rows = [["model", "data", "image R@1", *more, "text R@1", *more, "chance R@5", "tags P@3", "AP macro", "images"]]
    for r in results:
        m = r["metrics"]
        recalls = [_percent(m, f"{way}_retrieval_recall@{k}", k == 5) for way in ("image", "text") for k in (1, 5, 10)]
        tags = [_percent(m, name, False) for name in ("tags_precision@3", "tags_ap_macro")]
        rows.append([r["model"], r["dataset"], *recalls, f"{100 * min(1.0, 5 / m['n']):.1f}", *tags, f"{m['n']:,}"])
    return "\n".join(table(rows, range(2), rule=True)) if results else ""


def _reranked(results: Sequence[dict[str, Any]]) -> str:
    rows = [["reranked", "data", "nearest", "image R@1 [95 %]", "R@5", "text R@1 [95 %]", "R@5", "passes of the head"]]
    for r in results:
        m = r["metrics"]
        recalls = [_percent(m, f"reranked_{way}_retrieval_recall@{k}", k == 1) for way in ("image", "text") for k in (1, 5)]
        rows.append([r["model"], r["dataset"], str(m["reranked_nearest"]), *recalls, f"{m['reranked_passes']:,}"])
    return "\n".join(table(rows, range(2), rule=True)) if results else ""


def _differences(comparison: dict[str, Any]) -> list[str]:
    """Return a line for each measure that was compared."""
    where = f"{comparison['dataset']}, {comparison['prompts']}"
    lines = []
    for measure, label in PAIRED.items():
        if f"{measure}_difference" not in comparison:
            continue
        difference, low, high = (100 * comparison[f"{measure}_{name}"] for name in ("difference", "low", "high"))
        verdict = "" if told_apart(low / 100, high / 100) else ": not told apart"
        lines.append(
            f"{comparison['second']} - {comparison['first']} on {where}: {label} {difference:+.1f} [{low:+.1f}, {high:+.1f}]{verdict}"
        )
    return lines


def _percent(figures: dict[str, Any], name: str, interval: bool = True) -> str:
    value = figures.get(name)
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" [{100 * figures[name + '_low']:.1f}, {100 * figures[name + '_high']:.1f}]" if interval else "")
