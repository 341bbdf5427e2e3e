"""Word vectors from pair counts: positive pointwise mutual information, and the largest singular vectors of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.errors import DataError

from .cooccurrence import split_pairs
from .draw import mix_all
from .sorted_counts import Counts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

VECTORS, SINGULAR_VALUES = "vectors.npy", "singular_values.npy"
DECIMALS = 5
"""Vectors are rounded to so many, as embeddings are: what lies below differs between equal machines under load."""
FAINT = 1e-6
"""Rows and singular values smaller than this (singular values: times the largest) are rounding errors of zero."""


def count_marginals(blocks: Iterable[Counts], n_words: int) -> tuple[np.ndarray, int]:
    """Return of each word how many pairs with other words it is in, int64 (V,), and how many different pairs there are.

    Args:
        blocks: All pairs, each once.
        n_words: V.
    """
    marginals, n_pairs = np.zeros(n_words, np.int64), 0
    for pairs, n in blocks:
        first, second = split_pairs(pairs)
        others = first != second
        n_pairs += int(others.sum())
        for side in (first[others], second[others]):
            np.add.at(marginals, side, n[others])
    return marginals, n_pairs


def positive_pmi(blocks: Iterable[Counts], marginals: np.ndarray, n_pairs: int) -> csr_matrix:
    """Return the upper triangle of the matrix of positive pointwise mutual information, float64 (V, V).

    Of the words i and c it is max(0, log(n(i, c) D / (n(i) n(c)))): n(i, c) captions hold both, n(i) is the sum of n(i, c)
    over all other words c, and D the sum of n(i) over all words.

    Args:
        blocks: All pairs, each once, rising.
        marginals: n(i), int64 (V,).
        n_pairs: How many pairs of two different words there are.

    Source: Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization", sections 2.1 and 3.2, where the context
    of a word in a caption is each other word of it.
    """
    from scipy.sparse import csr_matrix

    log_marginals, log_all = np.log(np.maximum(marginals, 1)), np.log(max(marginals.sum(), 1))
    columns, values, lengths = np.empty(n_pairs, np.int32), np.empty(n_pairs), np.zeros(len(marginals), np.int64)
    end = 0
    for pairs, n in blocks:
        first, second = split_pairs(pairs)
        pmi = np.log(n) + log_all - log_marginals[first] - log_marginals[second]
        kept = (first != second) & (pmi > 0)
        start, end = end, end + int(kept.sum())
        columns[start:end], values[start:end] = second[kept], pmi[kept]
        lengths += np.bincount(first[kept], minlength=len(lengths))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((values[:end], columns[:end], offsets), shape=(len(marginals), len(marginals)))


def factorise(upper: csr_matrix, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return word vectors U sqrt(S), each of length 1, from the truncated singular value decomposition U S V' of a symmetric matrix.

    Args:
        upper: The upper triangle of the matrix, float64 (V, V), its diagonal zero.
        dim: Numbers of a vector, d < V.

    Returns:
        float32 (V, d), a row of zeros for a word of which the decomposition holds nothing; the singular values, float32 (d,), falling.

    Raises:
        DataError: If the matrix is empty.

    Source: Levy and Goldberg 2014, section 3.3, W = U_d sqrt(S_d). Of a symmetric matrix U holds the eigenvectors, and S the
    sizes of the eigenvalues. The sign of each column is free: its largest number is made positive.
    """
    if not upper.nnz:
        raise DataError("no two words stand together more often than by chance; more captions help, or a lower --min-count")
    values, columns = _eigenvectors(upper, dim)
    order = np.lexsort([-values, -np.round(np.abs(values), DECIMALS)])  # of eigenvalues v and -v, v first
    values, columns = np.abs(values[order]), columns[:, order]
    largest = np.argmax(np.abs(np.round(columns, DECIMALS)), axis=0)
    columns *= np.where(columns[largest, np.arange(dim)] < 0, -1.0, 1.0)
    values[values < FAINT * values[0]] = 0
    vectors = columns * np.sqrt(values)
    lengths = np.sqrt(np.einsum("vd,vd->v", vectors, vectors))[:, None]
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > FAINT)
    return np.round(vectors, DECIMALS).astype(np.float32, order="C"), np.round(values, DECIMALS).astype(np.float32)


def _eigenvectors(upper: csr_matrix, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `dim` largest eigenvalues by size, and their vectors as columns: the same bytes each time on one kind of machine."""
    from scipy.sparse.linalg import LinearOperator, eigsh
    from threadpoolctl import threadpool_limits

    n_words, lower = len(upper.indptr) - 1, upper.T

    def times(x: np.ndarray) -> np.ndarray:
        return upper @ x + lower @ x

    fixed: dict[str, Any] = {
        "v0": (mix_all(0x53564430, np.arange(n_words)) >> np.uint64(11)) / 2.0**53 - 0.5,
        "ncv": min(n_words, dim + max(dim // 2, 20)),
        **({"rng": 0} if "rng" in inspect.signature(eigsh).parameters else {}),  # before scipy 1.17 it had its own, always the same
    }
    with threadpool_limits(1):  # with more, sums round differently
        matrix = LinearOperator((n_words, n_words), matvec=times, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        found: Any = eigsh(matrix, dim, which="LM", **fixed)
    return found
