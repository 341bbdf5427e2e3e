"""Encoders of a user's own: what they lack is filled in, and what is wrong with them is called theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.store.dead_letters import Refused
from fistful.errors import FistfulError, UsageError

from .encoder import DEFAULTS, Encoder

if TYPE_CHECKING:
    from PIL import Image

NEEDED: dict[str, type | None] = {
    "name": str,
    "fingerprint": str,
    "image_size": int,
    "prepare": None,
    "embed_images": None,
    "embed_texts": None,
    "n_cut": None,
}
"""What every encoder has: members of a type, and methods."""
NOT_THEIRS = (FistfulError, Refused, ModuleNotFoundError, OSError, MemoryError)
"""Errors that say what to do as they are."""


def checked(encoder: Any, spec: str) -> Encoder:
    """Return a user's encoder with the members that it may leave out, whose every answer is checked.

    Args:
        encoder: What the user's function returned.
        spec: What the user called it.

    Raises:
        UsageError: If it is no encoder.
    """
    place = spec.partition(" ")[0]
    lacking = [name for name in NEEDED if not hasattr(encoder, name)]
    if lacking:
        raise UsageError(f"{place}: returned {type(encoder).__name__}, which lacks {', '.join(lacking)}; expected an encoder with them")
    for name, kind in NEEDED.items():
        value = getattr(encoder, name)
        if not (callable(value) if kind is None else isinstance(value, kind)):
            raise UsageError(f"{place}: its {name} is {value!r}, expected {'a method' if kind is None else kind.__name__}")
    return OwnEncoder(encoder, place)


class OwnEncoder:
    """A user's encoder, for everybody else."""

    def __init__(self, inner: Any, place: str) -> None:
        self._inner, self._place, self._width = inner, place, 0
        self.name: str = inner.name
        self.fingerprint: str = inner.fingerprint
        self.image_size: int = inner.image_size
        found: dict[str, Any] = {name: getattr(inner, name, default) for name, default in DEFAULTS.items()}
        self.context_length: int | None = found["context_length"]
        self.saw_imagenet_labels: bool | None = found["saw_imagenet_labels"]
        has_head = found["words"] is not None and found["word_scores"] is not None
        self.words: list[str] | None = list(found["words"]) if has_head else None
        self.word_scores: Callable[[np.ndarray], np.ndarray] | None = self._word_scores if has_head else None
        self.word_shares: Callable[[np.ndarray], np.ndarray] | None = self._word_shares if has_head else None
        self._gives_shares = found["word_shares"] is not None
        self.logit_scale: float = found["logit_scale"]
        self.warnings: tuple[str, ...] = found["warnings"]
        self.trained_on: tuple[str, ...] = found["trained_on"]
        self.word_options = found["word_options"]
        self.preprocess: dict[str, Any] = found["preprocess"]
        self.device: str = found["device"]

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the picture, after checking that it is uint8 (image_size, image_size, 3)."""
        found, side = self._call("prepare", image), self.image_size
        if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != (side, side, 3):
            raise UsageError(
                f"{self._place}: prepare returned {_said(found)}, expected uint8 ({side}, {side}, 3): its image_size is {side}"
            )
        return found

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """Return the features of images, (n, d)."""
        return self._features("embed_images", images)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return the features of texts, (n, d) of the same d."""
        return self._features("embed_texts", texts)

    def n_cut(self, texts: list[str]) -> int:
        """Return how many texts are cut."""
        return int(self._call("n_cut", texts))

    def _word_scores(self, images: np.ndarray) -> np.ndarray:
        assert self.words is not None
        return self._rows("word_scores", images, len(self.words), "a column for each of its words")

    def _word_shares(self, images: np.ndarray) -> np.ndarray:
        assert self.words is not None
        if self._gives_shares:
            return self._rows("word_shares", images, len(self.words), "a column for each of its words")
        scores_NV = self._word_scores(images).astype(np.float64)
        powers_NV = np.exp(scores_NV - scores_NV.max(axis=1, keepdims=True))
        return (powers_NV / powers_NV.sum(axis=1, keepdims=True)).astype(np.float32)

    def _features(self, method: str, asked: Any) -> np.ndarray:
        found = self._rows(method, asked, self._width, "as many columns as it gave before: images and texts share them")
        self._width = found.shape[1]
        return found

    def _rows(self, method: str, asked: Any, width: int, why: str) -> np.ndarray:
        """Return what a method says of each image or text; `width` 0 takes any."""
        found, n = self._call(method, asked), len(asked)
        if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) != n or not found.shape[1] or found.dtype.kind != "f":
            raise UsageError(f"{self._place}: {method} returned {_said(found)} for {n}, expected a numpy array of floats ({n}, d)")
        if width and found.shape[1] != width:
            raise UsageError(f"{self._place}: {method} returned {_said(found)}, expected ({n}, {width}), {why}")
        return found

    def _call(self, method: str, asked: Any) -> Any:
        try:
            return getattr(self._inner, method)(asked)
        except NOT_THEIRS:
            raise
        except Exception as error:
            raise UsageError(f"{self._place}: {method}: {type(error).__name__}: {error} (raised by this encoder of yours)") from error


def _said(found: Any) -> str:
    return f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
