"""What a score is worth: the share of right words among candidates with such a score, as measured."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """A rising step function from score to the share of right words.

    >>> steps = Calibration(scores=(0.0, 0.5), shares=(0.1, 0.8))
    >>> steps.share_of(np.array([-1.0, 0.4, 0.6])).tolist(), steps.score_for(0.5)
    ([0.1, 0.1, 0.8], 0.5)
    """

    scores: tuple[float, ...]
    """Lower ends of the steps, rising; what lies below the first counts as on it."""
    shares: tuple[float, ...]
    """Share of right words on each step, rising."""

    def share_of(self, scores: np.ndarray) -> np.ndarray:
        """Return the measured share of right words for each score."""
        place = np.clip(np.searchsorted(self.scores, scores, side="right") - 1, 0, None)
        return np.asarray(self.shares)[place]

    def score_for(self, share: float) -> float | None:
        """Return the lowest score whose measured share is high enough; None if there is none."""
        return next((s for s, p in zip(self.scores, self.shares, strict=True) if p >= share), None)
