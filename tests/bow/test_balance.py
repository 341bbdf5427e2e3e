"""Balancing rules, by hand and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.balance import Balance, cap_for_kept, effective_words, keep_as_u32, kept_fraction
from fistful.errors import UsageError
from tests.support.strategies import document_frequencies

DF = np.array([400, 100, 50, 50, 10])
KEPT = st.floats(0.01, 1.0)


def test_rules_by_hand() -> None:
    assert Balance().keep_probabilities(DF, 1000).tolist() == [1, 1, 1, 1, 1]
    assert Balance(rule="top_k", threshold=2).keep_probabilities(DF, 1000).tolist() == [0, 0, 1, 1, 1]
    assert Balance(rule="cap", threshold=50).keep_probabilities(DF, 1000).tolist() == [0.125, 0.5, 1, 1, 1]
    assert Balance(rule="random", kept=0.25).keep_probabilities(DF, 1000).tolist() == [0.25] * 5


def test_a_cap_for_a_kept_fraction_by_hand() -> None:
    # half of 610 is 305; 10 + 50 + 50 = 110 lie below the cap, and 195 are left for the two others: 97.5 each
    assert cap_for_kept(DF, 0.5) == 97.5
    assert Balance(rule="cap", kept=0.5).keep_probabilities(DF, 1000).tolist() == [97.5 / 400, 0.975, 1, 1, 1]


def test_of_words_equally_frequent_top_k_drops_those_first_in_the_alphabet() -> None:
    # words come by falling df and then by word, so that the place decides
    assert Balance(rule="top_k", threshold=3).keep_probabilities(DF, 1000).tolist() == [0, 0, 0, 1, 1]


def test_no_words_need_no_balance() -> None:
    none = np.zeros(0, np.int64)
    for rule in (Balance(), Balance(rule="cap", kept=0.5), Balance(rule="top_k", threshold=3), Balance(rule="random", kept=0.5)):
        assert rule.keep_probabilities(none, 0).tolist() == []
    assert (kept_fraction(none, none.astype(float)), effective_words(none, none.astype(float))) == (1.0, 1.0)


@given(document_frequencies(), KEPT)
def test_cap_and_random_keep_exactly_the_fraction_asked(df: np.ndarray, kept: float) -> None:
    for rule in (Balance(rule="cap", kept=kept), Balance(rule="random", kept=kept)):
        assert kept_fraction(df, rule.keep_probabilities(df, 1000)) == pytest.approx(kept, rel=1e-12)


@given(document_frequencies(), KEPT, st.data())
def test_no_rule_that_keeps_as_much_has_more_effective_words_than_cap(df: np.ndarray, kept: float, data: st.DataObject) -> None:
    cap = Balance(rule="cap", kept=kept).keep_probabilities(df, 1000)
    other = np.array(data.draw(st.lists(st.floats(0.001, 1.0), min_size=len(df), max_size=len(df))))
    # bring the other rule to the same kept fraction: scale, clip, and scale what is not clipped, until it fits
    for _ in range(200):
        other = np.minimum(1.0, other * kept * df.sum() / (df * other).sum())
    if kept_fraction(df, other) == pytest.approx(kept, rel=1e-9):
        assert effective_words(df, other) <= effective_words(df, cap) * (1 + 1e-9)


@given(document_frequencies(), st.floats(0.5, 1e6))
def test_a_cap_never_raises_a_word_above_its_threshold(df: np.ndarray, threshold: float) -> None:
    keep = Balance(rule="cap", threshold=threshold).keep_probabilities(df, 1000)
    assert ((df * keep) <= threshold * (1 + 1e-12)).all()
    assert ((keep == 1) == (df <= threshold)).all()


def test_probabilities_become_whole_numbers_that_saturate() -> None:
    assert keep_as_u32(np.array([0.0, 2.0**-33, 2.0**-32, 0.5, 1 - 2.0**-33, 1.0])).tolist() == [0, 0, 1, 2**31, 2**32 - 1, 2**32 - 1]


def test_effective_words_by_hand() -> None:
    assert effective_words(np.array([5, 5, 5, 5]), np.ones(4)) == pytest.approx(4)
    assert effective_words(np.array([9, 5]), np.array([0.0, 1.0])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "caps"}, "--rule caps: expected one of none, top_k, power, w2v, cap, budget, random, auto"),
        ({"rule": "cap"}, "--rule cap: needs --threshold or --kept, found none"),
        ({"rule": "cap", "threshold": 5.0, "kept": 0.5}, "--rule cap: needs --threshold or --kept, found --threshold and --kept"),
        ({"rule": "top_k", "kept": 0.5}, "--rule top_k: needs --threshold, found --kept"),
        ({"rule": "random"}, "--rule random: needs --kept, found none"),
        ({"kept": 0.5}, "--rule none: needs no further option, found --kept"),
        ({"rule": "cap", "threshold": 0.0}, "--threshold 0.0: expected a number above 0"),
        ({"rule": "cap", "threshold": float("inf")}, "--threshold inf: expected a number above 0"),
        ({"rule": "cap", "threshold": float("nan")}, "--threshold nan: expected a number above 0"),
        ({"rule": "top_k", "threshold": 2.5}, "--threshold 2.5: --rule top_k drops a whole number of words"),
        ({"rule": "cap", "kept": 1.5}, "--kept 1.5: expected a fraction above 0, at most 1"),
        ({"rule": "random", "kept": float("nan")}, "--kept nan: expected a fraction above 0, at most 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Balance(**options)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


def test_power_w2v_and_cap_by_hand() -> None:
    # shares of 610: 400 is .656; with t = .164 its square root of a quarter is a half
    assert Balance(rule="w2v", threshold=100 / 610).keep_probabilities(DF, 1000).tolist() == pytest.approx([0.5, 1, 1, 1, 1])
    assert Balance(rule="power", threshold=100 / 610, alpha=1).keep_probabilities(DF, 1000)[0] == pytest.approx(0.25)
    assert Balance(rule="power", threshold=0.1, alpha=0).keep_probabilities(DF, 1000).tolist() == [1] * 5


def test_auto_keeps_a_half_of_long_bags_and_more_of_short_ones() -> None:
    # 610 words in 50 samples: 12 a bag, .5^12 are emptied; in 305 samples: 2 a bag, .1^2 = .01 are emptied when .9 stay
    assert kept_fraction(DF, Balance(rule="auto").keep_probabilities(DF, 50)) == pytest.approx(0.5)
    assert kept_fraction(DF, Balance(rule="auto").keep_probabilities(DF, 305)) == pytest.approx(0.9)


@given(document_frequencies(), st.floats(0.3, 1.0), st.sampled_from([0.25, 0.5, 0.9]))
def test_a_power_solved_for_a_kept_fraction_keeps_it(df: np.ndarray, kept: float, alpha: float) -> None:
    keep = Balance(rule="power", kept=kept, alpha=alpha).keep_probabilities(df, 1000)
    assert kept_fraction(df, keep) == pytest.approx(kept, rel=1e-6)


def test_w2v_solved_for_a_kept_fraction_is_power_one_half() -> None:
    one, two = Balance(rule="w2v", kept=0.6), Balance(rule="power", alpha=0.5, kept=0.6)
    assert one.keep_probabilities(DF, 1000).tolist() == two.keep_probabilities(DF, 1000).tolist()


def test_budget_weighs_rare_words_more() -> None:
    assert Balance(rule="budget", n_words=2).keep_probabilities(DF, 1000).tolist() == pytest.approx(
        [0.158, 0.316, 0.447, 0.447, 1], abs=1e-3
    )
    assert Balance(rule="budget", n_words=2, alpha=0).keep_probabilities(DF, 1000).tolist() == [1] * 5


def test_thinning_whole_pairs_goes_with_no_budget() -> None:
    with pytest.raises(UsageError) as error:
        Balance(rule="budget", n_words=2, level="pair")
    assert str(error.value) == "--level pair: --rule budget draws words of a bag and cannot thin out whole samples; use --level word"
