"""Units on the engine: whatever becomes of a worker, a run ends, and says whose fault it was."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fistful.errors import DataError, FistfulError, Interrupted, MachineError, UsageError
from fistful.pipelines.engine.beam import Engine, _Look, _Watchdog, beam_arguments, run_units
from fistful.pipelines.engine.processes import descendants
from fistful.pipelines.engine.work import Work, do_one
from fistful.pipelines.read.units import Unit
from tests.support.folders import REPOSITORY, wait_for

SECONDS = 20.0
"""What "within seconds" means on a busy machine; a worker alone needs some three to start."""

Run = Callable[..., list[int]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a function of unit_functions on some units: run("note", workers=2) -> progress seen."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # workers are fresh interpreters

    def go(function: str, *, workers: int, job: object = None, n_units: int = 4, engine: Engine = Engine()) -> list[int]:
        seen: list[int] = []
        run_units(make_units(n_units), work(tmp_path, function, job), workers, seen.append, engine)
        return seen

    return go


def make_units(n: int) -> list[Unit]:
    return [Unit(number, "tsv", "a.tsv", "a.tsv", 0, 0, size=number) for number in range(n)]


def work(folder: Path, function: str, job: object = None) -> Work:
    return Work(f"tests.support.unit_functions:{function}", folder, job, "test")


def stats_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "stats").glob("*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_unit_is_done_and_leaves_its_stats(run: Run, tmp_path: Path, workers: int) -> None:
    progress = run("note", workers=workers, job="hello")

    assert stats_files(tmp_path) == ["00000.json", "00001.json", "00002.json", "00003.json"]
    assert json.loads((tmp_path / "stats" / "00003.json").read_bytes()) == {"number": 3, "job": "hello"}
    assert progress == sorted(progress)


def workers_alive() -> list[int]:
    found = []
    for pid in descendants():
        with contextlib.suppress(OSError):
            found += [pid] * ("pipelines.engine.worker" in Path(f"/proc/{pid}/cmdline").read_text())
    return found


@pytest.mark.timeout(60)
def test_a_killed_worker_ends_the_run_within_seconds_and_the_rest_resumes(run: Run, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(MachineError) as error:
        run("killed", workers=2, job=0)

    assert time.monotonic() - start < SECONDS
    assert str(error.value) == (
        f"{tmp_path}: a worker was lost (Worker subprocess exited with return code -9); "
        "out of memory? fewer --workers help; the same command resumes"
    )
    assert "00000.json" not in stats_files(tmp_path)
    run("note", workers=1)
    assert stats_files(tmp_path) == ["00000.json", "00001.json", "00002.json", "00003.json"]


@pytest.mark.timeout(60)
def test_a_worker_that_stands_still_ends_the_run_by_the_stall_rule_and_is_taken_along(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as error:
        run("stopped", workers=2, job=3, engine=Engine(stall_seconds=6.0))

    assert re.fullmatch(rf"{tmp_path}: no unit finished for \d+ s; the same command resumes", str(error.value))
    assert "00003.json" not in stats_files(tmp_path)
    assert stats_files(tmp_path)  # the other worker did its share
    deadline = time.monotonic() + SECONDS  # a killed process takes a moment to go
    while found := workers_alive():
        assert time.monotonic() < deadline, found
    run("note", workers=1)
    assert len(stats_files(tmp_path)) == 4


def test_large_units_and_slow_ones_are_waited_for() -> None:
    dog = _Watchdog(_Look(Path("nowhere"), []), 0.0, [], [])
    dog.n_done, dog.last, dog.slowest = 0, time.monotonic() - 5, 1.0
    assert dog.trouble(Path("out")) is None  # five seconds, where the slowest so far took one
    dog.slowest = 0.1
    assert str(dog.trouble(Path("out"))) == "out: no unit finished for 5 s; the same command resumes"


@pytest.mark.parametrize("kind", [UsageError, DataError, Interrupted, MachineError])
def test_an_error_keeps_its_type_and_message_in_this_process(run: Run, kind: type[FistfulError]) -> None:
    with pytest.raises(kind) as error:
        run("fails", workers=1, job=kind.__name__, n_units=1)

    assert str(error.value) == "some/file.tsv row 7: found 'a:b', expected [\"c\"]; --caption helps"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ["local", "portable", "dask"])
def test_an_error_keeps_its_type_and_message_from_a_worker_process(run: Run, engine: str) -> None:
    with pytest.raises(DataError) as error:
        run("fails", workers=2, job="DataError", n_units=2, engine=Engine(engine))

    assert str(error.value) in [f"some/file.tsv row {row}: found 'a:b', expected [\"c\"]; --caption helps" for row in (7, 8)]


@pytest.mark.parametrize(("workers", "engine"), [(1, "local"), (2, "local"), (2, "portable"), (2, "dask")])
def test_a_full_disk_is_told_as_a_full_disk(run: Run, tmp_path: Path, workers: int, engine: str) -> None:
    with pytest.raises(OSError) as error:  # noqa: PT011 (its number is compared)
        run("disk_full", workers=workers, n_units=2, engine=Engine(engine))

    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "shards"))


@pytest.mark.timeout(60)
def test_a_unit_that_every_dask_worker_dies_of_is_the_machines_fault(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as error:
        run("killed", workers=1, job=0, engine=Engine("dask"))

    assert str(error.value) == (f"{tmp_path}: Dask's workers were killed; out of memory? fewer --workers help; the same command resumes")
    assert "00000.json" not in stats_files(tmp_path)


def test_lack_of_memory_is_told_as_lack_of_memory(run: Run) -> None:
    with pytest.raises(MemoryError):
        run("out_of_memory", workers=1, n_units=2)


def test_files_alone_are_believed(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as error:
        run("forgets", workers=1, n_units=3)

    assert str(error.value) == f"{tmp_path}: the engine ended but 3 units are not done (first: 2); the same command resumes"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            Engine(options=("direct_runner_bundle_repeats=2",)),
            "--beam-option direct_runner_bundle_repeats=2: Beam has no option direct_runner_bundle_repeats; "
            "did you mean direct_runner_bundle_repeat?",
        ),
        (Engine(options=("direct_num_workers=2",)), "--beam-option direct_num_workers=2: --workers sets it"),
        (Engine("FlinkRunner", ("runner=SparkRunner",)), "--beam-option runner=SparkRunner: --engine sets it"),
        (Engine("FlinkRuner"), "--engine FlinkRuner: Beam has no such runner; did you mean FlinkRunner?"),
        (
            Engine("dask", ("dask_clent_address=tcp://a:1",)),
            "--beam-option dask_clent_address=tcp://a:1: Beam has no option dask_clent_address; did you mean dask_client_address?",
        ),
        (
            Engine(options=("direct_runner_bundle_repeat=often",)),
            "--beam-option: argument --direct_runner_bundle_repeat: invalid int value: 'often'",
        ),
        (Engine(options=("job_endpoint",)), "--beam-option: argument --job_endpoint: expected one argument"),
    ],
)
def test_what_beam_would_drop_in_silence_is_refused(engine: Engine, message: str) -> None:
    with pytest.raises(UsageError) as error:
        beam_arguments(engine)
    assert str(error.value) == message


def test_beam_is_told_what_was_asked() -> None:
    engine = Engine("FlinkRunner", ("flink_master=host:8081", "streaming", "experiments=a", "experiments=b"))
    assert beam_arguments(engine) == [
        *("--runner=FlinkRunner", "--flink_master=host:8081", "--streaming", "--experiments=a", "--experiments=b")
    ]


def test_a_runner_that_fails_before_the_first_unit_is_no_defect_of_ours(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as error:
        run("note", workers=1, engine=Engine("PortableRunner"))
    assert str(error.value).startswith(f"{tmp_path}: PortableRunner failed (You must specify a --job_endpoint")


def test_a_unit_that_is_done_is_not_done_again(run: Run, tmp_path: Path) -> None:
    run("note", workers=1, job="first")
    run("note", workers=1, job="second", n_units=5)
    do_one(make_units(1)[0], work(tmp_path, "note", "third"))

    jobs = [json.loads((tmp_path / "stats" / name).read_bytes())["job"] for name in stats_files(tmp_path)]
    assert jobs == ["first", "first", "first", "first", "second"]


@pytest.mark.timeout(60)
def test_a_space_in_the_interpreters_path_does_no_harm(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = tmp_path / "a b" / "bin" / "python"
    spaced.parent.mkdir(parents=True)
    spaced.symlink_to(sys.executable)
    (tmp_path / "a b" / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (tmp_path / "a b" / "lib").symlink_to(Path(sys.prefix) / "lib")
    monkeypatch.setattr(sys, "executable", str(spaced))

    run("note", workers=2)

    assert len(list((tmp_path / "logs").glob("did-*"))) == 4
    assert not list((tmp_path / "logs").glob(f"did-*-{os.getpid()}"))


WAITING = """
import sys
from pathlib import Path
from fistful.errors import FistfulError
from fistful.pipelines.engine.beam import Engine, run_units
from tests.pipelines.engine.test_beam import make_units, work
try:
    run_units(make_units(4), work(Path(sys.argv[1]), "waits"), int(sys.argv[2]), lambda done: None, Engine(sys.argv[3]))
except FistfulError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("workers", "name", "engine"), [(1, "SIGINT", "local"), (2, "SIGTERM", "local"), (2, "SIGTERM", "dask")])
def test_a_signal_stops_a_run_whose_units_hang(tmp_path: Path, workers: int, name: str, engine: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", WAITING, str(tmp_path), str(workers), engine]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for(lambda: (tmp_path / "logs" / "begun").exists(), process)
        start = time.monotonic()
        process.send_signal(getattr(signal, name))
        output, _ = process.communicate(timeout=60)

    assert (process.returncode, output) == (4, f"{tmp_path}: stopped by {name}; the same command resumes\n")
    assert time.monotonic() - start < SECONDS
    assert ends(process.pid)  # nobody of the group is left behind


def ends(group: int) -> bool:
    ticks = threading.Event()  # never set: its wait is the tick
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        ticks.wait(0.1)
    return False
