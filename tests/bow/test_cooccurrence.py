"""Counts of words are counted exactly, however they come and in whatever pieces."""

from __future__ import annotations

import os
from collections import Counter
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow import cooccurrence
from fistful.bow.cooccurrence import cut_bags, pairs_of, read_pairs, split_pairs, write_pairs
from fistful.bow.ragged import Ragged
from fistful.bow.sorted_counts import Counts, add_counts, count_numbers, merge_counts
from fistful.errors import DataError
from tests.support.strategies import make_ragged, ragged, rows_of


def by_hand(bags: Ragged) -> Counter[tuple[int, int]]:
    return Counter(pair for bag in rows_of(bags) for pair in combinations_with_replacement(sorted(bag), 2))


def counted(bags: Ragged) -> Counts:
    return count_numbers(np.concatenate([np.zeros(0, np.uint64), *pairs_of(bags)]))


def as_counter(blocks: list[Counts]) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for pairs, n in blocks:
        for first, second, times in zip(*(side.tolist() for side in split_pairs(pairs)), n.tolist(), strict=True):
            assert (first, second) not in found
            found[first, second] = times
    return found


def test_two_words_of_one_bag_are_a_pair_and_a_word_with_itself_counts_bags() -> None:
    found = as_counter([counted(make_ragged([[7, 2], [2, 7, 4], [], [4]]))])
    assert found == {(2, 2): 2, (2, 4): 1, (2, 7): 2, (4, 4): 2, (4, 7): 1, (7, 7): 2}


@given(ragged(9))
def test_pairs_are_those_of_a_brute_force_count(bags: Ragged) -> None:
    pairs, n = counted(bags)
    assert as_counter([(pairs, n)]) == by_hand(bags)
    assert (np.diff(pairs.astype(np.int64)) > 0).all()


def blocks_of(pairs: Counts, sizes: list[int]) -> list[Counts]:
    ends = np.cumsum([0, *sizes])
    parts = [(pairs[0][a:b], pairs[1][a:b]) for a, b in pairwise(ends)]
    return [part for part in [*parts, (pairs[0][ends[-1] :], pairs[1][ends[-1] :])] if len(part[0])]


@given(st.lists(st.tuples(ragged(6), st.lists(st.integers(1, 5), max_size=5)), max_size=5))
def test_streams_in_blocks_of_any_size_add_up(parts: list[tuple[Ragged, list[int]]]) -> None:
    expected = sum((by_hand(bags) for bags, _ in parts), Counter())
    found = list(merge_counts(iter(blocks_of(counted(bags), sizes)) for bags, sizes in parts))
    assert as_counter(found) == expected
    rising = np.concatenate([np.zeros(0, np.uint64), *(pairs for pairs, _ in found)]).astype(np.int64)
    assert (np.diff(rising) > 0).all()
    assert as_counter([add_counts([(np.zeros(0, np.uint64), np.zeros(0, np.int64)), *(counted(bags) for bags, _ in parts)])]) == expected


def test_the_largest_ids_of_a_vocabulary_fit() -> None:
    last = 2**32 - 1
    assert as_counter([counted(make_ragged([[last, 0]]))]) == {(0, 0): 1, (0, last): 1, (last, last): 1}


@given(ragged(5))
def test_of_long_texts_the_first_words_are_paired(bags: Ragged) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "MOST_WORDS", 3)
        cut, n_cut = cut_bags(bags)
    assert rows_of(cut) == [row[:3] for row in rows_of(bags)]
    assert n_cut == sum(len(row) > 3 for row in rows_of(bags))


def test_pairs_are_read_as_they_were_written_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = count_numbers(rng.integers(0, 2**40, 150_000, np.uint64))  # several row groups
    write_pairs(tmp_path, "a.parquet", blocks_of(pairs, [1, 70_000, 5]))
    write_pairs(tmp_path, "b.parquet", [pairs])
    write_pairs(tmp_path, "none.parquet", [])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    read = [*read_pairs(tmp_path / "a.parquet")]
    assert [len(block) for block, _ in read] == [65_536, 65_536, len(pairs[0]) - 2 * 65_536]
    for i in (0, 1):
        np.testing.assert_array_equal(np.concatenate([block[i] for block in read]), pairs[i])
    assert [*read_pairs(tmp_path / "none.parquet")] == []

    os.truncate(tmp_path / "a.parquet", 1_000)
    with pytest.raises(DataError, match=r"a\.parquet: not a readable parquet file"):
        list(read_pairs(tmp_path / "a.parquet"))
