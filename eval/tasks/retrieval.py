"""Retrieval both ways: find the image of a caption, and a caption of an image. Numpy in, numpy out.

Shape suffixes: N images, M captions, D features, K ranks asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow import metrics

from .zeroshot import with_interval

BLOCK_NUMBERS = 2**25
"""Scores compared at a time: 128 MB."""

KS = (1, 5, 10)


@dataclasses.dataclass(frozen=True, slots=True)
class RetrievalRanks:
    """Where the true ones stand; of equal scores they stand last, so a model that says the same of everything finds nothing."""

    images: np.ndarray
    """(N,) how many captions of other images stand before the best of an image's own."""
    captions: np.ndarray
    """(M,) how many other images stand before a caption's own."""
    image_of_caption: np.ndarray
    """(M,) the image of each caption; every image has at least one."""


def retrieval_ranks(images_ND: np.ndarray, captions_MD: np.ndarray, image_of_caption: np.ndarray) -> RetrievalRanks:
    """Rank images for captions and captions for images, from normalised features."""
    order = np.argsort(image_of_caption, kind="stable")
    own = np.split(order, np.searchsorted(image_of_caption[order], np.arange(1, len(images_ND))))
    to_image = _ranks(captions_MD, images_ND, [np.array([i]) for i in image_of_caption])
    return RetrievalRanks(_ranks(images_ND, captions_MD, own), to_image, image_of_caption)


def _ranks(queries: np.ndarray, keys: np.ndarray, own: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many other keys stand before the best of each query's own, ties before it."""
    ranks, block = np.empty(len(queries), dtype=np.int32), max(1, BLOCK_NUMBERS // len(keys))
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ keys.T
        for row, mine in enumerate(own[start : start + block]):
            best = scores[row, mine].max()
            ranks[start + row] = (scores[row] >= best).sum() - (scores[row, mine] >= best).sum()
    return ranks


def retrieval_figures(ranks: RetrievalRanks, ks: Sequence[int] = KS) -> dict[str, Any]:
    """Return recall at k for both directions, each with its 95 % interval over images.

    Args:
        ranks: Of images and captions.
        ks: Ranks asked.

    Returns:
        image_retrieval_recall@k: share of captions whose image is among the k nearest; text_retrieval_recall@k:
        share of images one of whose captions is among the k nearest.

    Source:
        As CLIP_benchmark's image_retrieval_recall@k and text_retrieval_recall@k.
    """
    n_images, n_captions = len(ranks.images), len(ranks.captions)
    found: dict[str, Any] = {}
    for k in ks:
        hits_N, totals_N = of_images(ranks, ranks.captions < k), of_images(ranks, np.ones(n_captions))
        ends = metrics.ratio_interval(hits_N, totals_N) if n_captions > n_images else metrics.wilson(int(hits_N.sum()), n_images)
        found |= with_interval(f"image_retrieval_recall@{k}", float(hits_N.sum()) / n_captions, ends)
    for k in ks:
        n_right = int((ranks.images < k).sum())
        found |= with_interval(f"text_retrieval_recall@{k}", n_right / n_images, metrics.wilson(n_right, n_images))
    return found


def of_images(ranks: RetrievalRanks, values_M: np.ndarray) -> np.ndarray:
    """Return the sums over each image's captions: captions of one image are no independent ones."""
    return np.bincount(ranks.image_of_caption, weights=values_M, minlength=len(ranks.images))
