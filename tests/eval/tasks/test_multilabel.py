"""Sets whose images have several labels, or none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.manifest import verify
from fistful.bow.store.shard import tar_bytes
from fistful.errors import DataError, UsageError
from fistful.eval.during import AccuracyOn
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, results_table
from fistful.eval.sets.evaluation_set import EvalSet, Sample
from fistful.eval.sets.layouts import open_set
from fistful.eval.tasks.multilabel import by_frequency, by_source, difference, left_out, summarise, truth_of
from tests.support.squares import SQUARES, square

CLASSES = ["red", "green", "blue"]
CONFIG = EvaluateConfig(prompts=("name",), progress=False)


def npy(*values: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values))
    return buffer.getvalue()


def several(root: Path, files: dict[str, bytes], classes: list[str] = CLASSES) -> Path:
    """Write a multi-label set in CLIP_benchmark's layout."""
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text("".join(f"{name}\n" for name in classes))
    (root / "dataset_type.txt").write_text("multilabel\n")
    (root / "test" / "nshards.txt").write_text("1")
    (root / "test" / "0.tar").write_bytes(tar_bytes(files))
    return root


def pictures(labels: dict[str, list[tuple[int, ...]]]) -> dict[str, bytes]:
    """Squares of a colour, each with its labels."""
    files = {}
    for colour, rows in labels.items():
        for i, row in enumerate(rows):
            files |= {f"{colour}{i}.png": square(SQUARES[colour], i), f"{colour}{i}.npy": npy(*row)}
    return files


def classes_of(opened: EvalSet) -> list[tuple[int, ...]]:
    return [one.classes() for one in opened.read() if isinstance(one, Sample)]


LABELS = {"red": [(1, 0, 0), (1, 1, 0), (0, 0, 0)], "green": [(0, 1, 0), (1, 0, 0)], "blue": [(0, 1, 1)]}


def test_mean_average_precision_is_written_beside_the_scores_of_every_class(colours, tmp_path):
    data = several(tmp_path / "set", pictures(LABELS))
    out = evaluate(colours(), data=(str(data),), out=tmp_path / "r", config=CONFIG)
    (result,) = read_results(out)
    predictions = pq.read_table(out / "predictions" / "colours--set--name.parquet").to_pylist()
    assert [row["labels"] for row in predictions] == [[0], [0, 1], [], [1], [0], [1, 2]]
    scores, truth = np.array([row["scores"] for row in predictions]), truth_of([row["labels"] for row in predictions], 3)
    expected = [average_precision_score(truth[:, i], scores[:, i]) for i in range(3)]
    assert result["metrics"]["mean_average_precision"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert (result["metrics"]["n"], result["metrics"]["n_classes"], result["metrics"]["n_labels"]) == (6, 3, 7)
    assert "acc1" not in result["metrics"]
    classes = pq.read_table(out / "classes" / "colours--set--name.parquet").to_pylist()
    assert [(row["n"], row["average_precision"]) for row in classes] == [
        (n, pytest.approx(ap)) for n, ap in zip((3, 3, 1), expected, strict=True)
    ]
    assert verify(out) == []
    line = results_table(out).splitlines()[2].split()
    assert line[:4] == ["colours", "set", "name", f"{100 * result['metrics']['mean_average_precision']:.1f}"]
    assert line[-3:] == ["38.9", "6", "0"]


def test_models_are_compared_by_their_mean_average_precision(colours, tmp_path):
    data = several(tmp_path / "set", pictures(LABELS))
    out = evaluate(colours(), colours(swapped=True), data=(str(data),), out=tmp_path / "r", config=CONFIG)
    first, second = (result["metrics"]["mean_average_precision"] for result in read_results(out))
    (found,) = json.loads((out / "results.json").read_text())["comparisons"]
    assert found["mean_average_precision_difference"] == pytest.approx(second - first)
    assert found["mean_average_precision_low"] <= second - first <= found["mean_average_precision_high"]
    assert "colours-2 - colours on set, name: mean AP" in results_table(out)


def test_a_parquet_file_may_have_a_list_of_labels(colours, tmp_path):
    images = [square(SQUARES[name]) for name in ("red", "green", "blue", "red")]
    labels = [["red", "warm"], ["green"], [], None]
    pq.write_table(pa.table({"image": images, "labels": pa.array(labels, pa.list_(pa.string()))}), tmp_path / "a.parquet")
    opened = open_set(str(tmp_path / "a.parquet"), None)
    assert (opened.multilabel, [entry.name for entry in opened.classes]) == (True, ["green", "red", "warm"])
    assert classes_of(opened) == [(1, 2), (0,), ()]
    assert [(one.reason, one.detail) for one in opened.read() if isinstance(one, DeadLetter)] == [
        ("no_label", "the label is None, which is not one of the 3 classes")
    ]


@pytest.mark.parametrize("feature", [{"feature": {"names": CLASSES}}, [{"names": CLASSES}]])
def test_lists_of_numbers_take_the_names_that_a_hub_keeps(tmp_path, feature):
    table = pa.table({"image": [square(SQUARES["red"])], "labels": [[2, 0]]})
    features = {"info": {"features": {"labels": feature}}}
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()}), tmp_path / "a.parquet")
    opened = open_set(str(tmp_path), None)
    assert ([entry.name for entry in opened.classes], classes_of(opened)) == (CLASSES, [(0, 2)])
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "names.tsv").write_text("id\tname\n0\tred\n1\tgreen\n2\tblue\n")
    assert classes_of(open_set(str(tmp_path / "a.parquet"), str(tmp_path / "names.tsv"))) == [(0, 2)]


