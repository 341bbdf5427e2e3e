"""`make test` on a machine that lacks something: installs it where it can, and says what it left out where it cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import NAMES
from tests.support.folders import REPOSITORY, environment

TEST = """
from tests.support.browser import find_chromium
def test_in_a_browser(): find_chromium()
def test_on_real_data(data_root): pass
"""


def make_browser(tmp_path: Path, user: int, programs: tuple[str, ...] = (), fails: bool = False, **more: str) -> str:
    """Run `make browser` as if the machine had only these programs, and return what it asked apt-get for."""
    for name in ("sh", "grep"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    scripts = {"id": f"echo {user}", "apt-get": f"echo apt-get $* >> {tmp_path}/log; exit {int(fails)}", **dict.fromkeys(programs, "")}
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "FISTFUL_NO_BROWSER"}
    command = [str(shutil.which("make")), "-C", str(REPOSITORY), "--no-print-directory", "browser"]
    done = subprocess.run(command, env={**kept, **more, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    log = tmp_path / "log"
    return log.read_text() if log.exists() else ""


INSTALLS = "apt-get update -qq\napt-get install -y -qq --no-install-recommends chromium\n"


def test_root_installs_a_browser_and_nobody_else_tries(tmp_path: Path) -> None:
    for folder in ("root", "user"):
        (tmp_path / folder).mkdir()
    assert make_browser(tmp_path / "root", 0) == INSTALLS
    assert make_browser(tmp_path / "user", 1000) == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_browser_that_is_there_is_taken(tmp_path: Path, name: str) -> None:
    assert make_browser(tmp_path, 0, (name,)) == ""


def test_a_browser_that_cannot_be_installed_or_is_not_wanted_stops_no_test(tmp_path: Path) -> None:
    for folder in ("fails", "unwanted"):
        (tmp_path / folder).mkdir()
    assert make_browser(tmp_path / "fails", 0, fails=True) == "apt-get update -qq\n"
    assert make_browser(tmp_path / "unwanted", 0, FISTFUL_NO_BROWSER="1") == ""


def test_what_is_left_out_is_said_last_and_is_a_failure_where_all_must_run(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "tests" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text(TEST)
    lacking = {**environment(), "PATH": "", "FISTFUL_DATA": str(tmp_path / "nothing"), "FISTFUL_ALL_TESTS": "", "FISTFUL_NO_BROWSER": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, env=lacking, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    said = " ".join(done.stdout.split())
    assert re.search(r"SKIPPED \[1\] \S+: none of chromium, chromium-browser, google-chrome is installed, and make can", said)
    assert re.search(r"SKIPPED \[1\] \S+: the real data is not there: \S+/nothing has no captions/", said)
    assert "2 skipped" in said
    done = subprocess.run(command, env={**lacking, "FISTFUL_ALL_TESTS": "1"}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
