"""What a score is worth: the probability that a word of such a score is right, as measured on held-out pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .frequency import parts_of
from .pseudo import LIMIT, Candidates, mean_of, ranked


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """A rising curve from score to the share of right words: straight lines between points, flat outside them.

    >>> Curve(scores=(0.0, 0.5), shares=(0.1, 0.8)).at(np.array([-1.0, 0.25, 0.6])).round(2).tolist()
    [0.1, 0.45, 0.8]
    """

    scores: tuple[float, ...]
    """Rising."""
    shares: tuple[float, ...]
    """Share of right words at each, rising."""

    def at(self, scores: np.ndarray) -> np.ndarray:
        """Return the share of right words at each score."""
        return np.interp(scores, self.scores, self.shares)


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What the scores of a source are worth: a curve for frequent, for less frequent and for rare words."""

    curves: tuple[Curve, ...]
    """One for each of bow.frequency.PARTS; the same one where too little was measured of a part."""

    def share_of(self, words: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the probability that each word is right, float64.

        Args:
            words: Word ids, which rise as words get rarer.
            scores: Their scores.
        """
        part, found = parts_of(words), np.zeros(len(scores))
        for number, curve in enumerate(self.curves):
            own = part == number
            found[own] = curve.at(scores[own])
        return found

    def of(self, candidates: Candidates) -> Candidates:
        """Return the candidates with probabilities in place of scores, in the order they had."""
        return Candidates(candidates.words, self.share_of(candidates.words.values, candidates.scores))


@dataclasses.dataclass(frozen=True, slots=True)
class Calibrator:
    """Makes one distribution of what several sources say of images."""

    sources: tuple[Calibration, ...]
    mean: Calibration | None = None
    """What the mean of several sources' probabilities is worth: a mean of calibrated ones says too little of what all agree on."""

    def mean_share(self, found: Sequence[Candidates]) -> Candidates:
        """Return the mean of the sources' probabilities."""
        return mean_of([calibration.of(candidates) for calibration, candidates in zip(self.sources, found, strict=True)])

    def likely(self, found: Sequence[Candidates], limit: int = LIMIT) -> Candidates:
        """Return each image's likeliest words with the probability that its bag has them.

        Args:
            found: The candidates of each source, for the same images.
            limit: Words of an image, at most.
        """
        mean = self.mean_share(found)
        return ranked(mean if self.mean is None else self.mean.of(mean), limit)
