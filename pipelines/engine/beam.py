"""Runs units on an engine: this file and do_units.py alone import apache_beam.

One linear chain, all effects in files, and files alone are believed: a unit is done when its stats
file is there. `docs/decisions/0004-beam.md` says why each line is as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import functools
import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fistful.bow.store.folders import LISTED_EVERY, in_store
from fistful.errors import FistfulError, Interrupted, MachineError, UsageError

from . import dask_cluster
from .processes import descendants, kill, signals, worker_deaths
from .work import Work, do_one, done_units

POLL_SECONDS = 0.1
STALL_SECONDS = 1800.0
"""Longest silence: no unit finished for so long, for ten times the slowest unit so far, and for as long as
the largest unit takes at SLOWEST."""
SLOWEST = 50_000
"""Bytes a second of a unit that is slow but not stuck: an image a second or two, embedded by a large tower."""


@dataclasses.dataclass(frozen=True, slots=True)
class Engine:
    """What carries the units."""

    name: str = "local"
    """local, portable, dask, or the name of a Beam runner."""
    options: tuple[str, ...] = ()
    """Beam's options, as key=value or key."""
    stall_seconds: float = STALL_SECONDS
    """How long no unit may finish before the run ends; large and slow units have longer."""


def run_units(units: list[Any], work: Work, workers: int, progress: Callable[[set[int]], None], engine: Engine = Engine()) -> None:
    """Run all units that are not done yet.

    Args:
        units: The whole plan: anything with a number, which names its files, and a size in bytes to read.
        work: What to do with each.
        workers: Processes; 1 runs in this one.
        progress: Called with the numbers of units done: first, then several times a second, and last.
        engine: What carries the units; the bytes are the same on all.

    Raises:
        FistfulError: What a unit function raised.
        Interrupted: On SIGINT or SIGTERM.
        MachineError: If a worker was killed, or nothing moved for too long.
        UsageError: If Beam does not know the engine or an option.
    """
    arguments = beam_arguments(engine)
    look = _Look(work.folder, units)
    progress(look.done())
    todo = [unit for unit in units if unit.number not in look.done()]
    if not todo:
        return
    todo.sort(key=lambda unit: (-unit.size, unit.number))  # a slow unit last would be waited for alone
    carry = functools.partial(ENGINES.get(engine.name, _on_runner), workers=min(workers, len(todo)), arguments=arguments)
    patience = max(engine.stall_seconds, todo[0].size / SLOWEST)
    with signals() as stopped, worker_deaths() as lost:
        failure = _supervise(todo, work, carry, _Watchdog(look, patience, stopped, lost), progress)
    if failure:
        raise _translate(failure, work, engine.name)
    progress(look.done(again=True))
    left = [unit.number for unit in todo if unit.number not in look.done()]
    if left:
        hint = "the same command resumes" if engine.name in ENGINES else "do its workers write to this folder, on a shared file system?"
        raise MachineError(f"{work.folder}: the engine ended but {len(left)} units are not done (first: {left[0]}); {hint}")


