"""The benchmarks run, and what they compare is equal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


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
