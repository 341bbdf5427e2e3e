"""Nearest neighbours among embeddings, by faiss."""

from __future__ import annotations

import numpy as np


def nearest(keys_MD: np.ndarray, queries_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each query, the k keys of largest cosine.

    Args:
        keys_MD: float32, rows of length 1.
        queries_ND: float32, rows of length 1.
        k: How many.

    Returns:
        Rows of keys, int64 (n, k), best first, of equals the smaller row first, -1 where there are fewer
        than k; and their cosines, float32 (n, k).
    """
    import faiss

    faiss.omp_set_num_threads(1)  # sums round the same whatever the machine is doing
    index = faiss.IndexFlatIP(keys_MD.shape[1])
    index.add(np.ascontiguousarray(keys_MD))  # pyright: ignore[reportCallIssue]
    cosines, rows = index.search(np.ascontiguousarray(queries_ND), k)  # pyright: ignore[reportCallIssue]
    order = np.lexsort((rows, -np.round(cosines, 5)), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(cosines, order, axis=1)