def test_labels_that_are_not_a_0_or_1_for_each_class_are_refused(tmp_path):
    red = square(SQUARES["red"])
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    bad = {"b": npy(1, 0), "c": npy(0, 2, 0), "d": pickled.getvalue(), "e": b"PK\x03\x04", "g": npy(1, 0, 0)[:-8]}
    files = {"a.png": red, "a.cls": b"1"}
    for key, data in bad.items():
        files |= {f"{key}.png": red, f"{key}.npy": data}
    found = list(open_set(str(several(tmp_path / "set", files)), None).read())
    assert [(one.reason, one.detail) for one in found if isinstance(one, DeadLetter)] == [
        ("no_label", "has an image and no .npy next to it"),
        ("no_label", ".npy holds int64 of shape (2,), expected a 0 or 1 for each of 3 classes"),
        ("no_label", ".npy holds int64 of shape (3,), expected a 0 or 1 for each of 3 classes"),
        *(("no_label", ".npy is no array (ValueError)") for _ in range(3)),
    ]
    assert len(found) == 6


def test_a_class_without_an_image_is_left_out_of_the_mean_and_said_so(colours, tmp_path):
    data = several(tmp_path / "set", pictures({"red": [(1, 0, 0)], "green": [(0, 1, 0)]}))
    (result,) = read_results(evaluate(colours(), data=(str(data),), out=tmp_path / "r", config=CONFIG))
    assert result["metrics"]["mean_average_precision"] == 1.0
    assert "1 class has no image: blue" in result["warnings"]


def test_what_cannot_be_said_of_several_labels_is_refused(colours, tmp_path):
    data = str(several(tmp_path / "set", pictures(LABELS)))
    with pytest.raises(UsageError, match=r"--probe: set has several labels for an image; neighbours vote for one class"):
        evaluate(colours(), data=(data,), out=tmp_path / "r", config=EvaluateConfig(probe=("itself",), progress=False))
    with pytest.raises(UsageError, match=r"--evaluate-on set: has several labels for an image; expected one, for accuracy"):
        AccuracyOn((data,))
    with pytest.raises(DataError, match="features of length nan"):
        evaluate(colours(broken="nan"), data=(data,), out=tmp_path / "r", config=CONFIG)


def test_what_is_left_without_an_image_is_scikit_learns_figure_of_the_others():
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 9, (40, 4)).astype(np.float32), rng.random((40, 4)) < 0.4  # many ties
    truth[:, 2] = np.arange(40) == 7  # a class of one image, and one of none
    truth[:, 3] = False
    found = left_out(scores, truth)
    for image in range(40):
        rest = np.arange(40) != image
        expected = [average_precision_score(truth[rest, i], scores[rest, i]) for i in (0, 1, 2) if truth[rest, i].any()]
        assert found[image] == pytest.approx(np.mean(expected), abs=1e-12)


def test_the_interval_holds_its_value_and_has_a_width():
    rng = np.random.default_rng(0)
    for n, share in ((5, 0.4), (30, 0.1), (200, 0.02)):
        truth = rng.random((n, 10)) < share
        truth[0, 0] = True
        for scores in (rng.normal(size=truth.shape) + truth, truth.astype(float), np.zeros(truth.shape)):
            figures = summarise(scores.astype(np.float32), truth, None)
            low, value, high = (figures["mean_average_precision" + end] for end in ("_low", "", "_high"))
            assert 0 <= low <= value <= high <= 1
            assert low < high


def test_two_models_that_say_the_same_are_not_told_apart():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(30, 4)).astype(np.float32), rng.random((30, 4)) < 0.3
    same = difference(scores, scores, truth)
    assert same["mean_average_precision_difference"] == 0
    assert same["mean_average_precision_low"] < 0 < same["mean_average_precision_high"]
    better = difference(scores, scores + 3 * truth, truth)
    assert 0 < better["mean_average_precision_low"] < better["mean_average_precision_difference"] < better["mean_average_precision_high"]


def test_figures_by_source_by_frequency_and_of_the_covered_classes():
    truth = truth_of([(0,), (1,), (2,), (0, 2)], 3)
    scores = np.where(truth, 1.0, 0.0).astype(np.float32)
    scores[0, 2] = 2.0
    figures = summarise(scores, truth, np.array([True, True, False]))
    assert figures["covered_n_classes"] == 2
    assert figures["covered_mean_average_precision"] == 1.0
    assert figures["mean_average_precision"] < 1.0
    assert figures["chance_mean_average_precision"] == pytest.approx((2 + 1 + 2) / 12)
    assert by_source(scores, truth, ["a", "a", "b", "b"])["b"] == {"n": 2, "mean_average_precision": 1.0}
    assert by_source(scores, truth, ["a"] * 4) == {}
    assert [(part["part"], part["n"]) for part in by_frequency(scores, truth, np.array([5, 9, 2]))] == [
        ("head", 1),
        ("middle", 2),
        ("tail", 2),
    ]
