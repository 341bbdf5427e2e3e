"""Closed-form learning, the splits, and what a model that sees but bags can do."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fistful.bow.lexicon import Lexicon, make_lexicon
from fistful.bow.relations import read_relations
from fistful.bow.sequences import sequences
from fistful.bow.tasks import Predicate, Relation, atoms, composed
from fistful.eval.quiz.ask import ask, random_vectors
from fistful.eval.quiz.learn import balanced_accuracy, nearest, ridges
from fistful.eval.quiz.trials import N_SPLITS, SIZES, Quiz, make_quiz, most_frequent
from tests.support.quiz_words import common_words


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return make_lexicon(common_words(2_500), read_relations())


@pytest.fixture(scope="module")
def quiz(lexicon: Lexicon) -> Quiz:
    parts = atoms(lexicon, seed=0)
    return make_quiz(lexicon.words, lexicon.groups, [*parts, *composed(parts, seed=0), *sequences(parts, seed=0)], seed=0)


def test_the_strength_of_the_ridge_is_that_of_least_error_by_leaving_one_out() -> None:
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(12, 5))
    target = vectors[:, :2] + chance.normal(size=(12, 2))

    def fitted(rows: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        centre, mean = vectors[rows].mean(axis=0), target[rows].mean(axis=0)
        x = vectors[rows] - centre
        weights = np.linalg.solve(x.T @ x + strength * np.eye(5), x.T @ (target[rows] - mean))
        return weights, mean - centre @ weights

    (fit,) = ridges(vectors, [target])
    scale = ((vectors - vectors.mean(axis=0)) ** 2).sum() / 12
    candidates = [fitted(np.arange(12), scale * 10.0**power) for power in range(-3, 4)]
    same = [np.allclose(fit.weights, weights) and np.allclose(fit.offset, offset) for weights, offset in candidates]
    assert sum(same) == 1
    # the true error of leaving one out keeps the strength fixed, and gives the same choice
    errors = []
    for power in range(-3, 4):
        error = 0.0
        for i in range(12):
            weights, offset = fitted(np.delete(np.arange(12), i), scale * 10.0**power)
            error += float(((vectors[i] @ weights + offset - target[i]) ** 2).sum())
        errors.append(error)
    assert same.index(True) == int(np.argmin(errors))


def test_vectors_that_are_all_the_same_predict_the_mean() -> None:
    (fit,) = ridges(np.ones((4, 3)), [np.array([[1.0], [1.0], [-1.0], [1.0]])])
    assert fit(np.ones((1, 3))).tolist() == [[0.5]]


def test_a_score_of_nought_is_half_right() -> None:
    assert balanced_accuracy(np.zeros(4), np.array([1, -1, -1, -1])) == 0.5


def test_the_nearest_word_is_never_the_one_that_is_asked() -> None:
    choices = np.eye(3, dtype=np.float32)
    assert nearest(np.array([[1.0, 0.5, 0.0]]), choices, np.array([0])).tolist() == [1]


def test_the_most_frequent_answer_is_counted_over_questions() -> None:
    assert most_frequent(np.array([0, 1, 2]), {0: {7}, 1: {7, 9}, 2: {8, 9}, 3: {8}}) == 7


def test_no_group_of_words_is_on_both_sides_of_a_split(lexicon: Lexicon, quiz: Quiz) -> None:
    place = lexicon.ids()
    for question in quiz.questions:
        for trial in question.trials:
            groups = [
                {int(lexicon.groups[place[word]]) for row in rows.tolist() for word in quiz.texts[row].split()}
                for rows in (trial.train, trial.test)
            ]
            assert not groups[0] & groups[1], str(question.task)


def test_examples_are_balanced_and_labelled_by_the_task(quiz: Quiz) -> None:
    for question in quiz.questions:
        assert len(question.trials) == N_SPLITS
        assert {*question.sizes} <= {*SIZES}
        for trial in question.trials:
            if isinstance(question.task, Predicate):
                for k in question.sizes:
                    assert trial.labels[:k].sum() == 0
                assert (question.task.members[trial.train] == (trial.labels > 0)).all()
                assert (question.task.members[trial.test] == (trial.test_labels > 0)).all()
            if isinstance(question.task, Relation):
                assert {*trial.train.tolist(), *trial.test.tolist()} <= {*question.task.answers}


def test_the_splits_are_a_function_of_the_seed(lexicon: Lexicon, quiz: Quiz) -> None:
    tasks = [question.task for question in quiz.questions[:3]]
    again, other = (make_quiz(lexicon.words, lexicon.groups, tasks, seed=seed) for seed in (0, 1))
    assert (again.questions[0].trials[0].test == quiz.questions[0].trials[0].test).all()
    assert not np.array_equal(other.questions[0].trials[0].test, again.questions[0].trials[0].test)


def figures(quiz: Quiz, vectors: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Rows of the figures by the kind of their task."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in ask(quiz, vectors, 0, lambda: None).to_pylist():
        found.setdefault(quiz.questions[row["task"]].task.kind, []).append(row)
    return found


@pytest.fixture(scope="module")
def texts_alone(quiz: Quiz) -> Quiz:
    """The questions about texts."""
    return dataclasses.replace(quiz, questions=[q for q in quiz.questions if q.task.kind in ("bag of words", "word order")])


@pytest.fixture(scope="module")
def vector(quiz: Quiz) -> dict[str, np.ndarray]:
    """Of each word: a random one, and for each predicate that is true of it the same step."""
    found = dict(zip(quiz.words, random_vectors(quiz.words), strict=True))
    for i, question in enumerate(quiz.questions):
        if isinstance(question.task, Predicate) and question.task.kind == "predicate":
            for word in np.array(quiz.words)[question.task.members]:
                found[word] = found[word] + 2 * np.eye(1, 256, i, dtype=np.float32)[0]
    return found


def test_a_sum_of_words_is_right_on_half_of_the_texts_by_order_and_on_most_by_bag(texts_alone: Quiz, vector: dict[str, np.ndarray]) -> None:
    vectors = np.zeros((len(texts_alone.texts), 256), np.float32)
    for i, text in enumerate(texts_alone.texts):  # in the order of the text, so that the last digits differ by it
        for word in text.split():
            vectors[i] += vector[word] / 3
        vectors[i] /= np.linalg.norm(vectors[i])
    found = figures(texts_alone, vectors)
    assert {row["score"] for row in found["word order"]} == {0.5}
    assert {row["permuted"] for row in found["word order"]} == {0.5}
    largest = [row["score"] for row in found["bag of words"] if row["k"] == max(SIZES) and row["procedure"] == "linear"]
    assert np.mean(largest) > 0.8


def test_a_model_whose_first_word_counts_twice_is_above_half_on_order(texts_alone: Quiz, vector: dict[str, np.ndarray]) -> None:
    vectors = np.array([sum(vector[w] for w in text.split()) + vector[text.split()[0]] for text in texts_alone.texts], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = [row["score"] for row in figures(texts_alone, vectors)["word order"] if row["k"] == max(SIZES)]
    assert np.mean(order) > 0.55


def test_random_vectors_know_nothing_of_words_that_were_not_learnt(quiz: Quiz) -> None:
    atomic = dataclasses.replace(quiz, questions=[q for q in quiz.questions if q.task.kind in ("predicate", "relation")])
    found = figures(atomic, random_vectors(quiz.texts))
    assert abs(np.mean([row["score"] for row in found["predicate"]]) - 0.5) < 0.02
    assert np.mean([row["score"] for row in found["relation"] if row["procedure"] == "map"]) < 0.02
    chance = [row["score"] for row in found["relation"] if str(atomic.questions[row["task"]].task).startswith("chance")]
    assert chance
    assert max(chance) < 0.02
