"""Configurations and their seeds side by side: the statistics, the grouping, and what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.eval.compare import compare_configurations, paired
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.verbs.report import ReportConfig, report
from fistful.verbs.report.configurations import configurations_of, group_name, judged_sets, side_of
from fistful.verbs.report.inputs import open_material
from tests.support.report_folders import HOSTILE, Right, make_data, make_results, make_run


def test_seeds_of_one_configuration_stand_in_one_line_with_their_spread(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs" / f"{text}-s{seed}", text=text, seed=seed) for text in ("caption", "bag") for seed in (0, 1)]
    names = {f"{text}-s{seed}": Right(0.3) for text in ("caption", "bag") for seed in (0, 1)}
    results = make_results(tmp_path / "results", names, classes=tuple("abcdefg"))
    material = open_material([str(results), *map(str, runs)])
    assert [(c.name, c.labels) for c in configurations_of(material)] == [
        ("caption", ("caption-s0", "caption-s1")),
        ("bag", ("bag-s0", "bag-s1")),
    ]
    ((key, judged),) = judged_sets(material, 1)
    side = side_of(key, judged, {name: i for i, name in enumerate(names)}, 1)
    assert [(line.name, line.seeds) for line in side.lines] == [("caption", "2"), ("bag", "2")]
    assert all("smoke run" not in line.verdict for line in side.lines)
    page = report(*map(str, [results, *runs]), out=tmp_path / "page.html").read_text("utf-8")
    assert "bag (2 seeds) differs by" in page
    assert "Seeds behind a configuration: 2." in page


def test_one_seed_each_is_worded_as_a_smoke_run(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.3), "longer": Right(0.4)}, classes=tuple("abcdefg"))
    material = open_material([str(results)])
    ((key, judged),) = judged_sets(material, 1)
    side = side_of(key, judged, {"a": 0, "longer": 1}, 1)
    assert side.lines[1].verdict.endswith("one seed: a smoke run")


def test_models_without_their_runs_stand_alone(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a-s0": Right(0.3), "a-s1": Right(0.4)})
    assert [c.name for c in configurations_of(open_material([str(results)]))] == ["a-s0", "a-s1"]


def test_results_folders_are_compared_across(tmp_path: Path) -> None:
    folders = [make_results(tmp_path / name, {"model": Right(0.3)}, classes=tuple("abcdefg")) for name in ("first", "second")]
    ((_, judged),) = judged_sets(open_material([*map(str, folders)]), 1)
    assert [c.name for c in judged.configurations] == ["model (first)", "model (second)"]


def test_models_that_saw_other_images_are_left_out_and_named(tmp_path: Path) -> None:
    same = make_results(tmp_path / "same", {"a": Right(0.3), "bb": Right(0.3)}, classes=tuple("abcdefg"))
    other = make_results(tmp_path / "other", {"ccc": Right(0.3)}, classes=tuple("abcd"))
    ((key, judged),) = judged_sets(open_material([str(same), str(other)]), 1)
    assert side_of(key, judged, {"a": 0, "bb": 1, "ccc": 2}, 1).note == "Not compared, for other images or class names: ccc."


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (["bags-seed0", "bags-seed1"], "bags"),
        (["bags_s10", "bags_s11"], "bags"),
        (["classes", "classes-2"], "classes"),
        (["runs (a/0)", "runs (a/1)"], "runs (a"),
        (["x", "y"], "x and others"),
        (["only-s0"], "only-s0"),
    ],
)
def test_a_configuration_is_called_by_what_its_seeds_have_in_common(labels: list[str], name: str) -> None:
    assert group_name(labels) == name


def test_with_one_seed_the_difference_is_the_paired_one() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.random(400) < 0.4).astype(float), (rng.random(400) < 0.6).astype(float)
    (found,) = compare_configurations(first[None], [second[None]])
    expected = paired(first, second, np.zeros(400, int))
    assert found.value == pytest.approx(expected["acc1_difference"])
    assert (found.low, found.high) == pytest.approx((expected["acc1_low"], expected["acc1_high"]))
    assert not found.over_seeds


def test_several_seeds_widen_the_interval_as_student_and_welch_say() -> None:
    # no variance over images, but for the two lent: means .5 and .6 against .8 and .9;
    # half = t(.975, 2) sqrt(.005 / 2 + .005 / 2) = 4.3027 * .070711
    first = np.stack([np.full(50_000, 0.5), np.full(50_000, 0.6)])
    second = np.stack([np.full(50_000, 0.8), np.full(50_000, 0.9)])
    (found,) = compare_configurations(first, [second])
    assert found.value == pytest.approx(0.3)
    assert found.high - found.value == pytest.approx(0.304243, abs=1e-4)
    assert found.over_seeds


def test_the_interval_over_seeds_and_images_covers_what_it_should() -> None:
    # true accuracies .5 and .5 (so 0 is right), seeds move them by sd .03, images are drawn anew each time
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        hard = rng.normal(0, 0.3, 200)
        right = [
            np.stack([rng.random(200) < np.clip(0.5 + hard + rng.normal(0, 0.03), 0, 1) for _ in range(3)]).astype(float) for _ in range(2)
        ]
        (found,) = compare_configurations(right[0], [right[1]])
        inside += found.low <= 0 <= found.high
    assert inside >= 88  # at 95 % fewer than 88 of 100 come once in 700 times


def test_classes_that_gained_and_lost_are_shown_with_pictures(squares, colours, tmp_path) -> None:
    config = EvaluateConfig(prompts=("name",), progress=False)
    out = evaluate(colours(), colours(swapped=True), data=(str(squares),), out=tmp_path / "r", config=config)
    page = report(str(out), out=tmp_path / "page.html", config=ReportConfig(sets=(str(squares),))).read_text("utf-8")
    section = page[page.index('<section id="comparison">') : page.index('<section id="classes">')]
    text = " ".join(re.sub(r"<[^>]+>", " ", section).split())
    assert "colours 1 91.7 – the others are compared with it" in text
    assert "colours-2 1 41.7 −50.0 " in text
    assert "not told apart; one seed: a smoke run" in text  # 7 images to 1: McNemar's exact p is .07
    assert (
        "Lost most, % right class rarest word's df images colours colours-2 change newly right, newly wrong red – 4 100 0 −100 +0 −4"
        in text
    )
    assert "red → blue" in text
    assert section.count("<img ") == 4  # two of red, two of blue
    without = report(str(out), out=tmp_path / "without.html").read_text("utf-8")
    assert "Pictures of the examples: give their evaluation set with --sets." in without


def test_changes_stand_against_word_frequency_where_that_is_known(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.3), HOSTILE[0]: Right(0.4)})
    data = make_data(tmp_path / "bags", list(HOSTILE))
    page = report(str(results), str(data), out=tmp_path / "page.html").read_text("utf-8")
    assert "Change in points, by frequency of the rarest word" in page
    assert "tail, df " in page
    assert "change of each class against the frequency of its rarest word" in page


def test_retrieval_is_compared_too(captioned, colours, tmp_path) -> None:
    config = EvaluateConfig(progress=False)
    out = evaluate(colours(), colours(swapped=True), data=(str(captioned),), out=tmp_path / "r", config=config)
    page = report(str(out), out=tmp_path / "page.html").read_text("utf-8")
    assert "Configurations, text R@5, %" in page
    assert "image retrieval recall@5" in page
    assert "What colours and colours-2 made of photos-bags: see the scores." in page


def test_predictions_of_another_kind_are_left_to_their_own_tables(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.3), "bb": Right(0.4)}, classes=tuple("abcdefg"))
    for path in (results / "predictions").iterdir():
        pq.write_table(pa.table({"image": ["x"], "labels": [[0, 1]]}), path)
    assert judged_sets(open_material([str(results)]), 1) == []
    assert '<section id="comparison">' not in report(str(results), out=tmp_path / "page.html").read_text("utf-8")
