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
    """(C, D) float32; for the prompt set "head" (C, V), of the word head's V words."""
    n_texts: int
    n_cut: int
    """Prompts longer than the text tower's context."""
    unspeakable: list[str]
    """Classes none of whose prompts has a word that the model knows."""


def build_classifiers(encoder: Encoder, prompt_sets: Sequence[Prompts], classes: Sequence[ClassName]) -> list[Classifier]:
    """Embed the prompts of all sets, each distinct text once, and average them by class.

    Raises:
        UsageError: If no class of a set can be spoken of at all, or the model lacks a word head.
        DataError: If a text's features are not finite or not normalised.
    """
    spoken = [prompts for prompts in prompt_sets if prompts.name != "head"]
    texts = list(dict.fromkeys(text for prompts in spoken for several in prompts.texts for text in several))
    features_TD = (
        check_features(encoder.embed_texts(texts), texts, encoder.name, zeros_allowed=True) if texts else np.zeros((0, 1), np.float32)
    )
    place = {text: i for i, text in enumerate(texts)}
    found = [
        _from_head(encoder, prompts, classes) if prompts.name == "head" else _from_texts(encoder, prompts, classes, features_TD, place)
        for prompts in prompt_sets
    ]
    for classifier in found:
        if len(classifier.unspeakable) == len(classes):
            raise UsageError(f"{encoder.name}: knows no word of any class with --prompts {classifier.prompts}; is the set in its language?")
    return found


def _from_texts(
    encoder: Encoder, prompts: Prompts, classes: Sequence[ClassName], features_TD: np.ndarray, place: dict[str, int]
) -> Classifier:
    texts = [text for several in prompts.texts for text in several]
    rows = np.array([place[text] for text in texts])
    class_of_text = np.repeat(np.arange(len(classes)), [len(several) for several in prompts.texts])
    weights_CD = class_weights(features_TD[rows], class_of_text, len(classes))
    return Classifier(prompts.name, weights_CD, len(texts), encoder.n_cut(texts), _silent(classes, weights_CD))


def _from_head(encoder: Encoder, prompts: Prompts, classes: Sequence[ClassName]) -> Classifier:
    """Score a class by the mean standardised logit of those words of its name that the head has."""
    if encoder.words is None or encoder.word_scores is None:
        raise UsageError(f"{encoder.name}: has no word head, which --prompts head asks; train with --objective joint or words")
    column = {word: i for i, word in enumerate(encoder.words)}
    weights_CV = np.zeros((len(classes), len(encoder.words)), np.float32)
    for row, bags in enumerate(prompts.texts):
        known = [column[word] for word in dict.fromkeys(word for bag in bags for word in bag.split()) if word in column]
        weights_CV[row, known] = 1.0 / max(len(known), 1)
    return Classifier("head", weights_CV, len(classes), 0, _silent(classes, weights_CV))


def _silent(classes: Sequence[ClassName], weights: np.ndarray) -> list[str]:
    return [entry.name for entry, row in zip(classes, weights, strict=True) if not row.any()]


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
