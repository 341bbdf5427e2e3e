"""Balancing rules, by hand and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.balance import Balance, cap_for_kept, effective_words, keep_as_u32, kept_fraction
from fistful.errors import UsageError
from tests.strategies import document_frequencies

DF = np.array([400, 100, 50, 50, 10])
KEPT = st.floats(0.01, 1.0)


def test_rules_by_hand() -> None:
    assert Balance().keep_probabilities(DF).tolist() == [1, 1, 1, 1, 1]
    assert Balance(rule="top_k", threshold=2).keep_probabilities(DF).tolist() == [0, 0, 1, 1, 1]
    assert Balance(rule="cap", threshold=50).keep_probabilities(DF).tolist() == [0.125, 0.5, 1, 1, 1]
    assert Balance(rule="random", kept=0.25).keep_probabilities(DF).tolist() == [0.25] * 5


def test_a_cap_for_a_kept_fraction_by_hand() -> None:
    # half of 610 is 305; 10 + 50 + 50 = 110 lie below the cap, and 195 are left for the two others: 97.5 each
    assert cap_for_kept(DF, 0.5) == 97.5
    assert Balance(rule="cap", kept=0.5).keep_probabilities(DF).tolist() == [97.5 / 400, 0.975, 1, 1, 1]


def test_of_words_equally_frequent_top_k_drops_those_first_in_the_alphabet() -> None:
    # words come by falling df and then by word, so that the place decides
    assert Balance(rule="top_k", threshold=3).keep_probabilities(DF).tolist() == [0, 0, 0, 1, 1]


def test_no_words_need_no_balance() -> None:
    none = np.zeros(0, np.int64)
    for rule in (Balance(), Balance(rule="cap", kept=0.5), Balance(rule="top_k", threshold=3), Balance(rule="random", kept=0.5)):
        assert rule.keep_probabilities(none).tolist() == []
    assert (kept_fraction(none, none.astype(float)), effective_words(none, none.astype(float))) == (1.0, 1.0)


@given(document_frequencies(), KEPT)
def test_cap_and_random_keep_exactly_the_fraction_asked(df: np.ndarray, kept: float) -> None:
    for rule in (Balance(rule="cap", kept=kept), Balance(rule="random", kept=kept)):
        assert kept_fraction(df, rule.keep_probabilities(df)) == pytest.approx(kept, rel=1e-12)


@given(document_frequencies(), KEPT, st.data())
def test_no_rule_that_keeps_as_much_has_more_effective_words_than_cap(df: np.ndarray, kept: float, data: st.DataObject) -> None:
    cap = Balance(rule="cap", kept=kept).keep_probabilities(df)
    other = np.array(data.draw(st.lists(st.floats(0.001, 1.0), min_size=len(df), max_size=len(df))))
    # bring the other rule to the same kept fraction: scale, clip, and scale what is not clipped, until it fits
    for _ in range(200):
        other = np.minimum(1.0, other * kept * df.sum() / (df * other).sum())
    if kept_fraction(df, other) == pytest.approx(kept, rel=1e-9):
        assert effective_words(df, other) <= effective_words(df, cap) * (1 + 1e-9)


@given(document_frequencies(), st.floats(0.5, 1e6))
def test_a_cap_never_raises_a_word_above_its_threshold(df: np.ndarray, threshold: float) -> None:
    keep = Balance(rule="cap", threshold=threshold).keep_probabilities(df)
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
        ({"rule": "caps"}, "--rule caps: expected one of none, top_k, cap, random"),
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
