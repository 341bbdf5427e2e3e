"""Paired comparison of models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fistful.errors import DataError
from fistful.eval.compare import compare_results, paired
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import results_table


def test_a_difference_counts_the_images_that_only_one_gets_right():
    first, second = np.array([1] * 60 + [0] * 40), np.array([1] * 50 + [0] * 10 + [1] * 30 + [0] * 10)
    found = paired(first, second, np.arange(100) % 5)
    assert (found["only_first"], found["only_second"], found["n"]) == (10, 30, 100)
    assert found["acc1_difference"] == pytest.approx(0.2)
    assert 0.05 < found["acc1_low"] < 0.1 < 0.3 < found["acc1_high"] < 0.35
    assert found["mcnemar_p"] == pytest.approx(0.002221, abs=1e-6)


def test_equal_models_differ_by_nothing():
    right = np.arange(50) % 2
    found = paired(right, right, np.zeros(50, int))
    assert (found["acc1_difference"], found["mcnemar_p"]) == (0.0, 1.0)
    assert -found["acc1_low"] == pytest.approx(found["acc1_high"])  # equal on these 50: on others they may differ in one of 14
    assert found["acc1_high"] == pytest.approx(3.8415 / 53.8415, abs=1e-4)


def test_every_model_is_compared_with_the_first_and_across_folders(squares, colours, tmp_path):
    config = EvaluateConfig(prompts=("name",), progress=False)
    swapped = colours(swapped=True)
    out = evaluate(colours(), swapped, data=(str(squares),), out=tmp_path / "r", config=config)
    (found,) = json.loads((out / "results.json").read_text())["comparisons"]
    assert (found["first"], found["second"], found["only_first"], found["only_second"]) == ("colours", "colours-2", 7, 1)
    assert "colours-2 - colours on squares, name: top-1 -50.0 [" in results_table(out)
    alone = evaluate(swapped, data=(str(squares),), out=tmp_path / "s", config=config)
    second = alone / "predictions" / "colours--squares--name.parquet"
    firsts = [out / "predictions" / f"{model}--squares--name.parquet" for model in ("colours", "colours-2")]
    assert [compare_results(first, second)["acc1_difference"] for first in firsts] == [-0.5, 0.0]


def test_predictions_of_other_images_are_not_compared(squares, colours, tmp_path):
    paths: list[Path] = []
    for half in ("dev", "test"):
        out = evaluate(
            colours(), data=(str(squares),), out=tmp_path / half, config=EvaluateConfig(prompts=("name",), progress=False, half=half)
        )
        paths.append(out / "predictions" / "colours--squares--name.parquet")
    with pytest.raises(DataError, match="have no image in common, expected predictions for the same set"):
        compare_results(paths[0], paths[1])
