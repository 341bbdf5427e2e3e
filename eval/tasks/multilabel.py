"""Sets whose images have several labels, or none: average precision of each class. Numpy in, numpy out.

Shape suffixes: N images, C classes.

>>> scores_NC = np.array([[0.9, 0.1], [0.8, 0.3], [0.1, 0.7]], np.float32)
>>> average_precisions(scores_NC, np.array([[True, False], [False, False], [True, True]])).round(3).tolist()
[0.833, 1.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow import metrics
from fistful.bow.frequency import class_thirds

from .zeroshot import about_part, with_interval

NAME = "mean_average_precision"


def truth_of(labels: Sequence[Sequence[int]], n_classes: int) -> np.ndarray:
    """Return which classes each image has: (N, C) bool."""
    truth_NC = np.zeros((len(labels), n_classes), dtype=bool)
    for row, own in zip(truth_NC, labels, strict=True):
        row[list(own)] = True
    return truth_NC


def average_precisions(scores_NC: np.ndarray, truth_NC: np.ndarray) -> np.ndarray:
    """Return the average precision of each class: (C,), NaN for a class that no image has."""
    from sklearn.metrics import average_precision_score

    found = np.full(truth_NC.shape[1], np.nan)
    for i in np.flatnonzero(truth_NC.any(axis=0)):
        found[i] = average_precision_score(truth_NC[:, i], scores_NC[:, i])
    return found


def left_out(scores_NC: np.ndarray, truth_NC: np.ndarray) -> np.ndarray:
    """Return mean average precision without each image in turn, of the classes that an image is left of: (N,), NaN where none is.

    Equal scores count as one threshold, as scikit-learn has it.
    """
    sums_N, n_classes_N = np.zeros(len(scores_NC)), np.zeros(len(scores_NC))
    for i in np.flatnonzero(truth_NC.any(axis=0)):
        without_N = _without_each(scores_NC[:, i], truth_NC[:, i])
        sums_N += np.nan_to_num(without_N)
        n_classes_N += ~np.isnan(without_N)
    with np.errstate(invalid="ignore"):
        return sums_N / n_classes_N


def _without_each(scores_N: np.ndarray, truth_N: np.ndarray) -> np.ndarray:
    """Return a class's average precision without each image: an image takes one rank from those at or behind its score."""
    order, n, n_true = np.argsort(-scores_N, kind="stable"), len(scores_N), int(truth_N.sum())
    true, falling = truth_N[order].astype(np.float64), -scores_N[order]
    first, last = (np.searchsorted(falling, falling, side=side) for side in ("left", "right"))  # of the same score
    hits, seen = np.cumsum(true)[last - 1], last.astype(np.float64)
    rest = np.maximum(seen - 1, 1)
    as_it_is, one_less, one_less_true = (
        np.concatenate([[0.0], np.cumsum(part)]) for part in (true * hits / seen, true * hits / rest, true * (hits - 1) / rest)
    )
    own = true * (hits - 1) / rest
    without_false = (as_it_is[first] + one_less[n] - one_less[first]) / n_true
    without_true = (as_it_is[first] + one_less_true[n] - one_less_true[first] - own) / (n_true - 1) if n_true > 1 else np.full(n, np.nan)
    found_N = np.empty(n)
    found_N[order] = np.where(true > 0, without_true, without_false)
    return found_N


def summarise(scores_NC: np.ndarray, truth_NC: np.ndarray, covered_C: np.ndarray | None) -> dict[str, Any]:
    """Return mean average precision with its 95 % interval, and what guessing would give.

    Args:
        scores_NC: Of every class for every image.
        truth_NC: Which classes each image has.
        covered_C: The classes that a vocabulary can speak of; None without one.

    Returns:
        CLIP_benchmark's mean_average_precision, over the classes that an image has (CLIP_benchmark counts the others as 0),
        _low and _high; chance_mean_average_precision, the mean share of images that have a class; n, n_classes, n_labels;
        with a vocabulary the same with covered_ before it.
    """
    figures: dict[str, Any] = {"n": len(truth_NC), "n_classes": truth_NC.shape[1], "n_labels": int(truth_NC.sum())}
    figures |= _means("", scores_NC, truth_NC)
    if covered_C is not None:
        figures["covered_n_classes"] = int(covered_C.sum())
        figures |= _means("covered_", scores_NC[:, covered_C], truth_NC[:, covered_C])
    return figures


def _means(prefix: str, scores_NC: np.ndarray, truth_NC: np.ndarray) -> dict[str, float | None]:
    has_image = truth_NC.any(axis=0)
    if not has_image.any():
        return {f"{prefix}{NAME}": None}
    value = float(np.nanmean(average_precisions(scores_NC, truth_NC)))
    ends = metrics.left_out_interval(value, left_out(scores_NC, truth_NC))
    return {**with_interval(f"{prefix}{NAME}", value, ends), f"{prefix}chance_{NAME}": float(truth_NC[:, has_image].mean())}


def difference(first_NC: np.ndarray, second_NC: np.ndarray, truth_NC: np.ndarray) -> dict[str, Any]:
    """Return how much higher the second model's mean average precision is on the same images, with its 95 % interval."""
    both = (first_NC, second_NC)
    means = [float(np.nanmean(average_precisions(scores, truth_NC))) for scores in both]
    without = [left_out(scores, truth_NC) for scores in both]
    low, high = metrics.paired_left_out_interval(means[1] - means[0], without[1] - without[0])
    return {"n": len(truth_NC), f"{NAME}_difference": means[1] - means[0], f"{NAME}_low": low, f"{NAME}_high": high}


def by_source(scores_NC: np.ndarray, truth_NC: np.ndarray, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the figure of each source of a pooled set; {} where there is only one."""
    names, of_image = np.unique(np.array(sources, dtype=object), return_inverse=True)
    parts = {str(name): of_image == i for i, name in enumerate(names)} if len(names) > 1 else {}
    return {name: {"n": int(part.sum()), NAME: _mean(scores_NC[part], truth_NC[part])} for name, part in parts.items()}


def by_frequency(scores_NC: np.ndarray, truth_NC: np.ndarray, df_C: np.ndarray) -> list[dict[str, Any]]:
    """Return the figure of the classes that the vocabulary covers, in thirds (`class_thirds`)."""
    return [
        {**about_part(name, part, df_C), "n": int(truth_NC[:, part].sum()), NAME: _mean(scores_NC[:, part], truth_NC[:, part])}
        for name, part in class_thirds(df_C)
    ]


def _mean(scores_NC: np.ndarray, truth_NC: np.ndarray) -> float | None:
    return float(np.nanmean(average_precisions(scores_NC, truth_NC))) if truth_NC.any() else None
