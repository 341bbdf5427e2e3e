"""Runs units on an engine: the one file that imports apache_beam.

One linear chain, all effects in files, and files alone are believed: a unit is done when its stats
file is there. `docs/decisions/0004-beam.md` says why each line is as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal, Protocol

from fistful.bow.store.index import unit_name
from fistful.errors import FistfulError, Interrupted, MachineError

POLL_SECONDS = 0.1
STALL_SECONDS = 1800.0
"""Longest silence: no unit finished for so long, and for ten times the slowest unit so far."""


Engine = Literal["local", "portable", "dask"]


class Numbered(Protocol):
    """What is run: anything with a number and a size."""

    @property
    def number(self) -> int:
        """Number of the unit: names its files."""
        ...

    @property
    def size(self) -> int:
        """Bytes to read, for sorting."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What is done with each unit: a module-level function of (unit, folder, job)."""

    function: str
    """`package.module:function`."""
    folder: Path
    job: Any
    """What the function needs to know: picklable, never changed."""
    label: str
    """What the progress bar calls it."""


def do_one(unit: Any, work: Work) -> int:
    """Do a unit unless its stats file is there; return its number. Runs in any process, any number of times."""
    if not stats_path(work.folder, unit.number).exists():
        module, _, name = work.function.partition(":")
        getattr(importlib.import_module(module), name)(unit, work.folder, work.job)
    return unit.number


def stats_path(folder: Path, number: int) -> Path:
    """Return where a unit's stats file lies: written last, so its presence means done."""
    return folder / unit_name("stats", number, "json")


def run_units(units: list[Any], work: Work, workers: int, progress: Callable[[int], None], engine: Engine = "local") -> None:
    """Do all units that are not done yet.

    Args:
        units: The whole plan.
        work: What to do with each.
        workers: Processes; 1 runs in this one.
        progress: Called with the number of units done, several times a second.
        engine: What carries the units; the bytes are the same on all.

    Raises:
        FistfulError: What a unit function raised.
        Interrupted: On SIGINT or SIGTERM.
        MachineError: If a worker was killed, or nothing moved for too long.
    """
    todo = [unit for unit in units if not stats_path(work.folder, unit.number).exists()]
    if not todo:
        return
    todo.sort(key=lambda unit: (-unit.size, unit.number))  # a slow unit last would be waited for alone
    with _signals() as stopped, _worker_deaths() as lost:
        _supervise(todo, work, functools.partial(ENGINES[engine], workers=min(workers, len(todo))), progress, stopped, lost)
    left = [unit.number for unit in todo if not stats_path(work.folder, unit.number).exists()]
    if left:
        raise MachineError(
            f"{work.folder}: the engine ended but {len(left)} units are not done (first: {left[0]}); the same command resumes"
        )


def _supervise(
    todo: list[Any], work: Work, carry: Callable[..., None], progress: Callable[[int], None], stopped: list[int], lost: list[str]
) -> None:
    failure: list[BaseException] = []
    others = _descendants()
    thread = threading.Thread(target=_run_beam, args=(todo, work, carry, failure), daemon=True)
    thread.start()
    n_done, last, slowest = 0, time.monotonic(), 0.0
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        now = sum(stats_path(work.folder, unit.number).exists() for unit in todo) if len(todo) < 2_000 else _count_done(work.folder)
        if now != n_done:
            slowest = max(slowest, time.monotonic() - last)
            n_done, last = now, time.monotonic()
        progress(n_done)
        trouble = _trouble(work.folder, stopped, lost, time.monotonic() - last > max(STALL_SECONDS, 10 * slowest))
        if trouble:
            _kill(_descendants() - others)
            raise trouble
    if failure:
        raise _translate(failure[0], work)


def _count_done(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(1 for _ in os.scandir(folder / "stats"))
    return 0


def _trouble(folder: Path, stopped: list[int], lost: list[str], stalled: bool) -> FistfulError | None:
    if stopped:
        return Interrupted(f"{folder}: stopped by {signal.Signals(stopped[0]).name}; the same command resumes")
    if lost:
        return MachineError(f"{folder}: a worker was lost ({lost[0]}); out of memory? fewer --workers help; the same command resumes")
    if stalled:
        return MachineError(f"{folder}: no unit finished for too long; the same command resumes")
    return None


def _run_beam(todo: list[Any], work: Work, carry: Callable[..., None], failure: list[BaseException]) -> None:
    for name in ("root", "apache_beam"):  # what goes wrong is raised, and said once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        carry(todo, work)
    except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
        failure.append(error)


def _pipeline(todo: list[Any], work: Work, runner: Any, options: Any) -> None:
    """Run the one linear chain that all engines carry."""
    import apache_beam as beam

    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create(todo, reshuffle=False) | beam.Reshuffle() | beam.Map(do_one, work)
    pipeline.run().wait_until_finish()


def _on_portable(todo: list[Any], work: Work, workers: int) -> None:
    """Beam's portable job service, embedded, with this process as its worker: what other clusters speak."""
    from apache_beam.options.pipeline_options import PipelineOptions

    del workers  # the loopback worker is one process, whatever is asked for
    options = PipelineOptions(["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"])
    _pipeline(todo, work, None, options)


def _on_dask(todo: list[Any], work: Work, workers: int) -> None:
    """A Dask cluster of processes on this machine: with threads it hands units out twice."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.dask.dask_runner import DaskRunner
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        options = PipelineOptions([f"--dask_client_address={cluster.scheduler_address}", f"--dask_npartitions={len(todo)}"])
        _pipeline(todo, work, DaskRunner(), options)


def _on_this_machine(todo: list[Any], work: Work, workers: int) -> None:
    """Beam's local engine, in this process or in worker processes."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    options = PipelineOptions([f"--direct_num_workers={workers}", "--default_sdk_harness_log_level=ERROR"])
    environment = None
    if workers > 1:
        log = work.folder / "logs" / "workers.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = f"exec {shlex.quote(sys.executable)} -m fistful.pipelines.worker >>{shlex.quote(str(log))} 2>&1"
        environment = SubprocessSDKEnvironment.from_command_string(command)
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    runner = fn_runner.FnApiRunner(default_environment=environment, provision_info=provision)
    _pipeline(todo, work, runner, options)


ENGINES: dict[str, Callable[..., None]] = {"local": _on_this_machine, "portable": _on_portable, "dask": _on_dask}


def _translate(error: BaseException, work: Work) -> BaseException:
    """Turn what Beam made of an error back into what the unit function raised.

    In this process the type is kept and the text grows by "[while running ...]"; from a worker comes
    a RuntimeError that holds the traceback as text.
    """
    import errno

    if isinstance(error, FistfulError):
        return type(error)(str(error).split(" [while running")[0])
    if isinstance(error, OSError | MemoryError):
        return error
    lines = [line.split(" [while running")[0].strip() for line in str(error).replace("\\n", "\n").splitlines()]
    for line in lines:
        name, _, message = line.partition(": ")
        for kind in (*FistfulError.__subclasses__(), MemoryError):
            if name.removeprefix("fistful.errors.") == kind.__name__:
                return kind(message)
        if name == "OSError" and f"[Errno {errno.ENOSPC}]" in message:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work.folder))
    return error


@contextlib.contextmanager
def _signals() -> Generator[list[int]]:
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
def _worker_deaths() -> Generator[list[str]]:
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


def _descendants() -> set[int]:
    me, parents = os.getpid(), {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                parents[int(entry.name)] = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
    family = {me}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return family - {me}


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
