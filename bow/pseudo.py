"""Pseudo-labels, the pure part: candidate words for an image, how likely they are, and which are taken.

A *candidate* is a word with a score. Sources give them: neighbours among captioned images vote (the paper's
way), a word head says each word's share of a bag, or a text tower compares its words with the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .draw import mix64, mix_all
from .ragged import Ragged

LIMIT = 512
"""Candidates kept an image by each source, and words of its distribution, at most. Bags are far shorter, but rare words are among the few
likeliest of no image: from 64 words bags are drawn that have a fifth of the captions' variety (docs/decisions/0028-drawn-labels.md)."""
LEAST = 1e-30
"""Share below which nothing is told apart: what has a logarithm."""
SURE = 1e30
"""Odds of a word whose share is 1: its race takes 4e-29 at most, and that of others 1e-16 at least."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Words that an image may get, each with a score: best first, of equals the smaller id first."""

    words: Ragged
    scores: np.ndarray
    """float64, beside words.values."""

    def filtered(self, keep: np.ndarray) -> Candidates:
        """Return the candidates where a boolean mask is true."""
        return Candidates(self.words.take(keep), self.scores[keep])

    def pick(self, rows: np.ndarray) -> Candidates:
        """Return the candidates of some of the images."""
        return Candidates(self.words.pick(rows), self.scores[self.words.places(rows)])


def _best_first(rows: np.ndarray, words: np.ndarray, scores: np.ndarray, n_rows: int, limit: int | None) -> Candidates:
    order = np.lexsort((words, -scores, rows))
    rows, words, scores = rows[order], words[order], scores[order]
    offsets = np.searchsorted(rows, np.arange(n_rows + 1))
    found = Candidates(Ragged(offsets, words), scores)
    return found if limit is None else found.filtered(np.arange(len(rows)) - offsets[rows] < limit)


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


def top_words(shares_NV: np.ndarray, limit: int = LIMIT) -> Candidates:
    """Return each image's words of largest share, each with the natural logarithm of its share to 4 digits."""
    n, v = shares_NV.shape
    limit = min(limit, v)
    least_N = np.partition(shares_NV, v - limit, axis=1)[:, v - limit]
    rows, words = np.nonzero(shares_NV >= least_N[:, None])
    logs = logs_of(shares_NV[rows, words])
    if len(rows) > n * limit:  # several words have an image's least share
        return _best_first(rows, words, logs, n, limit)
    # what np.lexsort does in a fifth of the time: whole numbers that rise as shares fall, and with the word's id where they are equal
    order = np.sort((np.rint(-logs * 1e4).astype(np.int64) << 32 | words).reshape(n, limit), axis=1).ravel()
    return Candidates(Ragged(limit * np.arange(n + 1), order & 0xFFFFFFFF), (order >> 32) / -1e4 + 0.0)


def logs_of(shares: np.ndarray) -> np.ndarray:
    """Return natural logarithms to 4 digits: what lies below differs between equal machines under load."""
    return np.round(np.log(np.maximum(shares.astype(np.float64), LEAST)), 4)


