"""Pseudo-labels, the pure part: candidate words for an image, quotas, and which words are taken.

A *candidate* is a word with a score. Two sources give them: neighbours among captioned images vote
(the paper's way), or a word head's logits, held to a quota for each word.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .draw import mix64, mix_all
from .ragged import Ragged

LIMIT = 64
"""Candidates kept an image: bags are far shorter."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Words that an image may get, each with a score: best first, of equals the smaller id first."""

    words: Ragged
    scores: np.ndarray
    """float64, beside words.values."""

    def filtered(self, keep: np.ndarray) -> Candidates:
        """Return the candidates where a boolean mask is true."""
        return Candidates(self.words.take(keep), self.scores[keep])


def _best_first(rows: np.ndarray, words: np.ndarray, scores: np.ndarray, n_rows: int, limit: int) -> Candidates:
    order = np.lexsort((words, -scores, rows))
    rows, words, scores = rows[order], words[order], scores[order]
    offsets = np.searchsorted(rows, np.arange(n_rows + 1))
    ranked = Candidates(Ragged(offsets, words), scores)
    return ranked.filtered(np.arange(len(rows)) - offsets[rows] < limit)


def vote(neighbours_NK: np.ndarray, cosine_NK: np.ndarray, bags: Ragged, temperature: float, limit: int = LIMIT) -> Candidates:
    """Let neighbours vote for the words of their bags: s_w = sum of a_k over the neighbours k whose bag has w.

    Args:
        neighbours_NK: Rows of the captioned images nearest to each of N images; -1 where there are fewer.
        cosine_NK: Their cosines; a is their softmax at the temperature.
        bags: The captioned images' bags.
        temperature: Small: the nearest decides; large: all count alike.
        limit: Candidates kept for each image.
    """
    n, k = neighbours_NK.shape
    weight = np.where(neighbours_NK >= 0, np.exp((cosine_NK.astype(np.float64) - 1.0) / temperature), 0.0)
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    flat = np.maximum(neighbours_NK.ravel(), 0)
    lengths = np.where(neighbours_NK.ravel() >= 0, bags.lengths()[flat], 0)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(bags.offsets[flat] - ends[:-1], lengths) + np.arange(ends[-1])
    words = bags.values[places].astype(np.int64)
    rows = np.repeat(np.repeat(np.arange(n), k), lengths)
    width = int(words.max()) + 1 if len(words) else 1
    pairs, inverse = np.unique(rows * width + words, return_inverse=True)
    scores = np.bincount(inverse, weights=np.repeat(weight.ravel(), lengths), minlength=len(pairs))
    return _best_first(pairs // width, pairs % width, np.round(scores, 6), n, limit)


def top_words(scores_NV: np.ndarray, limit: int = LIMIT) -> Candidates:
    """Return each image's words of highest score."""
    n, v = scores_NV.shape
    limit = min(limit, v)
    best = np.argpartition(-scores_NV, limit - 1, axis=1)[:, :limit]
    rounded = np.round(np.take_along_axis(scores_NV, best, axis=1).astype(np.float64), 4)
    return _best_first(np.repeat(np.arange(n), limit), best.ravel().astype(np.int64), rounded.ravel(), n, limit)


def quota_thresholds(sample: Candidates, share_V: np.ndarray) -> np.ndarray:
    """Return the score that each word must reach so that it gets its share of the images, as in real bags.

    Args:
        sample: Candidates of a sample of the images.
        share_V: Share of captioned images whose bag has the word.

    Returns:
        Thresholds, float64 (V,): the quota-th highest score of the word; the lowest where fewer images
        have it as a candidate, infinity where none has.

    Source:
        Distribution matching, as in docs/decisions/0008-pseudo-labels.md.
    """
    n = len(sample.words)
    quota = np.maximum(1, np.round(share_V * n)).astype(np.int64)
    order = np.lexsort((-sample.scores, sample.words.values))
    words, scores = sample.words.values[order], sample.scores[order]
    start = np.searchsorted(words, np.arange(len(share_V) + 1))
    found = np.diff(start)
    thresholds = np.full(len(share_V), np.inf)
    has = found > 0
    thresholds[has] = scores[(start[:-1] + np.minimum(quota, found) - 1)[has]]
    return thresholds


def margins(candidates: Candidates, thresholds_V: np.ndarray) -> Candidates:
    """Return the candidates scored by how far they lie above their word's threshold, best first.

    A word whose threshold is infinite can be given to no image, so it is no candidate.
    """
    candidates = candidates.filtered(np.isfinite(thresholds_V)[candidates.words.values])
    words = candidates.words
    scores = np.round(candidates.scores - thresholds_V[words.values], 6)
    return _best_first(words.rows(), words.values, scores, len(words), LIMIT)


def draw_sizes(sizes: np.ndarray, samples: np.ndarray, seed: int) -> np.ndarray:
    """Draw for each image how many words it may get at most, from the sizes of real bags.

    Args:
        sizes: Sizes of real bags, none empty.
        samples: Sample numbers of the images, uint64.
        seed: The run's seed.
    """
    u = mix64(mix_all(seed, 0x53495A45), samples) >> np.uint64(32)  # apart from the words' draws
    return np.sort(sizes)[((u * np.uint64(len(sizes))) >> np.uint64(32)).astype(np.int64)]


def take_best(candidates: Candidates, at_least: float, sizes_N: np.ndarray) -> Candidates:
    """Return each image's best words: at most its size, none below the score asked for."""
    words = candidates.words
    place = np.arange(len(words.values)) - words.offsets[words.rows()]
    return candidates.filtered((candidates.scores >= at_least) & (place < sizes_N[words.rows()]))


def are_right(candidates: Candidates, bags: Ragged) -> np.ndarray:
    """Return, for each candidate, whether the image's real bag has the word."""
    words = candidates.words
    top = int(max(words.values.max(initial=0), bags.values.max(initial=0))) + 1
    return np.isin(words.rows() * top + words.values, bags.rows() * top + bags.values)
