"""k-nearest-neighbour probe: what an image tower alone knows of a set's classes, without a word.

Shape suffixes: N images, M neighbours to choose from, C classes, D features.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from fistful.errors import UsageError
from fistful.training.neighbours import nearest

from ..sets.evaluation_set import EvalSet

K = 20
TEMPERATURE = 0.07
"""As in Wu et al. 2018 and Caron et al. 2021 (DINO), whose best k on ImageNet is 20."""

ITSELF = "itself"
"""In place of a set: every image is asked of the others of its own set."""

BLOCK = 1024
"""Images whose votes are counted at a time: 8 MB with 1,000 classes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbours:
    """Images whose classes are known."""

    name: str
    features_MD: np.ndarray
    """float32, rows of length 1."""
    labels_M: np.ndarray
    """In the numbering of the set that is asked about."""
    sha256: list[str]
    content: str
    """Digest over names and contents."""
    n_refused: int


def nearest_others(keys_MD: np.ndarray, queries_ND: np.ndarray, k: int, *, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and cosines (N, k) of the nearest keys, best first.

    Args:
        keys_MD: float32, rows of length 1; more than k of them.
        queries_ND: float32, rows of length 1.
        k: How many.
        same: Whether keys and queries are the same images: none then is its own neighbour.
    """
    rows_NK, cosines_NK = nearest(keys_MD, queries_ND, k + same)
    if not same:
        return rows_NK, cosines_NK
    own = rows_NK == np.arange(len(rows_NK))[:, None]
    own[~own.any(axis=1), -1] = True  # among more than k copies it may not find itself: the last goes then
    return rows_NK[~own].reshape(-1, k), cosines_NK[~own].reshape(-1, k)


def vote(labels_NK: np.ndarray, cosines_NK: np.ndarray, n_classes: int) -> np.ndarray:
    """Let neighbours vote for their classes, each with exp(cosine / 0.07); return the shares, (N, C) float32.

    Source:
        Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4.
    """
    scores_NC = np.zeros((len(labels_NK), n_classes))
    votes_NK = np.exp((cosines_NK.astype(np.float64) - cosines_NK[:, :1]) / TEMPERATURE)
    np.add.at(scores_NC, (np.arange(len(labels_NK))[:, None], labels_NK), votes_NK)
    return (scores_NC / scores_NC.sum(axis=1, keepdims=True)).astype(np.float32)


def votes_of(keys: Neighbours, queries_ND: np.ndarray, n_classes: int, *, same: bool) -> Iterator[np.ndarray]:
    """Yield the votes of BLOCK images at a time.

    Raises:
        UsageError: If there are too few images to choose from.
    """
    if len(keys.labels_M) <= K:
        raise UsageError(f"--probe {keys.name}: found {len(keys.labels_M)} images, expected more than the {K} neighbours that vote")
    rows_NK, cosines_NK = nearest_others(keys.features_MD, queries_ND, K, same=same)
    for start in range(0, len(rows_NK), BLOCK):
        part = slice(start, start + BLOCK)
        yield vote(keys.labels_M[rows_NK[part]], cosines_NK[part], n_classes)


def count_copies(images: Sequence[str], known: Sequence[str], *, same: bool) -> int:
    """Return how many images lie, by their SHA-256, among others; where both are the same images, other than as themselves.

    >>> count_copies(["a", "a", "b"], ["a", "a", "b"], same=True)
    2
    """
    times = Counter(known)
    return sum(times[digest] > same for digest in images)


def same_classes(probe: EvalSet, asked: EvalSet) -> np.ndarray:
    """Return the number that each class of a probe's set has in the set asked about: by folder, else by name.

    Raises:
        UsageError: If one of them has a class that the other lacks, or several labels an image.
    """
    for one in (probe, asked):
        if one.multilabel:
            raise UsageError(f"--probe: {one.name} has several labels for an image; neighbours vote for one class")
    pairs = [([e.folder for e in probe.classes], [e.folder for e in asked.classes])]
    pairs += [([e.name for e in probe.classes], [e.name for e in asked.classes])]
    for own, wanted in pairs:
        if sorted(own) == sorted(wanted) and len(set(own)) == len(own):
            place = {name: i for i, name in enumerate(wanted)}
            return np.array([place[name] for name in own], np.int64)
    names = [{e.name for e in one.classes} for one in (probe, asked)]
    missing = sorted(names[0] ^ names[1]) or sorted(names[0])
    raise UsageError(
        f"--probe {probe.name}: its {len(probe.classes)} classes are not the {len(asked.classes)} of {asked.name} "
        f"(one has {missing[0]!r}, the other not); expected the same folders or names"
    )
