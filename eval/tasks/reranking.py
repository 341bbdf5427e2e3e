"""Retrieval whose nearest answers are put in order once more, pair by pair. Numpy in, numpy out. Shapes as in retrieval.py.

>>> import numpy as np
>>> near, cosines = nearest(np.eye(2), np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), [np.array([0, 1]), np.array([2])], 2)
>>> near.tolist()
[[0, 1], [2, 1]]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .retrieval import BLOCK_NUMBERS, RetrievalRanks

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Numbers of image and caption, int64 (P, 2), and their cosines, (P) -> how well they fit, (P)."""


def reranked(images_ND: np.ndarray, captions_MD: np.ndarray, plain: RetrievalRanks, k: int, scores: Scores) -> tuple[RetrievalRanks, int]:
    """Put each query's k nearest in the order of their scores; of equal scores true ones stand last.

    Args:
        images_ND: Normalised features.
        captions_MD: Normalised features.
        plain: Ranks by features: what is not among the k nearest keeps its rank.
        k: How many.
        scores: Looks at pairs.

    Returns:
        The ranks, and how many pairs were looked at.
    """
    of_caption = plain.image_of_caption
    order = np.argsort(of_caption, kind="stable")
    own = np.split(order, np.searchsorted(of_caption[order], np.arange(1, len(images_ND))))
    n_texts, images = _one_way(images_ND, captions_MD, own, k, plain.images, scores)
    own_image = [np.array([i]) for i in of_caption]
    n_images, captions = _one_way(
        captions_MD, images_ND, own_image, k, plain.captions, lambda pairs, cosines: scores(pairs[:, ::-1], cosines)
    )
    return RetrievalRanks(images, captions, of_caption), n_texts + n_images


def _one_way(
    queries: np.ndarray, keys: np.ndarray, own: Sequence[np.ndarray], k: int, plain: np.ndarray, scores: Scores
) -> tuple[int, np.ndarray]:
    near_QK, cosine_QK = nearest(queries, keys, own, k)
    pairs = np.stack([np.repeat(np.arange(len(queries)), near_QK.shape[1]), near_QK.ravel()], axis=1)
    score_QK, ranks = scores(pairs, cosine_QK.ravel()).reshape(near_QK.shape), plain.copy()
    for row, mine in enumerate(own):
        is_own = np.isin(near_QK[row], mine)
        if is_own.any():
            ranks[row] = (score_QK[row][~is_own] >= score_QK[row][is_own].max()).sum()
    return len(pairs), ranks


def nearest(queries: np.ndarray, keys: np.ndarray, own: Sequence[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each query's k nearest keys, nearest first, int64 (Q, K), and their cosines: of equally near ones its own stand last."""
    k, block = min(k, len(keys)), max(1, BLOCK_NUMBERS // len(keys))
    found, cosines = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ keys.T
        for row, mine in enumerate(own[start : start + block]):
            is_own = np.zeros(len(keys), bool)
            is_own[mine] = True
            found[start + row] = np.lexsort((is_own, -scores[row]))[:k]
            cosines[start + row] = scores[row, found[start + row]]
    return found, cosines
