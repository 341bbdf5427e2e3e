"""The benchmarks run, and what they compare is equal."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")))
def test_every_benchmark_finds_what_it_imports(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def rows_of(name: str, data_root: Path, *options: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", *options]
    run = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "FISTFUL_DATA": str(data_root)}, check=True, capture_output=True, text=True
    )
    return {row: json.loads(figures) for row, _, figures in (line.partition(" ") for line in run.stdout.splitlines())}


@pytest.mark.slow
def test_every_row_of_the_captions_benchmark_runs_and_asserts_that_results_are_equal(data_root: Path, tmp_path: Path) -> None:
    found = rows_of("captions", data_root, "--work", str(tmp_path))
    assert [*found] == [
        "ids_clean_warm",
        "ids_clean_cold",
        "ids_web",
        "count_job",
        "bags_text",
        "bags_3kb",
        "bags_30kb",
        "table_3kb",
        "table_30kb",
        "beam",
        "two_workers",
        "slope",
    ]
    assert all("bar" in figures for figures in found.values())


def test_the_words_rows_of_the_captions_benchmark_run(data_root: Path, tmp_path: Path) -> None:
    found = rows_of("captions", data_root, "--work", str(tmp_path), "--rows", "ids_web")
    assert found["ids_web"]["captions"] == 5_000
    assert found["ids_web"]["misses_per_caption"] > 1


@pytest.mark.slow
@pytest.mark.xdist_group("clip_benchmark")
def test_every_row_of_the_evaluation_benchmark_runs_and_asserts_that_results_are_equal(data_root: Path) -> None:
    found = rows_of("evaluation", data_root)
    assert [*found] == ["zeroshot_resnet", "zeroshot_vit", "classifier_resnet", "classifier_vit", "digits", "report"]
    assert all("bar" in figures for figures in found.values())
    assert found["classifier_resnet"]["largest_difference"] < 1e-5


@pytest.mark.slow
def test_every_row_of_the_labels_benchmark_runs_and_asserts_that_features_are_equal(data_root: Path, tmp_path: Path) -> None:
    found = rows_of("labels", data_root, "--work", str(tmp_path))
    assert [*found] == ["vit_224", "tiny_64"]
    assert all("bar" in figures for figures in found.values())


@pytest.mark.slow
def test_the_text_benchmark_runs_and_asserts_that_a_sum_of_words_knows_no_order(data_root: Path, tmp_path: Path) -> None:
    found = rows_of("text", data_root, "--work", str(tmp_path))
    assert [*found] == ["quiz"]
    assert found["quiz"]["models"] == 2
    assert found["quiz"]["tasks"] > 20


def test_the_benchmark_of_gpus_says_in_one_line_that_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    importlib.import_module("benchmarks.gpu").main()
    assert capsys.readouterr().out == "bench-gpu: torch sees no GPU here; nothing was measured\n"


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
@pytest.mark.timeout(1_800)
def test_every_row_of_the_stores_benchmark_runs_and_asserts_that_bytes_are_equal(data_root: Path, tmp_path: Path) -> None:
    found = rows_of("stores", data_root, "--work", str(tmp_path))
    assert [*found] == ["same_bytes", "killed", "bags_pictures", "large_shard", "train_from_store"]
    assert all("bar" in figures for figures in found.values())
