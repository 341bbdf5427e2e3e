"""The same bytes on every engine, and in parts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from fistful.bow.balance import Balance
from fistful.errors import MachineError, UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
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


def test_a_dask_scheduler_that_does_not_answer_is_told(tmp_path: Path) -> None:
    import dask.config
    import distributed  # noqa: F401 - it brings settings of its own, which would be lost with this one

    (tmp_path / "a.tsv").write_text("caption\na cat\n")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        running = Running(progress=False, engine="dask", beam_option=(f"dask_client_address={address}",))
        with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}), pytest.raises(MachineError) as error:
            count(str(tmp_path / "a.tsv"), out=tmp_path / "out", config=CountConfig(running=running))
    assert str(error.value).startswith(f"{tmp_path}/out: no Dask scheduler answers (Timed out trying to connect to {address}")
    assert str(error.value).endswith("; once one does, the same command resumes")


@contextlib.contextmanager
def cluster(folder: Path) -> Generator[tuple[str, ...]]:
    """A job server and a pool of workers, processes of their own that know only what they are sent; yields Beam's options."""
    ports = free_ports(2)
    with_path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # the pool starts `python`
    modules = ("runners.portability.local_job_service_main", "runners.worker.worker_pool_main")
    commands = [
        [sys.executable, "-m", f"apache_beam.{module}", flag, str(port)]
        for module, flag, port in zip(modules, ("--port", "--service_port"), ports, strict=True)
    ]
    with contextlib.ExitStack() as stack:
        for command in commands:
            log = stack.enter_context(open(folder / "cluster.log", "ab"))
            process = subprocess.Popen(command, cwd=folder, env=with_path, stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        for port in ports:
            wait_for_port(port)
        yield (f"job_endpoint=localhost:{ports[0]}", "environment_type=EXTERNAL", f"environment_config=localhost:{ports[1]}")


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_port(port: int) -> None:
    ticks = threading.Event()  # never set: its wait is the tick
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        ticks.wait(0.1)
    raise AssertionError(f"nobody listens at {port}")


@pytest.mark.timeout(120)
def test_a_job_server_with_workers_of_its_own_writes_the_same_bytes(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    with cluster(tmp_path) as options:
        found = run_job(inputs, tmp_path / "out", Running(progress=False, engine="PortableRunner", beam_option=options))
    assert found == expected


def test_a_bundle_that_is_repeated_writes_the_same_bytes(inputs: list[Path], expected: dict[str, bytes], tmp_path: Path) -> None:
    running = Running(progress=False, workers=2, beam_option=("direct_runner_bundle_repeat=2",))
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
