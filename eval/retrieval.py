"""Retrieval both ways: find the image of a caption, and a caption of an image. Numpy in, numpy out.

Shape suffixes: N images, M captions, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK = 1024
"""Rows compared at a time: 100 MB against 25,000 columns."""

KS = (1, 5, 10)


def retrieval_recall(
    images_ND: np.ndarray, captions_MD: np.ndarray, image_of_caption: np.ndarray, ks: Sequence[int] = KS
) -> dict[str, float]:
    """Return recall at k for both directions.

    Args:
        images_ND: Normalised features.
        captions_MD: Normalised features; an image may have several captions.
        image_of_caption: (M,) the image of each caption; every image has at least one.
        ks: Ranks.

    Returns:
        image_retrieval_recall@k: share of captions whose image is among the k nearest; text_retrieval_recall@k:
        share of images one of whose captions is among the k nearest. Of equal scores the true one
        counts last, so a model that says the same of everything scores 0.

    Source:
        As CLIP_benchmark's image_retrieval_recall@k and text_retrieval_recall@k.
    """
    to_image = _ranks(captions_MD, images_ND, [np.array([i]) for i in image_of_caption])
    order = np.argsort(image_of_caption, kind="stable")
    own = np.split(order, np.searchsorted(image_of_caption[order], np.arange(1, len(images_ND))))
    to_text = _ranks(images_ND, captions_MD, own)
    found = {f"image_retrieval_recall@{k}": float((to_image < k).mean()) for k in ks}
    return found | {f"text_retrieval_recall@{k}": float((to_text < k).mean()) for k in ks}


def _ranks(queries: np.ndarray, keys: np.ndarray, own: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many other keys stand before the best of each query's own, ties before it."""
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ keys.T
        for row, mine in enumerate(own[start : start + BLOCK]):
            best = scores[row, mine].max()
            ranks[start + row] = (scores[row] >= best).sum() - (scores[row, mine] >= best).sum()
    return ranks
