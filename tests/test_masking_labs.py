"""The pure parts of the masking labs: image gaps, differences, found words, time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence_masking import ARMS, config_of, seconds_of, steps_of
from benchmarks.masking_completion import figures_of as completion_figures
from benchmarks.masking_completion import found_of
from benchmarks.masking_scores import figures_of, gaps_of
from fistful.bow.ragged import Ragged


def recalls(value: float) -> dict:
    rng = np.random.default_rng(round(value * 1000))
    hits = (rng.random(200) < value).astype(float).tolist()
    return {how: {"image": hits, "text": hits} for how in ("plain", "reranked")}


def test_an_image_gap_is_the_difference_over_all_tokens_and_void_where_the_picture_does_not_matter() -> None:
    looks = [[4, 3, 1]] * 60  # of four hidden tokens three are found with the own picture, one with another's
    found = gaps_of({"content": looks, "stop": [[1, 1, 1]] * 60})
    assert (found["content"]["own"], found["content"]["shuffled"], found["content"]["mean"]) == (75.0, 25.0, 50.0)
    assert (found["all"]["own"], found["all"]["shuffled"], found["all"]["tokens"]) == (80.0, 40.0, 300)
    assert found["content"]["low"] > 0
    assert not found["void"]
    assert gaps_of({"content": [[4, 1, 1]] * 60, "stop": [[1, 1, 1]] * 60})["void"]


def test_differences_are_those_of_the_seeds_that_both_arms_have() -> None:
    arms = {
        "uniform-15": {seed: recalls(0.2) for seed in (0, 1, 2)},
        "uniform-60": {seed: recalls(0.6) for seed in (0, 1)},
    }
    found = figures_of(arms)["differences"]["uniform-60 - uniform-15"]["reranked image R@1"]
    first, second = (np.mean(recalls(value)["plain"]["image"]) for value in (0.2, 0.6))
    assert found["mean"] == round(100 * (second - first), 3)
    assert (found["told_apart"], found["seeds"]) == (True, 2)
    again = {"plain": recalls(0.2)["plain"], "reranked": recalls(0.6)["plain"]}
    gained = figures_of({"none": {0: again, 1: again}})["reranked - plain"]["none"]
    assert {*gained} == {"image R@1", "text R@1"}
    assert gained["image R@1"]["mean"] == round(100 * (second - first), 3)


def test_the_difference_of_the_rules_is_taken_without_its_sign() -> None:
    seeds = {"uniform-15": 0.2, "content-15": 0.1, "uniform-60": 0.3, "content-60": 0.31}
    rules = figures_of({arm: {seed: recalls(value) for seed in (0, 1)} for arm, value in seeds.items()})["rules"]
    mean = {arm: np.mean(recalls(value)["plain"]["image"]) for arm, value in seeds.items()}
    expected = abs(mean["content-15"] - mean["uniform-15"]) - abs(mean["content-60"] - mean["uniform-60"])
    assert rules["plain image R@1"]["|content - uniform| at 15 minus at 60"]["mean"] == round(100 * expected, 3)


def test_known_words_are_no_answers() -> None:
    scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    known, hidden = Ragged(np.array([0, 1, 1]), np.array([0])), Ragged(np.array([0, 2, 3]), np.array([1, 4, 0]))
    assert found_of(scores, known, hidden).tolist() == [1, 0]  # of 1, 2, 3 the first; of 4, 3, 2 none


def test_completion_is_compared_with_each_way_over_all_seeds() -> None:
    one = {"completion": [2, 1, 1] * 20, "prior": [0, 1, 0] * 20, "of": [3] * 60, "could be found": [2] * 60}
    found = completion_figures({0: one, 1: one})
    assert (found["seeds"], found["photos"], found["best possible"]) == (2, 60, 0.6667)
    assert found["completion"]["precision"] == 0.4444
    assert (found["prior"]["completion ahead"], found["prior"]["told_apart"]) == (0.3333, True)


def test_the_time_of_a_run_that_was_stopped_is_that_of_its_parts(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = [{"step": 5, "seconds": 10.0}, {"step": 9, "seconds": 19.5}, {"step": 12, "seconds": 4.0}, {"step": 20, "seconds": 12.0}]
    (tmp_path / "logs/speed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds_of(tmp_path) == 31.5


def test_arms_differ_in_what_is_hidden_alone(tmp_path: Path) -> None:
    configs = [config_of(arm, 0, tmp_path, 10) for arm in ARMS]
    assert [(one.loss.mask_rate, one.loss.mask_rule) for one in configs] == [
        (0.15, "uniform"),
        (0.6, "uniform"),
        (0.15, "content"),
        (0.6, "content"),
        (0.6, "uniform"),
        (0.6, "content"),
        (0.3, "uniform"),
        (0.75, "uniform"),
        (0.0, "uniform"),
    ]
    assert len({(one.optimiser, one.data, one.text, one.model, one.run) for one in configs}) == 1


def test_an_arm_that_takes_as_long_as_another_takes_fewer_steps_where_they_cost_more(tmp_path: Path) -> None:
    arms = {arm.name: arm for arm in ARMS}
    assert steps_of(arms["uniform-60"], 300, tmp_path) == 300
    with pytest.raises(SystemExit, match="--cost"):
        steps_of(arms["uniform-60-minutes"], 300, tmp_path)
    (tmp_path / "cost.json").write_text('{"uniform-15": 0.4, "uniform-60": 0.5}')
    assert steps_of(arms["uniform-60-minutes"], 300, tmp_path) == 240
