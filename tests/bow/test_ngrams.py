"""N-grams of captions are those of a brute force count, whatever stands beside a caption, and the frequent ones get the table's rows."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fistful.bow import ngrams
from fistful.bow.ngrams import NgramReader, NgramTable, choose_table, ngrams_of, read_counts, read_ngrams, write_counts, write_ngrams
from fistful.bow.ragged import Ragged
from fistful.bow.sorted_counts import count_numbers
from tests.support.strategies import make_ragged, ragged, rows_of

TEXTS = ["Two dogs chase the red ball.", "the red ball", "don't stop 3 dogs, two dogs", "", "a", "?!"]
reader = NgramReader("en", 3)


def texts_of(texts: list[str], longest: int = 3) -> list[list[str]]:
    reader = NgramReader("en", longest)
    keys = reader.keys(pa.array(texts, pa.string()))
    named = reader.texts_at(keys, np.arange(len(keys.values)))
    return [named[start:end] for start, end in pairwise(keys.offsets)]


def by_hand(words: list[str], longest: int) -> list[str]:
    return [" ".join(words[i : i + n]) for i in range(len(words)) for n in range(1, longest + 1) if i + n <= len(words)]


def test_ngrams_keep_stop_words_numbers_and_order() -> None:
    assert texts_of(["Not a cat: 2 dogs!"], 2) == [["not", "not a", "a", "a cat", "cat", "cat 2", "2", "2 dogs", "dogs"]]
    assert texts_of(["don't", "", "?!"]) == [["do", "do n't", "n't"], [], []]


@given(ragged(9), st.integers(1, 5))
def test_ngrams_of_rows_are_those_made_one_by_one(words: Ragged, longest: int) -> None:
    found = ngrams_of(Ragged(words.offsets, words.values.astype(np.uint64)), longest)
    expected = [by_hand([str(word) for word in row], longest) for row in rows_of(words)]
    assert [len(row) for row in found] == [len(row) for row in expected]
    known: dict[str, int] = {}
    for keys, names in zip(found, expected, strict=True):
        assert all(known.setdefault(name, key) == key for key, name in zip(keys.tolist(), names, strict=True))
    assert len(set(known.values())) == len(known)


@settings(max_examples=20)  # each text gets a reader of its own, which is made of a language's rules
@given(st.lists(st.sampled_from(TEXTS), max_size=6))
def test_a_texts_ngrams_do_not_depend_on_what_was_read_before_or_beside_it(texts: list[str]) -> None:
    together = reader.keys(pa.array(texts, pa.string()))
    for text, keys in zip(texts, together, strict=True):
        assert NgramReader("en", 3).keys(pa.array([text], pa.string())).values.tolist() == keys.tolist()


def test_a_reader_that_forgets_its_words_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [reader.keys(pa.array([text], pa.string())).values.tolist() for text in TEXTS]
    monkeypatch.setattr("fistful.bow.words.MAX_CHUNKS", 2)
    small = NgramReader("en", 3)
    assert [small.keys(pa.array([text], pa.string())).values.tolist() for text in TEXTS] == expected


def test_of_a_long_text_the_first_words_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "MOST_WORDS", 3)
    assert texts_of(["a b c d e f", "a b"], 2) == [["a", "a b", "b", "b c", "c"], ["a", "a b", "b"]]
    assert NgramReader("en", 2).n_cut(pa.array(["a b c d", "a b c"])) == 1


def test_a_words_number_is_the_same_for_ever() -> None:
    assert (hex(ngrams.hash_word("dog")), hex(ngrams.hash_word("собака"))) == ("0x9f9c5ed2c1c78439", "0xd0329f211a5f4e91")


counted = st.dictionaries(st.integers(0, 40), st.integers(1, 4), max_size=30)


@given(st.lists(counted, max_size=4), st.integers(1, 12), st.integers(0, 5))
def test_the_table_has_the_most_frequent_and_counts_collisions_of_the_rest(parts: list[dict[int, int]], size: int, n_hashed: int) -> None:
    total = {key + 100 * i: n for i, part in enumerate(parts) for key, n in part.items()}
    blocks = [
        (np.array(sorted(part), np.uint64) + np.uint64(100 * i), np.array([part[key] for key in sorted(part)], np.int64))
        for i, part in enumerate(parts)
    ]
    table, about = choose_table(iter(blocks), size, n_hashed)

    expected = sorted(total, key=lambda key: (-total[key], key))
    assert table.keys.tolist() == expected[:size]
    assert table.n.tolist() == [total[key] for key in expected[:size]]
    shared = Counter(key % n_hashed for key in expected[size:]) if n_hashed else Counter()
    assert about["hashed_used"] == len(shared)
    assert about["hashed_colliding"] == sum(n for n in shared.values() if n > 1)
    assert (about["ngrams"], about["ngrams_counted"]) == (len(total), sum(total.values()))
    assert about["ngrams_in_table_counted"] == sum(total[key] for key in expected[:size])


@given(ragged(30), st.integers(0, 4))
def test_rows_are_the_tables_own_or_shared_ones_behind_them(keys: Ragged, n_hashed: int) -> None:
    table = NgramTable(np.array([7, 3, 20], np.uint64), np.array([5, 5, 1]), n_hashed)
    found = table.finder().rows(Ragged(keys.offsets, keys.values.astype(np.uint64)))
    own = {7: 0, 3: 1, 20: 2}
    expected = [[own.get(key, 3 + key % n_hashed if n_hashed else -1) for key in row] for row in rows_of(keys)]
    assert [row.tolist() for row in found] == [[row for row in rows if row >= 0] for rows in expected]


def test_counts_and_tables_come_back_from_files_as_they_were(tmp_path: Path) -> None:
    keys = np.array([2**64 - 1, 5, 5, 2**63], np.uint64)
    write_counts(tmp_path, "counts.parquet", iter([count_numbers(keys)]))
    ((found, n),) = read_counts(tmp_path / "counts.parquet")
    assert (found.tolist(), n.tolist()) == ([5, 2**63, 2**64 - 1], [2, 1, 1])

    table, _ = choose_table(read_counts(tmp_path / "counts.parquet"), 2, 4)
    write_ngrams(tmp_path, "ngrams.parquet", table, ["a dog", "dog"])
    again = read_ngrams(tmp_path / "ngrams.parquet", 4)
    assert (again.keys.tolist(), again.n.tolist(), again.n_rows) == ([5, 2**63], [2, 1], 6)


def test_ragged_rows_of_real_words_have_as_many_ngrams_as_the_formula_says() -> None:
    words = make_ragged([[1, 2, 3, 4], [5]])
    assert ngrams_of(Ragged(words.offsets, words.values.astype(np.uint64)), 4).lengths().tolist() == [10, 1]
