"""Chance without state: every draw is a pure function of (seed, sample, word, epoch).

The 64-bit mix is SplitMix64's finaliser (Steele, Lea, Flood 2014, OOPSLA; Stafford's variant 13),
applied once for each part. Order, batch, worker and machine do not matter.
"""

from __future__ import annotations

import numpy as np

from .ragged import Ragged

ALWAYS = np.uint32(0xFFFFFFFF)
"""A keep probability of 1: kept whatever is drawn."""

ROW_BITS = 32
"""A sample's number is its unit's number and, in the low bits, its row in the unit."""


def mix64(state: np.ndarray | np.uint64, value: np.ndarray | np.uint64) -> np.ndarray:
    """Fold a value into a state and mix: uint64 in, uint64 out, elementwise with broadcasting."""
    with np.errstate(over="ignore"):
        x = (np.asarray(state, np.uint64) ^ np.asarray(value, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def mix_all(*parts: int | np.ndarray) -> np.ndarray:
    """Mix several numbers, one after the other, into 64 bits."""
    state: np.ndarray | np.uint64 = np.uint64(0)
    for part in parts:
        state = mix64(state, np.asarray(part).astype(np.uint64))
    return np.asarray(state)


def draw_u32(seed: int, samples: np.ndarray, words: np.ndarray, epoch: int) -> np.ndarray:
    """Draw 32 bits for each (sample, word).

    Args:
        seed: The run's seed, 0 or more.
        samples: n sample numbers, uint64 (`sample_number`).
        words: n word ids.
        epoch: 0 or more.

    Returns:
        n uint32, uniform.
    """
    state = mix64(mix64(mix64(mix_all(seed), samples), words.astype(np.uint64)), np.uint64(epoch))
    return (state >> np.uint64(32)).astype(np.uint32)


def draw_bags(
    bags: Ragged, samples: np.ndarray, keep_u32: np.ndarray, seed: int, epoch: int = 0, blind: bool = False
) -> tuple[Ragged, np.ndarray]:
    """Thin out bags: each word stays with its keep probability.

    A bag that would be emptied keeps its word of largest keep probability, of equals the rarer one: the
    greater id, for a vocabulary falls by df. That adds only to the tail. Where the rule is blind to
    words, so is this: of an emptied bag the word stays whose draw is smallest, each with the same odds.

    Args:
        bags: n bags of word ids.
        samples: n sample numbers, uint64.
        keep_u32: Keep probability of each word of the vocabulary, times 2**32; all equal for a blind rule.
        seed: The run's seed.
        epoch: The epoch; 0 for bags drawn once.
        blind: Whether the rule does not know frequent words from rare ones (`random`, the control).

    Returns:
        The n bags, words in the same order, and a boolean mask of the bags that were emptied.
    """
    of_word, rows = keep_u32[bags.values], bags.rows()
    draws = draw_u32(seed, samples[rows], bags.values, epoch)
    keep = (draws < of_word) | (of_word == ALWAYS)
    kept_before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    kept = kept_before[bags.offsets[1:]] - kept_before[bags.offsets[:-1]]
    emptied = (kept == 0) & (bags.lengths() > 0)
    places = np.flatnonzero(emptied[rows])
    first = draws[places].astype(np.int64) if blind else -of_word[places].astype(np.int64)
    places = places[np.lexsort((-bags.values[places].astype(np.int64), first, rows[places]))]
    keep[places[np.flatnonzero(np.diff(rows[places], prepend=-1))]] = True
    return bags.take(keep), emptied


def draw_some(bags: Ragged, samples: np.ndarray, weights_u32: np.ndarray, n_words: int, seed: int, epoch: int = 0) -> Ragged:
    """Draw words of each bag without replacement, with the odds of their weights; shorter bags stay whole.

    Integers only, so that it is the same on every machine: n rounds, in each of which a 64-bit draw
    falls on the running sum of the weights that are left.

    Args:
        bags: n bags of word ids.
        samples: n sample numbers, uint64.
        weights_u32: Weight of each word of the vocabulary.
        n_words: How many words of a bag to draw.
        seed: The run's seed.
        epoch: The epoch; 0 for bags drawn once.

    Returns:
        The n bags with at most n_words words, in the bags' order.
    """
    keep = np.ones(len(bags.values), dtype=bool)
    for length in np.unique(bags.lengths()[bags.lengths() > n_words]):  # bags of a length make a matrix
        rows = np.flatnonzero(bags.lengths() == length)
        places = bags.offsets[rows][:, None] + np.arange(int(length))
        left = np.maximum(weights_u32[bags.values[places]], 1).astype(np.uint64)
        for turn in range(n_words):
            running = np.cumsum(left, axis=1)
            draw = mix64(mix64(mix64(mix_all(seed, 0x42554447), samples[rows]), np.uint64(epoch)), np.uint64(turn))
            chosen = (running <= (draw % running[:, -1])[:, None]).sum(axis=1)
            left[np.arange(len(rows)), chosen] = 0
        keep[places] = left == 0
    return bags.take(keep)


def draw_pairs(bags: Ragged, samples: np.ndarray, keep_u32: np.ndarray, seed: int) -> np.ndarray:
    """Return which samples stay whole: those of which at least one word is drawn, P = 1 - prod(1 - k).

    Source:
        MetaCLIP (Xu et al. 2023), Algorithm 1.
    """
    kept, emptied = draw_bags(bags, samples, keep_u32, seed)
    return (kept.lengths() > 0) & ~emptied


def draw_share(samples: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return which samples are drawn, each with the same probability, apart from the draws of words.

    Args:
        samples: Sample numbers, uint64.
        share: 0 to 1.
        seed: The run's seed.
    """
    u = (mix_all(0x494E5443, seed, samples) >> np.uint64(32)).astype(np.float64)
    return u < share * 2.0**32


def held_out(contents: np.ndarray, fraction: float) -> np.ndarray:
    """Return which pictures are held out of training: the same ones wherever it is asked, each with all of its copies.

    Args:
        contents: What numbers pictures by their content (`bow.contents`), uint64.
        fraction: Share to hold out, 0 to 1.
    """
    u = (mix_all(0x484F4C44, contents) >> np.uint64(32)).astype(np.float64)  # apart from all draws with a seed
    return u < fraction * 2.0**32


def sample_number(unit: int, rows: np.ndarray | int) -> np.ndarray:
    """Return the numbers, uint64, of samples from their unit and their rows in it."""
    return (np.uint64(unit) << np.uint64(ROW_BITS)) | np.asarray(rows).astype(np.uint64)


def sample_key(unit: int, row: int) -> str:
    """Return a sample's KEY: unique without looking, sortable, and without a dot.

    >>> sample_key(3, 14)
    '00003_0000014'
    """
    return f"{unit:05d}_{row:07d}"


def number_of_key(key: str) -> int:
    """Return the sample number that belongs to a KEY.

    >>> number_of_key("00003_0000014") == 3 * 2**32 + 14
    True
    """
    unit, row = key.split("_")
    return (int(unit) << ROW_BITS) | int(row)
