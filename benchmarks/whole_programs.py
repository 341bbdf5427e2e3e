"""Unmodified open_clip_train and fistful train as whole programs on the same data, as the benchmarks of CPUs and of GPUs run them.

A rate is that of the middle of a run: a longer run less a shorter one, so that starting up does not count.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

REPOSITORY = Path(__file__).parents[1]


class Bench(Protocol):
    """Where inputs and outputs lie, and how large they are."""

    work: Path
    turns: int
    n_short: int
    n_long: int

    def fresh(self) -> Path:
        """Return a new folder for an output."""
        ...

    def overlay(self) -> Path:
        """Return the folder of packages that open_clip_train needs beside ours."""
        ...

    def tars(self, n: int, side: int = ...) -> Path:
        """Return a folder of webdataset tars of n photos: two at least, and as many as theirs has workers."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What both programs do: an epoch of random crops."""

    model: str
    """A name of open_clip's, or a folder with its open_clip_config.json."""
    context: int
    """Text positions of ours; theirs are the model's own."""
    text: str = "caption"
    """Of ours: caption or bag; theirs are captions."""
    side: int = 80
    """Of the JPEGs, in pixels."""
    batch: int = 64
    """Of all processes together."""
    device: str = "cpu"
    precision: str = "fp32"
    ranks: int = 1
    workers: int = 1
    """Processes of theirs that decode, and threads of ours."""


def against_open_clip(bench: Bench, course: Course, data: Callable[[int], Path] | None = None) -> dict[str, Any]:
    """Return samples/s of both, in turns.

    Args:
        bench: Where things lie.
        course: What both do.
        data: Folder of n samples that ours learns from; the tars that theirs reads, if not given.
    """

    def ours_of(n: int) -> None:
        run_ours(bench, course, str((data or (lambda n: bench.tars(n, course.side)))(n)))

    pairs = []
    for _ in range(bench.turns):
        theirs = rate_between(bench, lambda n: run_open_clip(bench, course, n))
        pairs.append((theirs, rate_between(bench, ours_of)))
    theirs, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratios = [ours / theirs for theirs, ours in pairs]
    return {
        "theirs_samples_per_s": round(theirs, 1),
        "ours_samples_per_s": round(ours, 1),
        "ratio": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "turns": bench.turns,
    }


def rate_between(bench: Bench, run: Callable[[int], None]) -> float:
    """Return samples a second of a longer run less a shorter one."""
    took = []
    for n in (bench.n_short, bench.n_long):
        start = time.perf_counter()
        run(n)
        took.append(time.perf_counter() - start)
    return (bench.n_long - bench.n_short) / (took[1] - took[0])


def environment(course: Course, **more: str) -> dict[str, str]:
    """Return the environment of a program; on a CPU it computes in one thread."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if course.device == "cpu" else {}
    return {**os.environ, **one, "PYTHONWARNINGS": "ignore", **more}


def torchrun(n_ranks: int) -> list[str]:
    """Return what starts a module in so many processes: its name comes next."""
    return ["-m"] if n_ranks == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_ranks), "-m"]


def run_open_clip(bench: Bench, course: Course, n: int) -> None:
    """Train for an epoch of n samples."""
    name, size = bench.fresh().name, course.batch // course.ranks
    precision = {"fp32": "fp32", "bf16": "amp_bf16"}[course.precision]
    options = f"--train-num-samples {n} --batch-size {size} --epochs 1 --workers {course.workers} --precision {precision}"
    options += f" --device {course.device} --warmup 10 --lr 5e-4"
    options += "" if course.ranks == 1 else " --local-loss --gather-with-grad"
    first, *_, last = sorted(bench.tars(n, course.side).glob("*.tar"))
    tars = str(first.with_name(f"{{{first.stem}..{last.stem}}}.tar"))
    model = f"local-dir:{course.model}" if Path(course.model).is_dir() else course.model
    module = "open_clip_train.main" if course.ranks == 1 else "benchmarks.open_clip_on_cpus"
    command = [*torchrun(course.ranks), module, "--dataset-type", "webdataset", "--train-data", tars, "--model", model]
    paths = f"{bench.overlay()}{os.pathsep}{REPOSITORY}"
    call(bench, [*command, *options.split(), "--name", name], environment(course, PYTHONPATH=paths))
    shutil.rmtree(bench.work / "logs")  # theirs by default; torchrun takes --logs for an option of its own


def run_ours(bench: Bench, course: Course, data: str) -> Path:
    """Train for an epoch of a data folder, and return the run."""
    out = bench.fresh()
    command = [*torchrun(course.ranks), "fistful.training", data, "--out", str(out), "--model", course.model]
    options = f"--epochs 1 --batch-size {course.batch} --text {course.text} --context-length {course.context} --augment resized --warmup 10"
    options += f" --lr 5e-4 --weight-decay 0.2 --device {course.device} --precision {course.precision} --decoders {course.workers}"
    options += " --cache-mb 0 --checkpoint-every 100000 --no-progress" + (" --threads 1" if course.device == "cpu" else "")
    call(bench, [*command, *options.split()], environment(course, PYTHONPATH=str(REPOSITORY)))
    return out


def call(bench: Bench, command: list[str], env: dict[str, str]) -> None:
    """Run a program, one line of its own on failure."""
    done = subprocess.run([sys.executable, *command], env=env, cwd=bench.work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} ended with {done.returncode}: {done.stderr[-2000:]}")
