"""From prompts to a classifier's weights: the text tower's side of zero-shot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fistful.errors import DataError, UsageError
from fistful.eval.names import ClassName
from fistful.eval.prompts import Prompts
from fistful.eval.zeroshot import class_weights
from fistful.training.encoder import Encoder


@dataclasses.dataclass(frozen=True, slots=True)
class Classifier:
    """The weights of one prompt set, and what should be known about them."""

    prompts: str
    weights: np.ndarray
    """(C, D) float32."""
    n_texts: int
    n_cut: int
    """Prompts longer than the text tower's context."""
    unspeakable: list[str]
    """Classes none of whose prompts has a word that the text tower knows."""


def build_classifiers(encoder: Encoder, prompt_sets: Sequence[Prompts], classes: Sequence[ClassName]) -> list[Classifier]:
    """Embed the prompts of all sets, each distinct text once, and average them by class.

    Raises:
        UsageError: If no class of a set can be spoken of at all.
        DataError: If a text's features are not finite or not normalised.
    """
    texts = list(dict.fromkeys(text for prompts in prompt_sets for several in prompts.texts for text in several))
    place = {text: i for i, text in enumerate(texts)}
    features_TD = check_features(encoder.embed_texts(texts), texts, encoder.name, zeros_allowed=True)
    classifiers = []
    for prompts in prompt_sets:
        rows = np.array([place[text] for several in prompts.texts for text in several])
        class_of_text = np.repeat(np.arange(len(classes)), [len(several) for several in prompts.texts])
        weights_CD = class_weights(features_TD[rows], class_of_text, len(classes))
        unspeakable = [entry.name for entry, row in zip(classes, weights_CD, strict=True) if not row.any()]
        if len(unspeakable) == len(classes):
            raise UsageError(
                f"{encoder.name}: its text tower knows no word of any class with --prompts {prompts.name}; is the set in its language?"
            )
        n_cut = encoder.n_cut([texts[i] for i in rows])
        classifiers.append(Classifier(prompts.name, weights_CD, len(rows), n_cut, unspeakable))
    return classifiers


def check_features(features: np.ndarray, what: Sequence[str], model: str, *, zeros_allowed: bool) -> np.ndarray:
    """Return features if they are finite and of length 1.

    Raises:
        DataError: If not; the message names the first.
    """
    lengths = np.linalg.norm(features.astype(np.float64), axis=1)
    fine = np.isclose(lengths, 1.0, atol=1e-3) | (zeros_allowed & (lengths == 0))
    if not fine.all():
        first = int(np.flatnonzero(~fine)[0])
        raise DataError(
            f"{what[first]!r}: {model} gives features of length {lengths[first]:.4g}, expected 1; the model or its encoder is broken"
        )
    return features
