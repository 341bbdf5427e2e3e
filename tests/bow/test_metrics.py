"""Ranks, recalls and intervals against hand counts and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.metrics import (
    class_mean_interval,
    mcnemar,
    mean_interval,
    paired_class_mean_interval,
    paired_interval,
    paired_ratio_interval,
    per_class_recall,
    ratio_interval,
    student_interval,
    told_apart,
    top_classes,
    true_ranks,
    wilson,
)


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


def test_a_share_of_several_things_an_image_is_as_sure_as_its_images_are():
    alone = np.array([1, 0, 1, 1, 0, 1, 0, 1] * 5)
    low, high = ratio_interval(alone, np.ones(40))
    assert (low, high) == pytest.approx(wilson(25, 40), abs=0.01)  # of Student's t, as if the spread were not known
    assert ratio_interval(alone * 4, np.full(40, 4)) == (low, high)  # four of one image say no more than one
    spread = np.array([1, 2, 3, 2] * 10)
    assert ratio_interval(spread, np.full(40, 4))[1] - ratio_interval(spread, np.full(40, 4))[0] < high - low
    assert ratio_interval(np.array([3]), np.array([3])) == (0.0, 1.0)


def test_the_mean_over_classes_is_as_sure_as_the_share_where_classes_are_alike():
    labels = np.repeat(np.arange(4), 25)
    right = np.tile([1.0, 0.0, 1.0, 1.0, 0.0], 20)
    assert class_mean_interval(right, labels) == pytest.approx(wilson(60, 100), abs=0.01)
    assert class_mean_interval(np.ones(100), labels) == wilson(100, 100)
    one_small = np.repeat([0, 1], [99, 1])  # the mean over classes then rests on one image by half
    assert class_mean_interval(np.ones(100), one_small) == wilson(4 / (1 / 99 + 1), 4 / (1 / 99 + 1))


def test_the_mean_of_shares_is_student_and_wilson():
    low, high = mean_interval(np.array([0.25, 0.5, 0.75] * 30))
    half = 1.987 * np.std([0.25, 0.5, 0.75] * 30, ddof=1) / np.sqrt(90)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.001)
    assert mean_interval(np.array([0.4])) == (0.0, 1.0)


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


def test_mcnemar_is_scipys_binomial_test():
    from scipy.stats import binomtest

    for only in ((0, 0), (0, 4), (5, 0), (3, 9), (7, 7), (10, 30)):
        assert mcnemar(*only) == pytest.approx(binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0)


def test_a_paired_interval_is_tangos():
    # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33: of 21 pairs 7 and 1 disagree; Tango's is -.517 to -.026
    low, high = paired_interval(7, 1, 21)
    assert low == pytest.approx(-0.517, abs=5e-4)
    assert high == 0  # for McNemar's exact p is .07
    assert paired_interval(0, 0, 100) == pytest.approx((-3.8415 / 103.8415, 3.8415 / 103.8415), abs=1e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_an_interval_tells_apart_what_the_exact_test_tells_apart_and_holds_its_difference(only_first, only_second, others):
    n = only_first + only_second + others
    if not n:
        return
    low, high = paired_interval(only_first, only_second, n)
    assert told_apart(low, high) == (mcnemar(only_first, only_second) < 0.05)
    assert -1 <= low <= (only_second - only_first) / n <= high <= 1
    assert low < high
    assert (-high, -low) == pytest.approx(paired_interval(only_second, only_first, n), abs=1e-9)


def test_four_images_of_a_thousand_do_not_put_a_model_ahead():
    assert not told_apart(*paired_interval(0, 4, 1000))
    assert not told_apart(*paired_interval(0, 5, 5))
    assert told_apart(*paired_interval(0, 6, 1000))


def test_captions_of_one_image_are_one_witness():
    images = np.zeros(60)
    won, three = images.copy(), np.full(60, 3.0)
    won[:6] = 3  # six images, all their captions: six witnesses, not eighteen
    low, high = paired_ratio_interval(images, won, three)
    assert (low, high) == pytest.approx(paired_interval(0, 6, 60), abs=0.03)
    won[4:] = 0
    assert not told_apart(*paired_ratio_interval(images, won, three))
    assert paired_ratio_interval(images[:1], won[:1], three[:1]) == (-1.0, 1.0)


def test_the_difference_of_class_means_is_the_paired_one_where_classes_are_alike():
    labels, gains = np.arange(120) % 4, np.repeat([1.0, -1.0, 0.0], [20, 8, 92])
    assert paired_class_mean_interval(gains, labels) == pytest.approx(paired_interval(8, 20, 120), abs=0.01)
    assert paired_class_mean_interval(np.zeros(120), labels) == pytest.approx(paired_interval(0, 0, 120))


def test_no_interval_over_seeds_of_which_all_say_the_same():
    assert student_interval(np.array([0.5])) is student_interval(np.array([0.5, 0.5, 0.5])) is None
    assert student_interval(np.array([0.1, 0.3])) == pytest.approx((0.2 - 12.7062 * 0.1, 0.2 + 12.7062 * 0.1), abs=1e-4)
