"""Are two models different? Paired, on the images that both have seen.

>>> paired(np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0]), np.zeros(4, int))["only_first"]
2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fistful.bow import metrics
from fistful.bow.store.tables import read_table
from fistful.errors import DataError

from .results import MULTILABEL_PREDICTIONS_SCHEMA, PREDICTIONS_SCHEMA, RANKS_SCHEMA, result_name
from .tasks import multilabel
from .tasks.retrieval import RetrievalRanks, of_images


def paired(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compare what two models get right on the same images.

    Args:
        first: (N,) 1 where the first model is right, else 0.
        second: (N,) the same of the second.
        labels: (N,) true classes.

    Returns:
        difference (second - first) of top-1 and of the mean over classes, with 95 % intervals; how
        many images only one of them gets right, and McNemar's exact two-sided p, without which no interval leaves out 0.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    class_low, class_high = metrics.paired_class_mean_interval(second - first, labels)
    n_classes = int(labels.max()) + 1
    recalls = [metrics.per_class_recall(right, labels, n_classes)[1] for right in (first, second)]
    only_first, only_second = int(((first > 0) & (second == 0)).sum()), int(((first == 0) & (second > 0)).sum())
    low, high = metrics.paired_interval(only_first, only_second, len(first))
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
        "mcnemar_p": metrics.mcnemar(only_first, only_second),
    }


def paired_retrieval(first: RetrievalRanks, second: RetrievalRanks, k: int = 5) -> dict[str, Any]:
    """Compare how well two models retrieve the same images and captions: differences of recall at k, with 95 % intervals over images."""
    found: dict[str, Any] = {"n": len(first.images)}
    ones_N = np.ones(len(first.images))
    n_captions_N = of_images(first, np.ones(len(first.captions)))
    for name, way, totals_N in (("image", "captions", n_captions_N), ("text", "images", ones_N)):
        one, other = (getattr(ranks, way) < k for ranks in (first, second))
        only = [one & ~other, other & ~one]
        only_N = [of_images(first, part) if way == "captions" else part.astype(np.float64) for part in only]
        low, high = metrics.paired_ratio_interval(only_N[0], only_N[1], totals_N)
        value, name = float((only_N[1].sum() - only_N[0].sum()) / totals_N.sum()), f"{name}_retrieval_recall@{k}"
        found |= {f"{name}_difference": value, f"{name}_low": low, f"{name}_high": high}
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A configuration against another, over their seeds, on the same images."""

    value: float
    low: float
    high: float
    over_seeds: bool
    """Whether the interval is over seeds and images; False where one of them has a single seed: over images alone."""


def compare_configurations(first_SN: np.ndarray, others: Sequence[np.ndarray]) -> list[Difference]:
    """Compare configurations with the first: differences of the mean over seeds, with 95 % intervals.

    Args:
        first_SN: 1 where a seed's model is right on an image, else 0; a row a seed.
        others: The same of each other configuration; each has seeds of its own.

    Returns:
        A difference each: over seeds and images with several seeds on both sides, else over images alone.
    """
    return [_configuration(first_SN, other_SN) for other_SN in others]


def _configuration(first_SN: np.ndarray, second_SN: np.ndarray) -> Difference:
    gains_N = second_SN.mean(axis=0) - first_SN.mean(axis=0)
    value = float(gains_N.mean())
    if min(len(first_SN), len(second_SN), len(gains_N)) > 1:
        return Difference(value, *metrics.seeds_interval(first_SN, second_SN), over_seeds=True)
    lost, won = float(np.maximum(-gains_N, 0).sum()), float(np.maximum(gains_N, 0).sum())
    return Difference(value, *metrics.paired_interval(lost, won, len(gains_N)), over_seeds=False)


def compare_results(first: Path, second: Path) -> dict[str, Any]:
    """Compare two files of predictions, image by image.

    Raises:
        DataError: If they have no image in common, or disagree about its class or its captions.
    """
    names = pq.read_schema(first).names
    schemas = (RANKS_SCHEMA, MULTILABEL_PREDICTIONS_SCHEMA, PREDICTIONS_SCHEMA)
    schema = next((schema for schema in schemas if schema.names == names), PREDICTIONS_SCHEMA)
    tables = [read_table(path, schema) for path in (first, second)]
    places = [{key: i for i, key in enumerate(zip(t["image"].to_pylist(), t["sha256"].to_pylist(), strict=True))} for t in tables]
    pairs = [(i, places[1][key]) for key, i in places[0].items() if key in places[1]]
    if not pairs:
        raise DataError(f"{first} and {second}: have no image in common, expected predictions for the same set")
    rows = np.array(pairs)
    both = [table.take(rows[:, k]) for k, table in enumerate(tables)]
    if schema is RANKS_SCHEMA:
        ranks = [_ranks(table) for table in both]
        if len(rows) < len(places[0]) or not np.array_equal(ranks[0].image_of_caption, ranks[1].image_of_caption):
            raise DataError(f"{first} and {second}: are about other images or captions, so their ranks cannot be compared")
        return paired_retrieval(ranks[0], ranks[1])
    label = "labels" if schema is MULTILABEL_PREDICTIONS_SCHEMA else "label"
    if not both[0][label].equals(both[1][label]):
        raise DataError(f"{first} and {second}: give the same images other classes; are their names tables the same?")
    if label == "labels":
        scores = [np.array(table["scores"].to_pylist(), np.float32) for table in both]
        truth_NC = multilabel.truth_of(both[0]["labels"].to_pylist(), scores[0].shape[1])
        return multilabel.difference(scores[0], scores[1], truth_NC)
    labels = both[0]["label"].to_numpy()
    right = [(table["rank"].to_numpy() < 1).astype(int) for table in both]
    return paired(right[0], right[1], labels)


def _ranks(table: pa.Table) -> RetrievalRanks:
    of_caption = table["caption_ranks"].combine_chunks()
    n = pc.list_value_length(of_caption).to_numpy()
    return RetrievalRanks(table["rank"].to_numpy(), pc.list_flatten(of_caption).to_numpy(), np.repeat(np.arange(len(n)), n))


def compare_with_first(folder: Path, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare each model of a results folder with the first that was named, on each set and prompt set."""
    baseline = results[0]["model"]
    comparisons = []
    for result in results:
        if result["model"] != baseline:
            names = [result_name(model, result["dataset"], result["prompts"]) for model in (baseline, result["model"])]
            found = compare_results(*(folder / "predictions" / f"{name}.parquet" for name in names))
            where = {"dataset": result["dataset"], "prompts": result["prompts"]}
            comparisons.append({"first": baseline, "second": result["model"], **where, **found})
    return comparisons
