"""Clusters that are there already: processes of their own, on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

from tests.support.folders import environment


@contextlib.contextmanager
def beam_cluster(folder: Path) -> Generator[tuple[str, ...]]:
    """A job server and a pool of workers, processes of their own that know only what they are sent; yields Beam's options."""
    ports = free_ports(2)
    with_path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # the pool starts `python`
    modules = ("runners.portability.local_job_service_main", "runners.worker.worker_pool_main")
    commands = [
        [sys.executable, "-m", f"apache_beam.{module}", flag, str(port)]
        for module, flag, port in zip(modules, ("--port", "--service_port"), ports, strict=True)
    ]
    with processes(commands, folder, with_path):
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


WORKER = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split())); from distributed.cli.dask_worker import main; main()"
"""A Dask worker, for which some packages are not installed."""


@contextlib.contextmanager
def dask_cluster(folder: Path, lacking: str = "") -> Generator[tuple[str, Path]]:
    """A Dask scheduler and two workers, as their commands start them; yields its address, and the file that has it."""
    (port,) = free_ports(1)
    address, scheduler_file = f"tcp://127.0.0.1:{port}", folder / "scheduler.json"
    scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["-c", WORKER, lacking, address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    commands = [[sys.executable, *scheduler, "--scheduler-file", str(scheduler_file)], *[[sys.executable, *worker]] * 2]
    with processes(commands, folder, environment()):
        wait_for_port(port)
        yield address, scheduler_file


@contextlib.contextmanager
def processes(commands: list[list[str]], folder: Path, environment: dict[str, str]) -> Generator[None]:
    """Processes that end with the block, whatever they are doing."""
    with contextlib.ExitStack() as stack:
        for command in commands:
            log = stack.enter_context(open(folder / "cluster.log", "ab"))
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        yield


def wait_for_workers(address: str, n: int) -> list[str]:
    """Return the addresses of a Dask cluster's workers, once there are so many."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(n, timeout=50)
        return sorted(client.scheduler_info(n_workers=-1)["workers"])
