"""An encoder for tests of labelling: it sees the mean colour, and its head knows the colours' names."""

from __future__ import annotations

import numpy as np

from tests.support.colours import COLOURS, ColourEncoder


class Labeller(ColourEncoder):
    """Scores of words: the share of their colour; "thing" gets the same everywhere."""

    name = "labeller"

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.words = words
        self.word_scores = self._word_scores

    def _word_scores(self, images: np.ndarray) -> np.ndarray:
        seen = self.embed_images(images)
        columns = [seen @ np.array(COLOURS[word], np.float32) if word in COLOURS else np.full(len(seen), 0.5) for word in self.words]
        return np.stack(columns, axis=1).astype(np.float32)
