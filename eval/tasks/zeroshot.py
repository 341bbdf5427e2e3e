"""Zero-shot classification, from features to figures. Numpy in, numpy out.

Shape suffixes: N images, C classes, D features, T texts, K best classes.

>>> weights_CD = class_weights(np.eye(3, dtype=np.float32), np.array([0, 0, 1]), 2)
>>> class_scores(np.array([[1.0, 0, 0], [0, 0, 1.0]], np.float32), weights_CD).astype(int).tolist()
[[70, 0], [0, 100]]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow import metrics
from fistful.bow.frequency import class_thirds
from fistful.errors import DataError

SCALE = 100.0
"""What cosines are multiplied by, as open_clip and CLIP_benchmark do."""

UNSPEAKABLE = -2.0 * SCALE
"""Score of a class none of whose prompts the text tower knows a word of: below every other."""

TOP = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier says of N images."""

    top: np.ndarray
    """(N, K) the K best classes, best first, int32."""
    scores: np.ndarray
    """(N, K) their scores, float32."""
    ranks: np.ndarray
    """(N,) how many classes stand before the true one, int32."""


def class_weights(texts_TD: np.ndarray, class_of_text: np.ndarray, n_classes: int) -> np.ndarray:
    """Average the texts of each class and normalise: the zero-shot classifier.

    Args:
        texts_TD: Normalised features, float32; a row of zeros is a text without a known word.
        class_of_text: (T,) the class of each text.
        n_classes: C.

    Returns:
        (C, D) float32; a row of zeros for a class without a known word.

    Source:
        CLIP (Radford et al. 2021), section 3.1.4; open_clip's build_zero_shot_classifier.
    """
    sums_CD = np.zeros((n_classes, texts_TD.shape[1]))
    np.add.at(sums_CD, class_of_text, texts_TD.astype(np.float64))
    norms = np.linalg.norm(sums_CD, axis=1, keepdims=True)
    return np.divide(sums_CD, norms, out=np.zeros_like(sums_CD), where=norms > 0).astype(np.float32)


def class_scores(images_ND: np.ndarray, weights_CD: np.ndarray) -> np.ndarray:
    """Return 100 times the cosine of each image and class: (N, C) float32."""
    return _silence(SCALE * images_ND @ weights_CD.T, weights_CD)


def head_scores(words_NV: np.ndarray, weights_CV: np.ndarray) -> np.ndarray:
    """Return the mean standardised logit of each class's words: (N, C) float32."""
    return _silence(words_NV @ weights_CV.T, weights_CV)


def _silence(scores_NC: np.ndarray, weights: np.ndarray) -> np.ndarray:
    scores_NC[:, ~weights.any(axis=1)] = UNSPEAKABLE
    return scores_NC


def predict(scores_NC: np.ndarray, labels_N: np.ndarray, images: Sequence[str]) -> Predictions:
    """Rank the classes of each image.

    Raises:
        DataError: If a score is not a finite number; the message names the images.
    """
    check_scores(scores_NC, images)
    top_NK = metrics.top_classes(scores_NC, TOP)
    return Predictions(top_NK, np.take_along_axis(scores_NC, top_NK, axis=1), metrics.true_ranks(scores_NC, labels_N))


def check_scores(scores_NC: np.ndarray, images: Sequence[str]) -> None:
    """Check that scores are numbers.

    Raises:
        DataError: If one is not finite; the message names the images.
    """
    bad = np.flatnonzero(~np.isfinite(scores_NC).all(axis=1))
    if len(bad):
        names = ", ".join(images[int(i)] for i in bad[:3])
        raise DataError(
            f"{names}: found scores that are not finite numbers ({len(bad)} of {len(images)} images); the model is broken there"
        )


def ranks_among(scores_NC: np.ndarray, labels_N: np.ndarray, chosen_C: np.ndarray) -> np.ndarray:
    """Rank the true class among some classes only, for the images of those classes.

    Returns:
        A rank for each image whose class is chosen, in the order of the images.
    """
    rows = chosen_C[labels_N]
    return metrics.true_ranks(scores_NC[rows][:, chosen_C], (np.cumsum(chosen_C) - 1)[labels_N[rows]])


def join(parts: Sequence[Predictions]) -> Predictions:
    """Put batches together."""
    return Predictions(
        np.concatenate([part.top for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.ranks for part in parts]),
    )


def summarise(ranks_N: np.ndarray, labels_N: np.ndarray, n_classes: int) -> dict[str, Any]:
    """Return accuracies with their 95 % intervals and what guessing would give.

    Args:
        ranks_N: How many classes stand before the true one.
        labels_N: True classes.
        n_classes: How many classes there are to choose from.

    Returns:
        CLIP_benchmark's acc1, acc5 (None below 5 classes) and mean_per_class_recall; each with
        _low and _high; chance1, chance5 of uniform guessing; majority1, the share of the largest
        class; n, n_classes. What is not defined without images, or without classes, is left out.
    """
    n = len(ranks_N)
    figures: dict[str, Any] = {"n": n, "n_classes": n_classes}
    if n_classes:
        figures |= {"chance1": 1 / n_classes, "chance5": min(1.0, TOP / n_classes)}
    if n == 0:
        return figures
    right = np.stack([ranks_N < 1, ranks_N < TOP], axis=1).astype(np.float64)
    _, recall = metrics.per_class_recall(right[:, 0], labels_N, n_classes)
    figures["majority1"] = int(np.bincount(labels_N).max()) / n
    for i, name in enumerate(("acc1", "acc5")):
        n_right = int(right[:, i].sum())
        figures |= with_interval(name, n_right / n, metrics.wilson(n_right, n))
    ends = metrics.class_mean_interval(right[:, 0], labels_N)
    figures |= with_interval("mean_per_class_recall", float(np.nanmean(recall)), ends)
    return figures if n_classes >= TOP else {k: None if k.startswith("acc5") else v for k, v in figures.items()}


def with_interval(name: str, value: float, ends: tuple[float, float]) -> dict[str, float]:
    """Return a figure with the ends of its 95 % interval, by name."""
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


def by_source(ranks_N: np.ndarray, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the figures of each source of a pooled set; {} where there is only one."""
    names, of_image = np.unique(np.array(sources, dtype=object), return_inverse=True)
    return {str(name): _share(ranks_N[of_image == i]) for i, name in enumerate(names)} if len(names) > 1 else {}


def by_frequency(ranks_N: np.ndarray, labels_N: np.ndarray, df_C: np.ndarray) -> list[dict[str, Any]]:
    """Return the figures of the classes that the vocabulary covers, in thirds (`class_thirds`).

    Args:
        ranks_N: How many classes stand before the true one, among all.
        labels_N: True classes.
        df_C: In how many samples the rarest word of each class occurs; 0 where not covered.
    """
    return [{**about_part(name, part, df_C), **_share(ranks_N[np.isin(labels_N, part)])} for name, part in class_thirds(df_C)]


def about_part(name: str, part: np.ndarray, df_C: np.ndarray) -> dict[str, Any]:
    """Return what a result says of a third of the classes beside its figures."""
    return {"part": name, "n_classes": len(part), "df_from": int(df_C[part].min()), "df_to": int(df_C[part].max())}


def _share(ranks: np.ndarray) -> dict[str, Any]:
    n, n_right = len(ranks), int((ranks < 1).sum())
    low, high = metrics.wilson(n_right, n)
    return {"n": n, "acc1": n_right / n if n else None, "acc1_low": low, "acc1_high": high}
