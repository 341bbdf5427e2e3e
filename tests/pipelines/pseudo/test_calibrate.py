"""What scores are worth, measured."""

from __future__ import annotations

import numpy as np
import pytest

from fistful.bow.pseudo import Candidates, top_words
from fistful.bow.ragged import Ragged
from fistful.errors import DataError
from fistful.pipelines.pseudo.calibrate import BINS, fit_curve, measure


def test_shares_rise_with_the_score_as_measured() -> None:
    scores = np.linspace(0, 1, 20_000)
    right = np.random.default_rng(0).random(20_000) < scores
    found = fit_curve(scores, right)
    assert list(found.shares) == sorted(found.shares)
    assert found.at(np.array([0.2, 0.5, 0.9])) == pytest.approx([0.2, 0.5, 0.9], abs=0.06)


def test_a_lucky_few_prove_nothing() -> None:
    scores = np.concatenate([np.zeros(1_000), [9.0]])  # one right word at the top is fewer than BINS: it counts with its neighbours
    right = np.concatenate([np.arange(1_000) % 10 == 0, [True]])
    assert BINS[0] > 1
    assert fit_curve(scores, right).at(np.array([9.0])) == pytest.approx([0.101], abs=0.001)


def one_word_each(n: int, right: np.ndarray) -> tuple[list[Candidates], Ragged, np.ndarray]:
    """n images with one candidate each, a word of 10 that their real bag holds alone if right, else word 10."""
    offsets, real = np.arange(n + 1), np.arange(n) % 10
    return (
        [Candidates(Ragged(offsets, np.where(right, real, 10)), right.astype(float))],
        Ragged(offsets, real),
        np.arange(n, dtype=np.uint64),
    )


def test_what_held_out_images_would_get_is_measured() -> None:
    right = np.arange(200) < 150
    found = measure(*one_word_each(200, right), sizes=np.array([1]), min_precision=0.9, seed=0)
    assert (found.images, found.labelled, found.precision, found.recall) == (200, 150, 1.0, 0.75)
    assert (found.precision_low, found.precision_high) == pytest.approx((0.974, 1.0), abs=0.001)
    assert found.precision_by_chance == 0.1


def random_labels(seed: int, n: int, known: float) -> tuple[list[Candidates], Ragged, np.ndarray]:
    """n images of some 10 of 100 words each, and as many candidates drawn by frequency alone, of random scores.

    Args:
        seed: Of all draws.
        n: How many.
        known: What is added to the score of a word that is right.
    """
    rng, often = np.random.default_rng(seed), np.minimum(0.3, 2 / np.arange(3, 103))
    real_NV, drawn_NV = rng.random((2, n, 100)) < often
    scores_NV = np.where(drawn_NV, np.exp(rng.random((n, 100)) + known * real_NV), 0.0)
    candidates = top_words(scores_NV, 40)
    return [candidates.filtered(candidates.scores >= 0)], bags_of(real_NV), np.arange(n, dtype=np.uint64)


def bags_of(real_NV: np.ndarray) -> Ragged:
    return Ragged(np.concatenate([[0], np.cumsum(real_NV.sum(axis=1))]), np.nonzero(real_NV)[1])


def test_a_labeller_that_knows_nothing_is_refused_forty_times_of_forty() -> None:
    for seed in range(40):
        with pytest.raises(DataError, match=r"no score has a share|would be if they went to any images"):
            measure(*random_labels(seed, 60, known=0.0), sizes=np.array([3]), min_precision=0.15, seed=seed)


def test_two_sources_that_know_nothing_are_refused_together() -> None:
    for seed in range(40):
        (first,), bags, samples = random_labels(seed, 60, known=0.0)
        (second,), _, _ = random_labels(1_000 + seed, 60, known=0.0)
        with pytest.raises(DataError, match=r"no score has a share|would be if they went to any images"):
            measure([first, second], bags, samples, sizes=np.array([3]), min_precision=0.15, seed=seed)


def test_predicted_shares_are_kept_on_images_that_calibration_never_saw() -> None:
    found = measure(*random_labels(0, 3_000, known=0.5), sizes=np.array([3]), min_precision=0.15, seed=0)
    rows = [row for row in found.calibration if row["n"] >= 1_000]
    assert {row["words"] for row in rows} == {"all", "head", "middle"}
    assert max(abs(row["predicted"] - row["achieved"]) for row in rows) < 0.05
    assert found.precision_predicted == pytest.approx(found.precision, abs=0.03)


