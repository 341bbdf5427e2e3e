"""Retrieval and tagging against counts by hand and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from fistful.eval.retrieval import retrieval_recall
from fistful.eval.tagging import tagging_figures, word_precision


def test_retrieval_counts_the_best_of_several_captions():
    images = np.eye(3, dtype=np.float32)
    captions = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.1], [0, 0.9, 1]], np.float32)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    found = retrieval_recall(images, captions, np.array([0, 0, 1, 2]), ks=(1, 2))
    # Caption 1 belongs to image 0 but points at image 1; image 1's own caption comes second to it.
    assert found == {
        "text_to_image_R@1": 0.75,
        "text_to_image_R@2": 0.75,
        "image_to_text_R@1": pytest.approx(2 / 3),
        "image_to_text_R@2": 1.0,
    }


def test_a_model_that_says_the_same_of_everything_retrieves_nothing():
    same = np.ones((20, 4), np.float32) / 2
    found = retrieval_recall(same, same, np.arange(20))
    assert set(found.values()) == {0.0}


def test_retrieval_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    images, captions = rng.normal(size=(30, 8)), rng.normal(size=(70, 8))
    owner = np.concatenate([np.arange(30), rng.integers(0, 30, 40)])
    found = retrieval_recall(images, captions, owner, ks=(5,))
    scores = captions @ images.T
    expected = np.mean([owner[i] in np.argsort(-scores[i])[:5] for i in range(70)])
    other = np.mean([any(owner[j] == i for j in np.argsort(-scores[:, i])[:5]) for i in range(30)])
    assert (found["text_to_image_R@5"], found["image_to_text_R@5"]) == (expected, other)


def test_tagging_counts_words_of_the_captions_by_frequency():
    truth = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[3, 2, 1], [1, 3, 2], [3, 1, 2], [1, 2, 3], [1, 2, 3]], float)
    figures = tagging_figures(scores, truth, np.array([9, 5, 1]), ks=(1, 2))
    assert (figures["n"], figures["precision@1"], figures["precision@2"]) == (4, 0.5, 0.625)
    assert figures["recall@2"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert (figures["n_words_head"], figures["n_words_tail"], figures["ap_tail"]) == (1, 0, None)
    assert figures["ap_macro"] == figures["ap_head"] == pytest.approx(word_precision(scores[:4], truth[:4])[0])
