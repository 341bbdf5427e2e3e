"""The same bytes on every engine, and in parts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fistful.bow.balance import Balance
from fistful.errors import UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from tests.support.clusters import beam_cluster, dask_cluster
from tests.support.folders import contents, environment
from tests.support.job import PLAN, SOURCE, make_inputs

QUIET = Running(progress=False)


def run_job(inputs: list[Path], out: Path, running: Running) -> dict[str, bytes]:
    """Count, then make bags; return the bytes of both."""
    sources = [str(path) for path in inputs]
    counts = count(*sources, out=out / "counts", config=CountConfig(plan=PLAN, source=SOURCE, running=running))
    config = BagsConfig(plan=PLAN, source=SOURCE, balance=Balance(rule="cap", kept=0.5), running=running)
    bags(*sources, counts=counts, out=out / "bags", config=config)
    return contents(out)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> list[Path]:
    """Real captions in a dozen units, some rows of them bad."""
    return make_inputs(tmp_path_factory.mktemp("engines") / "in", data_root)


@pytest.fixture(scope="module")
def expected(inputs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes."""
    out = tmp_path_factory.mktemp("local")
    found = run_job(inputs, out, QUIET)
    assert len(list((out / "counts" / "stats").iterdir())) >= 8
    return found


@pytest.mark.parametrize("engine", ["portable", "dask"])
def test_other_engines_write_the_same_bytes(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path, engine: str) -> None:
    running = Running(progress=False, workers=2, engine=engine)
    assert run_job(inputs, tmp_path, running) == expected


@pytest.mark.timeout(120)
def test_a_job_server_with_workers_of_its_own_writes_the_same_bytes(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    with beam_cluster(tmp_path) as options:
        found = run_job(inputs, tmp_path / "out", Running(progress=False, engine="PortableRunner", beam_option=options))
    assert found == expected


@pytest.mark.timeout(120)
def test_a_dask_cluster_that_is_there_already_writes_the_same_bytes(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    with dask_cluster(tmp_path) as (address, scheduler_file):
        running = Running(progress=False, engine="dask", beam_option=(f"dask_client_address={address}",))
        assert run_job(inputs, tmp_path / "by address", running) == expected
        running = Running(progress=False, engine="dask", beam_option=(f"dask_scheduler_file={scheduler_file}",))
        assert run_job(inputs, tmp_path / "by file", running) == expected


def test_a_bundle_that_is_repeated_writes_the_same_bytes(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    running = Running(progress=False, beam_option=("direct_runner_bundle_repeat=2",))
    assert run_job(inputs, tmp_path, running) == expected


def test_an_array_of_parts_joined_equals_the_whole(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    sources = [str(path) for path in inputs]
    config = CountConfig(plan=PLAN, source=SOURCE, running=QUIET)
    for units in ("4-99", "0-3"):  # in any order, and the last part may be short
        part = dataclasses.replace(config, running=Running(progress=False, units=units))
        assert not (count(*sources, out=tmp_path / "counts", config=part) / "manifest.json").exists()
    assert run_job(inputs, tmp_path, QUIET) == expected


def test_units_that_the_plan_does_not_have_are_refused(inputs: list[Path], tmp_path: Path) -> None:
    config = CountConfig(plan=PLAN, source=SOURCE, running=Running(progress=False, units="500-600"))
    with pytest.raises(UsageError, match=r"--units 500-600: the plan has the units 0-\d+"):
        count(*map(str, inputs), out=tmp_path / "counts", config=config)


def test_parts_at_the_same_time_joined_equal_the_whole(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fistful", "count", *map(str, inputs), "--out", str(tmp_path / "counts"), "--no-progress"]
    command += ["--caption", "2", "--unit-mb", "0.02", "--units"]
    parts = [
        subprocess.Popen([*command, part], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for part in ("0-3", "3-6", "7-99")  # one unit twice
    ]
    for part in parts:
        said, errors = part.communicate(timeout=100)
        assert (part.returncode, errors) == (0, "")
        assert said.startswith("units ")
        assert said.endswith(f"the same command without --units closes {tmp_path / 'counts'}\n")
    assert not (tmp_path / "counts" / "manifest.json").exists()
    assert run_job(inputs, tmp_path, QUIET) == expected


@pytest.mark.parametrize(
    "options", [{"units": "a-b"}, {"units": "-3"}, {"engine": "spork"}, {"engine": "DirectRunner"}, {"engine": "FlinkRunner", "workers": 2}]
)
def test_parts_and_engines_at_fault_say_what_is_expected(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Running(**options)
