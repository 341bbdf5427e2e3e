"""A model small enough to reason about: it sees the mean colour of an image, and reads three words."""

from __future__ import annotations

import numpy as np
from PIL import Image

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class ColourEncoder:
    """Images and texts as directions in the colour cube; a text without a colour is zeros."""

    image_size = 8
    words = None
    word_scores = None

    def __init__(
        self,
        context_length: int | None = None,
        saw_imagenet_labels: bool | None = None,
        broken: str = "",
        swapped: bool = False,
        head: bool = False,
        name: str = "colours",
    ) -> None:
        self.name = name
        self.fingerprint = ("d" if swapped else "c") * 64
        self.context_length = context_length
        self.saw_imagenet_labels = saw_imagenet_labels
        self.broken = broken
        self.swapped = swapped
        if head:
            self.words = list(COLOURS)
            self.word_scores = self.embed_images

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("RGB").resize((self.image_size, self.image_size)))

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        means = images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)
        means = means[:, [2, 1, 0]] if self.swapped else means
        found = means if self.broken == "length" else _normalised(means)
        return np.where(self.broken == "nan", np.float32(np.nan), found)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        sums = [sum((np.array(COLOURS[w]) for w in text.lower().replace(".", "").split() if w in COLOURS), np.zeros(3)) for text in texts]
        return _normalised(np.array(sums, dtype=np.float32))

    def n_cut(self, texts: list[str]) -> int:
        return 0 if self.context_length is None else sum(len(text.split()) > self.context_length for text in texts)


def _normalised(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
