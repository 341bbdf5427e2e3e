"""Nearest neighbours among embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fistful.training.neighbours import COPY, RECALL, Keys, build_index, choose_probes, nearest, open_index, save_index


def directions(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_nearest_come_first_and_of_equals_the_smaller_row() -> None:
    rows, cosines = nearest(directions(90, 10, 10, 40), directions(0), 3)
    assert rows.tolist() == [[1, 2, 3]]
    np.testing.assert_allclose(cosines, np.cos(np.radians([[10, 10, 40]])), atol=1e-6)


def test_where_there_are_fewer_keys_than_asked_the_rest_is_minus_one() -> None:
    assert nearest(directions(90, 10), directions(0), 3)[0].tolist() == [[1, 0, -1]]
    assert Keys(directions(90, 10)).nearest_but_copies(directions(0), 3)[0].tolist() == [[1, 0, -1]]


def test_copies_of_an_image_are_none_of_its_neighbours() -> None:
    assert np.cos(np.radians(5)) > COPY > np.cos(np.radians(10))
    keys = directions(0, 5, 20, 30, 60)
    assert Keys(keys).nearest_but_copies(directions(0), 2)[0].tolist() == [[2, 3]]


def test_an_image_with_more_copies_than_neighbours_has_fewer_of_them() -> None:
    assert Keys(directions(0, 1, 2, 3, 40)).nearest_but_copies(directions(0), 2)[0].tolist() == [[-1, -1]]


def clusters(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, 16))[rng.integers(0, 50, n)] + 0.3 * rng.normal(size=(n, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_an_index_finds_nearly_all_of_the_nearest_and_says_which_share(tmp_path: Path) -> None:
    keys = clusters(3_000)
    index = build_index(keys)
    recall = choose_probes(index, keys, 10)
    assert RECALL <= recall <= 1
    assert 1 <= index.nprobe < index.nlist == 54
    save_index(tmp_path, "keys.ivf", index)
    mapped = open_index(tmp_path / "keys.ivf")
    assert (mapped.nprobe, mapped.ntotal) == (index.nprobe, 3_000)
    queries = clusters(20, seed=0)
    exact, found = Keys(keys).nearest(queries, 10)[0], Keys(keys, mapped).nearest(queries, 10)[0]
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, found, strict=True)]) > 0.8


def test_equal_keys_make_an_index_of_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_index(tmp_path, name, build_index(clusters(3_000)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
