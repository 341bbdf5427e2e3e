"""Are two models different? Paired, on the images that both have seen.

>>> paired(np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0]), np.zeros(4, int), seed=0)["only_first"]
2
"""

from __future__ import annotations

import dataclasses
import math
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
from fistful.eval import multilabel
from fistful.eval.results import MULTILABEL_PREDICTIONS_SCHEMA, PREDICTIONS_SCHEMA, RANKS_SCHEMA, read_results, result_name
from fistful.eval.retrieval import Ranks, caption_hits


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


def paired_retrieval(first: Ranks, second: Ranks, seed: int, k: int = 5) -> dict[str, Any]:
    """Compare how well two models retrieve the same images and captions: differences of recall at k, with 95 % intervals over images."""
    hits = [caption_hits(ranks, (k,)) for ranks in (first, second)]
    samples, _ = metrics.bootstrap(np.hstack(hits), np.zeros(len(first.images), np.int64), seed)
    found: dict[str, Any] = {"n": len(first.images)}
    for i, name in enumerate((f"image_retrieval_recall@{k}", f"text_retrieval_recall@{k}")):
        n = hits[0][:, 2].sum() if i == 0 else len(first.images)
        low, high = metrics.interval((samples[:, 3 + i] - samples[:, i]) / (samples[:, 2] if i == 0 else 1.0))
        found |= {f"{name}_difference": float((hits[1][:, i].sum() - hits[0][:, i].sum()) / n), f"{name}_low": low, f"{name}_high": high}
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A configuration against another, over their seeds, on the same images."""

    value: float
    low: float
    high: float
    over_seeds: bool
    """Whether the interval is over seeds and images; False where one of them has a single seed: over images alone."""


def compare_configurations(first_SN: np.ndarray, others: Sequence[np.ndarray], seed: int) -> list[Difference]:
    """Compare configurations with the first: differences of the mean over seeds, with 95 % intervals.

    Args:
        first_SN: 1 where a seed's model is right on an image, else 0; a row a seed.
        others: The same of each other configuration; each has seeds of its own.
        seed: Of the bootstrap over images.

    Returns:
        A difference each. With several seeds on both sides the variances over images (bootstrap) and over
        seeds are added, with Satterthwaite's degrees of freedom for Student's t; else the bootstrap's percentiles.

    Source:
        F. E. Satterthwaite 1946, Biometrics Bulletin 2.
    """
    from scipy.stats import t

    gains_NC = np.stack([other.mean(axis=0) - first_SN.mean(axis=0) for other in others], axis=1)
    n = len(gains_NC)
    samples = np.stack([counts @ gains_NC / n for counts in metrics.resamples(n, seed)])
    found = []
    for i, other in enumerate(others):
        value = float(gains_NC[:, i].mean())
        if min(len(first_SN), len(other)) < 2:
            found.append(Difference(value, *metrics.interval(samples[:, i]), over_seeds=False))
            continue
        of_images = float(samples[:, i].var())
        of_seeds = [float(one.mean(axis=1).var(ddof=1)) / len(one) for one in (first_SN, other)]
        spread = of_images + sum(of_seeds)
        loose = sum(part**2 / (len(one) - 1) for part, one in zip(of_seeds, (first_SN, other), strict=True))
        half = float(t.ppf(0.975, spread**2 / loose if loose else np.inf)) * math.sqrt(spread) if spread else 0.0
        found.append(Difference(value, value - half, value + half, over_seeds=True))
    return found


def compare_results(first: Path, second: Path, seed: int) -> dict[str, Any]:
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
        return paired_retrieval(ranks[0], ranks[1], seed)
    label = "labels" if schema is MULTILABEL_PREDICTIONS_SCHEMA else "label"
    if not both[0][label].equals(both[1][label]):
        raise DataError(f"{first} and {second}: give the same images other classes; are their names tables the same?")
    if label == "labels":
        scores = [np.array(table["scores"].to_pylist(), np.float32) for table in both]
        truth_NC = multilabel.truth_of(both[0]["labels"].to_pylist(), scores[0].shape[1])
        return multilabel.difference(scores[0], scores[1], truth_NC, seed)
    labels = both[0]["label"].to_numpy()
    right = [(table["rank"].to_numpy() < 1).astype(int) for table in both]
    return paired(right[0], right[1], labels, seed)


def _ranks(table: pa.Table) -> Ranks:
    of_caption = table["caption_ranks"].combine_chunks()
    n = pc.list_value_length(of_caption).to_numpy()
    return Ranks(table["rank"].to_numpy(), pc.list_flatten(of_caption).to_numpy(), np.repeat(np.arange(len(n)), n))


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
