"""Sets whose images have several labels, or none: average precision of each class. Numpy in, numpy out.

Shape suffixes: N images, C classes, R resamples.

>>> scores_NC = np.array([[0.9, 0.1], [0.8, 0.3], [0.1, 0.7]], np.float32)
>>> average_precisions(scores_NC, np.array([[True, False], [False, False], [True, True]])).round(3).tolist()
[0.833, 1.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow import metrics

N_RESAMPLES = 400
"""Bootstrap resamples: each goes through all images of every class, and 10 lie beyond each end of the interval."""

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


def bootstrap(scores_NC: np.ndarray, truth_NC: np.ndarray, seed: int, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Resample images and return the average precision of each class: (R, C), NaN where a resample has none of its images.

    Equal scores count as one threshold, as scikit-learn has it, so a resample of every image once gives its figures.
    """
    order_NC = np.argsort(-scores_NC, axis=0, kind="stable")
    sorted_NC = np.take_along_axis(scores_NC, order_NC, axis=0)
    right_NC = np.take_along_axis(truth_NC, order_NC, axis=0)
    n = len(scores_NC)
    ends_NC = np.empty(scores_NC.shape, np.int64)  # the last place of the same score
    for i in range(scores_NC.shape[1]):
        ends_NC[:, i] = n - 1 - np.searchsorted(sorted_NC[::-1, i], sorted_NC[:, i], side="left")
    found_RC = np.empty((n_resamples, scores_NC.shape[1]))
    for row, counts in enumerate(metrics.resamples(n, seed, n_resamples)):
        drawn_NC = counts[order_NC]
        hits_NC = drawn_NC * right_NC
        seen = np.take_along_axis(np.cumsum(drawn_NC, axis=0), ends_NC, axis=0)
        so_far = np.take_along_axis(np.cumsum(hits_NC, axis=0), ends_NC, axis=0)
        n_right = hits_NC.sum(axis=0)
        with np.errstate(invalid="ignore"):
            found_RC[row] = (hits_NC * so_far / np.maximum(seen, 1)).sum(axis=0) / n_right
    return found_RC


def summarise(scores_NC: np.ndarray, truth_NC: np.ndarray, covered_C: np.ndarray | None, seed: int) -> dict[str, Any]:
    """Return mean average precision with its 95 % interval, and what guessing would give.

    Args:
        scores_NC: Of every class for every image.
        truth_NC: Which classes each image has.
        covered_C: The classes that a vocabulary can speak of; None without one.
        seed: Of the bootstrap over images.

    Returns:
        CLIP_benchmark's mean_average_precision, over the classes that an image has (CLIP_benchmark counts the others as 0),
        _low and _high; chance_mean_average_precision, the mean share of images that have a class; n, n_classes, n_labels;
        with a vocabulary the same with covered_ before it.
    """
    figures: dict[str, Any] = {"n": len(truth_NC), "n_classes": truth_NC.shape[1], "n_labels": int(truth_NC.sum())}
    precisions_C, drawn_RC = average_precisions(scores_NC, truth_NC), bootstrap(scores_NC, truth_NC, seed)
    figures |= _means("", precisions_C, drawn_RC, truth_NC)
    if covered_C is not None:
        figures["covered_n_classes"] = int(covered_C.sum())
        figures |= _means("covered_", precisions_C[covered_C], drawn_RC[:, covered_C], truth_NC[:, covered_C])
    return figures


def _means(prefix: str, precisions_C: np.ndarray, drawn_RC: np.ndarray, truth_NC: np.ndarray) -> dict[str, float | None]:
    has_image = truth_NC.any(axis=0)
    if not has_image.any():
        return {f"{prefix}{NAME}": None}
    low, high = metrics.interval(_row_means(drawn_RC))
    return {
        f"{prefix}{NAME}": float(np.nanmean(precisions_C)),
        f"{prefix}{NAME}_low": low,
        f"{prefix}{NAME}_high": high,
        f"{prefix}chance_{NAME}": float(truth_NC[:, has_image].mean()),
    }


def _row_means(drawn_RC: np.ndarray) -> np.ndarray:
    """Return the mean of each row that has a number, over its numbers."""
    known = ~np.isnan(drawn_RC)
    kept = known.any(axis=1)
    return np.nansum(drawn_RC[kept], axis=1) / known[kept].sum(axis=1)


def difference(first_NC: np.ndarray, second_NC: np.ndarray, truth_NC: np.ndarray, seed: int) -> dict[str, Any]:
    """Return how much higher the second model's mean average precision is on the same images, with its 95 % interval."""
    means = [float(np.nanmean(average_precisions(scores, truth_NC))) for scores in (first_NC, second_NC)]
    drawn = [_row_means(bootstrap(scores, truth_NC, seed)) for scores in (first_NC, second_NC)]
    low, high = metrics.interval(drawn[1] - drawn[0])
    return {"n": len(truth_NC), f"{NAME}_difference": means[1] - means[0], f"{NAME}_low": low, f"{NAME}_high": high}


def by_source(scores_NC: np.ndarray, truth_NC: np.ndarray, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the figure of each source of a pooled set; {} where there is only one."""
    names, of_image = np.unique(np.array(sources, dtype=object), return_inverse=True)
    parts = {str(name): of_image == i for i, name in enumerate(names)} if len(names) > 1 else {}
    return {name: {"n": int(part.sum()), NAME: _mean(scores_NC[part], truth_NC[part])} for name, part in parts.items()}


def by_frequency(scores_NC: np.ndarray, truth_NC: np.ndarray, df_C: np.ndarray) -> list[dict[str, Any]]:
    """Return the figure of the classes that the vocabulary covers, in three parts as `zeroshot.by_frequency` has them."""
    covered = np.lexsort((np.arange(len(df_C)), -df_C))[: int((df_C > 0).sum())]
    parts = []
    for name, part in zip(("head", "middle", "tail"), np.array_split(covered, 3), strict=True):
        if len(part):
            df = {"df_from": int(df_C[part].min()), "df_to": int(df_C[part].max())}
            figure = _mean(scores_NC[:, part], truth_NC[:, part])
            parts.append({"part": name, "n_classes": len(part), **df, "n": int(truth_NC[:, part].sum()), NAME: figure})
    return parts


def _mean(scores_NC: np.ndarray, truth_NC: np.ndarray) -> float | None:
    return float(np.nanmean(average_precisions(scores_NC, truth_NC))) if truth_NC.any() else None
