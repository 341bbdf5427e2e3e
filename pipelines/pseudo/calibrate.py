"""Calibration of pseudo-labels: what scores are worth, measured on held-out captioned images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow.calibration import Calibration, Calibrator, Curve
from fistful.bow.draw import mix_all
from fistful.bow.frequency import PARTS, parts_of
from fistful.bow.metrics import paired_ratio_interval, ratio_interval
from fistful.bow.pseudo import Candidates, are_right, draw_sizes, side_by_side, take_best
from fistful.bow.ragged import Ragged
from fistful.errors import DataError

from .held_out import check_held_out

BINS = 25, 100
"""Fewest and most candidates behind each measured share; between them the square root of how many there are. With always 25 a curve
follows chance: of the lab's labels, calibrated on 114 or 300 pictures, 23 and 17 % of the parts by predicted share were wrong by more
than 5 points; so it is 17 and 2 %."""
OWN_CURVE = 1_000
"""Candidates from which on frequent, less frequent or rare words have a curve of their own."""
FOLDS = 5
"""Parts of the held-out images: each is labelled with what the others say."""
EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of predicted shares, where they are compared with what was right."""


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOutMeasure:
    """What held-out images say of the labels that others will get; all but the calibrator stands in stats.json as held_out_NAME."""

    calibrator: Calibrator
    images: int
    """Held-out images."""
    labelled: int
    """Of them, those that would get a word."""
    precision: float
    """Share of right words among those given to them: a lower bound, for captions do not say everything."""
    precision_low: float
    """Lower end of its 95 % interval over pictures."""
    precision_high: float
    precision_predicted: float
    """What calibration says of the same words."""
    precision_by_chance: float
    """Share that would be right if the same words went to any images: how frequent they are."""
    recall: float
    """Share of their words that they would get."""
    calibration: list[dict[str, Any]]
    """Predicted and achieved shares of right words, by predicted share, for all words and for head, middle and tail."""
    nearest: dict[str, float]
    """Beside copying the words of the nearest captioned picture: precision of both at the same number of words, and the difference."""

    def stats(self) -> dict[str, Any]:
        """Return what stands in stats.json."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "calibrator"]
        return {f"held_out_{name}": getattr(self, name) for name in names}


def fit_curve(scores: np.ndarray, right: np.ndarray) -> Curve:
    """Measure the share of right words by score: quantile bins, isotonic regression, lines between the bins' middles.

    Args:
        scores: Scores of candidates of held-out images.
        right: Whether the image's real bag has the word.

    Source:
        Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates".
    """
    from sklearn.isotonic import IsotonicRegression

    if not len(scores):
        return Curve((0.0,), (0.0,))
    n_bins = max(1, len(scores) // int(np.clip(np.sqrt(len(scores)), *BINS)))
    edges = np.unique(np.sort(scores)[np.arange(n_bins) * len(scores) // n_bins])
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, None)
    n = np.bincount(place, minlength=len(edges))
    shares = np.bincount(place, weights=right.astype(np.float64), minlength=len(edges)) / n
    rising = np.round(IsotonicRegression().fit_transform(edges, shares, sample_weight=n), 6)
    middles = np.round(np.bincount(place, weights=scores) / n, 6)
    inside = np.concatenate([[False], (rising[1:-1] == rising[:-2]) & (rising[1:-1] == rising[2:]), [False]])[: len(edges)]
    return Curve(tuple(middles[~inside].tolist()), tuple(rising[~inside].tolist()))


def fit_calibration(candidates: Candidates, right: np.ndarray) -> Calibration:
    """Measure what scores are worth: a curve for each part of the vocabulary that has enough candidates, else that of all words."""
    pooled, part = fit_curve(candidates.scores, right), parts_of(candidates.words.values)
    own = [part == number for number in range(len(PARTS))]
    return Calibration(tuple(fit_curve(candidates.scores[of], right[of]) if of.sum() >= OWN_CURVE else pooled for of in own))


def fit(found: Sequence[Candidates], bags: Ragged) -> Calibrator:
    """Measure what each source's scores are worth, and what the mean of several is.

    Args:
        found: Candidates of each source, for the same held-out images.
        bags: Their real bags.
    """
    calibrator = Calibrator(tuple(fit_calibration(candidates, are_right(candidates, bags)) for candidates in found))
    if len(found) == 1:
        return calibrator
    mean = calibrator.mean_share(found)
    return dataclasses.replace(calibrator, mean=fit_calibration(mean, are_right(mean, bags)))


def measure(
    found: Sequence[Candidates],
    bags: Ragged,
    samples: np.ndarray,
    sizes: np.ndarray,
    min_precision: float,
    seed: int,
    pictures: np.ndarray | None = None,
    copied: Ragged | None = None,
) -> HeldOutMeasure:
    """Calibrate scores on held-out images, and measure the labels that they would get.

    The calibration is fitted on all of them; what it is worth is measured by cross-fitting, each fold
    of the images labelled with what the others say, for on the images that it was fitted on even a
    labeller that knows nothing finds scores to its taste.

    Args:
        found: Candidates of n held-out images by each source.
        bags: Their real bags.
        samples: Their sample numbers, uint64.
        sizes: Sizes of real bags, from which each image's word number is drawn.
        min_precision: Smallest share of right words: of a word for it to be given, and of all words given, surely.
            0 for any share, be it no better than chance.
        seed: The run's seed.
        pictures: Equal numbers for images that are the same picture, or near copies of one; None if none are.
        copied: The words of the nearest captioned picture, for comparison.

    Raises:
        DataError: If there are too few images, no word reaches the share asked for, or the words given surely do not.
    """
    pictures = np.arange(len(bags)) if pictures is None else np.unique(pictures, return_inverse=True)[1]
    check_held_out(int(pictures.max(initial=-1)) + 1)
    if not any(len(candidates.scores) for candidates in found):
        raise DataError("calibration: no held-out image has a candidate for a word; a model trained for longer, or --by knn, helps")
    calibrator = fit(found, bags)
    best = float(calibrator.likely(found).scores.max(initial=0.0))
    if best < min_precision:
        raise DataError(
            f"calibration: no score has a share of right words of {min_precision:.3f}, the best has {best:.3f}; "
            "a smaller --min-precision helps"
        )
    likely = _cross_fitted(found, bags, _folds(pictures, samples, seed))
    given = take_best(likely, min_precision, draw_sizes(sizes, samples, seed))
    if not len(given.scores):
        raise DataError(
            f"calibration: no word of {len(bags)} held-out captioned images has a share of right words of {min_precision:.3f} by what "
            f"the others say, the best has {likely.scores.max(initial=0.0):.3f}; a smaller --min-precision, or more of them, helps"
        )
    measured = _figures(calibrator, likely, given, bags, pictures, copied)
    if min_precision > 0:
        _check_precision(measured, min_precision)
    return measured


def _folds(pictures: np.ndarray, samples: np.ndarray, seed: int) -> np.ndarray:
    """Draw a fold for each image, the same for all images of a picture."""
    _, first = np.unique(pictures, return_index=True)
    drawn = mix_all(seed, 0x464F4C44, samples[first]) >> np.uint64(32)
    return ((drawn * np.uint64(FOLDS)) >> np.uint64(32)).astype(np.int64)[pictures]


def _cross_fitted(found: Sequence[Candidates], bags: Ragged, folds_N: np.ndarray) -> Candidates:
    """Return the likely words of each image, by what the other folds say."""
    parts = []
    for number in np.unique(folds_N):
        own_N = folds_N == number
        others, own = ([one.filtered(some[one.words.rows()]) for one in found] for some in (~own_N, own_N))
        parts.append(fit(others, bags).likely(own))
    return side_by_side(parts)


def _figures(
    calibrator: Calibrator, likely: Candidates, given: Candidates, bags: Ragged, pictures: np.ndarray, copied: Ragged | None
) -> HeldOutMeasure:
    rows, is_right = given.words.rows(), are_right(given, bags)
    share_of_word = np.bincount(bags.values, minlength=int(given.words.values.max(initial=0)) + 1) / len(bags)
    low, high = ratio_interval(np.bincount(pictures[rows], weights=is_right), np.bincount(pictures[rows]))
    n = max(1, len(rows))
    return HeldOutMeasure(
        calibrator=calibrator,
        images=len(bags),
        labelled=int((given.words.lengths() > 0).sum()),
        precision=round(int(is_right.sum()) / n, 6),
        precision_low=round(low, 6),
        precision_high=round(high, 6),
        precision_predicted=round(float(given.scores.sum()) / n, 6),
        precision_by_chance=round(float(share_of_word[given.words.values].sum()) / n, 6),
        recall=round(int(is_right.sum()) / max(1, len(bags.values)), 6),
        calibration=predicted_and_achieved(likely, bags, pictures),
        nearest={} if copied is None else beside_nearest(likely, copied, bags, pictures),
    )


def predicted_and_achieved(likely: Candidates, bags: Ragged, pictures: np.ndarray) -> list[dict[str, Any]]:
    """Return predicted and achieved shares of right words, by predicted share, for all words and for head, middle and tail.

    Args:
        likely: Words of images that the calibration never saw, with their shares.
        bags: The images' real bags.
        pictures: Equal numbers for images that are the same picture.
    """
    right, part, images = are_right(likely, bags), parts_of(likely.words.values), pictures[likely.words.rows()]
    place, found = np.clip(np.searchsorted(EDGES, likely.scores, side="right") - 1, 0, len(EDGES) - 2), []
    for name, own in [("all", np.ones(len(part), bool)), *((name, part == i) for i, name in enumerate(PARTS))]:
        for i in np.unique(place[own]).tolist():
            these = own & (place == i)
            low, high = ratio_interval(np.bincount(images[these], weights=right[these]), np.bincount(images[these]))
            shares = {"predicted": likely.scores[these].mean(), "achieved": right[these].mean(), "low": low, "high": high}
            rounded = {key: round(float(value), 6) for key, value in shares.items()}
            found.append({"words": name, "from": EDGES[i], "to": EDGES[i + 1], "n": int(these.sum()), **rounded})
    return found


def beside_nearest(likely: Candidates, copied: Ragged, bags: Ragged, pictures: np.ndarray) -> dict[str, float]:
    """Compare each image's likeliest words with as many copied from the nearest captioned picture.

    Args:
        likely: Words of images that the calibration never saw.
        copied: The nearest picture's words; where an image has fewer likely ones, what lacks counts as wrong.
        bags: The images' real bags.
        pictures: Equal numbers for images that are the same picture.
    """
    totals = np.bincount(pictures, weights=copied.lengths(), minlength=int(pictures.max(initial=0)) + 1)
    both = [Candidates(copied, np.zeros(len(copied.values))), take_best(likely, 0.0, copied.lengths())]
    first, second = (np.bincount(pictures[c.words.rows()], weights=are_right(c, bags), minlength=len(totals)) for c in both)
    alike, n = np.minimum(first, second), max(1.0, float(totals.sum()))
    some = totals > 0
    low, high = paired_ratio_interval((first - alike)[some], (second - alike)[some], totals[some])
    shares = {"precision": first.sum() / n, "labels": second.sum() / n, "difference": (second.sum() - first.sum()) / n}
    return {"words": int(totals.sum())} | {name: round(float(x), 6) for name, x in (shares | {"low": low, "high": high}).items()}


def _check_precision(found: HeldOutMeasure, min_precision: float) -> None:
    """Check that the words given are surely right as often as asked, and more often than by chance.

    Raises:
        DataError: If not.
    """
    said = (
        f"calibration: of the words that {found.images} held-out captioned images would get {found.precision:.1%} are right "
        f"(95 % interval {found.precision_low:.1%} to {found.precision_high:.1%})"
    )
    if found.precision_low <= found.precision_by_chance:
        raise DataError(
            f"{said}, and {found.precision_by_chance:.1%} would be if they went to any images: so they say nothing about the images; "
            "more captioned images, a model trained for longer, or, without --complete, another --by helps"
        )
    if found.precision_low < min_precision:
        raise DataError(
            f"{said}, expected {min_precision:.1%} even at the lower end; "
            "a smaller --min-precision, or more captioned images that are held out, helps"
        )
