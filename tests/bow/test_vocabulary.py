"""Counts add up whatever their order, and become a vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.balance import Balance
from fistful.bow.ragged import Ragged
from fistful.bow.vocabulary import Limits, choose_words, count_table, counts_of, merge_counts, read_vocabulary, write_vocabulary
from fistful.errors import DataError, UsageError

COUNTS = count_table(["dog", "cat", "ant", "bee", "never"], np.array([9, 5, 5, 1, 0]), np.array([7, 5, 5, 1, 0]))


def test_counts_become_a_vocabulary_by_falling_df_and_then_by_word() -> None:
    vocabulary = choose_words(COUNTS, 10, Limits(min_count=3), Balance(rule="cap", threshold=5))

    assert vocabulary.words == ["dog", "ant", "cat"]
    assert vocabulary.tf.tolist() == [9, 5, 5]
    assert vocabulary.df.tolist() == [7, 5, 5]
    assert vocabulary.keep.tolist() == [5 / 7, 1, 1]
    assert vocabulary.keep_u32.tolist() == [int(5 / 7 * 2**32), 2**32 - 1, 2**32 - 1]
    assert vocabulary.ids() == {"dog": 0, "ant": 1, "cat": 2}


def test_a_count_table_is_by_word_and_leaves_out_what_never_occurred() -> None:
    assert COUNTS.to_pydict() == {"word": ["ant", "bee", "cat", "dog"], "tf": [5, 1, 5, 9], "df": [5, 1, 5, 7]}


def test_a_vocabulary_is_cut_to_size_ties_by_word() -> None:
    assert choose_words(COUNTS, 10, Limits(min_count=1, max_words=2), Balance()).words == ["dog", "ant"]
    assert choose_words(COUNTS, 10, Limits(min_count=99), Balance()).words == []


def test_another_rule_changes_the_probabilities_alone() -> None:
    vocabulary = choose_words(COUNTS, 10, Limits(min_count=1), Balance())
    random = vocabulary.balanced(Balance(rule="random", kept=0.5))

    assert vocabulary.keep.tolist() == [1] * 4
    assert (random.words, random.keep.tolist()) == (vocabulary.words, [0.5] * 4)


@pytest.mark.parametrize(
    ("rule", "often"),
    [
        (Balance(rule="top_k", threshold=4), [0, 0, 0, 1]),  # all words are dropped: the rarest stays
        (Balance(rule="cap", threshold=1e-6), [0, 0, 0, 1]),
        (Balance(rule="random", kept=1e-6), [0.25, 0.25, 0.25, 0.25]),  # the control may lean to neither end
    ],
)
def test_which_word_an_emptied_bag_keeps_is_the_rules_choice(rule: Balance, often: list[float]) -> None:
    vocabulary, n = choose_words(COUNTS, 10, Limits(min_count=1), rule), 10_000
    for seed, epoch in ((0, 0), (3, 7)):
        drawn, emptied = vocabulary.thin(Ragged(np.arange(n + 1) * 4, np.tile(np.arange(4), n)), np.arange(n, dtype=np.uint64), seed, epoch)
        assert emptied.all()
        assert np.bincount(drawn.values, minlength=4) / n == pytest.approx(often, abs=0.02)


def tables() -> st.SearchStrategy[list[pa.Table]]:
    counts = st.dictionaries(st.sampled_from(["ant", "bee", "cat", "犬", "é", "e\u0301"]), st.integers(1, 2**40), max_size=6)
    return st.lists(counts.map(as_table), min_size=1, max_size=5)


def as_table(counts: dict[str, int]) -> pa.Table:
    values = np.array([*counts.values()], np.int64)
    return count_table([*counts], values * 2, values)


@given(tables())
def test_any_order_of_merging_gives_the_same_table(parts: list[pa.Table]) -> None:
    whole = merge_counts(parts)
    pairwise = parts[-1]
    for part in parts[-2::-1]:
        pairwise = merge_counts([part, pairwise])

    expected: dict[str, int] = {}
    for part in parts:
        for word, df in zip(part["word"].to_pylist(), part["df"].to_pylist(), strict=True):
            expected[word] = expected.get(word, 0) + df
    assert whole.equals(pairwise)
    assert whole.to_pydict() == {
        "word": sorted(expected),
        "tf": [2 * expected[word] for word in sorted(expected)],
        "df": [expected[word] for word in sorted(expected)],
    }


def test_a_vocabulary_is_read_as_it_was_written(tmp_path: Path) -> None:
    vocabulary = choose_words(COUNTS, 10, Limits(min_count=1), Balance(rule="random", kept=0.3))
    write_vocabulary(tmp_path, vocabulary)
    found = read_vocabulary(tmp_path)

    assert found.words == vocabulary.words
    assert found.keep_u32.tolist() == vocabulary.keep_u32.tolist()
    assert counts_of(found).sort_by("word").equals(COUNTS)


def test_what_is_no_vocabulary_is_told(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.parquet"
    with pytest.raises(UsageError) as missing:
        read_vocabulary(tmp_path)
    assert str(missing.value) == f"{path}: no such file; is the folder one that fistful wrote?"

    pq.write_table(pa.table({"word": ["dog"]}), path)
    with pytest.raises(DataError) as other:
        read_vocabulary(tmp_path)
    assert str(other.value) == f"{path}: columns are ['word'], expected ['id', 'word', 'tf', 'df', 'keep', 'keep_u32']"

    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"^.*vocabulary.parquet: not a readable parquet file"):
        read_vocabulary(tmp_path)


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        Limits(min_count=0)
    assert str(error.value) == "--min-count 0 --max-words 1000000: expected 1 or more"
