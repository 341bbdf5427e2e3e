"""P7: two copies of the same data job on the same folder at once both end with 0 and the same bytes.

Conditions: one machine, or a file system on which a rename is atomic for all who look.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fistful.bow.store import manifest
from tests.folders import contents, environment


def test_two_copies_of_a_job_both_end_well_with_the_same_bytes(tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    command = [sys.executable, "-m", "tests.promises.job", *map(str, inputs), str(tmp_path)]
    twins = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [(*twin.communicate(timeout=200), twin.returncode) for twin in twins] == [("", "", 0), ("", "", 0)]
    assert contents(tmp_path) == undisturbed
    assert manifest.verify(tmp_path / "counts") == manifest.verify(tmp_path / "bags") == []
