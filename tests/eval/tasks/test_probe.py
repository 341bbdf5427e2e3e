"""The nearest-neighbour probe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.manifest import verify
from fistful.errors import UsageError
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, results_table
from fistful.eval.tasks.probe import nearest_others, vote
from tests.support.squares import SQUARES, square


def config(**fields: object) -> EvaluateConfig:
    return EvaluateConfig(**{"prompts": ("name",), "progress": False, **fields})


def train_set(root: Path, n: int = 9, first: int = 100) -> Path:
    for name, colour in SQUARES.items():
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{i}.png").write_bytes(square(colour, first + i))
    return root


def test_a_probe_asks_the_nearest_images_of_a_labelled_set(squares, colours, tmp_path):
    probe = train_set(tmp_path / "known")
    out = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(probe=(str(probe),)))
    zero_shot, result = read_results(out)
    assert (zero_shot["task"], result["task"], result["prompts"], result["dataset"]) == (
        "zeroshot_classification",
        "knn_probe",
        "knn",
        "squares",
    )
    assert result["metrics"]["acc1"] == 11 / 12  # the blue one that is painted red
    about = {"k": 20, "temperature": 0.07, "leave_one_out": False, "dataset": "known", "n": 27, "refused": 0, "n_copies": 0}
    assert {key: value for key, value in result["probe"].items() if key != "content"} == about
    assert pq.read_table(out / "predictions" / "colours--squares--knn.parquet")["rank"].to_pylist() == [2, *[0] * 11]
    assert (out / "classes" / "colours--squares--knn.parquet").exists()
    assert verify(out) == []
    assert results_table(out).splitlines()[3].split()[:4] == ["colours", "squares", "knn", "91.7"]


def test_without_a_training_set_each_image_is_left_out_of_its_own_neighbours(colours, tmp_path):
    data = train_set(tmp_path / "set")
    (data / "red" / "odd.png").write_bytes(square(SQUARES["blue"], 1))
    (_, result) = read_results(evaluate(colours(), data=(str(data),), out=tmp_path / "r", config=config(probe=("itself",))))
    assert (result["metrics"]["acc1"], result["metrics"]["n"], result["probe"]["leave_one_out"]) == (27 / 28, 28, True)
    assert not [line for line in result["warnings"] if "byte for byte" in line]


def test_copies_among_the_neighbours_are_said(colours, tmp_path):
    data, probe = train_set(tmp_path / "set", n=8), train_set(tmp_path / "known")
    (data / "red" / "copy.png").write_bytes(square(SQUARES["red"], 100))
    (data / "red" / "again.png").write_bytes(square(SQUARES["red"], 100))
    (_, result) = read_results(evaluate(colours(), data=(str(data),), out=tmp_path / "r", config=config(probe=(str(probe),))))
    assert "26 images have a copy, byte for byte, among those that the probe asks" in result["warnings"]
    (_, result) = read_results(evaluate(colours(), data=(str(data),), out=tmp_path / "s", config=config(probe=("itself",))))
    assert "3 images have a copy, byte for byte, among those that the probe asks" in result["warnings"]


def test_votes_weigh_with_the_exponential_of_the_cosine():
    shares = vote(np.array([[2, 0, 0]]), np.array([[0.9, 0.83, 0.83]], np.float32), 4)
    weights = [math.exp(0.9 / 0.07), 2 * math.exp(0.83 / 0.07)]
    np.testing.assert_allclose(shares, [[weights[1] / sum(weights), 0, weights[0] / sum(weights), 0]], atol=1e-5)


def test_an_image_behind_its_copies_still_gets_k_neighbours():
    keys = np.ones((6, 1), np.float32)
    rows, cosines = nearest_others(keys, keys, 2, same=True)
    assert rows.shape == cosines.shape == (6, 2)
    assert not (rows == np.arange(6)[:, None]).any()


def test_an_interrupted_probe_goes_on_and_batches_change_no_byte(squares, colours, tmp_path):
    probe = str(train_set(tmp_path / "known"))
    out = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(probe=(probe,)))
    before = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file() and "logs" not in p.parts}
    for gone in ("manifest.json", "results/colours--squares--knn.json"):
        (out / gone).unlink()
    evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(probe=(probe,), batch_size=5))
    assert {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file() and "logs" not in p.parts} == before


def test_one_of_several_sets_may_be_probed_alone(squares, colours, tmp_path):
    known = str(train_set(tmp_path / "known"))
    out = evaluate(colours(), data=(str(squares), known), out=tmp_path / "r", config=config(probe=(known, "")))
    assert [(r["dataset"], r["task"]) for r in read_results(out)] == [
        ("squares", "zeroshot_classification"),
        ("squares", "knn_probe"),
        ("known", "zeroshot_classification"),
    ]


def test_sets_that_do_not_fit_are_refused(squares, colours, tmp_path):
    def run(*probe: str, **fields: object) -> None:
        evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(probe=probe, **fields))

    other = train_set(tmp_path / "other")
    (other / "red").rename(other / "purple")
    with pytest.raises(UsageError, match=r"--probe other: its 3 classes are not the 3 of squares \(one has 'purple', the other not\)"):
        run(str(other))
    with pytest.raises(UsageError, match=r"--probe known: found 18 images, expected more than the 20 neighbours that vote"):
        run(str(train_set(tmp_path / "known", n=6)))
    with pytest.raises(UsageError, match=r"squares: is the set itself, each image its own neighbour; write --probe itself"):
        run(f"{squares}/../squares")
    with pytest.raises(UsageError, match=r"--probe: found 2 for 1 data sets, expected one each, or itself"):
        run("itself", "itself")


def test_a_file_of_prompts_that_is_called_like_the_probe_keeps_results_of_its_own(colours, tmp_path):
    (tmp_path / "knn.txt").write_text("a {c}\n")
    sets = {"data": (str(train_set(tmp_path / "set")),), "out": tmp_path / "r"}
    out = evaluate(colours(), **sets, config=config(probe=("itself",), prompts=(str(tmp_path / "knn.txt"),)))
    assert [(r["prompts"], r["task"]) for r in read_results(out)] == [("knn (file)", "zeroshot_classification"), ("knn", "knn_probe")]
    assert len(list((out / "predictions").iterdir())) == 2
