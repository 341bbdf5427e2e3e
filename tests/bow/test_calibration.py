"""What scores are worth, by part of the vocabulary and by source."""

from __future__ import annotations

import numpy as np
import pytest

from fistful.bow.calibration import Calibration, Calibrator, Curve
from fistful.bow.pseudo import Candidates
from tests.support.strategies import make_ragged


def test_rare_words_have_a_curve_of_their_own() -> None:
    frequent, rare = Curve((0.0, 1.0), (0.2, 0.8)), Curve((0.0, 1.0), (0.0, 0.1))
    calibration = Calibration((frequent, frequent, rare))
    assert calibration.share_of(np.array([0, 60, 300]), np.array([0.5, 0.5, 0.5])) == pytest.approx([0.5, 0.5, 0.05])


def test_outside_what_was_measured_a_curve_is_flat() -> None:
    assert Curve((0.2, 0.4), (0.1, 0.3)).at(np.array([-9.0, 0.3, 9.0])) == pytest.approx([0.1, 0.2, 0.3])


def test_sources_become_one_distribution() -> None:
    same, half = (Calibration((Curve((0.0, 1.0), (0.0, top)),) * 3) for top in (1.0, 0.5))
    head = Candidates(make_ragged([[4, 1]]), np.array([0.75, 0.5]))
    knn = Candidates(make_ragged([[1, 9]]), np.array([1.0, 0.25]))
    found = Calibrator((same, half), Calibration((Curve((0.0, 0.5), (0.0, 1.0)),) * 3)).likely([head, knn])
    # word 1: (.5 + 1 / 2) / 2, twice as much by the curve of means; word 4: .75 / 2; word 9: .125 / 2
    assert found.words.values.tolist() == [1, 4, 9]
    assert found.scores.tolist() == [1.0, 0.75, 0.125]
