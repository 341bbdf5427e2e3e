"""What the head says that reads texts with their pictures: whether a text fits, and which words a picture lacks.

Shapes: P pairs, N image places, L text places, E width of the head, C channels, V words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .fusion import match_logits, text_places
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

    def scores(self, images_MF: np.ndarray, texts_NL: np.ndarray, pairs_P2: np.ndarray, cosine_P: np.ndarray) -> np.ndarray:
        """Return how well texts fit pictures, logits, float32 (P).

        Args:
            images_MF: What `images` returned.
            texts_NL: What `read_texts` returned.
            pairs_P2: Numbers of picture and text of each pair.
            cosine_P: Of the pair's embeddings.
        """
        out = np.zeros(len(pairs_P2), np.float32)
        with torch.inference_mode():
            for start in range(0, len(pairs_P2), PAIRS):
                part = pairs_P2[start : start + PAIRS]
                cosines = torch.from_numpy(cosine_P[start : start + PAIRS].astype(np.float32)).to(self.device)
                summary = self._summary(images_MF[part[:, 0]], texts_NL, part[:, 1])
                out[start : start + len(part)] = match_logits(self.model, summary, cosines).float().cpu().numpy()
        return out

    def _summary(self, images_PF: np.ndarray, texts_NL: np.ndarray, texts_P: np.ndarray) -> torch.Tensor:
        fusion = self.model.fusion
        different, place_P = np.unique(texts_P, return_inverse=True)
        text_BL = torch.from_numpy(shortened(texts_NL[different], fusion.shape.reads)).to(self.device)
        text_BLE, is_there_BL = text_places(self.model, text_BL)
        end_B = is_there_BL.sum(dim=1) - int(fusion.shape.reads == "tokens")
        of_pair = torch.from_numpy(place_P).to(self.device)
        image_PNE = torch.from_numpy(images_PF).to(self.device).unflatten(1, (fusion.shape.n_places, fusion.shape.width))
        fused = fusion.fuse(text_BLE[of_pair], is_there_BL[of_pair], image_PNE)
        return fusion.summary(fused, end_B[of_pair])


def shortened(texts_NL: np.ndarray, reads: str) -> np.ndarray:
    """Return the texts without columns that are empty in all of them; one is left."""
    used = texts_NL.argmax(axis=1) + 1 if reads == "tokens" else (texts_NL >= 0).sum(axis=1)
    return np.ascontiguousarray(texts_NL[:, : max(1, int(used.max(initial=0)))])


@dataclasses.dataclass(frozen=True, slots=True)
class Completer:
    """A head of the words tower that finds the words that a picture has beside those that are known."""

    model: Model
    weights_V: torch.Tensor
    """What shares are multiplied by: the word loss weighs words by idf."""
    on_images: Callable[[Callable[[torch.Tensor], torch.Tensor], np.ndarray, int], np.ndarray]
    """As of Matcher."""
    device: str

    def images(self, images: np.ndarray) -> np.ndarray:
        """Return what the head knows of pictures, float32 (n, N * E + C), for uint8 (n, H, W, 3)."""
        shape = self.model.fusion.shape
        return self.on_images(self._seen, images, shape.n_places * shape.width + shape.channels)

    def _seen(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        places_BNC, channels_BC, _ = see(self.model, image_BCHW)
        return torch.cat([self.model.fusion.from_image(places_BNC).flatten(1), channels_BC], dim=1)

    def shares(self, seen_NF: np.ndarray, known_NL: np.ndarray) -> np.ndarray:
        """Return each word's share of what is not known of each picture, float32 (n, V), 0 for the known ones; rows sum to 1.

        Args:
            seen_NF: What `images` returned.
            known_NL: int64: the words that are known, then -1.
        """
        out = np.zeros((len(seen_NF), len(self.weights_V)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(seen_NF), PAIRS):
                rows = slice(start, start + PAIRS)
                out[rows] = self._shares(torch.from_numpy(seen_NF[rows]).to(self.device), known_NL[rows]).cpu().numpy()
        return out

    def _shares(self, seen_BF: torch.Tensor, known_BL: np.ndarray) -> torch.Tensor:
        fusion = self.model.fusion
        shape = fusion.shape
        known = torch.from_numpy(shortened(known_BL, "words")).to(self.device)
        image_BNE = seen_BF[:, : -shape.channels].unflatten(1, (shape.n_places, shape.width))
        text_BLE, is_there_BL = text_places(self.model, known)
        fused_BLE = fusion.fuse(text_BLE, is_there_BL, image_BNE)
        channels_BC = fusion.with_context(seen_BF[:, -shape.channels :], fused_BLE, is_there_BL.sum(dim=1))
        shares_BV = fusion.predictor(channels_BC).softmax(dim=1) * self.weights_V
        rows, places = is_there_BL.nonzero(as_tuple=True)
        shares_BV[rows, known[rows, places]] = 0.0
        return shares_BV / shares_BV.sum(dim=1, keepdim=True).clamp_min(1e-30)
