"""Pictures that have some of their words: which are known, and what a model says of the others. Shapes: N pictures, P words of all of them.

>>> import numpy as np
>>> bags = Ragged(np.array([0, 3, 4]), np.array([5, 6, 7, 5]))
>>> known = keep_half(bags, np.array([1, 2], np.uint64), seed=0)
>>> known.sum(), known[3]
(np.int64(3), np.True_)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.draw import mix_all, number_of_key
from fistful.bow.pseudo import Candidates, top_words
from fistful.bow.ragged import Ragged
from fistful.bow.store.index import read_index
from fistful.bow.words import Analyzer, WordOptions, first_appearances

HALF_SALT = 0x48414C46
NO_WORD = -1
"""Fills up rows of words, as encoders take them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Completing:
    """Which words of a picture are known."""

    words: tuple[str, ...]
    """The vocabulary."""
    options: WordOptions
    """How captions become words."""
    seed: int
    like: Path | None = None
    """Data folder whose index has the pictures' words, of which half are hidden; None: all words of the pictures' captions are known."""

    def known(self, source_keys: Sequence[str], captions: Sequence[Sequence[str]]) -> Ragged:
        """Return the known words of pictures, as numbers."""
        if self.like is None:
            return known_words(captions, self.words, self.options)
        bags, place = _bags_of(self.like)
        own = bags.pick(np.array([place[key] for key in source_keys], np.int64))
        return own.take(keep_half(own, np.array([number_of_key(key) for key in source_keys], np.uint64), self.seed))


def keep_half(bags: Ragged, samples_N: np.ndarray, seed: int) -> np.ndarray:
    """Draw which words of each bag stay known, bool (P): half of them, and one more of an odd number.

    Args:
        bags: Words as numbers.
        samples_N: Sample numbers, uint64.
        seed: The run's seed.
    """
    rows = bags.rows()
    order = np.lexsort((mix_all(HALF_SALT, seed, samples_N[rows], bags.values), rows))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - bags.offsets[rows]
    return place >= (bags.lengths() // 2)[rows]


def known_words(captions: Sequence[Sequence[str]], words: tuple[str, ...], options: WordOptions) -> Ragged:
    """Return the words of each picture's captions that the vocabulary has, each once."""
    analyzer, number = Analyzer(options), _numbers(words)
    flat = [text for own in captions for text in own]
    ends = np.concatenate([[0], np.cumsum([len(own) for own in captions])]).astype(np.int64)
    found = analyzer.analyse(pa.array(flat, pa.string())).join_rows(ends)
    of_word = np.array([number.get(word, NO_WORD) for word in analyzer.words] or [NO_WORD], np.int64)
    known = Ragged(found.offsets, of_word[found.values])
    return first_appearances(known.take(known.values >= 0))


def missing_words(encoder: Any, pixels: np.ndarray, known: Ragged) -> Candidates:
    """Return the likeliest words of pictures beside the known ones, with the logarithm of their share of the missing ones."""
    completer, width = encoder.completer, max(1, int(known.lengths().max(initial=0)))
    known_NL = np.full((len(known), width), NO_WORD, np.int64)
    rows = known.rows()
    known_NL[rows, np.arange(len(rows)) - known.offsets[rows]] = known.values
    shares_NV = completer.shares(completer.images(pixels), known_NL)
    found = top_words(shares_NV)
    return found.filtered(shares_NV[found.words.rows(), found.words.values] > 0)


def with_known(found: Candidates, known: Ragged) -> Candidates:
    """Return candidates with the known words before them, sure to be right."""
    both = Ragged.stack([known, found.words])
    scores = np.concatenate([np.ones(len(known.values)), found.scores])
    order = np.arange(2 * len(known)).reshape(2, -1).T.ravel()  # of each picture the known words, then the others
    return Candidates(both.pick(order).join_rows(np.arange(0, len(order) + 1, 2)), scores[both.places(order)])


@functools.lru_cache(maxsize=1)
def _bags_of(like: Path) -> tuple[Ragged, dict[str, int]]:
    index = read_index(like)
    return Ragged.of_lists(index["words"].combine_chunks()), {key: row for row, key in enumerate(index["key"].to_pylist())}


@functools.lru_cache(maxsize=1)
def _numbers(words: tuple[str, ...]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words)}
