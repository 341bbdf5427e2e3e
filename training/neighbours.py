"""Nearest neighbours among embeddings, by faiss."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.store.files import atomic_file

COPY = 0.99
"""Cosine from which on two pictures are one and the same: copies in another size or quality. Their captions are each other's."""
EXACT = 1_000_000
"""Keys up to which all are compared."""
RECALL, ASKED = 0.95, 256
"""Share of true neighbours that an index is to find, and keys that it is asked of."""
TRAINED_ON = 64
"""Keys a list that centres are learnt from."""
CHUNK = 1 << 16
"""Keys added at a time."""


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
    keys, queries = np.ascontiguousarray(keys_MD), np.ascontiguousarray(queries_ND)  # mapped keys stay where they are
    cosines, rows = faiss.knn(queries, keys, k, metric=faiss.METRIC_INNER_PRODUCT)
    return _ordered(cosines, rows)


def _ordered(cosines: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cosines = np.maximum(cosines, -2)  # of a key that is not there: the least number there is
    order = np.lexsort((rows, -np.round(cosines, 5)), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(cosines, order, axis=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """What neighbours are looked for among: a million rows or fewer are all compared, of more an index says which."""

    rows_MD: np.ndarray
    """float32, rows of length 1."""
    index: Any = None
    """An inverted file of faiss's over the rows; None where all of them are compared."""

    def nearest(self, queries_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what `nearest` does."""
        if self.index is None:
            return nearest(self.rows_MD, queries_ND, k)
        import faiss

        faiss.omp_set_num_threads(1)
        return _ordered(*self.index.search(np.ascontiguousarray(queries_ND), k))

    def nearest_but_copies(self, queries_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each query, the k keys of largest cosine that are no copies of it; fewer of a query with more than k copies."""
        rows, cosines = self.nearest(queries_ND, 2 * k)
        n_copies = ((np.round(cosines, 5) >= COPY) & (rows >= 0)).sum(axis=1)  # best first
        places = n_copies[:, None] + np.arange(k)
        found = np.minimum(places, 2 * k - 1)
        rows, cosines = np.take_along_axis(rows, found, axis=1), np.take_along_axis(cosines, found, axis=1)
        return np.where(places < 2 * k, rows, -1), cosines


def build_index(keys_MD: np.ndarray) -> Any:
    """Return an inverted file over keys: each stands in the list of the nearest of sqrt(M) centres; some lists are looked at.

    Source:
        Sivic and Zisserman 2003, "Video Google"; faiss's guidelines for the number of lists and what they are trained on.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    m, dim = keys_MD.shape
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, max(1, int(m**0.5)), faiss.METRIC_INNER_PRODUCT)
    sample = np.linspace(0, m - 1, min(m, TRAINED_ON * index.nlist), dtype=np.int64)
    index.train(np.ascontiguousarray(keys_MD[sample]))  # pyright: ignore[reportCallIssue]
    for start in range(0, m, CHUNK):
        index.add(np.ascontiguousarray(keys_MD[start : start + CHUNK]))  # pyright: ignore[reportCallIssue]
    return index


def choose_probes(index: Any, keys_MD: np.ndarray, k: int) -> float:
    """Set how many lists are looked at, the fewest of 1, 2, 4... that find enough, and return the recall on a sample of the keys.

    Args:
        index: What `build_index` made of the keys; its nprobe is set.
        keys_MD: The keys.
        k: Neighbours that are looked for.

    Returns:
        The share of the k nearest, by exact search, that are found.
    """
    sample = np.ascontiguousarray(keys_MD[np.linspace(0, len(keys_MD) - 1, min(len(keys_MD), ASKED), dtype=np.int64)])
    exact, _ = nearest(keys_MD, sample, k)
    index.nprobe = 1
    while True:
        found, _ = Keys(keys_MD, index).nearest(sample, k)
        recall = float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(exact, found, strict=True)]))
        if recall >= RECALL or index.nprobe >= index.nlist:
            return recall
        index.nprobe = min(2 * index.nprobe, index.nlist)


def save_index(folder: Path, name: str, index: Any) -> None:
    """Write an index to FOLDER/NAME."""
    import faiss

    with atomic_file(folder, name) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def open_index(path: str | Path) -> Any:
    """Map an index that `save_index` wrote into memory."""
    import faiss

    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
