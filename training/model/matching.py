"""Whether texts fit pictures, by the head of a model that learnt it.

Shapes: P pairs, N image places, L text places, E width of the head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .fusion import text_places
from .model import Model
from .places import see

PAIRS = 256
"""Pairs in a pass, whatever --batch-size is: other shapes would round differently."""


@dataclasses.dataclass(frozen=True, slots=True)
class Matcher:
    """A model's matching head."""

    model: Model
    read_texts: Callable[[Sequence[str]], np.ndarray]
    """texts -> int64 (n, L): what the head's text tower reads."""
    on_images: Callable[[Callable[[torch.Tensor], torch.Tensor], np.ndarray, int], np.ndarray]
    """function of normalised pictures, uint8 (n, H, W, 3), width of what it returns -> float32 (n, width)."""
    device: str

    def images(self, images: np.ndarray) -> np.ndarray:
        """Return what the head knows of pictures, float32 (n, N * E), for uint8 (n, H, W, 3)."""
        fusion = self.model.fusion
        return self.on_images(self._places, images, fusion.shape.n_places * fusion.shape.width)

    def _places(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return self.model.fusion.from_image(see(self.model, image_BCHW)[0]).flatten(1)

    def scores(self, images_MF: np.ndarray, texts_NL: np.ndarray, pairs_P2: np.ndarray) -> np.ndarray:
        """Return how well texts fit pictures, logits, float32 (P).

        Args:
            images_MF: What `images` returned.
            texts_NL: What `read_texts` returned.
            pairs_P2: Numbers of picture and text of each pair.
        """
        out = np.zeros(len(pairs_P2), np.float32)
        with torch.inference_mode():
            for start in range(0, len(pairs_P2), PAIRS):
                part = pairs_P2[start : start + PAIRS]
                out[start : start + len(part)] = self._fit(images_MF[part[:, 0]], texts_NL, part[:, 1])
        return out

    def _fit(self, images_PF: np.ndarray, texts_NL: np.ndarray, texts_P: np.ndarray) -> np.ndarray:
        fusion = self.model.fusion
        different, place_P = np.unique(texts_P, return_inverse=True)
        text_BL = torch.from_numpy(shortened(texts_NL[different], fusion.shape.reads)).to(self.device)
        text_BLE, is_there_BL = text_places(self.model, text_BL)
        end_B = is_there_BL.sum(dim=1) - int(fusion.shape.reads == "tokens")
        of_pair = torch.from_numpy(place_P).to(self.device)
        image_PNE = torch.from_numpy(images_PF).to(self.device).unflatten(1, (fusion.shape.n_places, fusion.shape.width))
        fused = fusion.fuse(text_BLE[of_pair], is_there_BL[of_pair], image_PNE)
        return fusion.match(fusion.summary(fused, end_B[of_pair])).squeeze(1).float().cpu().numpy()


def shortened(texts_NL: np.ndarray, reads: str) -> np.ndarray:
    """Return the texts without columns that are empty in all of them; one is left."""
    used = texts_NL.argmax(axis=1) + 1 if reads == "tokens" else (texts_NL >= 0).sum(axis=1)
    return np.ascontiguousarray(texts_NL[:, : max(1, int(used.max(initial=0)))])
