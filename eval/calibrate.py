"""Calibration of pseudo-labels: what a word's score is worth, measured on held-out captioned images."""

from __future__ import annotations

import dataclasses

import numpy as np

from fistful.bow.calibration import Calibration
from fistful.bow.labelling import Candidates, are_right, draw_sizes, take_best
from fistful.bow.words import Ragged
from fistful.errors import DataError

BIN = 50
"""Candidates behind each measured share, at least: fewer say nothing."""
MIN_HELD_OUT = 30
"""Held-out images below which nothing is measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What held-out images say of the labels that others will get."""

    calibration: Calibration
    accept: float
    """Score from which on a word is given."""
    n_images: int
    """Held-out images."""
    n_labelled: int
    """Of them, those that would get a word."""
    precision: float
    """Share of right words among those given to them: a lower bound, for captions do not say everything."""
    recall: float
    """Share of their words that they would get."""


def calibrate_shares(scores: np.ndarray, right: np.ndarray) -> Calibration:
    """Measure the share of right words by score: quantile bins, then isotonic regression.

    Args:
        scores: Scores of candidates of held-out images.
        right: Whether the image's real bag has the word.

    Source:
        Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates".
    """
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(scores, kind="stable")
    n_bins = max(1, len(scores) // BIN)
    edges = np.unique(scores[order][np.arange(n_bins) * len(scores) // n_bins])
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, None)
    n = np.bincount(place, minlength=len(edges))
    shares = np.bincount(place, weights=right.astype(np.float64), minlength=len(edges)) / np.maximum(n, 1)
    rising = IsotonicRegression().fit_transform(edges, shares, sample_weight=n)
    first = np.concatenate([[True], np.diff(np.round(rising, 6)) > 0])
    return Calibration(tuple(float(e) for e in edges[first]), tuple(float(r) for r in np.round(rising, 6)[first]))


def check_held_out(n: int) -> None:
    """Check that there are enough held-out captioned images to measure anything.

    Raises:
        DataError: If not.
    """
    if n < MIN_HELD_OUT:
        raise DataError(
            f"calibration: {n} held-out captioned images, expected {MIN_HELD_OUT} or more; a larger --holdout in training helps"
        )


def measure(candidates: Candidates, bags: Ragged, samples: np.ndarray, sizes: np.ndarray, min_precision: float, seed: int) -> Measured:
    """Calibrate scores on held-out images, and measure the labels that they would get.

    Args:
        candidates: Candidates of n held-out images.
        bags: Their real bags.
        samples: Their sample numbers, uint64.
        sizes: Sizes of real bags, from which each image's word number is drawn.
        min_precision: Smallest share of right words at a score for a word with such a score to be given.
        seed: The run's seed.

    Raises:
        DataError: If there are too few images, or no score reaches the share asked for.
    """
    n = len(candidates.words)
    check_held_out(n)
    if not len(candidates.scores):
        raise DataError("calibration: no held-out image has a candidate for a word; a model trained for longer, or --by knn, helps")
    right = are_right(candidates, bags)
    calibration = calibrate_shares(candidates.scores, right)
    accept = calibration.score_for(min_precision)
    if accept is None:
        best = max(calibration.shares)
        raise DataError(
            f"calibration: no score has a share of right words of {min_precision:.3f}, the best has {best:.3f}; "
            "a smaller --min-precision helps"
        )
    if accept == calibration.scores[0]:
        accept = -np.inf  # the lowest step holds everything below it too
    given = take_best(candidates, accept, draw_sizes(sizes, samples, seed))
    n_right = int(are_right(given, bags).sum())
    return Measured(
        calibration=calibration,
        accept=float(accept),
        n_images=n,
        n_labelled=int((given.words.lengths() > 0).sum()),
        precision=round(n_right / max(1, len(given.scores)), 6),
        recall=round(n_right / max(1, len(bags.values)), 6),
    )