def _supervise(
    todo: list[Any], work: Work, carry: Callable[..., None], watchdog: _Watchdog, progress: Callable[[set[int]], None]
) -> BaseException | None:
    """Let the engine run in a thread and return what it raised; end it by force if there is trouble."""
    failure: list[BaseException] = []
    others = descendants()
    thread = threading.Thread(target=_run_beam, args=(todo, work, carry, failure), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        progress(watchdog.look.done())
        trouble = watchdog.trouble(work.folder)
        if trouble:
            if "distributed.nanny" in sys.modules:
                dask_cluster.let_workers_die()
            kill(descendants() - others)
            raise trouble
    return failure[0] if failure else None


class _Look:
    """Says which of these units have their stats file.

    Where looking is slow it looks less often, a twentieth of the time at most; in a store, once a minute.
    """

    def __init__(self, folder: Path, units: list[Any]) -> None:
        self._folder = folder
        self._numbers = {unit.number for unit in units}
        self._done: set[int] = set()
        self._next = 0.0

    def done(self, *, again: bool = False) -> set[int]:
        """Return their numbers, as they were when it looked last; `again` looks now."""
        start = time.monotonic()
        if again or start >= self._next:
            self._done = self._numbers.intersection(done_units(self._folder))
            now = time.monotonic()
            self._next = now + max(20 * (now - start), LISTED_EVERY if in_store(self._folder) else 0)
        return self._done


@dataclasses.dataclass(slots=True)
class _Watchdog:
    """Says when a run can only be ended."""

    look: _Look
    patience: float
    """Seconds without a finished unit; ten times the slowest interval, if that is longer."""
    stopped: list[int]
    lost: list[str]
    n_done: int = -1
    last: float = 0.0
    slowest: float = 0.0

    def trouble(self, folder: Path) -> FistfulError | None:
        now, n_done = time.monotonic(), len(self.look.done())
        if n_done != self.n_done:
            if self.n_done > 0:  # before the first one, workers had to start
                self.slowest = max(self.slowest, now - self.last)
            self.n_done, self.last = n_done, now
        if self.stopped:
            return Interrupted(f"{folder}: stopped by {signal.Signals(self.stopped[0]).name}; the same command resumes")
        if self.lost:
            return MachineError(
                f"{folder}: a worker was lost ({self.lost[0]}); out of memory? fewer --workers help; the same command resumes"
            )
        if now - self.last > max(self.patience, 10 * self.slowest):
            return MachineError(f"{folder}: no unit finished for {now - self.last:,.0f} s; the same command resumes")
        return None


def _run_beam(todo: list[Any], work: Work, carry: Callable[..., None], failure: list[BaseException]) -> None:
    _loggers(logging.CRITICAL)
    try:
        carry(todo, work)
    except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
        failure.append(error)


def _loggers(level: int) -> None:
    """Set the level from which Beam's messages are shown; what goes wrong is raised, and said once."""
    for name in ("root", "apache_beam"):
        logging.getLogger(name).setLevel(level)


def _pipeline(todo: list[Any], work: Work, runner: Any, arguments: list[str]) -> None:
    """Run the one linear chain that all engines carry."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from .do_units import DoUnits

    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(arguments))
    _ = pipeline | beam.Create(todo, reshuffle=False) | beam.Reshuffle() | beam.ParDo(DoUnits(), work)
    pipeline.run().wait_until_finish()


def _on_this_machine(todo: list[Any], work: Work, workers: int, arguments: list[str]) -> None:
    """Beam's local engine, in this process or in worker processes."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    arguments = [f"--direct_num_workers={workers}", "--default_sdk_harness_log_level=ERROR", *arguments]
    environment = None
    if workers > 1:
        command = f"exec {shlex.quote(sys.executable)} -m fistful.pipelines.engine.worker >>{shlex.quote(_log_of(work.folder))} 2>&1"
        environment = SubprocessSDKEnvironment.from_command_string(command)
    encoded = JobServiceHandle.encode_pipeline_options(PipelineOptions(arguments).get_all_options())
    provision = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    _pipeline(todo, work, fn_runner.FnApiRunner(default_environment=environment, provision_info=provision), arguments)


def _log_of(folder: Path) -> str:
    """Return where workers' output goes: a file beside what they write. In a store none can grow, and Beam raises what matters."""
    if in_store(folder):
        return os.devnull
    log = folder / "logs" / "workers.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return str(log)


def _on_portable(todo: list[Any], work: Work, workers: int, arguments: list[str]) -> None:
    """Beam's portable job service, embedded, with this process as its worker: the protocol that other clusters speak."""
    del workers  # the loopback worker is one process, whatever is asked for
    embedded = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    _pipeline(todo, work, None, [*embedded, *arguments])


def _on_dask(todo: list[Any], work: Work, workers: int, arguments: list[str]) -> None:
    """Dask: a cluster of processes on this machine (with threads it hands units out twice), or one that is there already."""
    from apache_beam.runners.dask.dask_runner import DaskRunner
    from distributed import LocalCluster

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    arguments = [f"--dask_npartitions={len(todo)}", *arguments]
    with contextlib.ExitStack() as stack:
        if dask_cluster.is_named(arguments):
            dask_cluster.check_cluster(arguments, work.folder)
        else:
            quiet = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}  # workers' heartbeats fail when it closes
            cluster: Any = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **quiet)
            arguments.append(f"--dask_client_address={stack.enter_context(cluster).scheduler_address}")
        try:
            _pipeline(todo, work, DaskRunner(), arguments)
        finally:
            for client in dask_cluster.clients():
                client.close()  # Beam leaves it open


