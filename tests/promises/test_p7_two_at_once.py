"""P7: two copies of the same data job on the same folder at once both end with 0 and the same bytes.

Conditions: one machine, or a file system on which a rename is atomic for all who look.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fistful.bow.store import manifest
from tests.support.folders import contents, environment, wait_for


def test_two_copies_of_a_job_both_end_well_with_the_same_bytes(tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    command = [sys.executable, "-m", "tests.support.job", *map(str, inputs), str(tmp_path)]
    twins = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [(*twin.communicate(timeout=200), twin.returncode) for twin in twins] == [("", "", 0), ("", "", 0)]
    assert contents(tmp_path) == undisturbed
    assert manifest.verify(tmp_path / "counts") == manifest.verify(tmp_path / "bags") == []


def test_one_of_two_copies_is_killed_and_the_other_ends_well(tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    command = [sys.executable, "-m", "tests.support.job", *map(str, inputs), str(tmp_path)]
    twins = [
        subprocess.Popen(command, env=environment(WORKERS=workers), stdout=subprocess.PIPE, text=True, start_new_session=True)
        for workers in ("1", "2")
    ]
    wait_for(lambda: any((tmp_path / "counts" / "stats").glob("*.json")), twins[0])
    os.killpg(twins[0].pid, signal.SIGKILL)

    assert [(twin.communicate(timeout=200)[0], twin.returncode) for twin in twins] == [("", -9), ("", 0)]
    assert contents(tmp_path) == undisturbed
