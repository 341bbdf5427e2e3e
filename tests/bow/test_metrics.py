"""Ranks, recalls and intervals against hand counts and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.metrics import bootstrap, interval, per_class_recall, ratio_interval, resamples, top_classes, true_ranks, wilson


def test_ties_go_to_the_smaller_class():
    scores = np.array([[1.0, 2.0, 2.0, 0.0]] * 4)
    assert true_ranks(scores, np.array([0, 1, 2, 3])).tolist() == [2, 0, 1, 3]
    assert top_classes(scores, 3)[0].tolist() == [1, 2, 0]


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=9))
def test_the_rank_is_the_place_among_the_best_classes(rows):
    scores = np.array(rows, dtype=np.float32)
    best = top_classes(scores, 4)
    for label in range(4):
        ranks = true_ranks(scores, np.full(len(rows), label))
        assert all(best[i, rank] == label for i, rank in enumerate(ranks))


def test_recall_of_a_class_without_samples_is_not_a_number():
    n, recall = per_class_recall(np.array([1, 0, 1.0]), np.array([0, 0, 2]), 3)
    assert n.tolist() == [2, 0, 1]
    assert np.isnan(recall[1])
    assert recall[[0, 2]].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (57, 1000)])
def test_wilson_equals_scipys(k, n):
    from scipy.stats import binomtest

    expected = binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)


def test_resamples_are_the_same_whenever_they_are_drawn_and_hold_n_samples():
    first = np.array(list(resamples(50, seed=3, n_resamples=20)))
    assert (first == np.array(list(resamples(50, seed=3, n_resamples=20)))).all()
    assert (first.sum(axis=1) == 50).all()
    assert (first != np.array(list(resamples(50, seed=4, n_resamples=20)))).any()
    assert np.array(list(resamples(40, seed=1, n_resamples=4000))).mean(axis=0) == pytest.approx(np.ones(40), abs=0.1)


def test_the_bootstrap_interval_is_about_scipys():
    from scipy.stats import bootstrap as scipy_bootstrap

    right = (np.arange(500) % 3 == 0).astype(float)
    over_images, _ = bootstrap(right[:, None], np.zeros(500, int), seed=0, n_resamples=4000)
    expected = scipy_bootstrap((right,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert interval(over_images[:, 0]) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_class_means_of_resamples_leave_out_absent_classes():
    right, labels = np.array([[1.0], [1.0], [0.0]]), np.array([4, 4, 1])
    over_images, over_classes = bootstrap(right, labels, seed=0, n_resamples=200)
    counts = np.array(list(resamples(3, seed=0, n_resamples=200)))
    assert over_images[:, 0] == pytest.approx((counts @ right[:, 0]) / 3)
    expected = [1.0 if not c[2] else 0.0 if not c[0] + c[1] else 0.5 for c in counts]
    assert over_classes[:, 0].tolist() == expected


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        right = (rng.random(300) < 0.3).astype(float)
        over_images, _ = bootstrap(right[:, None], np.zeros(300, int), seed=seed, n_resamples=300)
        low, high = interval(over_images[:, 0])
        hits += low <= 0.3 <= high
    assert 88 <= hits <= 99


@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("alike", [1.0, 1e6])  # words of an image: all nearly equally likely right, or each by itself
def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says(n, alike):
    rng, held = np.random.default_rng(n), 0
    for _ in range(500):
        totals = rng.integers(1, 7, n)
        low, high = ratio_interval(rng.binomial(totals, rng.beta(0.3 * alike, 0.7 * alike, n)), totals)
        held += low <= 0.3 <= high
    assert held >= 0.93 * 500


def test_the_interval_of_a_ratio_by_hand():
    one = np.ones(40, int)
    assert ratio_interval(one[:1], one[:1]) == (0.0, 1.0)
    assert ratio_interval(np.zeros(3), np.zeros(3)) == (0.0, 1.0)
    assert ratio_interval(np.arange(40) < 10, one) == pytest.approx(wilson(10, 40), abs=0.02)  # one word an image: a share of images
    few, many = ratio_interval(np.arange(40) < 10, one), ratio_interval(9 * (np.arange(40) < 10), 9 * one)
    assert many == pytest.approx(few)  # nine words that are right together say no more than one
    low, high = ratio_interval(3 * one, 3 * one)
    assert 0.85 < low < high == 1.0  # all right: a width is left
