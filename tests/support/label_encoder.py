"""An encoder for tests of labelling: it sees the mean colour, and its head knows the colours' names."""

from __future__ import annotations

import numpy as np

from fistful.bow.draw import mix_all
from tests.support.colours import COLOURS, ColourEncoder

N_DETAILS, DETAILS = 13, 0.3


class Labeller(ColourEncoder):
    """Scores of words: the share of their colour; "thing" gets the same everywhere.

    Pictures of one colour are alike, and no more: what else they show is drawn from their pixels.
    """

    def __init__(self, words: list[str], fingerprint: str = "c", name: str = "labeller") -> None:
        super().__init__(name=name)
        self.fingerprint = fingerprint * 64
        self.words = words
        self.word_scores = self._word_scores

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        colours = super().embed_images(images)
        sums = images.reshape(len(images), -1, 3).sum(axis=1).astype(np.uint64)
        drawn = mix_all(sums[:, 0:1], sums[:, 1:2], sums[:, 2:3], np.arange(N_DETAILS)[None, :]).astype(np.float64) / 2.0**64 - 0.5
        details = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return np.concatenate([np.sqrt(1 - DETAILS**2) * colours, DETAILS * details], axis=1).astype(np.float32)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        found = super().embed_texts(texts)
        return np.concatenate([found, np.zeros((len(found), N_DETAILS), np.float32)], axis=1)

    def _word_scores(self, images: np.ndarray) -> np.ndarray:
        seen = super().embed_images(images)
        columns = [seen @ np.array(COLOURS[word], np.float32) if word in COLOURS else np.full(len(seen), 0.5) for word in self.words]
        return np.stack(columns, axis=1).astype(np.float32)


class Headless(Labeller):
    """The same without a word head."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(words)
        self.words = self.word_scores = None


class Seer(ColourEncoder):
    """It sees where a picture is bright, so that near copies are near it; a head of its own says of every word the same."""

    image_size = 16

    def __init__(self, words: list[str] | None = None) -> None:
        super().__init__(name="seer")
        if words is not None:
            self.words = words
            self.word_scores = lambda images: np.zeros((len(images), len(words)), np.float32)

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        grey = images.reshape(len(images), -1, 3).mean(axis=2)
        grey = grey - grey.mean(axis=1, keepdims=True)
        return (grey / np.linalg.norm(grey, axis=1, keepdims=True)).astype(np.float32)
