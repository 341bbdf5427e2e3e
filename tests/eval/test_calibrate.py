"""What scores are worth, measured."""

from __future__ import annotations

import numpy as np
import pytest

from fistful.bow.labelling import Candidates
from fistful.bow.words import Ragged
from fistful.errors import DataError
from fistful.eval.calibrate import BIN, calibrate_shares, measure


def test_shares_rise_with_the_score_as_measured() -> None:
    scores = np.linspace(0, 1, 20_000)
    right = np.random.default_rng(0).random(20_000) < scores
    found = calibrate_shares(scores, right)
    assert list(found.shares) == sorted(found.shares)
    assert found.share_of(np.array([0.2, 0.5, 0.9])) == pytest.approx([0.2, 0.5, 0.9], abs=0.06)
    assert found.score_for(0.7) == pytest.approx(0.7, abs=0.06)
    assert found.score_for(1.01) is None


def test_a_lucky_few_prove_nothing() -> None:
    scores = np.concatenate([np.zeros(1_000), [9.0]])  # one right word at the top is below BIN: it counts with its neighbours
    right = np.concatenate([np.arange(1_000) % 10 == 0, [True]])
    assert BIN > 1
    assert calibrate_shares(scores, right).share_of(np.array([9.0])) == pytest.approx([0.101], abs=0.001)


def one_word_each(n: int, right: np.ndarray) -> tuple[Candidates, Ragged, np.ndarray]:
    """n images with one candidate each, word 0 if right, else word 1; real bags are {0}."""
    offsets = np.arange(n + 1)
    return (
        Candidates(Ragged(offsets, np.where(right, 0, 1)), right.astype(float)),
        Ragged(offsets, np.zeros(n, np.int64)),
        np.arange(n, dtype=np.uint64),
    )


def test_what_held_out_images_would_get_is_measured() -> None:
    right = np.arange(200) < 150
    found = measure(*one_word_each(200, right), sizes=np.array([1]), min_precision=0.9, seed=0)
    assert (found.accept, found.n_images, found.n_labelled, found.precision, found.recall) == (1.0, 200, 150, 1.0, 0.75)


def test_too_few_held_out_images_measure_nothing() -> None:
    with pytest.raises(DataError) as error:
        measure(*one_word_each(5, np.ones(5, bool)), sizes=np.array([1]), min_precision=0.1, seed=0)
    assert str(error.value) == "calibration: 5 held-out captioned images, expected 30 or more; a larger --holdout in training helps"


def test_a_precision_out_of_reach_is_refused_with_what_can_be_had() -> None:
    with pytest.raises(DataError) as error:
        measure(*one_word_each(200, np.arange(200) % 4 == 9), sizes=np.array([1]), min_precision=0.5, seed=0)
    assert (
        str(error.value) == "calibration: no score has a share of right words of 0.500, the best has 0.000; a smaller --min-precision helps"
    )


def test_held_out_images_without_any_candidate_measure_nothing() -> None:
    none = Candidates(Ragged(np.zeros(41, np.int64), np.zeros(0, np.int64)), np.zeros(0))
    with pytest.raises(DataError) as error:
        measure(none, Ragged(np.arange(41), np.zeros(40, np.int64)), np.arange(40, dtype=np.uint64), np.array([1]), 0.1, 0)
    assert str(error.value) == ("calibration: no held-out image has a candidate for a word; a model trained for longer, or --by knn, helps")
