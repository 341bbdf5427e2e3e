"""P2: the bytes outside logs/ depend on input and semantic configuration alone.

Conditions: one set of installed versions. Not on workers, engine threads, order of sources, working
folder, place of the input, locale, time zone, PYTHONHASHSEED, or on how often a unit was done.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fistful.pipelines.bags import BagOptions, BagsJob, bag_unit
from fistful.pipelines.count import CountConfig, count_unit
from fistful.pipelines.read.plan import plan_units
from tests.support.folders import contents, environment
from tests.support.job import PLAN, SOURCE, run_job

TWO_WORKERS = {"WORKERS": "2", "PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Kathmandu"}
ONE_WORKER = {"WORKERS": "1", "PYTHONHASHSEED": "2", "LC_ALL": "POSIX", "TZ": "America/St_Johns", "PYTHONOPTIMIZE": "1"}


def test_there_is_something_to_compare(undisturbed: dict[str, bytes]) -> None:
    shards = [name for name in undisturbed if name.startswith("bags/shards/") and name.endswith(".tar")]
    assert len(shards) >= 8  # of several kinds of input, bad rows among them
    assert all(len(undisturbed[name]) > 10_240 for name in shards)


@pytest.mark.parametrize("otherwise", [TWO_WORKERS, pytest.param(ONE_WORKER, marks=pytest.mark.slow)], ids=["two workers", "one worker"])
def test_another_process_elsewhere_makes_the_same_bytes(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes], otherwise: dict[str, str]
) -> None:
    elsewhere = tmp_path / "else where" / "é"
    shutil.copytree(inputs[0].parent, elsewhere)
    names = [path.name for path in reversed(inputs)]
    subprocess.run([sys.executable, "-m", "tests.support.job", *names, "out"], cwd=elsewhere, env=environment(**otherwise), check=True)

    found = contents(elsewhere / "out")
    assert sorted(found) == sorted(undisturbed)
    assert [name for name in found if found[name] != undisturbed[name]] == []


def test_a_unit_may_be_done_any_number_of_times(tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    run_job(inputs, tmp_path)
    units, _ = plan_units(tuple(map(str, inputs)), PLAN)
    for unit in [*units[3:6], *units[3:6]]:
        count_unit(unit, tmp_path / "counts", CountConfig(plan=PLAN, source=SOURCE))
        job = BagsJob(SOURCE, CountConfig().words, BagOptions(), tmp_path / "bags")
        bag_unit(unit, tmp_path / "bags", job)

    assert contents(tmp_path) == undisturbed


def test_a_finished_job_is_done_already(tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    run_job(inputs, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    run_job(inputs, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
