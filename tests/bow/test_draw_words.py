"""Bags drawn from a label's shares, another one each epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.pseudo import draw_sizes_anew, draw_words
from fistful.bow.ragged import Ragged
from tests.support.strategies import make_ragged

MANY = 40_000
"""Draws of which a share is known to 0.0025 (one standard deviation)."""


def repeated(words: list[int], shares: list[float]) -> tuple[Ragged, np.ndarray]:
    """Return the same distribution MANY times."""
    return Ragged(np.arange(MANY + 1) * len(words), np.tile(words, MANY)), np.tile(np.array(shares, np.float32), MANY)


def test_another_bag_is_drawn_each_epoch_and_the_same_one_for_the_same_epoch() -> None:
    likely, shares = make_ragged([range(30)]), np.linspace(0.9, 0.1, 30)
    one = [draw_words(likely, shares, np.array([6]), np.array([7], np.uint64), 0, np.array([epoch])).values.tolist() for epoch in (0, 1, 0)]
    assert one[0] == one[2] != one[1]
    assert len(set(one[0])) == 6


@pytest.mark.parametrize("by", ["samples", "epochs"])
def test_words_are_drawn_without_replacement_by_the_odds_of_their_shares(by: str) -> None:
    """Of .6, .3, .1 two are drawn: .6 first with p = .6, then .3 with .3 / .4; and so on, by hand."""
    likely, shares = repeated([4, 8, 15], [0.6, 0.3, 0.1])
    one, all_ = np.zeros(MANY, np.int64), np.arange(MANY)
    samples, epochs = (all_, one) if by == "samples" else (one, all_)
    drawn = draw_words(likely, shares, np.full(MANY, 2), samples.astype(np.uint64), 3, epochs)
    first, second = drawn.values.reshape(-1, 2).T
    expected = {
        (4, 8): 0.6 * 0.3 / 0.4,
        (4, 15): 0.6 * 0.1 / 0.4,
        (8, 4): 0.3 * 0.6 / 0.7,
        (8, 15): 0.3 * 0.1 / 0.7,
        (15, 4): 0.1 * 0.6 / 0.9,
        (15, 8): 0.1 * 0.3 / 0.9,
    }
    for (a, b), share in expected.items():
        assert np.mean((first == a) & (second == b)) == pytest.approx(share, abs=0.01)


def test_words_that_are_sure_are_in_each_bag_as_far_as_they_fit() -> None:
    likely, shares = repeated([4, 8, 15, 16], [1.0, 1.0, 0.99, 0.9])
    samples, epochs = np.arange(MANY, dtype=np.uint64), np.zeros(MANY, np.int64)
    three, one = (draw_words(likely, shares, np.full(MANY, n), samples, 3, epochs).values.reshape(-1, n) for n in (3, 1))
    assert (np.sort(three, axis=1)[:, :2] == [4, 8]).all()
    assert np.mean(one == 4) == pytest.approx(0.5, abs=0.01)
    assert set(one.ravel().tolist()) == {4, 8}


bags = st.lists(st.dictionaries(st.integers(0, 50), st.floats(6e-8, 1.0), max_size=12), min_size=1, max_size=6)


@given(bags, st.integers(0, 2**63 - 1), st.lists(st.integers(1, 9), min_size=6, max_size=6), st.integers(0, 99))
def test_a_bag_has_as_many_different_words_as_asked_for_and_does_not_depend_on_its_neighbours(rows, seed, sizes, epoch) -> None:
    n = len(rows)
    likely, shares = make_ragged([list(row) for row in rows]), np.array([x for row in rows for x in row.values()], np.float32)
    sizes_n, samples, epochs = np.array(sizes[:n]), np.arange(n, dtype=np.uint64) * np.uint64(2**33), np.arange(n) + epoch
    drawn = draw_words(likely, shares, sizes_n, samples, seed, epochs)
    for i, (row, bag) in enumerate(zip(rows, drawn, strict=True)):
        assert len(bag) == len(set(bag.tolist())) == min(len(row), sizes_n[i])
        assert set(bag.tolist()) <= row.keys()
        alone = make_ragged([list(row)]), np.array([*row.values()], np.float32)
        assert draw_words(*alone, sizes_n[[i]], samples[[i]], seed, epochs[[i]]).values.tolist() == bag.tolist()


@given(bags, st.integers(0, 99))
def test_the_words_drawn_are_the_first_in_a_race_of_all_words(rows, epoch) -> None:
    """A bag of n words is the beginning of the bag of all words, however few of a long row are looked at."""
    n = len(rows)
    likely, shares = make_ragged([list(row) for row in rows]), np.array([x for row in rows for x in row.values()], np.float32)
    samples, epochs = np.arange(n, dtype=np.uint64), np.full(n, epoch)
    whole = draw_words(likely, shares, np.full(n, 99), samples, 1, epochs)
    some = draw_words(likely, shares, np.arange(n), samples, 1, epochs)
    assert [bag.tolist() for bag in some] == [bag.tolist()[:size] for size, bag in enumerate(whole)]


def test_sizes_are_those_of_real_bags_as_often_as_they_occur_there() -> None:
    rising, samples = np.array([2, 3, 3, 9]), np.arange(MANY, dtype=np.uint64)
    sizes = draw_sizes_anew(rising, samples, 0, np.zeros(MANY, np.int64))
    assert [np.mean(sizes == size) for size in (2, 3, 9)] == pytest.approx([0.25, 0.5, 0.25], abs=0.01)
    again = draw_sizes_anew(rising, samples, 0, np.ones(MANY, np.int64))
    assert np.mean(sizes == again) == pytest.approx(0.25**2 + 0.5**2 + 0.25**2, abs=0.01)  # another epoch knows nothing of this one
