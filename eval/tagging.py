"""Tagging: are the words that a model gives an image those of its captions? Numpy in, numpy out.

Shape suffixes: N images, V words, K best words. Captions name only a part of what an image shows,
so precision here is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.bow import metrics

KS = (1, 3, 5, 10)
N_HEAD, N_MIDDLE = 50, 250
"""Words by falling frequency: the first 50 are the head, the next 250 the middle, the rest the tail."""

MIN_POSITIVE = 3
"""Words with fewer images than this have no average precision worth the name."""


def tagging_figures(scores_NV: np.ndarray, truth_NV: np.ndarray, df_V: np.ndarray, ks: Sequence[int] = KS) -> dict[str, Any]:
    """Return precision and recall at k, and average precision by word frequency.

    Args:
        scores_NV: Of each word for each image.
        truth_NV: Boolean, whether the word is in the image's captions.
        df_V: In how many training samples each word occurs.
        ks: Numbers of words given.

    Returns:
        precision@k and recall@k over images that have a word; ap_head, ap_middle, ap_tail: mean
        average precision of the words with at least MIN_POSITIVE images; ap_macro: mean of the three
        (of those that there are); n_words of each part.
    """
    has_word = truth_NV.any(axis=1)
    scores_NV, truth_NV = scores_NV[has_word], truth_NV[has_word]
    hits_NK = np.take_along_axis(truth_NV, metrics.top_classes(scores_NV, max(ks)), axis=1)
    n_true = truth_NV.sum(axis=1)
    figures: dict[str, Any] = {"n": int(has_word.sum())}
    for k in ks:
        figures[f"precision@{k}"] = float(hits_NK[:, :k].mean())
        figures[f"recall@{k}"] = float((hits_NK[:, :k].sum(axis=1) / n_true).mean())
    return figures | _by_frequency(word_precision(scores_NV, truth_NV), df_V)


def word_precision(scores_NV: np.ndarray, truth_NV: np.ndarray) -> np.ndarray:
    """Return the average precision of each word, (V,); NaN with fewer than MIN_POSITIVE images."""
    from sklearn.metrics import average_precision_score

    found = np.full(truth_NV.shape[1], np.nan)
    for word in np.flatnonzero(truth_NV.sum(axis=0) >= MIN_POSITIVE):
        found[word] = average_precision_score(truth_NV[:, word], scores_NV[:, word])
    return found


def _by_frequency(precision_V: np.ndarray, df_V: np.ndarray) -> dict[str, Any]:
    order = np.lexsort((np.arange(len(df_V)), -df_V))
    edges = (0, N_HEAD, N_HEAD + N_MIDDLE, len(order))
    figures: dict[str, Any] = {}
    for name, start, stop in zip(("head", "middle", "tail"), edges[:-1], edges[1:], strict=True):
        known = precision_V[order[start:stop]]
        known = known[~np.isnan(known)]
        figures[f"n_words_{name}"] = len(known)
        figures[f"ap_{name}"] = float(known.mean()) if len(known) else None
    parts = [figures[f"ap_{name}"] for name in ("head", "middle", "tail") if figures[f"ap_{name}"] is not None]
    return figures | {"ap_macro": float(np.mean(parts)) if parts else None}
