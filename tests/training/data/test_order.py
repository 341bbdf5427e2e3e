"""The order of the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.training.data import order as order_module
from fistful.training.data.order import Order, Stream, permute


def order(real=100, pseudo=0, batch_size=8, share=0.5, weight=1.0, seed=0):
    streams = [
        Stream(members=np.arange(real), weights=((real, weight),), seed=seed, salt=0),
        Stream(members=np.arange(real, real + pseudo), weights=((pseudo, 1.0),), seed=seed, salt=1),
    ]
    return Order(real=streams[0], pseudo=streams[1], batch_size=batch_size, pseudo_share=share)


def test_every_sample_comes_once_an_epoch_and_each_epoch_in_another_order():
    batches = [order().batch(step) for step in range(25)]
    rows = np.concatenate([rows for rows, _ in batches])
    epochs = np.concatenate([epochs for _, epochs in batches])
    assert sorted(rows[:100]) == sorted(rows[100:]) == list(range(100))
    assert rows[:100].tolist() != rows[100:].tolist()
    assert epochs.tolist() == [0] * 100 + [1] * 100


@given(st.integers(1, 300), st.integers(0, 2**63))
def test_permute_is_a_permutation(size, key):
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


def test_permutations_look_random():
    """Of 1,000 keyed permutations of 10, each of the 100 (place, value) cells holds about 100 (chi square, 81 degrees)."""
    cells = np.zeros((10, 10))
    for key in range(1_000):
        cells[np.arange(10), permute(np.arange(10), 10, key)] += 1
    assert ((cells - 100) ** 2 / 100).sum() < 81 + 5 * np.sqrt(2 * 81)


def test_a_batch_does_not_depend_on_which_were_made_before():
    assert order().batch(17)[0].tolist() == order().batch(17)[0].tolist()
    assert order(seed=1).batch(17)[0].tolist() != order(seed=0).batch(17)[0].tolist()


def test_a_folder_of_weight_two_and_a_half_is_shown_twice_and_half_of_it_once_more():
    stream = Stream(members=np.arange(14), weights=((4, 2.5), (10, 1.0)), seed=0, salt=0)
    assert stream.per_epoch() == 20
    first, second = np.bincount(stream.take(np.arange(20))[0]), np.bincount(stream.take(np.arange(20, 40))[0])
    assert sorted(first[:4]) == sorted(second[:4]) == [2, 2, 3, 3]
    assert set(first[4:]) == set(second[4:]) == {1}


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])), min_size=1, max_size=3), st.integers(0, 9))
def test_each_showing_of_a_sample_is_another_draw(weights, seed):
    n = sum(n for n, _ in weights)
    stream = Stream(members=np.arange(n), weights=tuple(weights), seed=seed, salt=0)
    rows, draws = stream.take(np.arange(3 * stream.per_epoch()))
    assert len(np.unique(np.stack([rows, draws]), axis=1).T) == len(rows)
    shown = np.bincount(rows, minlength=n)
    first = 0
    for n_own, weight in weights:
        own = shown[first : first + n_own]
        assert own.sum() == 3 * round(n_own * weight)
        assert 3 * int(weight) <= own.min()
        assert own.max() <= 3 * -(-weight // 1)
        first += n_own


def test_two_showings_of_a_sample_lie_in_two_halves_of_the_epoch():
    """A folder of weight 2 beside one of weight 1: no batch but that over a border has a sample twice."""
    stream = Stream(members=np.arange(160), weights=((40, 2.0), (120, 1.0)), seed=0, salt=0)
    halves = [stream.take(np.arange(start, start + 100)) for start in (0, 100)]
    for rows, draws in halves:
        assert len(set(rows)) == 100
        assert set(rows) >= set(range(40))
        assert len(set(draws[rows < 40])) == 1
        assert set(draws[rows >= 40]) == {0}
    assert set(halves[0][0]) | set(halves[1][0]) == set(range(160))
    later = stream.take(np.arange(200, 300))[0]
    assert 20 < len(set(halves[0][0][halves[0][0] >= 40]) & set(later)) < 50  # which 60 of 120 come first is drawn anew each epoch


def test_weights_of_one_and_less_keep_the_order_that_they_had():
    """What earlier versions showed at these places."""
    stream = Stream(members=np.arange(14), weights=((4, 0.5), (10, 1.0)), seed=0, salt=0)
    rows, draws = stream.take(np.arange(24))
    assert rows.tolist() == [7, 11, 5, 13, 1, 6, 12, 2, 9, 4, 10, 8, 11, 13, 5, 4, 9, 2, 12, 0, 6, 7, 10, 8]
    assert draws.tolist() == [0] * 12 + [1] * 12


def test_pseudo_labelled_samples_keep_their_share():
    many = order(real=50, pseudo=200, share=0.25)
    assert [int((many.batch(step)[0] >= 50).sum()) for step in range(6)] == [2] * 6
    few = order(real=90, pseudo=10, share=0.5)
    assert sum(int((few.batch(step)[0] >= 90).sum()) for step in range(100)) == 80
    assert not (order(real=50, pseudo=200, share=0).batch(3)[0] >= 50).any()
    assert (order(real=0, pseudo=20, share=1).batch(0)[0] < 20).all()


@pytest.mark.parametrize(
    ("batch_size", "share", "most"), [(1, 0.5, 0), (2, 0.5, 1), (5, 0.5, 2), (7, 0.5, 3), (10, 0.3, 3), (100, 0.29, 29), (3, 0.9, 2)]
)
def test_no_batch_has_more_than_its_share_of_pseudo_labelled_samples(batch_size, share, most):
    many = order(real=30, pseudo=3_000, batch_size=batch_size, share=share)
    assert {int((many.batch(step)[0] >= 30).sum()) for step in range(50)} == {most}
    few = order(real=300, pseudo=30, batch_size=batch_size, share=share)
    assert max(int((few.batch(step)[0] >= 300).sum()) for step in range(50)) <= most


def in_shards(sizes=((10, 6, 8), (12,)), weights=(1.0, 1.0), seed=0):
    """A stream whose shards are read one after another: 24 members in three shards of one folder, 12 in one of another."""
    shards = tuple(np.array(folder, np.int64) for folder in sizes)
    counts = tuple((int(folder.sum()), weight) for folder, weight in zip(shards, weights, strict=True))
    return Stream(members=np.arange(sum(n for n, _ in counts)), weights=counts, seed=seed, salt=0, shards=shards)


def test_shards_are_read_one_after_another_in_another_order_each_epoch(monkeypatch):
    monkeypatch.setattr(order_module, "WINDOW", 4)
    shard_of = np.repeat([0, 1, 2, 3], [10, 6, 8, 12])
    orders = set()
    for epoch in range(12):
        rows, draws = in_shards().take(np.arange(36) + 36 * epoch)
        assert sorted(rows) == list(range(36))
        assert set(draws) == {epoch}
        windows = [shard_of[rows[start : start + 4]] for start in range(0, 36, 4)]
        assert all(len(set(window)) <= 2 for window in windows)  # no shard has fewer than four samples
        seen = [np.flatnonzero([shard in window for window in windows]) for shard in range(4)]
        assert all((np.diff(places) == 1).all() for places in seen)  # and none is gone back to
        assert rows.tolist() != sorted(rows.tolist())
        orders.add(tuple(int(places[0]) for places in seen))
    assert len(orders) > 4


def test_the_order_by_shards_is_a_function_of_seed_and_place():
    whole = in_shards().take(np.arange(200))[0]
    parts = np.concatenate([in_shards().take(np.arange(start, start + 8))[0] for start in range(0, 200, 8)])
    assert whole.tolist() == parts.tolist()
    assert whole.tolist() != in_shards(seed=1).take(np.arange(200))[0].tolist()


@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])), min_size=1, max_size=3
    ),
    st.integers(0, 9),
)
def test_by_shards_samples_are_shown_as_often_as_their_folder_weighs(folders, seed):
    stream = in_shards(tuple(sizes for sizes, _ in folders), tuple(weight for _, weight in folders), seed)
    rows, draws = stream.take(np.arange(3 * stream.per_epoch()))
    assert len(np.unique(np.stack([rows, draws]), axis=1).T) == len(rows)
    shown, first = np.bincount(rows, minlength=len(stream.members)), 0
    for n, weight in stream.weights:
        assert shown[first : first + n].sum() == 3 * round(n * weight)
        assert shown[first : first + n].max() <= 3 * -(-weight // 1)
        first += n
