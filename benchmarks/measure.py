"""Measuring two ways of doing the same: in turns, in a side thread, by CPU time and wall time."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.metrics import student_interval

RESULTS = Path(__file__).parent / "results"
FRESH = "fresh-"
CACHE = Path.home() / ".cache" / "fistful-bench"
PACKAGES = ("apache-beam", "numpy", "pyarrow", "spacy", "webdataset", "simplejpeg", "torch", "open_clip_torch", "timm", "pillow")


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """How long something took, in seconds."""

    cpu: float
    wall: float


def over_seeds(values: Sequence[float] | np.ndarray, unit: float = 100.0, digits: int = 3) -> dict[str, Any]:
    """Return mean, Student's interval and number of seeds of what is known (no NaN); no interval of fewer than two."""
    known = np.array(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return {"seeds": 0}
    interval = student_interval(known)
    ends = {} if interval is None else {"low": round(interval[0] * unit, digits), "high": round(interval[1] * unit, digits)}
    return {"mean": round(float(known.mean()) * unit, digits), **ends, "seeds": len(known)}


def timed(work: Callable[[], Any], side: Executor | None = None) -> Timed:
    """Time some work in a side thread, where Beam's functions run too: there freed memory is kept, and all is faster.

    Args:
        work: What to time.
        side: The thread; a new one, whose memory is all new, if not given.
    """

    def run() -> Timed:
        cpu, wall = time.process_time() + children(), time.perf_counter()
        work()
        return Timed(time.process_time() + children() - cpu, time.perf_counter() - wall)

    if side:
        return side.submit(run).result()
    with ThreadPoolExecutor(1) as new:
        return new.submit(run).result()


def linearity(sizes: Sequence[dict[str, Any]], cpu: str, peak: str) -> dict[str, Any]:
    """Return how far CPU time is from growing with captions alone: from size to size, a million captions more.

    Args:
        sizes: Measured at rising numbers of `captions`.
        cpu: Which of a size's figures is its time.
        peak: Which is its memory.
    """
    per_million = [(b[cpu] - a[cpu]) / (b["captions"] - a["captions"]) * 1e6 for a, b in itertools.pairwise(sizes)]
    middle = statistics.median(per_million)
    return {
        "bar": 0.15,
        "sizes": [*sizes],
        "cpu_seconds_per_million": [round(s, 3) for s in per_million],
        "largest_deviation": round(max(abs(s / middle - 1) for s in per_million), 3),
        "peak_unit_mb": [entry[peak] for entry in sizes],
    }


def children() -> float:
    """Return the CPU time of processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def alternate(baseline: Callable[[], Any], ours: Callable[[], Any], turns: int) -> dict[str, Any]:
    """Run both in turns, in one thread as a worker's, and return their medians and the ratios baseline / ours."""
    with ThreadPoolExecutor(1) as side:
        pairs = [(timed(baseline, side), timed(ours, side)) for _ in range(turns)]
    ratios = {kind: [getattr(b, kind) / getattr(o, kind) for b, o in pairs] for kind in ("cpu", "wall")}
    return {
        "turns": turns,
        **{f"baseline_{kind}": round(statistics.median(getattr(b, kind) for b, _ in pairs), 4) for kind in ("cpu", "wall")},
        **{f"ours_{kind}": round(statistics.median(getattr(o, kind) for _, o in pairs), 4) for kind in ("cpu", "wall")},
        **{f"ratio_{kind}": round(statistics.median(ratios[kind]), 3) for kind in ("cpu", "wall")},
        "ratio_wall_range": [round(min(ratios["wall"]), 3), round(max(ratios["wall"]), 3)],
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What a benchmark was asked for."""

    data: Path
    """FISTFUL_DATA."""
    work: Path
    """Where inputs and outputs lie."""
    cache: Path
    """Where programs of others are installed."""
    quick: bool
    """Small sizes and one turn, which only show that it works."""
    turns: int
    captions: int | None = None
    """The largest size, instead of the benchmark's own."""

    def fresh(self) -> Path:
        """Return a new folder for an output; it is gone after its row."""
        return Path(tempfile.mkdtemp(prefix=FRESH, dir=self.work))


def overlay(cache: Path, name: str, packages: Sequence[str]) -> Path:
    """Install packages into a folder of their own, whole or not at all."""
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", f"{part}/x", *packages], check=True)
            os.replace(f"{part}/x", folder)
    return folder


def run_rows(name: str, description: str | None, rows: Sequence[Callable[[Any], dict[str, Any]]], bench: Callable[[Setting], Any]) -> None:
    """Read the command line of a benchmark, measure its rows and print them; what was not quick is written to results/."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", nargs="*", choices=[row.__name__ for row in rows])
    parser.add_argument("--quick", action="store_true", help="small sizes and one turn")
    parser.add_argument("--turns", type=int, default=5, help="alternations")
    parser.add_argument("--captions", type=int, help="the largest size, of benchmarks that go up to many captions; 20 million if not given")
    parser.add_argument("--data", type=Path, default=os.environ.get("FISTFUL_DATA") or RESULTS.parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, help="folder for inputs, which stay there; a temporary one if not given")
    parser.add_argument("--cache", type=Path, default=CACHE)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"{asked.data}: no such folder; set FISTFUL_DATA to the folder that CONTRIBUTING.md describes")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(1) as side:
        work = asked.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        opened = bench(Setting(asked.data, work, asked.cache, asked.quick, 1 if asked.quick else asked.turns, asked.captions))
        for row in rows:
            if not asked.rows or row.__name__ in asked.rows:
                found[row.__name__] = side.submit(row, opened).result()
                print(row.__name__, json.dumps(found[row.__name__]), flush=True)
                for folder in work.glob(f"{FRESH}*"):
                    shutil.rmtree(folder)
    if not asked.quick:
        print(f"written to {write_results(name, found, keep=bool(asked.rows))}")


def machine() -> dict[str, Any]:
    """Return what a figure depends on."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version(), "packages": versions}


def write_results(name: str, rows: dict[str, Any], folder: Path = RESULTS, *, indent: int | None = 1, keep: bool = False) -> Path:
    """Write FOLDER/NAME-DATE.json; with `keep`, other rows that were written on the same day stay."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = folder / f"{name}-{today}.json"
    path.parent.mkdir(exist_ok=True)
    if keep and path.exists():
        rows = {**json.loads(path.read_text())["rows"], **rows}
    entry = {
        "date": today,
        "command": [Path(word).name if os.path.isabs(word) else word for word in sys.argv],
        "machine": machine(),
        "rows": rows,
    }
    path.write_text(json.dumps(entry, indent=indent, sort_keys=True) + "\n")
    return path
