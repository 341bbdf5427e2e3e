"""Looking into data folders, and running the command line and other processes as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import pytest

REPOSITORY = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file outside logs/."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "logs" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


def check_halfway(out: Path, undisturbed: dict[str, bytes]) -> None:
    """Check that every file that is there under its final name is there in full."""
    assert [name for name, data in contents(out).items() if undisturbed.get(name) != data] == []


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of all tables of a kind, such as "dead_letters", in the order of the units."""
    return [row for path in sorted((folder / kind).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def leave_out(why: str) -> NoReturn:
    """Leave a test out for what the machine lacks, which pytest's last lines say; .ci/run allows no such thing."""
    if os.environ.get("FISTFUL_ALL_TESTS") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that may import the tests' modules too."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore::DeprecationWarning", **more}


def fistful(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "fistful", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something happened while a process runs."""
    ticks = threading.Event()  # never set: its wait is the tick
    while not happened():
        assert process.poll() is None, f"ended with {process.returncode} before it began"
        ticks.wait(0.01)
