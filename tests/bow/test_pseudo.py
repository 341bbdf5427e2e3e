"""Pseudo-labels, the pure part: votes, means, sizes, choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.draw import held_out, mix_all, sample_number
from fistful.bow.pseudo import Candidates, are_right, draw_sizes, mean_of, ranked, side_by_side, stacked, take_best, top_words, vote
from fistful.bow.ragged import Ragged
from tests.support.strategies import make_ragged, ragged


def candidates(rows: list[list[tuple[int, float]]]) -> Candidates:
    return Candidates(make_ragged([[word for word, _ in row] for row in rows]), np.array([score for row in rows for _, score in row]))


def pairs(found: Candidates) -> list[list[tuple[int, float]]]:
    scores = iter(found.scores.tolist())
    return [[(int(word), next(scores)) for word in row] for row in found.words]


def test_neighbours_vote_for_the_words_of_their_bags() -> None:
    bags = make_ragged([[0, 1], [1, 2], [3]])
    # equal cosines: each of two neighbours has half a vote; word 1 has both
    found = vote(np.array([[0, 1]]), np.array([[0.8, 0.8]]), bags, temperature=0.05)
    assert pairs(found) == [[(1, 1.0), (0, 0.5), (2, 0.5)]]


def test_at_a_small_temperature_the_nearest_neighbour_decides() -> None:
    found = vote(np.array([[2, 0]]), np.array([[0.9, 0.4]]), make_ragged([[0, 1], [], [3]]), temperature=0.01)
    assert pairs(found)[0][0] == (3, 1.0)
    assert [score for _, score in pairs(found)[0][1:]] == [0.0, 0.0]


def test_missing_neighbours_and_empty_bags_give_no_words() -> None:
    bags = make_ragged([[], [5]])
    assert pairs(vote(np.array([[0, -1], [1, -1]]), np.array([[0.9, -1.0], [0.9, -1.0]]), bags, 0.05)) == [[], [(5, 1.0)]]


def test_the_best_words_come_first_and_of_equals_the_smaller_id() -> None:
    found = top_words(np.array([[0.01, 0.2, 0.2, 0.59]]), limit=3)
    assert pairs(found) == [[(3, round(np.log(0.59), 4)), (1, round(np.log(0.2), 4)), (2, round(np.log(0.2), 4))]]


def test_a_mean_of_sources_knows_what_any_of_them_names() -> None:
    found = mean_of([candidates([[(0, 0.5), (3, 0.2)], []]), candidates([[(3, 0.6)], [(1, 0.1)]])])
    assert pairs(found) == [[(3, 0.4), (0, 0.25)], [(1, 0.05)]]


def test_shares_are_ranked_as_they_are_stored() -> None:
    # 0.30001 and 0.3 are one number in 16 bits: the smaller id comes first; what is 0 there is no candidate
    found = ranked(candidates([[(7, 0.30001), (2, 0.3), (4, 1e-9)], [(1, 0.5)]]))
    assert [[word for word, _ in row] for row in pairs(found)] == [[2, 7], [1]]
    assert (found.scores.astype(np.float16).astype(np.float64) == found.scores).all()


@given(ragged(8, max_rows=20), st.integers(0, 99))
def test_images_judged_in_parts_are_put_side_by_side(bags: Ragged, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = ranked(Candidates(bags, rng.random(len(bags.values))))
    fold = rng.integers(0, 3, len(bags))
    parts = [whole.filtered((fold == i)[whole.words.rows()]) for i in range(3)]
    assert pairs(side_by_side(parts)) == pairs(whole)
    assert pairs(stacked([whole.pick(np.arange(2)), whole.pick(np.arange(2, len(bags)))])) == pairs(whole) if len(bags) >= 2 else True


def test_an_image_gets_its_best_words_up_to_its_size_and_none_below_the_score() -> None:
    found = candidates([[(4, 0.9), (2, 0.8), (7, 0.1)], [(1, 0.05)]])
    assert pairs(take_best(found, 0.5, np.array([1, 3]))) == [[(4, 0.9)], []]
    assert pairs(take_best(found, 0.0, np.array([9, 9]))) == pairs(found)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 5))
def test_word_numbers_are_those_of_real_bags_whatever_the_order_of_images(sizes: list[int], seed: int) -> None:
    samples = sample_number(3, np.arange(50))
    drawn = draw_sizes(np.array(sizes), samples, seed)
    assert set(drawn.tolist()) <= set(sizes)
    assert draw_sizes(np.array(sizes[::-1]), samples[::-1], seed).tolist() == drawn[::-1].tolist()


def test_word_numbers_follow_the_distribution_of_real_bags() -> None:
    drawn = draw_sizes(np.array([2, 2, 2, 8]), sample_number(0, np.arange(40_000)), seed=1)
    assert (drawn == 8).mean() == pytest.approx(0.25, abs=0.01)


def test_a_word_is_right_if_the_real_bag_has_it() -> None:
    assert are_right(candidates([[(4, 0.9), (2, 0.8)], [(2, 0.1)]]), make_ragged([[2, 3], [2]])).tolist() == [False, True, True]


def test_what_is_held_out_is_the_same_everywhere_and_of_the_size_asked() -> None:
    contents = mix_all(7, np.arange(40_000))
    held = held_out(contents, 0.1)
    assert held.mean() == pytest.approx(0.1, abs=0.006)
    assert held_out(contents[::-1], 0.1).tolist() == held[::-1].tolist()
    assert not (held & ~held_out(contents, 0.2)).any()
