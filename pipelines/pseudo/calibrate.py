"""Calibration of pseudo-labels: what a word's score is worth, measured on held-out captioned images."""

from __future__ import annotations

import dataclasses

import numpy as np

from fistful.bow.calibration import Calibration
from fistful.bow.draw import mix_all
from fistful.bow.metrics import ratio_interval
from fistful.bow.pseudo import Candidates, are_right, draw_sizes, take_best
from fistful.bow.ragged import Ragged
from fistful.errors import DataError

BIN = 50
"""Candidates behind each measured share, at least: fewer say nothing."""
MIN_HELD_OUT = 30
"""Held-out images below which nothing is measured."""
FOLDS = 5
"""Parts of the held-out images: each is labelled with what the others say."""


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOutMeasure:
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
    precision_low: float
    """Lower end of its 95 % interval over pictures."""
    precision_high: float
    by_chance: float
    """Share that would be right if the same words went to any images: how frequent they are."""
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


def measure(
    candidates: Candidates,
    bags: Ragged,
    samples: np.ndarray,
    sizes: np.ndarray,
    min_precision: float,
    seed: int,
    pictures: np.ndarray | None = None,
) -> HeldOutMeasure:
    """Calibrate scores on held-out images, and measure the labels that they would get.

    The calibration is fitted on all of them; what it is worth is measured by cross-fitting, each fold
    of the images labelled with what the others say, for on the images that it was fitted on even a
    labeller that knows nothing finds scores to its taste.

    Args:
        candidates: Candidates of n held-out images.
        bags: Their real bags.
        samples: Their sample numbers, uint64.
        sizes: Sizes of real bags, from which each image's word number is drawn.
        min_precision: Smallest share of right words: at a score, for a word with such a score to be given, and
            of all words given, surely. 0 for any share, be it no better than chance.
        seed: The run's seed.
        pictures: Equal numbers for images that are the same picture; None if none are.

    Raises:
        DataError: If there are too few images, no score reaches the share asked for, or the words given surely do not.
    """
    n = len(candidates.words)
    check_held_out(n)
    if not len(candidates.scores):
        raise DataError("calibration: no held-out image has a candidate for a word; a model trained for longer, or --by knn, helps")
    pictures = np.arange(n) if pictures is None else np.unique(pictures, return_inverse=True)[1]
    right = are_right(candidates, bags)
    calibration = calibrate_shares(candidates.scores, right)
    accept = _accept(calibration, min_precision)
    if accept is None:
        best = max(calibration.shares)
        raise DataError(
            f"calibration: no score has a share of right words of {min_precision:.3f}, the best has {best:.3f}; "
            "a smaller --min-precision helps"
        )
    reached = _cross_fitted(candidates, right, _folds(pictures, samples, seed), min_precision)
    given = take_best(candidates.filtered(reached), -np.inf, draw_sizes(sizes, samples, seed))
    found = _figures(calibration, accept, given, bags, pictures)
    if min_precision > 0:
        _check_precision(found, min_precision)
    return found


def _accept(calibration: Calibration, min_precision: float) -> float | None:
    """Return the score from which on words are given; None if no score is worth enough."""
    accept = calibration.score_for(min_precision)
    return -np.inf if accept == calibration.scores[0] else accept  # the lowest step holds everything below it too


def _folds(pictures: np.ndarray, samples: np.ndarray, seed: int) -> np.ndarray:
    """Draw a fold for each image, the same for all images of a picture."""
    _, first = np.unique(pictures, return_index=True)
    drawn = mix_all(seed, 0x464F4C44, samples[first]) >> np.uint64(32)
    return ((drawn * np.uint64(FOLDS)) >> np.uint64(32)).astype(np.int64)[pictures]


def _cross_fitted(candidates: Candidates, right: np.ndarray, folds_N: np.ndarray, min_precision: float) -> np.ndarray:
    """Return which candidates reach the score that the other folds ask for."""
    fold, reached = folds_N[candidates.words.rows()], np.zeros(len(right), bool)
    for number in range(FOLDS):
        own = fold == number
        accept = None if own.all() else _accept(calibrate_shares(candidates.scores[~own], right[~own]), min_precision)
        if accept is not None:
            reached |= own & (candidates.scores >= accept)
    return reached


def _figures(calibration: Calibration, accept: float, given: Candidates, bags: Ragged, pictures: np.ndarray) -> HeldOutMeasure:
    rows, is_right = given.words.rows(), are_right(given, bags)
    share_of_word = np.bincount(bags.values, minlength=int(given.words.values.max(initial=0)) + 1) / len(bags)
    low, high = ratio_interval(np.bincount(pictures[rows], weights=is_right), np.bincount(pictures[rows]))
    return HeldOutMeasure(
        calibration=calibration,
        accept=accept,
        n_images=len(bags),
        n_labelled=int((given.words.lengths() > 0).sum()),
        precision=round(int(is_right.sum()) / max(1, len(rows)), 6),
        precision_low=round(low, 6),
        precision_high=round(high, 6),
        by_chance=round(float(share_of_word[given.words.values].sum()) / max(1, len(rows)), 6),
        recall=round(int(is_right.sum()) / max(1, len(bags.values)), 6),
    )


def _check_precision(found: HeldOutMeasure, min_precision: float) -> None:
    """Check that the words given are surely right as often as asked, and more often than by chance.

    Raises:
        DataError: If not.
    """
    said = (
        f"calibration: of the words that {found.n_images} held-out captioned images would get {found.precision:.1%} are right "
        f"(95 % interval {found.precision_low:.1%} to {found.precision_high:.1%})"
    )
    if found.precision_low <= found.by_chance:
        raise DataError(
            f"{said}, and {found.by_chance:.1%} would be if they went to any images: so they say nothing about the images; "
            "a model trained for longer, a larger --holdout in training, or another --by helps"
        )
    if found.precision_low < min_precision:
        raise DataError(
            f"{said}, expected {min_precision:.1%} even at the lower end; "
            "a smaller --min-precision, or a larger --holdout in training, helps"
        )
