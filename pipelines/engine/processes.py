"""Signals and processes while an engine runs: who asked to stop, which worker died, whom to take along."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def signals() -> Generator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying: `&` in a script leaves SIGINT ignored, so both are set."""
    stopped: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {s: signal.signal(s, lambda number, _: stopped.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def worker_deaths() -> Generator[list[str]]:
    """Collect the deaths of workers. Beam's thread `run_worker` raises and everybody else waits for ever.

    After trouble the hook stays: the engine's threads are left behind and go on complaining. What
    threads of an earlier run say is not about this one.
    """
    lost: list[str] = []
    before, earlier = threading.excepthook, set(threading.enumerate())

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or args.thread in earlier:
            before(args)
        elif "run_worker" in args.thread.name:
            lost.append(str(args.exc_value))
        elif not (args.exc_type.__module__ or "").startswith("grpc"):
            before(args)

    threading.excepthook = hook
    yield lost
    threading.excepthook = before


def descendants() -> set[int]:
    """Return the processes that this one started, and theirs."""
    me, parents = os.getpid(), {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                parents[int(entry.name)] = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
    family = {me}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return family - {me}


def kill(pids: set[int]) -> None:
    """Kill processes; those that are gone already are no matter, and a resource tracker ends by itself, cleaning up."""
    for pid in pids:
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
