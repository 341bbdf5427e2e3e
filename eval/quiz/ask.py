"""One model's answers: its vectors in, a figure for each task, split, number of examples and procedure out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.draw import mix_all
from fistful.bow.tasks import Relation
from fistful.errors import UsageError
from fistful.training.model.encoder import Encoder

from .learn import balanced_accuracy, centroids, nearest, ridges, share_right
from .trials import Question, Quiz, Trial, by_order, most_frequent

LINEAR, CENTROID, MAP, OFFSET = "linear", "centroid", "map", "offset"
"""Procedures: of predicates and texts, a ridge regression on the label and the nearer centroid; of relations, a ridge map to the
answer's vector, and the mean step from word to answer."""
MAIN = (LINEAR, MAP)
"""Those that models are compared by."""

FIGURES_SCHEMA = pa.schema(
    [
        ("task", pa.int32()),
        ("split", pa.int32()),
        ("k", pa.int32()),
        ("procedure", pa.string()),
        ("score", pa.float64()),
        ("permuted", pa.float64()),
        ("guessing", pa.float64()),
    ]
)
"""A row a figure. `permuted`: the same with permuted labels, of predicates and texts on both sides of the split, of relations among the
examples; null for `offset`, whose mean step they would not change. `guessing`: one label always, or the answer right most often."""

BATCH = 256
"""Texts a batch."""
SAME = 1e-5
"""Largest difference of two orders' vectors that is taken for rounding: a sum in another order."""
N_RANDOM = 256
"""Numbers of a random vector."""


def embed(encoder: Encoder, texts: list[str], update: Callable[[int], None]) -> tuple[np.ndarray, int]:
    """Return the vectors of texts, float32 (N, D), and how many texts its context cuts; each distinct text is embedded once.

    Raises:
        UsageError: If the model has no text tower, or gives vectors that are no numbers.
    """
    distinct = [*dict.fromkeys(texts)]
    parts = []
    for start in range(0, len(distinct), BATCH):
        parts.append(encoder.embed_texts(distinct[start : start + BATCH]))
        update(len(parts[-1]))
    vectors = np.concatenate(parts)
    if not np.isfinite(vectors).all():
        raise UsageError(f"{encoder.name}: gives vectors of words that are not finite numbers; is it trained?")
    place = {text: i for i, text in enumerate(distinct)}
    return vectors[[place[text] for text in texts]], encoder.n_cut(distinct)


def random_vectors(texts: list[str]) -> np.ndarray:
    """Return vectors that depend on the text alone and say nothing of it: float32 (N, 256), of length 1."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
    drawn = mix_all(0x52564543, np.array(seeds, np.uint64)[:, None], np.arange(N_RANDOM))
    return np.where(drawn >> np.uint64(63), 1.0, -1.0).astype(np.float32) / np.float32(np.sqrt(N_RANDOM))


def ask(quiz: Quiz, vectors_TD: np.ndarray, seed: int, update: Callable[[], None]) -> pa.Table:
    """Return the figures of a model.

    Args:
        quiz: What is asked.
        vectors_TD: The model's vector of each of the quiz's texts.
        seed: Of the permuted labels.
        update: Called after each task.
    """
    choices_ND = vectors_TD[: len(quiz.words)]
    rows: dict[str, list[Any]] = {name: [] for name in FIGURES_SCHEMA.names}
    for number, question in enumerate(quiz.questions):
        for split, trial in enumerate(question.trials):
            salt = int(mix_all(0x5045524D, seed, number, split) >> np.uint64(1))
            if isinstance(question.task, Relation):
                figures = _relation(question, question.task, trial, choices_ND, salt)
            else:
                figures = _labelled(question, trial, vectors_TD, salt)
            for figure in figures:
                for name, value in zip(FIGURES_SCHEMA.names, (number, split, *figure), strict=True):
                    rows[name].append(value)
        update()
    return pa.table(rows, schema=FIGURES_SCHEMA)


Figure = tuple[int, str, float, float | None, float]


def _labelled(question: Question, trial: Trial, vectors_TD: np.ndarray, salt: int) -> Iterator[Figure]:
    train_ND, test_ND = (vectors_TD[rows].astype(np.float64) for rows in (trial.train, trial.test))
    if by_order(question):
        train_ND, test_ND = _without_rounding(train_ND), _without_rounding(test_ND)
    # both sides are permuted: on vectors of which one axis says all, true labels would be told right by chance in all or in none
    truths = trial.test_labels, _otherwise(trial.test_labels, salt, in_pairs=by_order(question))
    for k in question.sizes:
        labels, permuted = trial.labels[:k], trial.labels[:k][_permutation(k, salt)]
        fits = ridges(train_ND[:k], [each[:, None].astype(np.float64) for each in (labels, permuted)])
        score, control = (balanced_accuracy(fit(test_ND)[:, 0], truth) for fit, truth in zip(fits, truths, strict=True))
        yield k, LINEAR, score, control, 0.5
        nearer = [centroids(train_ND[:k], each) for each in (labels, permuted)]
        score, control = (balanced_accuracy(test_ND @ w + offset, truth) for (w, offset), truth in zip(nearer, truths, strict=True))
        yield k, CENTROID, score, control, 0.5


def _without_rounding(vectors_ND: np.ndarray) -> np.ndarray:
    """Give two orders of a bag one vector where they differ by rounding alone, so that no label can be read from it."""
    same = np.abs(vectors_ND[::2] - vectors_ND[1::2]).max(axis=1, initial=0) <= SAME
    vectors_ND[1::2][same] = vectors_ND[::2][same]
    return vectors_ND


def _relation(question: Question, task: Relation, trial: Trial, choices_ND: np.ndarray, salt: int) -> Iterator[Figure]:
    answers, asked = task.answers, trial.test
    train_ND, test_ND = (choices_ND[rows].astype(np.float64) for rows in (trial.train, trial.test))
    wanted_ND = np.array([choices_ND[sorted(answers[i])].mean(axis=0) for i in trial.train.tolist()], np.float64)
    for k in question.sizes:
        usual = np.full(len(asked), most_frequent(trial.train[:k], answers))
        guessing = share_right(usual, asked, answers)
        fits = ridges(train_ND[:k], [wanted_ND[:k], wanted_ND[:k][_permutation(k, salt)]])
        score, control = (share_right(nearest(fit(test_ND), choices_ND, asked), asked, answers) for fit in fits)
        yield k, MAP, score, control, guessing
        step_D = (wanted_ND[:k] - train_ND[:k]).mean(axis=0)
        yield k, OFFSET, share_right(nearest(test_ND + step_D, choices_ND, asked), asked, answers), None, guessing


def _otherwise(labels: np.ndarray, salt: int, *, in_pairs: bool) -> np.ndarray:
    """Return the labels in another order; of two orders of a bag, which follow each other, one stays what the other is not."""
    if not in_pairs:
        return labels[_permutation(len(labels), salt)]
    turned = mix_all(0x4C414245, salt, np.arange(len(labels) // 2)) >> np.uint64(63)
    return labels * np.repeat(np.where(turned, -1, 1), 2)


def _permutation(n: int, salt: int) -> np.ndarray:
    return np.argsort(mix_all(0x4C414245, salt, np.arange(n)), kind="stable")
