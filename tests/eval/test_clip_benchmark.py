"""CLIP_benchmark itself, unmodified, prints what we print; its `build` joins our results with its own."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.evaluation import OVERLAY
from benchmarks.evaluation_data import tiny_imagenet
from benchmarks.measure import CACHE, overlay
from fistful.bow.store.shard import tar_bytes
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.clip_encoder import save_tiny_clip
from tests.support.data_folder import make_data
from tests.support.shapes import real_pictures

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clip_benchmark")]
CONFIG = EvaluateConfig(prompts=("set",), progress=False)


@pytest.fixture(scope="module")
def packages() -> Path:
    return overlay(CACHE, "clip-benchmark", OVERLAY)


@pytest.fixture(scope="module")
def pictures(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 of Tiny-ImageNet's validation images in CLIP_benchmark's layout."""
    return tiny_imagenet(data_root, tmp_path_factory.mktemp("sets") / "tiny", n_classes=20, n_each=15)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def clip_benchmark(packages: Path, *arguments: object) -> None:
    env = {**os.environ, "PYTHONPATH": str(packages), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "clip_benchmark.cli", *map(str, arguments)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def clip_benchmark_eval(packages: Path, model: Path, data: Path, out: Path) -> dict[str, Any]:
    options = f"--model local-dir:{model} --pretrained none --task zeroshot_classification --no_amp --num_workers 1"
    clip_benchmark(packages, "eval", "--dataset", "wds/set", "--dataset_root", data, *options.split(), "--output", out)
    return json.loads(out.read_text())


def several_labels(single: Path, folder: Path) -> Path:
    """Write the set anew with other classes beside the true one, as clip_benchmark_export_wds --multilabel does."""
    files: dict[str, bytes] = {}
    with tarfile.open(single / "test" / "0.tar") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            key, _, kind = member.name.partition(".")
            data = content.read()
            if kind == "cls":
                labels, npy = np.zeros(20, np.int64), io.BytesIO()
                labels[[int(data), int(key[1:]) % 20, int(key[1:]) % 7]] = 1
                np.save(npy, labels)
                kind, data = "npy", npy.getvalue()
            files[f"{key}.{kind}"] = data
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "0.tar").write_bytes(tar_bytes(files))
    (folder / "dataset_type.txt").write_text("multilabel\n")
    for name in ("classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"):
        (folder / name).write_bytes((single / name).read_bytes())
    return folder


def assert_agrees(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert (theirs["task"], theirs["language"]) == (ours["task"], ours["language"])
    assert (ours["metrics"]["acc1"], ours["metrics"]["acc5"]) == (theirs["metrics"]["acc1"], theirs["metrics"]["acc5"])
    assert ours["metrics"]["mean_per_class_recall"] == pytest.approx(theirs["metrics"]["mean_per_class_recall"], abs=1e-12)


def test_an_untrained_open_clip_model_gets_the_same_figures_and_build_joins_both(packages, pictures, untrained, tmp_path):
    theirs = clip_benchmark_eval(packages, untrained, pictures, tmp_path / "theirs.json")
    out = evaluate(str(untrained), data=(str(pictures),), out=tmp_path / "r", config=CONFIG)
    (ours,) = read_results(out)
    assert ours["metrics"]["n"] == 300
    assert_agrees(theirs, ours)

    clip_benchmark(packages, "build", tmp_path / "theirs.json", out / "results", "--output", tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows] == ["wds/set", "tiny"]
    assert rows[0]["acc1"] == rows[1]["acc1"] != ""
    assert [row["model_fullname"] for row in rows] == [f"local-dir:{untrained} none", f"tiny-clip {ours['pretrained']}"]


def test_the_model_of_a_run_gets_the_same_figures(packages, pictures, tmp_path):
    run = train(make_data(tmp_path / "data"), out=tmp_path / "run", config=train_config(steps=3, batch_size=4, warmup=1, progress=False))
    theirs = clip_benchmark_eval(packages, run / "model", pictures, tmp_path / "theirs.json")
    (ours,) = read_results(evaluate(str(run), data=(str(pictures),), out=tmp_path / "r", config=CONFIG))
    assert_agrees(theirs, ours)


def test_a_multi_label_set_gets_the_same_mean_average_precision(packages, pictures, untrained, tmp_path):
    data = several_labels(pictures, tmp_path / "several")
    theirs = clip_benchmark_eval(packages, untrained, data, tmp_path / "theirs.json")
    (ours,) = read_results(evaluate(str(untrained), data=(str(data),), out=tmp_path / "r", config=CONFIG))
    assert [*theirs["metrics"]] == ["mean_average_precision"]
    assert ours["metrics"]["mean_average_precision"] == pytest.approx(theirs["metrics"]["mean_average_precision"], abs=1e-6)
    assert 0.05 < ours["metrics"]["mean_average_precision"] < 0.9


def retrieval_set(data_root: Path, folder: Path) -> Path:
    """Write 300 of COCO's pictures in three shards, a caption a line, as clip_benchmark_export_wds --retrieval does."""
    pictures = list(real_pictures(data_root / "photos/captioned/coco-00000.tar.gz", 300).items())
    (folder / "test").mkdir(parents=True)
    (folder / "dataset_type.txt").write_text("retrieval\n")
    (folder / "test" / "nshards.txt").write_text("3\n")
    for i in range(3):
        files = {}
        for stem, (image, captions) in pictures[i::3]:
            files |= {f"{stem}.jpg": image, f"{stem}.txt": "\n".join(captions).encode()}
        (folder / "test" / f"{i}.tar").write_bytes(tar_bytes(files))
    return folder


def test_retrieval_gets_the_same_recall_both_ways(packages, data_root, untrained, tmp_path):
    data = retrieval_set(data_root, tmp_path / "pairs")
    options = f"--model local-dir:{untrained} --pretrained none --task zeroshot_retrieval --recall_k 1 5 10 --no_amp --num_workers 1"
    out = tmp_path / "theirs.json"
    clip_benchmark(packages, "eval", "--dataset", "wds/pairs", "--dataset_root", data, *options.split(), "--output", out)
    theirs = json.loads(out.read_text())
    (ours,) = read_results(evaluate(str(untrained), data=(str(data),), out=tmp_path / "r", config=CONFIG))
    assert (theirs["task"], ours["task"], ours["metrics"]["n"], ours["n_captions"]) == (*["zeroshot_retrieval"] * 2, 300, 1501)
    assert len(theirs["metrics"]) == 6
    assert {name: ours["metrics"][name] for name in theirs["metrics"]} == pytest.approx(theirs["metrics"], abs=1e-6)
