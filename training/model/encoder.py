"""Encoders: what labels and evaluates, whatever made it.

An encoder is named by a spec: a run folder, its model/ folder, an open_clip local folder, or
`package.module:function` with optional JSON arguments after a space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fistful.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from fistful.bow.words import WordOptions

DEFAULTS: dict[str, Any] = {
    "context_length": None,
    "saw_imagenet_labels": None,
    "words": None,
    "word_scores": None,
    "word_shares": None,
    "logit_scale": 100.0,
    "warnings": (),
    "trained_on": (),
    "word_options": None,
    "preprocess": {},
    "device": "cpu",
}
"""What holds where an encoder of a user's own leaves these members out."""


@runtime_checkable
class Encoder(Protocol):
    """A model as the other rooms see it: pictures and texts in, vectors out."""

    name: str
    """What the user called it."""
    fingerprint: str
    """SHA-256 over its files; equal weights and configuration, equal fingerprint."""
    image_size: int
    """Side, in pixels, of the pictures that `prepare` returns; 0 for a student alone, which embeds none."""
    context_length: int | None
    """Positions of the text tower; None where texts have no limit."""
    saw_imagenet_labels: bool | None
    """Whether the image tower was trained with ImageNet's labels; None where nobody knows."""
    words: list[str] | None
    """The words that `word_scores` has columns for; None without a word head."""
    word_scores: Callable[[np.ndarray], np.ndarray] | None
    """uint8 (n, H, W, 3) -> float32 (n, V), the head's logits standardised per word; None without a word head."""
    word_shares: Callable[[np.ndarray], np.ndarray] | None
    """uint8 (n, H, W, 3) -> float32 (n, V), each word's share of an image's bag, summing to 1; None without a word head.
    May be left out beside `word_scores`: their softmax then."""
    logit_scale: float
    """What its cosines of images and texts are multiplied by before a softmax; may be left out: CLIP's 100."""
    warnings: tuple[str, ...]
    """What should be known before its scores are believed; may be left out: nothing."""
    trained_on: tuple[str, ...]
    """Fingerprints of the data folders that it learnt from; may be left out: not known."""
    word_options: WordOptions | None
    """How the captions that it learnt from became words; may be left out, or None: not known."""
    preprocess: dict[str, Any]
    """`mean` and `std` of the channels, in parts of 1, by which it normalises pixels; may be left out: {}, not known."""
    device: str
    """Where it computes, whose last digits may be others elsewhere; may be left out: cpu."""

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture to uint8 (H, W, 3), as open_clip does for evaluation."""
        ...

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (n, d) of length 1 for uint8 (n, H, W, 3)."""
        ...

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, d) of length 1; of length 0 for a text without one known word (words tower)."""
        ...

    def n_cut(self, texts: list[str]) -> int:
        """Return how many of the texts are longer than the context and lose their end."""
        ...


class NoTextTower(UsageError):
    """A model that embeds images alone was asked for a text; what to type instead, only the verb knows."""


@contextlib.contextmanager
def texts_or(instead: str) -> Generator[None]:
    """Say what to type where a model without a text tower is asked for texts.

    Raises:
        UsageError: If it is.
    """
    try:
        yield
    except NoTextTower as error:
        raise UsageError(f"{error}; {instead}") from None


def features_and_shares(encoder: Encoder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `embed_images` and `word_shares` say of images; encoders of ours look at them once for both."""
    assert encoder.word_shares is not None
    both = getattr(encoder, "both", None)
    return both(images) if both is not None else (encoder.embed_images(images), encoder.word_shares(images))


def check_pictures(encoder: Encoder) -> None:
    """Check that a model embeds pictures.

    Raises:
        UsageError: If it is a student alone.
    """
    if not encoder.image_size:
        raise UsageError(f"{encoder.name}: is a student, which embeds texts alone; {encoder.name}+TEACHER lets its teacher embed pictures")
