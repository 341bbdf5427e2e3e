"""P3: after kill -9 at any moment the same command ends with the same bytes; no file is seen half-written under its name.

Conditions: a file system whose rename is atomic. Two write boundaries here (and those of test_p3_faults.py), all of them under `slow`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import check_halfway, contents, environment, wait_for
from tests.support.job import run_job

JOB = [sys.executable, "-m", "tests.support.job"]


def run_until_it_dies(inputs: list[Path], out: Path, n: int, after: bool) -> int:
    """Run the job, told to kill itself at its n-th rename; return its exit status."""
    more = {"DIE_AT": str(n), "DIE_AFTER": "1" if after else ""}
    return subprocess.run([*JOB, *map(str, inputs), str(out)], env=environment(**more), check=False).returncode


@pytest.mark.parametrize(
    ("n", "after"),
    [pytest.param(10, False, marks=pytest.mark.slow), (25, True), (45, False)],
    ids=["before a table of counts", "after a file of a unit", "before a shard"],
)
def test_killed_at_a_write_and_run_again_it_makes_the_same_bytes(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes], n: int, after: bool
) -> None:
    assert run_until_it_dies(inputs, tmp_path, n, after) == -signal.SIGKILL
    check_halfway(tmp_path, undisturbed)
    assert len(contents(tmp_path)) < len(undisturbed)

    run_job(inputs, tmp_path)
    assert contents(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_killed_at_every_write_it_makes_the_same_bytes(tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    n, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        n += 1
        out, after = tmp_path / str(n), bool(n % 2)  # by turns: after a write is before the next
        status = run_until_it_dies(inputs, out, n, after)
        check_halfway(out, undisturbed)
        run_job(inputs, out)
        assert contents(out) == undisturbed, f"killed {'after' if after else 'before'} write {n}"
    assert status == 0
    assert n > len(undisturbed)


@pytest.mark.parametrize(("name", "whole_group", "status"), [("SIGKILL", True, -9), ("SIGTERM", False, 4)])
def test_a_signal_in_the_middle_of_two_workers_loses_nothing(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes], name: str, whole_group: bool, status: int
) -> None:
    command = [*JOB, *map(str, inputs), str(tmp_path)]
    with subprocess.Popen(command, env=environment(WORKERS="2"), stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for(lambda: any((tmp_path / "counts" / "stats").glob("*.json")), process)
        (os.killpg if whole_group else os.kill)(process.pid, getattr(signal, name))
        output, _ = process.communicate(timeout=60)

    assert process.returncode == status
    assert output == ("" if whole_group else f"{tmp_path}/counts: stopped by {name}; the same command resumes\n")
    check_halfway(tmp_path, undisturbed)
    run_job(inputs, tmp_path)
    assert contents(tmp_path) == undisturbed