def test_labels_stand_beside_as_many_words_of_the_nearest_picture() -> None:
    right = np.arange(200) < 150
    (found,), bags, samples = one_word_each(200, right)
    copied = Ragged(np.arange(201), np.where(np.arange(200) % 2 == 0, bags.values, 10))
    nearest = measure([found], bags, samples, np.array([1]), 0.5, 0, copied=copied).nearest
    assert (nearest["words"], nearest["precision"], nearest["labels"], nearest["difference"]) == (200, 0.5, 0.75, 0.25)
    assert 0 < nearest["low"] < 0.25 < nearest["high"] < 0.5


def test_a_labeller_that_knows_something_passes_with_more_than_chance_would_give() -> None:
    for seed in range(10):
        found = measure(*random_labels(seed, 60, known=0.5), sizes=np.array([3]), min_precision=0.15, seed=seed)
        assert found.precision_by_chance < found.precision_low < found.precision < found.precision_high


def test_what_is_reported_is_not_what_was_fitted() -> None:
    # scores that say nothing: what the labels are worth is what any words are, however the steps have fallen
    over = [measure(*random_labels(seed, 60, known=0.0), sizes=np.array([3]), min_precision=0.0, seed=seed) for seed in range(20)]
    assert np.mean([found.precision - found.precision_by_chance for found in over]) == pytest.approx(0.0, abs=0.01)


def test_images_that_are_one_picture_count_as_one() -> None:
    right = np.arange(200) < 150
    whole, repeated = one_word_each(200, right), (np.arange(200) % 50)
    found = [measure(*whole, np.array([1]), 0.5, 0, pictures) for pictures in (None, repeated)]
    assert found[0].precision == found[1].precision == 1.0
    assert found[1].precision_low < found[0].precision_low


def test_words_right_no_more_often_than_asked_are_refused_with_their_interval() -> None:
    right = np.arange(100) % 10 < 8
    real = np.arange(100) % 20
    candidates = Candidates(Ragged(np.arange(101), np.where(right, real, 20)), np.ones(100))
    with pytest.raises(DataError) as error:
        measure([candidates], Ragged(np.arange(101), real), np.arange(100, dtype=np.uint64), np.array([1]), 0.75, 0)
    assert str(error.value) == (
        "calibration: of the words that 100 held-out captioned images would get 80.0% are right (95 % interval 70.9% to 86.8%), "
        "expected 75.0% even at the lower end; a smaller --min-precision, or more captioned images that are held out, helps"
    )


def test_too_few_held_out_images_measure_nothing() -> None:
    with pytest.raises(DataError) as error:
        measure(*one_word_each(5, np.ones(5, bool)), sizes=np.array([1]), min_precision=0.1, seed=0)
    assert str(error.value) == (
        "calibration: 5 held-out captioned images, expected 30 or more; "
        "more captioned images help, or for a model of fistful train a larger --holdout there"
    )


def test_a_precision_out_of_reach_is_refused_with_what_can_be_had() -> None:
    with pytest.raises(DataError) as error:
        measure(*one_word_each(200, np.arange(200) % 4 == 9), sizes=np.array([1]), min_precision=0.5, seed=0)
    assert (
        str(error.value) == "calibration: no score has a share of right words of 0.500, the best has 0.000; a smaller --min-precision helps"
    )


def test_a_precision_that_one_picture_alone_has_is_refused_as_out_of_reach() -> None:
    right = np.arange(230) < 30  # all are copies of one picture, of which the other folds know nothing
    with pytest.raises(DataError) as error:
        measure(*one_word_each(230, right), np.array([1]), 0.5, 0, np.where(right, 0, np.arange(230)))
    assert str(error.value) == (
        "calibration: no word of 230 held-out captioned images has a share of right words of 0.500 by what the others say, "
        "the best has 0.000; a smaller --min-precision, or more of them, helps"
    )


def test_held_out_images_without_any_candidate_measure_nothing() -> None:
    none = Candidates(Ragged(np.zeros(41, np.int64), np.zeros(0, np.int64)), np.zeros(0))
    with pytest.raises(DataError) as error:
        measure([none], Ragged(np.arange(41), np.zeros(40, np.int64)), np.arange(40, dtype=np.uint64), np.array([1]), 0.1, 0)
    assert str(error.value) == ("calibration: no held-out image has a candidate for a word; a model trained for longer, or --by knn, helps")
