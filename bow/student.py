"""A student: the mean of a text's n-gram embeddings, one hidden layer, a projection. numpy alone, no torch.

    h = mean of the rows of a text's n-grams;  y = W2 tanh(W1 h + b1) + b2;  y / |y|

No bit of an embedding depends on the texts beside it, on threads, or on a BLAS library: each text's sum is made by itself, in the
order of the text, and numpy's own loops (einsum) make each number of a layer from ROWS texts at a time. A matrix product of BLAS
takes a quarter of the time of these loops, of 32 texts 0.1 instead of 0.4 ms, and rounds by the place of a row among the others.

Shape suffixes: R rows of the table, E numbers of an embedding, H hidden ones, D of the teacher's space, B texts.

Source:
    Sparse Distillation (Ye et al. 2022, arXiv 2110.08536), section 3; tanh is that of its code.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .ragged import Ragged

ROWS = 32
"""Texts that go through the layers at once, the last ones filled up with zeros: other shapes would round differently."""
AT_ONCE = 4_096
"""N-grams of a text whose embeddings are gathered at once: 4 MB of 256 numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class StudentWeights:
    """All that a student has learnt, float32."""

    table_RE: np.ndarray
    hidden_HE: np.ndarray
    hidden_bias_H: np.ndarray
    out_DH: np.ndarray
    out_bias_D: np.ndarray

    def check(self) -> str:
        """Return what does not fit together, "" if all does."""
        hidden, dim = self.hidden_bias_H.shape, self.out_bias_D.shape
        wanted = {
            "table_RE": (*self.table_RE.shape[:1], *self.hidden_HE.shape[1:]),
            "hidden_HE": (*hidden, *self.table_RE.shape[1:]),
            "out_DH": (*dim, *hidden),
        }
        wrong = [
            f"{name} is {getattr(self, name).shape}, expected {shape}"
            for name, shape in wanted.items()
            if getattr(self, name).shape != shape
        ]
        return "; ".join(wrong)


def mean_rows(table_RE: np.ndarray, rows: Ragged) -> np.ndarray:
    """Return the mean of each text's rows, float32 (B, E); zeros for a text without any.

    Args:
        table_RE: float32.
        rows: B rows of places in the table.
    """
    means = np.zeros((len(rows), table_RE.shape[1]), np.float32)
    for mean, places in zip(means, rows, strict=True):
        for start in range(0, len(places), AT_ONCE):
            mean += table_RE.take(places[start : start + AT_ONCE], axis=0).sum(axis=0)
        if len(places):
            mean /= np.float32(len(places))
    return means


def outputs(weights: StudentWeights, rows: Ragged) -> np.ndarray:
    """Return what the student says of each text, float32 (B, D), not normalised."""
    means_BE, out = mean_rows(weights.table_RE, rows), np.zeros((len(rows), len(weights.out_bias_D)), np.float32)
    filled = np.zeros((ROWS, means_BE.shape[1]), np.float32)
    for start in range(0, len(rows), ROWS):
        part = means_BE[start : start + ROWS]
        filled[: len(part)], filled[len(part) :] = part, 0
        hidden_BH = np.tanh(np.einsum("be,he->bh", filled, weights.hidden_HE) + weights.hidden_bias_H)
        out[start : start + len(part)] = (np.einsum("bh,dh->bd", hidden_BH, weights.out_DH) + weights.out_bias_D)[: len(part)]
    return out


def embed(weights: StudentWeights, rows: Ragged) -> np.ndarray:
    """Return the embeddings of texts, float32 (B, D) of length 1; of length 0 for a text without a row."""
    out_BD = outputs(weights, rows)
    out_BD[rows.lengths() == 0] = 0
    lengths = np.sqrt((out_BD.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.divide(out_BD, lengths, out=np.zeros_like(out_BD), where=lengths > 0, casting="same_kind")


def probabilities(weights: StudentWeights, rows: Ragged, several: bool) -> np.ndarray:
    """Return the probabilities of labels that a classifier gives each text, float64 (B, D).

    Args:
        weights: A student whose outputs are logits of labels.
        rows: B rows of places in the table.
        several: Each label by itself (sigmoid), else one of them (softmax).
    """
    logits_BD = outputs(weights, rows).astype(np.float64)
    if several:
        return 1 / (1 + np.exp(-logits_BD))
    powers_BD = np.exp(logits_BD - logits_BD.max(axis=1, keepdims=True))
    return powers_BD / powers_BD.sum(axis=1, keepdims=True)
