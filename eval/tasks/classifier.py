"""From prompts to a classifier's weights: the text tower's side of zero-shot."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fistful.bow.embeddings import check_features
from fistful.errors import UsageError
from fistful.training.model.encoder import Encoder

from ..sets.class_names import ClassName
from .kept_classifiers import Kept, read_weights, weights_key, write_weights
from .prompts import Prompts
from .zeroshot import class_weights


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


def build_classifiers(
    encoder: Encoder, prompt_sets: Sequence[Prompts], classes: Sequence[ClassName], cache: Path | None = None
) -> list[Classifier]:
    """Embed the prompts of all sets, each distinct text once, and average them by class.

    Args:
        encoder: The model.
        prompt_sets: The prompts.
        classes: C classes, in the order of the prompts.
        cache: Folder in which classifiers are kept; None for none.

    Raises:
        UsageError: If no class of a set can be spoken of at all, or the model lacks a word head.
        DataError: If a text's features are not finite or not normalised.
    """
    spoken = [prompts for prompts in prompt_sets if prompts.name != "head"]
    kept = {prompts.name: _find(encoder, prompts, cache) for prompts in spoken} if cache is not None else {}
    missing = [prompts for prompts in spoken if kept.get(prompts.name) is None]
    built = dict(zip((prompts.name for prompts in missing), _from_texts(encoder, missing), strict=True))
    if cache is not None:
        for prompts in missing:
            write_weights(cache, _key(encoder, prompts), built[prompts.name])
    found = [
        _from_head(encoder, prompts, classes)
        if prompts.name == "head"
        else _classifier(prompts, kept.get(prompts.name) or built[prompts.name], classes)
        for prompts in prompt_sets
    ]
    for classifier in found:
        if len(classifier.unspeakable) == len(classes):
            raise UsageError(f"{encoder.name}: knows no word of any class with --prompts {classifier.prompts}; is the set in its language?")
    return found


def _key(encoder: Encoder, prompts: Prompts) -> str:
    return weights_key(encoder.fingerprint, prompts.texts, encoder.device)


def _find(encoder: Encoder, prompts: Prompts, cache: Path) -> Kept | None:
    """Look a classifier up; say so if its file is broken."""
    try:
        return read_weights(cache, _key(encoder, prompts))
    except ValueError as error:
        print(f"{error}; the classifier is built again", file=sys.stderr)
        return None


def _from_texts(encoder: Encoder, prompt_sets: Sequence[Prompts]) -> list[Kept]:
    texts = list(dict.fromkeys(text for prompts in prompt_sets for several in prompts.texts for text in several))
    if not texts:
        return []
    features_TD = check_features(encoder.embed_texts(texts), texts, encoder.name, zeros_allowed=True)
    place = {text: i for i, text in enumerate(texts)}
    found = []
    for prompts in prompt_sets:
        own = [text for several in prompts.texts for text in several]
        class_of_text = np.repeat(np.arange(len(prompts.texts)), [len(several) for several in prompts.texts])
        weights_CD = class_weights(features_TD[[place[text] for text in own]], class_of_text, len(prompts.texts))
        found.append(Kept(weights_CD, encoder.n_cut(own)))
    return found


def _classifier(prompts: Prompts, kept: Kept, classes: Sequence[ClassName]) -> Classifier:
    n_texts = sum(len(several) for several in prompts.texts)
    return Classifier(prompts.name, kept.weights, n_texts, kept.n_cut, _silent(classes, kept.weights))


def _from_head(encoder: Encoder, prompts: Prompts, classes: Sequence[ClassName]) -> Classifier:
    """Score a class by the mean standardised logit of those words of its name that the head has."""
    check_head(encoder)
    assert encoder.words is not None
    column = {word: i for i, word in enumerate(encoder.words)}
    weights_CV = np.zeros((len(classes), len(encoder.words)), np.float32)
    for row, words in enumerate(prompts.texts):
        known = [column[word] for word in words if word in column]
        weights_CV[row, known] = 1.0 / max(len(known), 1)
    return Classifier("head", weights_CV, len(classes), 0, _silent(classes, weights_CV))


def check_head(encoder: Encoder) -> None:
    """Check that a model has a word head.

    Raises:
        UsageError: If not.
    """
    if encoder.words is None or encoder.word_scores is None:
        raise UsageError(f"{encoder.name}: has no word head, which --prompts head asks; train with --objective joint or words")


def _silent(classes: Sequence[ClassName], weights: np.ndarray) -> list[str]:
    return [entry.name for entry, row in zip(classes, weights, strict=True) if not row.any()]