def mean_of(several: Sequence[Candidates]) -> Candidates:
    """Return the mean score of each word over several sources; one that a source does not name has 0 there.

    Args:
        several: Candidates of the same n images, scores from 0 up.
    """
    if len(several) == 1:
        return several[0]
    n, width = len(several[0].words), 1 + max(int(found.words.values.max(initial=0)) for found in several)
    pairs, inverse = np.unique(np.concatenate([found.words.rows() * width + found.words.values for found in several]), return_inverse=True)
    sums = np.bincount(inverse, weights=np.concatenate([found.scores for found in several]), minlength=len(pairs))
    return _best_first(pairs // width, pairs % width, np.round(sums / len(several), 6), n, None)


def ranked(candidates: Candidates, limit: int = LIMIT) -> Candidates:
    """Return each image's likeliest words: shares as float16 holds them, none of 0, of equals the smaller id first."""
    shares = candidates.scores.astype(np.float16).astype(np.float64)
    words = candidates.words
    keep = shares > 0
    return _best_first(words.rows()[keep], words.values[keep], shares[keep], len(words), limit)


def stacked(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of images after images."""
    lengths = [np.zeros(1, np.int64), *(part.words.lengths() for part in parts)]
    words, scores = (
        ([part.words.values for part in parts], [part.scores for part in parts]) if parts else ([np.zeros(0, np.int64)], [np.zeros(0)])
    )
    return Candidates(Ragged(np.concatenate(lengths).cumsum(), np.concatenate(words)), np.concatenate(scores))


def side_by_side(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of images that were judged in parts: each part has all n rows, and only one has words in a row."""
    rows, words, scores = (
        np.concatenate(some) for some in zip(*((part.words.rows(), part.words.values, part.scores) for part in parts), strict=True)
    )
    return _best_first(rows, words, scores, len(parts[0].words), None)


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
    """Return each image's best words: at most its size, none below the share asked for."""
    words = candidates.words
    place = np.arange(len(words.values)) - words.offsets[words.rows()]
    return candidates.filtered((candidates.scores >= at_least) & (place < sizes_N[words.rows()]))


def are_right(candidates: Candidates, bags: Ragged) -> np.ndarray:
    """Return, for each candidate, whether the image's real bag has the word."""
    words = candidates.words
    top = int(max(words.values.max(initial=0), bags.values.max(initial=0))) + 1
    return np.isin(words.rows() * top + words.values, bags.rows() * top + bags.values)


def draw_sizes_anew(rising: np.ndarray, samples_N: np.ndarray, seed: int, epochs_N: np.ndarray) -> np.ndarray:
    """Draw for each image and epoch how many words its bag has, from the sizes of real bags, int64 (N).

    Args:
        rising: Sizes of real bags, none empty, smallest first.
        samples_N: Sample numbers of the images, uint64.
        seed: The run's seed.
        epochs_N: Their epochs.
    """
    u = mix_all(seed, 0x53495A45, samples_N, epochs_N) >> np.uint64(32)
    return rising[((u * np.uint64(len(rising))) >> np.uint64(32)).astype(np.int64)].astype(np.int64)


def draw_words(likely: Ragged, shares: np.ndarray, sizes_N: np.ndarray, samples_N: np.ndarray, seed: int, epochs_N: np.ndarray) -> Ragged:
    """Draw a bag for each image and epoch: words without replacement, each with the odds of its share, those that are sure first.

    Args:
        likely: The words that N images may have.
        shares: float32, beside likely.values: above 0; of 1 that the image has the word, as those that completion keeps.
        sizes_N: How many words to draw; an image with no more than that gets all of them.
        samples_N: Sample numbers of the images, uint64.
        seed: The run's seed.
        epochs_N: Their epochs.

    Returns:
        N bags, words in the order drawn.

    Source:
        Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir": the words of smallest -log(u) / share.
    """
    rows = likely.rows()
    bits = mix_all(seed, 0x57524453, samples_N[rows], likely.values, epochs_N[rows]) >> np.uint64(11)
    race = -np.log((bits.astype(np.float64) + 0.5) * 2.0**-53) / np.where(shares < 1, shares, SURE)
    near = race <= _nth_smallest(likely, race, sizes_N)[rows]  # rows are long, and few of their words are drawn
    rows, race, words = rows[near], race[near], likely.take(near)
    drawn = Ragged(words.offsets, words.values[np.lexsort((words.values, race, rows))])
    return drawn.take(np.arange(len(rows)) - words.offsets[rows] < sizes_N[rows])


def _nth_smallest(rows: Ragged, numbers: np.ndarray, nth_N: np.ndarray) -> np.ndarray:
    """Return the n-th smallest of each row's numbers, counted from 1; of a row that has no more than n infinity."""
    lengths = rows.lengths()
    padded_NL = np.full((len(rows), int(lengths.max(initial=0)) + 1), np.inf)
    padded_NL[np.arange(padded_NL.shape[1]) < lengths[:, None]] = numbers
    nth_N = np.clip(nth_N, 1, padded_NL.shape[1])
    most = int(nth_N.max(initial=1))
    smallest_NL = np.sort(np.partition(padded_NL, most - 1, axis=1)[:, :most], axis=1)
    return smallest_NL[np.arange(len(rows)), nth_N - 1]
