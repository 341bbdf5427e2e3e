"""Draws: pure functions of seed, sample, word and epoch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.balance import keep_as_u32
from fistful.bow.draw import ALWAYS, draw_bags, draw_pairs, draw_some, draw_u32, mix64, mix_all, number_of_key, sample_key, sample_number
from fistful.bow.ragged import Ragged
from tests.support.strategies import make_ragged, ragged, rows_of

N_WORDS = 8
SOMETIMES = st.integers(0, 2**32 - 1)
KEEPS = st.lists(st.one_of(SOMETIMES, st.sampled_from([0, 2**31, 2**32 - 1])), min_size=N_WORDS, max_size=N_WORDS)
SEEDS = st.integers(0, 2**31)


def draw(rows: list[list[int]], keep: list[int], seed: int = 0, first: int = 0, blind: bool = False) -> tuple[list[list[int]], list[bool]]:
    samples = sample_number(0, np.arange(first, first + len(rows)))
    bags, emptied = draw_bags(make_ragged(rows), samples, np.array(keep, np.uint32), seed, blind=blind)
    return rows_of(bags), emptied.tolist()


def test_words_of_probability_one_stay_and_words_of_probability_zero_go() -> None:
    keep = keep_as_u32(np.array([1.0, 0.0, 1.0])).tolist()
    assert draw([[2, 1, 0], [1, 2], []], keep) == ([[2, 0], [2], []], [False, False, False])


def test_an_emptied_bag_keeps_the_word_of_largest_probability_and_of_equals_the_rarer() -> None:
    keep = [0, 1, 1, 0]  # 1 is one chance in 2**32; a vocabulary falls by df, so that the greater id is rarer
    assert draw([[0, 1], [2, 1], [3, 0], []], keep) == ([[1], [2], [3], []], [True, True, True, False])


def test_a_blind_rule_draws_the_word_that_an_emptied_bag_keeps() -> None:
    n = 30_000
    bags = Ragged(np.arange(n + 1) * 3, np.tile([5, 0, 2], n))
    drawn, emptied = draw_bags(bags, sample_number(0, np.arange(n)), np.full(N_WORDS, 2**30, np.uint32), seed=1, blind=True)
    assert emptied.mean() == pytest.approx(0.75**3, abs=0.01)
    left = drawn.take(emptied[drawn.rows()])
    assert left.lengths().tolist() == emptied.astype(int).tolist()
    assert np.bincount(left.values)[[0, 2, 5]] / emptied.sum() == pytest.approx([1 / 3] * 3, abs=0.015)


@given(ragged(N_WORDS), KEEPS, SEEDS)
def test_a_drawn_bag_is_a_subset_in_order_and_never_empty(bags: Ragged, keep: list[int], seed: int) -> None:
    before = rows_of(bags)
    after, emptied = draw(before, keep, seed)

    for full, drawn, was_emptied in zip(before, after, emptied, strict=True):
        assert drawn == [word for word in full if word in drawn]
        assert bool(drawn) == bool(full)
        if was_emptied:
            best = max(keep[word] for word in full)
            assert drawn == [max(word for word in full if keep[word] == best)]
        else:
            assert [word for word in full if keep[word] == 2**32 - 1] == [word for word in drawn if keep[word] == 2**32 - 1]
            assert not [word for word in drawn if keep[word] == 0]


@given(ragged(N_WORDS), st.one_of(KEEPS, st.integers(0, 2**32 - 1)), SEEDS)
def test_neither_order_nor_company_changes_a_draw(bags: Ragged, keep: list[int] | int, seed: int) -> None:
    rows, blind = rows_of(bags), isinstance(keep, int)
    keep = [keep] * N_WORDS if isinstance(keep, int) else keep
    together, _ = draw(rows, keep, seed, blind=blind)

    assert [draw([row], keep, seed, first=i, blind=blind)[0][0] for i, row in enumerate(rows)] == together
    turned = [row[::-1] for row in rows]
    assert [sorted(row) for row in draw(turned, keep, seed, blind=blind)[0]] == [sorted(row) for row in together]


@pytest.mark.parametrize("probability", [0.01, 0.25, 0.5, 0.9])
def test_words_are_kept_as_often_as_their_probability_says(probability: float) -> None:
    n = 100_000
    samples = np.arange(n, dtype=np.uint64)
    drawn = draw_u32(7, samples, np.full(n, 3), 0) < keep_as_u32(np.array([probability]))[0]
    error = math.sqrt(probability * (1 - probability) / n)
    assert abs(drawn.mean() - probability) < 4 * error


def test_samples_words_epochs_and_seeds_draw_independently() -> None:
    n = 50_000
    samples, words = np.arange(n, dtype=np.uint64), np.arange(n) % 7
    base = draw_u32(0, samples, words, 0).astype(float)
    others = [
        draw_u32(1, samples, words, 0),
        draw_u32(0, samples + np.uint64(1), words, 0),
        draw_u32(0, samples, words + 1, 0),
        draw_u32(0, samples, words, 1),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other.astype(float))[0, 1]) < 4 / math.sqrt(n)


def whole_number_mix(*parts: int) -> int:
    """SplitMix64's finaliser in Python's whole numbers, a part after the other."""
    state, top = 0, 2**64
    for part in parts:
        x = ((state ^ part) + 0x9E3779B97F4A7C15) % top
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % top
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % top
        state = x ^ (x >> 31)
    return state


@given(SEEDS, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 1_000))
def test_draws_are_the_same_on_every_machine(seed: int, sample: int, word: int, epoch: int) -> None:
    drawn = draw_u32(seed, np.array([sample], np.uint64), np.array([word]), epoch)
    assert drawn.tolist() == [whole_number_mix(seed, sample, word, epoch) >> 32]


def test_draws_stay_what_they_were() -> None:
    # another number would mean that every folder ever written would come out differently
    assert mix_all(0).item() == 0xE220A8397B1DCDAF  # the first number of SplitMix64 from 0, as its authors print it
    assert mix64(np.uint64(1), np.uint64(2)).item() == 2092789425003139053


def test_a_key_names_the_sample_and_gives_its_number_back() -> None:
    assert sample_key(3, 14) == "00003_0000014"
    assert sample_number(3, 14).item() == number_of_key("00003_0000014") == 3 * 2**32 + 14
    assert number_of_key(sample_key(123_456, 23_456_789)) == 123_456 * 2**32 + 23_456_789
    assert ALWAYS == 2**32 - 1


WEIGHTS = keep_as_u32(np.array([0.1, 1.0, 0.5, 1.0, 0.01, 1.0, 0.2, 0.7]))


@given(ragged(N_WORDS), st.integers(1, 6), st.integers(0, 3))
def test_a_budget_leaves_so_many_words_of_each_bag_in_order(bags: Ragged, n_words: int, epoch: int) -> None:
    samples = sample_number(0, np.arange(len(bags)))
    drawn = draw_some(bags, samples, WEIGHTS, n_words, seed=1, epoch=epoch)
    assert drawn.lengths().tolist() == np.minimum(bags.lengths(), n_words).tolist()
    for whole, part in zip(bags, drawn, strict=True):
        assert [w for w in whole.tolist() if w in set(part.tolist())] == part.tolist()


def test_a_budget_draws_with_the_odds_of_the_weights() -> None:
    n = 40_000
    bags = Ragged(np.arange(n + 1) * 2, np.tile([1, 2], n))  # weights 1 and .5: the first is drawn 2 of 3 times
    drawn = draw_some(bags, sample_number(0, np.arange(n)), WEIGHTS, 1, seed=3)
    assert (drawn.values == 1).mean() == pytest.approx(2 / 3, abs=0.01)


def test_a_pair_stays_if_any_of_its_words_is_drawn() -> None:
    n = 40_000
    bags = Ragged(np.arange(n + 1) * 2, np.tile([2, 6], n))  # 1 - .5 * .8 = .6
    assert draw_pairs(bags, sample_number(0, np.arange(n)), WEIGHTS, seed=3).mean() == pytest.approx(0.6, abs=0.01)
