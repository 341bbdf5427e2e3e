"""A student's embedding is what the formula says, whatever texts stand beside it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fistful.bow import student
from fistful.bow.ragged import Ragged
from fistful.bow.student import StudentWeights, embed, outputs, probabilities
from tests.support.strategies import make_ragged, rows_of

R, E, H, D = 50, 24, 16, 20


def weights(seed: int = 0) -> StudentWeights:
    draw = np.random.default_rng(seed).standard_normal
    return StudentWeights(*(draw(shape).astype(np.float32) for shape in ((R, E), (H, E), (H,), (D, H), (D,))))


def by_hand(w: StudentWeights, row: list[int]) -> list[float]:
    """The formula with Python's own numbers."""
    mean = [sum(float(w.table_RE[i, e]) for i in row) / len(row) for e in range(E)]
    hidden = [math.tanh(sum(float(w.hidden_HE[h, e]) * mean[e] for e in range(E)) + float(w.hidden_bias_H[h])) for h in range(H)]
    out = [sum(float(w.out_DH[d, h]) * hidden[h] for h in range(H)) + float(w.out_bias_D[d]) for d in range(D)]
    length = math.sqrt(sum(y * y for y in out))
    return [y / length for y in out]


texts = st.lists(st.lists(st.integers(0, R - 1), max_size=9), max_size=70)


@settings(max_examples=25)
@given(texts)
def test_embeddings_are_those_of_the_formula(rows: list[list[int]]) -> None:
    found, w = embed(weights(), make_ragged(rows)), weights()
    expected = [by_hand(w, row) if row else [0.0] * D for row in rows]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(expected).reshape(-1, D), atol=1e-5)


@settings(max_examples=50)
@given(texts)
def test_no_bit_depends_on_the_texts_beside_it(rows: list[list[int]]) -> None:
    w, bags = weights(), make_ragged(rows)
    together = embed(w, bags)
    for i, row in enumerate(rows_of(bags)):
        assert embed(w, make_ragged([row])).tobytes() == together[i].tobytes()


def test_a_text_of_many_ngrams_is_added_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    w, long = weights(), make_ragged([[i % R for i in range(500)]])
    whole = embed(w, long)
    monkeypatch.setattr(student, "AT_ONCE", 7)
    np.testing.assert_allclose(embed(w, long), whole, atol=1e-6)


def test_a_classifier_gives_probabilities_of_one_label_or_of_each() -> None:
    w, rows = weights(), Ragged(np.array([0, 0, 2]), np.array([1, 2]))
    one, each = probabilities(w, rows, several=False), probabilities(w, rows, several=True)
    np.testing.assert_allclose(one.sum(axis=1), 1)
    logits = outputs(w, rows).astype(float)
    np.testing.assert_allclose(each, 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(one[1], np.exp(logits[1]) / np.exp(logits[1]).sum())


def test_weights_that_do_not_fit_are_named() -> None:
    assert weights().check() == ""
    wrong = dataclasses.replace(weights(), out_DH=np.zeros((D, 3), np.float32))
    assert wrong.check() == "out_DH is (20, 3), expected (20, 16)"
