"""Are two models different? Paired, on the images that both have seen.

>>> paired(np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0]), np.zeros(4, int), seed=0)["only_first"]
2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow import metrics
from fistful.bow.store.tables import read_table
from fistful.errors import DataError
from fistful.eval.results import PREDICTIONS_SCHEMA, read_results, result_name


def paired(first: np.ndarray, second: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """Compare what two models get right on the same images.

    Args:
        first: (N,) 1 where the first model is right, else 0.
        second: (N,) the same of the second.
        labels: (N,) true classes.
        seed: Of the bootstrap over images, the same resamples for both.

    Returns:
        difference (second - first) of top-1 and of the mean over classes, with 95 % intervals; how
        many images only one of them gets right, and McNemar's exact two-sided p.

    Source:
        McNemar 1947; the exact form is the binomial test of the images that only one gets right.
    """
    from scipy.stats import binomtest

    first, second = first.astype(np.float64), second.astype(np.float64)
    over_images, over_classes = metrics.bootstrap(np.stack([first, second], axis=1), labels, seed)
    low, high = metrics.interval(over_images[:, 1] - over_images[:, 0])
    class_low, class_high = metrics.interval(over_classes[:, 1] - over_classes[:, 0])
    n_classes = int(labels.max()) + 1
    recalls = [metrics.per_class_recall(right, labels, n_classes)[1] for right in (first, second)]
    only_first, only_second = int(((first > 0) & (second == 0)).sum()), int(((first == 0) & (second > 0)).sum())
    return {
        "n": len(first),
        "acc1_difference": (only_second - only_first) / len(first),
        "acc1_low": low,
        "acc1_high": high,
        "mean_per_class_recall_difference": float(np.nanmean(recalls[1]) - np.nanmean(recalls[0])),
        "mean_per_class_recall_low": class_low,
        "mean_per_class_recall_high": class_high,
        "only_first": only_first,
        "only_second": only_second,
        "mcnemar_p": float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0,
    }


def compare_results(first: Path, second: Path, seed: int) -> dict[str, Any]:
    """Compare two files of predictions, image by image.

    Raises:
        DataError: If they have no image in common, or disagree about its class.
    """
    tables = [read_table(path, PREDICTIONS_SCHEMA).select(["image", "sha256", "label", "rank"]).to_pydict() for path in (first, second)]
    place = {key: i for i, key in enumerate(zip(tables[1]["image"], tables[1]["sha256"], strict=True))}
    pairs = [(i, place[key]) for i, key in enumerate(zip(tables[0]["image"], tables[0]["sha256"], strict=True)) if key in place]
    if not pairs:
        raise DataError(f"{first} and {second}: have no image in common, expected predictions for the same set")
    rows = np.array(pairs)
    labels = np.array(tables[0]["label"])[rows[:, 0]]
    if (labels != np.array(tables[1]["label"])[rows[:, 1]]).any():
        raise DataError(f"{first} and {second}: give the same images other classes; are their names tables the same?")
    right = [(np.array(table["rank"])[rows[:, k]] < 1).astype(int) for k, table in enumerate(tables)]
    return paired(right[0], right[1], labels, seed)


def compare_with_first(folder: Path, results: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Compare each model of a results folder with the first that was named, on each set and prompt set."""
    baseline = results[0]["model"]
    comparisons = []
    for result in results:
        if result["model"] != baseline:
            names = [result_name(model, result["dataset"], result["prompts"]) for model in (baseline, result["model"])]
            found = compare_results(*(folder / "predictions" / f"{name}.parquet" for name in names), seed=seed)
            where = {"dataset": result["dataset"], "prompts": result["prompts"]}
            comparisons.append({"first": baseline, "second": result["model"], **where, **found})
    return comparisons


def compare_folders(first: str | Path, second: str | Path, seed: int = 0) -> list[dict[str, Any]]:
    """Compare the results that two folders have of the same sets and prompts, model by model."""
    found = []
    for one in read_results(first):
        for other in read_results(second):
            if (one["dataset"], one["prompts"]) == (other["dataset"], other["prompts"]):
                paths = [
                    Path(f) / "predictions" / f"{result_name(r['model'], r['dataset'], r['prompts'])}.parquet"
                    for f, r in ((first, one), (second, other))
                ]
                where = {"dataset": one["dataset"], "prompts": one["prompts"]}
                found.append({"first": one["model"], "second": other["model"], **where, **compare_results(paths[0], paths[1], seed)})
    return found
