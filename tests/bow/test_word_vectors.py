"""Word vectors against the formula and numpy's own decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, triu

from fistful.bow.cooccurrence import pairs_of
from fistful.bow.ragged import Ragged
from fistful.bow.sorted_counts import count_numbers
from fistful.bow.word_vectors import count_marginals, factorise, positive_pmi
from fistful.errors import DataError
from tests.support.strategies import make_ragged, ragged, rows_of


def matrix_of(bags: Ragged, n_words: int) -> csr_matrix:
    pairs = count_numbers(np.concatenate([np.zeros(0, np.uint64), *pairs_of(bags)]))
    return positive_pmi([pairs], *count_marginals([pairs], n_words))


def by_formula(bags: Ragged, n_words: int) -> np.ndarray:
    """max(0, log(n(i, c) D / (n(i) n(c)))), word by word."""
    n = np.zeros((n_words, n_words))
    for bag in rows_of(bags):
        for i in bag:
            for c in bag:
                n[i, c] += i != c
    found = np.zeros_like(n)
    for i, c in zip(*np.nonzero(n), strict=True):
        found[i, c] = max(0.0, math.log(n[i, c] * n.sum() / (n[i].sum() * n[:, c].sum())))
    return found


def symmetric(seed: int, n: int, share: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) * (rng.random((n, n)) < share), 1)
    return upper + upper.T


def test_words_that_stand_together_are_alike() -> None:
    bags = make_ragged([[0, 2], [1, 2], [0, 2, 3], [1, 3, 2], [4, 5], [4, 5, 6]] * 3)
    vectors, singular_values = factorise(matrix_of(bags, 8), 3)
    assert (vectors.shape, vectors.dtype, singular_values.dtype) == ((8, 3), np.float32, np.float32)
    assert vectors[0] @ vectors[1] > 0.9 > 0.2 > abs(vectors[0] @ vectors[5])
    assert vectors[7].tolist() == [0, 0, 0]  # it stands in no caption
    np.testing.assert_allclose(np.linalg.norm(vectors[:7], axis=1), 1, atol=1e-4)


@given(ragged(7))
def test_positive_pmi_is_the_formula(bags: Ragged) -> None:
    upper = matrix_of(bags, 7).toarray()
    np.testing.assert_allclose(upper + upper.T, by_formula(bags, 7), atol=1e-12)


def test_pairs_in_blocks_make_the_same_matrix() -> None:
    rng = np.random.default_rng(1)
    pairs, n = count_numbers(np.concatenate([*pairs_of(make_ragged([rng.permutation(30)[:6].tolist() for _ in range(80)]))]))
    cuts = [(pairs[i : i + 7], n[i : i + 7]) for i in range(0, len(pairs), 7)]
    whole, parts = (positive_pmi(blocks, *count_marginals(blocks, 30)) for blocks in ([(pairs, n)], cuts))
    assert (whole != parts).nnz == 0


@pytest.mark.parametrize("dim", [1, 10, 59])
def test_vectors_are_those_of_numpys_decomposition_up_to_their_signs(dim: int) -> None:
    dense = symmetric(3, 60, 0.3)
    vectors, singular_values = factorise(csr_matrix(triu(dense, 1)), dim)
    u, s, _ = np.linalg.svd(dense)
    expected = u[:, :dim] * np.sqrt(s[:dim])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(singular_values, s[:dim], atol=1e-4)
    np.testing.assert_allclose(np.abs(vectors), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-3)


def test_the_largest_number_of_each_singular_vector_is_positive() -> None:
    dense = symmetric(4, 40, 0.5)
    vectors, _ = factorise(csr_matrix(triu(dense, 1)), 5)
    u = np.linalg.svd(dense)[0][:, :5]
    largest = np.argmax(np.abs(u), axis=0)
    assert (vectors[largest, np.arange(5)] > 0).all()


@given(st.integers(0, 2**32), st.integers(2, 9), st.sampled_from([0.2, 0.5, 1.0]), st.data())
def test_every_matrix_has_vectors_of_length_one_or_zero_each_time_the_same(seed: int, n: int, share: float, data: st.DataObject) -> None:
    upper = csr_matrix(triu(np.round(symmetric(seed, n, share), 1), 1))
    dim = data.draw(st.integers(1, n - 1))
    if not upper.nnz:
        return
    vectors, singular_values = factorise(upper, dim)
    lengths = np.linalg.norm(vectors, axis=1)
    assert (np.isclose(lengths, 1, atol=1e-4) | (lengths == 0)).all()
    assert (np.diff(singular_values) <= 1e-5).all()
    again = factorise(upper, dim)
    assert (vectors.tobytes(), singular_values.tobytes()) == (again[0].tobytes(), again[1].tobytes())


def test_a_matrix_of_low_rank_has_the_same_vectors_each_time() -> None:
    """Captions of one form, "a photo of X": ARPACK runs out of directions and draws new ones by chance."""
    n = 2_000
    star = csr_matrix((np.full(n - 1, 2.0), (np.zeros(n - 1, int), np.arange(1, n))), shape=(n, n))
    first, second = (factorise(star, 64) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    np.testing.assert_allclose(first[1][:3], [2 * math.sqrt(n - 1), 2 * math.sqrt(n - 1), 0], atol=1e-4)
    assert not first[0][:, 2:].any()


def test_where_no_two_words_stand_together_there_are_no_vectors() -> None:
    with pytest.raises(DataError, match="no two words stand together more often than by chance"):
        factorise(matrix_of(make_ragged([[0], [1], [2]]), 3), 1)
