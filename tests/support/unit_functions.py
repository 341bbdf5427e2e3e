"""Unit functions that behave badly on purpose; worker processes import this module by name."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

from fistful.bow.store.files import write_json
from fistful.bow.store.index import unit_name
from fistful.errors import DataError, FistfulError, Interrupted, MachineError, UsageError

ERRORS: dict[str, type[FistfulError]] = {kind.__name__: kind for kind in (UsageError, DataError, Interrupted, MachineError)}


def note(unit: Any, folder: Path, job: Any) -> None:
    """Write who did the unit, then its stats."""
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / f"did-{unit.number}-{os.getpid()}").touch()
    write_json(folder, unit_name("stats", unit.number, "json"), {"number": unit.number, "job": job})


def killed(unit: Any, folder: Path, job: Any) -> None:
    """Die of SIGKILL at the unit whose number the job is, as out of memory does."""
    if unit.number == job:
        os.kill(os.getpid(), signal.SIGKILL)
    note(unit, folder, job)


def stopped(unit: Any, folder: Path, job: Any) -> None:
    """Stand still at the unit whose number the job is, as a frozen machine or a debugger makes one."""
    if unit.number == job:
        os.kill(os.getpid(), signal.SIGSTOP)
    note(unit, folder, job)


def fails(unit: Any, folder: Path, job: Any) -> None:
    """Raise the error that the job names."""
    raise ERRORS[job](f"some/file.tsv row {unit.number + 7}: found 'a:b', expected [\"c\"]; --caption helps")


def disk_full(unit: Any, folder: Path, job: Any) -> None:
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "shards"))


def out_of_memory(unit: Any, folder: Path, job: Any) -> None:
    """Fail as an allocation does."""
    raise MemoryError


def forgets(unit: Any, folder: Path, job: Any) -> None:
    """Return without having written anything."""


def waits(unit: Any, folder: Path, job: Any) -> None:
    """Say that the unit has begun, then wait for ever at a pipe that nobody writes to."""
    (folder / "logs").mkdir(exist_ok=True)
    reader, _ = os.pipe()
    (folder / "logs" / "begun").touch()
    os.read(reader, 1)
