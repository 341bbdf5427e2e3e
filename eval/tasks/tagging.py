"""Tagging: are the words that a model gives an image those of its captions? Numpy in, numpy out.

Shape suffixes: N images, V words, K best words. Captions name only a part of what an image shows,
so precision here is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow import metrics
from fistful.bow.frequency import PARTS, word_ranks

from .zeroshot import with_interval

KS = (1, 3, 5, 10)
MIN_POSITIVE = 3
"""Words with fewer images than this have no average precision worth the name."""


def tag_hits(scores_NV: np.ndarray, truth_NV: np.ndarray, k: int = max(KS)) -> np.ndarray:
    """Return whether each image's k best words are in its captions: (N, k), boolean."""
    return np.take_along_axis(truth_NV, metrics.top_classes(scores_NV, k), axis=1)


def tagging_figures(hits_NK: np.ndarray, n_true_N: np.ndarray, ks: Sequence[int] = KS) -> dict[str, Any]:
    """Return precision and recall at k with their 95 % intervals, over the images that have a word.

    Args:
        hits_NK: Boolean, whether each of the best words is in the image's captions, the best first.
        n_true_N: How many words its captions have.
        ks: Numbers of words given.
    """
    hits, n_true = hits_NK[n_true_N > 0].astype(np.float64), n_true_N[n_true_N > 0]
    figures: dict[str, Any] = {"n": len(n_true)}
    if not len(n_true):
        return figures
    shares = [hits[:, :k].mean(axis=1) for k in ks] + [hits[:, :k].sum(axis=1) / n_true for k in ks]
    names = [f"{what}@{k}" for what in ("precision", "recall") for k in ks]
    for name, share_N in zip(names, shares, strict=True):
        figures |= with_interval(name, float(share_N.mean()), metrics.mean_interval(share_N))
    return figures


def word_precision(scores_NV: np.ndarray, truth_NV: np.ndarray) -> np.ndarray:
    """Return the average precision of each word, (V,); NaN with fewer than MIN_POSITIVE images."""
    from sklearn.metrics import average_precision_score

    found = np.full(truth_NV.shape[1], np.nan)
    for word in np.flatnonzero(truth_NV.sum(axis=0) >= MIN_POSITIVE):
        found[word] = average_precision_score(truth_NV[:, word], scores_NV[:, word])
    return found


def by_frequency(precision_V: np.ndarray, df_V: np.ndarray) -> dict[str, Any]:
    """Return the mean average precision of frequent and of rare words (`word_ranks`).

    Args:
        precision_V: Average precision of each word, NaN where there is none.
        df_V: In how many training samples each word occurs.

    Returns:
        ap_head, ap_middle, ap_tail (None without a word); ap_macro, the mean of those that there are; n_words of each part.
    """
    figures: dict[str, Any] = {}
    for name, part in word_ranks(df_V):
        known = precision_V[part]
        known = known[~np.isnan(known)]
        figures[f"n_words_{name}"] = len(known)
        figures[f"ap_{name}"] = float(known.mean()) if len(known) else None
    parts = [figures[f"ap_{name}"] for name in PARTS if figures[f"ap_{name}"] is not None]
    return figures | {"ap_macro": float(np.mean(parts)) if parts else None}