def _on_runner(todo: list[Any], work: Work, workers: int, arguments: list[str]) -> None:
    """Any other runner of Beam's; its own options say how many workers it has and what they are."""
    del workers
    _loggers(logging.WARNING)  # a cluster has more to say than how it ended
    _pipeline(todo, work, None, arguments)


ENGINES: dict[str, Callable[..., None]] = {"local": _on_this_machine, "portable": _on_portable, "dask": _on_dask}

INSTEAD = {"direct_num_workers": "--workers", "direct_running_mode": "--workers", "runner": "--engine"}
"""What sets these options of Beam's."""


def beam_arguments(engine: Engine) -> list[str]:
    """Return what Beam is told, as arguments; what it would drop in silence is refused.

    Raises:
        UsageError: If Beam does not know the runner or an option, or a value is at fault.
    """
    ours = engine.name in ENGINES
    if ours and not engine.options:
        return []
    _loggers(logging.CRITICAL)  # importing it warns
    from apache_beam.options import pipeline_options

    if engine.name == "dask":
        import apache_beam.runners.dask.dask_runner  # noqa: F401 - its options become known
    runners = pipeline_options.StandardOptions.KNOWN_RUNNER_NAMES
    if not ours and engine.name not in runners and "." not in engine.name:
        raise UsageError(f"--engine {engine.name}: Beam has no such runner{_nearest(engine.name, runners)}")
    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    known = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
    for option in engine.options:
        name = option.partition("=")[0]
        if name in INSTEAD:
            raise UsageError(f"--beam-option {option}: {INSTEAD[name]} sets it")
        if name not in known:
            raise UsageError(f"--beam-option {option}: Beam has no option {name}{_nearest(name, known)}")
    arguments = [] if ours else [f"--runner={engine.name}"]
    arguments += [f"--{option}" for option in engine.options]
    try:
        parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        raise UsageError(f"--beam-option: {error}") from None
    return arguments


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _translate(error: BaseException, work: Work, engine: str) -> BaseException:
    """Turn what Beam made of an error back into what the unit function raised.

    In this process the type is kept and the text grows by "[while running ...]"; from a worker comes
    a RuntimeError that holds the traceback as text.
    """
    if isinstance(error, FistfulError):
        return type(error)(str(error).split(" [while running")[0])
    if isinstance(error, OSError | MemoryError):
        return error
    if type(error).__name__ == "KilledWorker":  # Dask's: a unit that several workers died of
        return MachineError(f"{work.folder}: Dask's workers were killed; out of memory? fewer --workers help; the same command resumes")
    lines = [line.split(" [while running")[0].strip() for line in str(error).replace("\\n", "\n").splitlines()]
    for line in lines:
        name, _, message = line.partition(": ")
        for kind in (*FistfulError.__subclasses__(), MemoryError):
            if name.removeprefix("fistful.errors.") == kind.__name__:
                return kind(message)
        number = re.match(r"\[Errno (\d+)\]", message) if name.endswith("Error") else None
        if number:
            code = int(number[1])
            return OSError(code, os.strerror(code), message.partition(": ")[2].strip("'\"") or str(work.folder))
    if engine not in ENGINES and f"in {do_one.__name__}" not in str(error):  # it failed before or around our code
        what = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        return MachineError(f"{work.folder}: {engine} failed ({what}); once that is mended, the same command resumes")
    return error
