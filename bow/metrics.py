"""Figures and how sure they are: ranks, recall, intervals. Numpy in, numpy out.

>>> low, high = wilson(9, 10)
>>> round(low, 3), round(high, 3)
(0.596, 0.982)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fistful.bow.draw import mix64, mix_all

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""

N_RESAMPLES = 1_000
"""Bootstrap resamples: the ends of a 95 % interval then rest on 25 of them each."""


def wilson(n_right: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion; (0, 1) without samples.

    Source:
        E. B. Wilson 1927, JASA 22; good also for few samples and for none or all right.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = n_right / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def true_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes stand before the true one; of equal scores the smaller class stands first.

    Args:
        scores: (n, C) floats without NaN.
        labels: (n,) true classes.

    Returns:
        (n,) int32: 0 where the true class is the prediction, below 5 where it is in the top 5.
    """
    true = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return ((scores > true) | ((scores == true) & earlier)).sum(axis=1).astype(np.int32)


def top_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the k best classes of each row, best first, of equal scores the smaller class first: (n, k) int32."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)


def per_class_recall(right: np.ndarray, labels: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's number of samples and the share that is right (NaN without samples): (C,) and (C,)."""
    n = np.bincount(labels, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return n, np.bincount(labels, weights=right, minlength=n_classes) / n


def resamples(n: int, seed: int, n_resamples: int = N_RESAMPLES) -> Iterator[np.ndarray]:
    """Yield bootstrap resamples of n samples as counts: how often each sample is in, (n,) int64.

    A pure function of (seed, resample, place), so that every model evaluated on the same samples
    meets the same resamples, and differences between models are paired.
    """
    places = np.arange(n, dtype=np.uint64)
    for resample in range(n_resamples):
        draws = mix64(mix_all(seed, resample), places) >> np.uint64(32)
        yield np.bincount(((draws * np.uint64(n)) >> np.uint64(32)).astype(np.int64), minlength=n)


def bootstrap(values: np.ndarray, labels: np.ndarray, seed: int, n_resamples: int = N_RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Resample images and return the means over images, and over classes, of each column.

    Args:
        values: (n, m) floats, such as 1 where a prediction is right.
        labels: (n,) true classes.
        seed: The run's seed.
        n_resamples: R.

    Returns:
        (R, m) means over the images, and (R, m) means over the classes that are in the resample.
    """
    n, m = values.shape
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sorted_values = values[order].astype(np.float64)
    over_images, over_classes = np.empty((n_resamples, m)), np.empty((n_resamples, m))
    for row, counts in enumerate(resamples(n, seed, n_resamples)):
        weights = counts[order].astype(np.float64)
        per_class = np.add.reduceat(weights[:, None] * sorted_values, starts, axis=0)
        of_class = np.add.reduceat(weights, starts)
        over_images[row] = per_class.sum(axis=0) / n
        over_classes[row] = (per_class[of_class > 0] / of_class[of_class > 0, None]).mean(axis=0)
    return over_images, over_classes


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Return the percentile 95 % interval of bootstrap samples."""
    low, high = np.quantile(samples, [0.025, 0.975]).round(12)  # sums of shares end a little beside 1
    return float(low), float(high)


def ratio_interval(hits_N: np.ndarray, totals_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of sum(hits) / sum(totals), a share of things of which images have several.

    Images are the independent units, not the things: Wilson's interval with as many trials as would
    vary as much as the images do, fewer by Student's t where images are few. Where all or none are
    right, each image counts as one trial. (0, 1) with fewer than two images that have any.

    Args:
        hits_N: How many things of each image are right.
        totals_N: How many it has.

    Source:
        Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data", Survey Methodology 24, with Wilson's interval.
    """
    from scipy.special import stdtrit

    hits, totals = (values[totals_N > 0].astype(np.float64) for values in (hits_N, totals_N))
    n, total = len(hits), float(totals.sum())
    if n < 2:
        return 0.0, 1.0
    share = float(hits.sum()) / total
    variance = n / (n - 1) * float(((hits - share * totals) ** 2).sum()) / total**2
    trials = min(total, share * (1 - share) / variance) if variance > 0 else float(n)
    trials *= (Z95 / float(stdtrit(n - 1, 0.975))) ** 2
    return wilson(share * trials, trials)
