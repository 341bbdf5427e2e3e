"""Figures and how sure they are: ranks, recall, intervals, verdicts. Numpy in, numpy out.

Every 95 % interval that is printed is made here, and none is of no width. A share of units that are not independent, and
any mean between 0 and 1, gets Wilson's interval with as many trials as would vary as much; nothing here is drawn.
Which share of intervals holds the truth: tests/bow/test_metrics_coverage.py; why these: docs/decisions/0021-intervals.md.

>>> low, high = wilson(9, 10)
>>> round(low, 3), round(high, 3)
(0.596, 0.982)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""

PRIOR = 2.0
"""Images that every class is lent, as good as the mean of all: a class of one image then has a spread."""
LEVEL = 0.05
"""Of tests: what is told apart by chance, at most."""


def wilson(n_right: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion; (0, 1) without samples.

    Source:
        E. B. Wilson 1927, JASA 22; good also for few samples and for none or all right.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = min(1.0, n_right / n), Z95 * Z95
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


def mean_interval(values_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean over images of values from 0 to 1, such as shares."""
    return left_out_interval(float(values_N.mean()), (values_N.sum() - values_N) / max(1, len(values_N) - 1))


def class_mean_interval(right_N: np.ndarray, labels_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean over classes of the share that is right: of other images of these classes.

    Wilson's, with as many trials as would vary as much as the mean of the classes does.
    """
    n_C, right_C = _by_class(labels_N, right_N)
    share = float((right_C / n_C).mean())
    variance = _class_variance(n_C, (right_C + PRIOR * share) / (n_C + PRIOR), 0.0)
    trials = share * (1 - share) / variance if variance > 0 else len(n_C) ** 2 / float((1 / n_C).sum())
    return wilson(share * trials, trials)


def left_out_interval(value: float, left_out_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of any figure from 0 to 1: the value that other images, as many, would give on average.

    Wilson's, with as many trials as would vary as much as the figure does by the jackknife.

    Args:
        value: The figure over all images.
        left_out_N: The figure without each image in turn; NaN where nothing is left.

    Source:
        J. W. Tukey 1958 (the jackknife's variance); trials as in `ratio_interval`.
    """
    trials = _trials(value * (1 - value), left_out_N)
    return (0.0, 1.0) if trials is None else wilson(value * trials, trials)


# Differences of two models on the same images


def told_apart(low: float, high: float) -> bool:
    """Return whether an interval of a difference leaves out 0: the one rule for "ahead"."""
    return low > 0 or high < 0


def mcnemar(only_first: float, only_second: float) -> float:
    """Return McNemar's exact two-sided p.

    Source:
        McNemar 1947; the exact form is the binomial test of the images that only one gets right.
    """
    from scipy.special import betainc

    most, least = max(only_first, only_second), min(only_first, only_second)
    return min(1.0, 2 * float(betainc(most, least + 1, 0.5))) if most else 1.0


def paired_interval(only_first: float, only_second: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of the difference (second - first) of two shares of the same n images.

    It reaches to 0 unless McNemar's exact test tells the two apart, so that the interval says what the test says: with
    fewer than six images that only one gets right it holds 0.

    Args:
        only_first: Images that only the first model gets right.
        only_second: Images that only the second gets right.
        n: Images.

    Source:
        T. Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design", Statistics in Medicine 17: the score interval.
    """
    if n <= 0:
        return -1.0, 1.0
    gain = only_second - only_first

    def score(difference: float) -> float:
        a, b, c = 2 * n, -only_first - only_second + (2 * n - gain) * difference, -only_first * difference * (1 - difference)
        against = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        spread = n * (2 * against + difference * (1 - difference))
        off = gain - n * difference
        return off / math.sqrt(spread) if spread > 0 else math.copysign(math.inf, off) if abs(off) > 1e-9 else 0.0

    low, high = _where(score, Z95, -1.0, gain / n), _where(score, -Z95, gain / n, 1.0)
    return (low, high) if mcnemar(only_first, only_second) < LEVEL else (min(low, 0.0), max(high, 0.0))


def paired_ratio_interval(only_first_N: np.ndarray, only_second_N: np.ndarray, totals_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a difference as `paired_interval`, of things of which images have several (`ratio_interval`).

    Args:
        only_first_N: How many things of each image only the first model gets right.
        only_second_N: How many only the second.
        totals_N: How many it has, one or more.
    """
    total, totals = float(totals_N.sum()), totals_N.astype(np.float64)
    if len(totals) < 2:
        return -1.0, 1.0
    if (totals == 1).all():
        return paired_interval(float(only_first_N.sum()), float(only_second_N.sum()), len(totals))
    first, second = (float(only_N.sum()) / total for only_N in (only_first_N, only_second_N))
    left_out = ((only_second_N - only_first_N).sum() - (only_second_N - only_first_N)) / (total - totals)
    trials = _trials(first + second - (second - first) ** 2, left_out)
    return (-1.0, 1.0) if trials is None else _paired(first, second, min(total, trials))


def paired_class_mean_interval(gains_N: np.ndarray, labels_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean over classes of a gain from -1 to 1 an image, as `class_mean_interval`."""
    n_C, up_C, down_C = _by_class(labels_N, np.maximum(gains_N, 0), np.maximum(-gains_N, 0))
    up, down = float((up_C / n_C).mean()), float((down_C / n_C).mean())
    variance = _class_variance(n_C, (up_C + PRIOR * up) / (n_C + PRIOR), (down_C + PRIOR * down) / (n_C + PRIOR))
    trials = (up + down - (up - down) ** 2) / variance if variance > 0 else len(n_C) ** 2 / float((1 / n_C).sum())
    return _paired(down, up, trials)


def paired_left_out_interval(difference: float, left_out_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the difference of a figure from 0 to 1, as `left_out_interval`."""
    trials = _trials(1 - difference**2, left_out_N)
    if trials is None:
        return -1.0, 1.0
    if np.nanmax(np.abs(left_out_N)) == difference == 0:
        return paired_interval(0, 0, trials)
    low, high = wilson((1 + difference) / 2 * trials, trials)
    return 2 * low - 1, 2 * high - 1


def seeds_interval(first_SN: np.ndarray, second_SN: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two configurations' means, over other seeds and other images.

    The variances over images and over seeds are added, what both hold of chance (which seed is right on which image) once;
    Student's t with Satterthwaite's degrees of freedom. Two images are lent, one won and one lost, as much as a seed weighs.

    Args:
        first_SN: 1 where a seed's model is right on an image, else 0; two seeds or more, and two images or more.
        second_SN: The same of the other configuration, on the same images.

    Source:
        F. E. Satterthwaite 1946, Biometrics Bulletin 2; the images lent as in Agresti and Min 2005, Statistics in Medicine 24.
    """
    from scipy.special import stdtrit

    arms = (first_SN, second_SN)
    gains_N = second_SN.mean(axis=0) - first_SN.mean(axis=0)
    n, value = len(gains_N), float(gains_N.mean())
    middle = float(gains_N.sum()) / (n + 2)
    lent = sum(1 / len(arm) for arm in arms) / 2
    of_images = ((float((gains_N**2).sum()) + lent) / (n + 2) - middle**2) / (n + 2)
    of_seeds = [float(arm.mean(axis=1).var(ddof=1)) / len(arm) for arm in arms]
    spread = max(of_images + sum(of_seeds) - sum(map(_noise, arms)), of_images, sum(of_seeds))
    loose = of_images**2 / (n - 1) + sum(part**2 / (len(arm) - 1) for part, arm in zip(of_seeds, arms, strict=True))
    half = float(stdtrit(spread**2 / loose, 0.975)) * math.sqrt(spread)
    return max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half))


def _noise(right_SN: np.ndarray) -> float:
    """Return the part of a mean's variance that is neither of its images nor of its seeds."""
    rest = right_SN - right_SN.mean(axis=1, keepdims=True) - right_SN.mean(axis=0) + right_SN.mean()
    n_seeds, n = right_SN.shape
    return float((rest**2).sum()) / ((n_seeds - 1) * (n - 1)) / (n_seeds * n)


def student_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return Student's 95 % interval of a mean of independent values; None for fewer than two, and where all are the same."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2 or (values == values[0]).all():
        return None
    half = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _paired(first: float, second: float, trials: float) -> tuple[float, float]:
    return paired_interval(first * trials, second * trials, trials)


def _trials(variance_of_one: float, left_out_N: np.ndarray) -> float | None:
    """Return how many independent trials would vary as much as a figure does by the jackknife; None for fewer than two images."""
    from scipy.special import stdtrit

    known = left_out_N[~np.isnan(left_out_N)]
    n = len(known)
    if n < 2:
        return None
    variance = (n - 1) / n * float(((known - known.mean()) ** 2).sum())
    trials = variance_of_one / variance if variance > 1e-18 and variance_of_one > 1e-12 else float(n)
    return trials * (Z95 / float(stdtrit(n - 1, 0.975))) ** 2


def _by_class(labels_N: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Return images, and sums of values, of the classes that have images."""
    n_C = np.bincount(labels_N)
    return [n_C[n_C > 0], *(np.bincount(labels_N, weights=of_N)[n_C > 0] for of_N in values)]


def _class_variance(n_C: np.ndarray, up_C: np.ndarray, down_C: np.ndarray | float) -> float:
    """Return the variance of a mean over classes of shares won less shares lost, by shares that were drawn to their mean."""
    drawn = 1 - n_C / (n_C + PRIOR) ** 2  # what the lent images leave of a variance
    return float(((up_C + down_C - (up_C - down_C) ** 2) / drawn / n_C).sum()) / len(n_C) ** 2


def _where(falling: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Return where a falling function has a value, to a millionth of a millionth."""
    for _ in range(42):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return (low + high) / 2
