"""Learning from a few vectors in closed form: nothing here is drawn, and nothing is searched but the ridge's strength.

>>> two = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
>>> weights, offset = centroids(two, np.array([1, 1, -1, -1]))
>>> (two @ weights + offset > 0).tolist()
[True, True, False, False]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

STRENGTHS = 10.0 ** np.arange(-3, 4)
"""Of the ridge, times the mean squared length of the centred vectors; the best is chosen by leaving one out."""
TIE = 1e-9
"""Scores nearer to 0 than this say nothing; labels are 1 and -1. Rounding makes them where two vectors are the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """A linear map: vectors @ weights + offset."""

    weights: np.ndarray
    """(D, M)."""
    offset: np.ndarray
    """(M,)."""

    def __call__(self, vectors_ND: np.ndarray) -> np.ndarray:
        """Return what is predicted, (N, M)."""
        return vectors_ND @ self.weights + self.offset


def ridges(vectors_ND: np.ndarray, targets: Sequence[np.ndarray]) -> list[Fit]:
    """Fit a ridge regression to each of several targets.

    Args:
        vectors_ND: The examples, float64.
        targets: (N, M) each.

    Returns:
        A map each, with the strength of least squared error by leaving one out; of equals the greatest.

    Source:
        Golub, Heath and Wahba 1979, Technometrics 21, equation 1.5: the error of one left out is its residual / (1 - leverage).
    """
    n, centre_D = len(vectors_ND), vectors_ND.mean(axis=0)
    centred_ND = vectors_ND - centre_D
    values_N, axes_NN = np.linalg.eigh(centred_ND @ centred_ND.T)
    values_N = np.maximum(values_N, 0)
    scale = float(values_N.sum()) / n
    fits = []
    for target_NM in targets:
        mean_M = target_NM.mean(axis=0)
        if scale <= TIE:  # all vectors are the same
            fits.append(Fit(np.zeros((vectors_ND.shape[1], target_NM.shape[1])), mean_M))
            continue
        turned_NM = axes_NN.T @ (target_NM - mean_M)
        errors = [_left_out(values_N, axes_NN, turned_NM, scale * strength) for strength in STRENGTHS]
        best = scale * STRENGTHS[len(errors) - 1 - int(np.argmin(errors[::-1]))]
        weights_DM = centred_ND.T @ (axes_NN @ (turned_NM / (values_N + best)[:, None]))
        fits.append(Fit(weights_DM, mean_M - centre_D @ weights_DM))
    return fits


def _left_out(values_N: np.ndarray, axes_NN: np.ndarray, turned_NM: np.ndarray, strength: float) -> float:
    """Return the squared error of examples left out one by one."""
    rest_N = strength / (values_N + strength)
    residuals_NM = axes_NN @ (rest_N[:, None] * turned_NM)
    room_N = (axes_NN**2) @ rest_N - 1 / len(values_N)  # 1 - leverage; the mean is fitted too
    return float((residuals_NM**2 / np.maximum(room_N, 1e-6)[:, None] ** 2).sum())


def centroids(vectors_ND: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights (D,) and offset of a score that is positive where the centroid of the examples labelled 1 is nearer."""
    yes_D, no_D = (vectors_ND[labels_N == label].mean(axis=0) for label in (1, -1))
    return yes_D - no_D, float(no_D @ no_D - yes_D @ yes_D) / 2


def balanced_accuracy(scores_N: np.ndarray, labels_N: np.ndarray) -> float:
    """Return the mean of the shares that are right of those labelled 1 and of those labelled -1; a score of 0 is half right.

    >>> balanced_accuracy(np.array([2.0, -1.0, 0.0, -3.0]), np.array([1, 1, -1, -1]))
    0.625
    """
    right_N = np.where(np.abs(scores_N) <= TIE, 0.5, scores_N * labels_N > 0)
    return float(np.mean([right_N[labels_N == label].mean() for label in (1, -1)]))


def nearest(wanted_ND: np.ndarray, choices_CD: np.ndarray, asked_N: np.ndarray) -> np.ndarray:
    """Return the choice of greatest cosine for each wanted vector, never the word that is asked: (N,) int64.

    Args:
        wanted_ND: What is looked for.
        choices_CD: float32, of length 1.
        asked_N: The place, among the choices, of each question.
    """
    cosines_NC = wanted_ND.astype(np.float32) @ choices_CD.T  # a wanted vector's length changes no order
    cosines_NC[np.arange(len(asked_N)), asked_N] = -np.inf
    return cosines_NC.argmax(axis=1)


def share_right(answers_N: np.ndarray, asked_N: np.ndarray, right: Mapping[int, set[int]]) -> float:
    """Return the share of questions whose answer is one of the right ones."""
    return float(np.mean([answer in right[asked] for answer, asked in zip(answers_N.tolist(), asked_N.tolist(), strict=True)]))
