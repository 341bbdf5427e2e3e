"""Head, middle and tail: what the frequent, the less frequent and the rare ones are, and what a rare word weighs. Numpy in, numpy out.

Classes are split into thirds, for a test set has ten or a thousand; words by rank, for a vocabulary's tail is most of it.

>>> [(name, part.tolist()) for name, part in class_thirds(np.array([7, 90, 20, 0]))]
[('head', [1]), ('middle', [2]), ('tail', [0])]
"""

from __future__ import annotations

import numpy as np

PARTS = ("head", "middle", "tail")
N_HEAD, N_MIDDLE = 50, 250
"""Words by falling frequency: the first 50 are the head, the next 250 the middle, the rest the tail."""


def class_thirds(df_C: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the classes that the vocabulary covers in thirds of (nearly) equal size, without those that are empty.

    Args:
        df_C: In how many samples the rarest word of each class occurs; 0 where not covered.

    Returns:
        head, middle and tail, the most frequent first; of equal frequency the smaller class is more frequent.
    """
    covered = _by_falling(df_C)[: int((df_C > 0).sum())]
    return [(name, part) for name, part in zip(PARTS, np.array_split(covered, 3), strict=True) if len(part)]


def class_thirds_by_df(df_C: np.ndarray, has_images_C: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return about thirds of the covered classes that have images, the rarest first; classes of equal df lie in one."""
    known = np.flatnonzero(has_images_C & (df_C > 0))
    edges = np.quantile(df_C[known], [1 / 3, 2 / 3], method="lower") if len(known) else np.zeros(2)
    third_of = np.searchsorted(edges, df_C[known], side="left")
    return [(name, known[third_of == i]) for i, name in enumerate(reversed(PARTS)) if (third_of == i).any()]


def word_ranks(df_V: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the words of head, middle and tail by rank, the most frequent first; a part may be empty."""
    return list(zip(PARTS, np.split(_by_falling(df_V), (N_HEAD, N_HEAD + N_MIDDLE)), strict=True))


def parts_of(words: np.ndarray) -> np.ndarray:
    """Return the part, 0 to 2, that each word id lies in: ids of a vocabulary are ranks, for it falls by df.

    >>> parts_of(np.array([0, 49, 50, 299, 300])).tolist()
    [0, 0, 1, 1, 2]
    """
    return np.searchsorted((N_HEAD, N_HEAD + N_MIDDLE), words, side="right")


IDF_FLOOR = 1e-6
"""Least weight of a word, so that a bag of nothing but words that every sample has keeps a target."""


def idf(df: np.ndarray, n_samples: int) -> np.ndarray:
    """Return each word's weight ln(N / (1 + df)), float32, never below a floor.

    Args:
        df: Samples that each word occurs in.
        n_samples: Samples that were counted.

    Source:
        SuperClass (Huang et al. 2024, arXiv 2411.03313), equation 2; exact df instead of counts on the way.
    """
    n = max(n_samples, int(df.max(initial=0)) + 1)
    return np.maximum(np.log(n / (1.0 + df)), IDF_FLOOR).astype(np.float32)


def _by_falling(df: np.ndarray) -> np.ndarray:
    return np.lexsort((np.arange(len(df)), -df))
