"""What word vectors of many captions take: `python -m benchmarks.vectors`, under an hour, a quiet machine.

Time by captions, memory of a worker, and one worker against two, whose bytes are equal. `--quick` shows only that it works.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import generate
from benchmarks.measure import Setting, alternate, linearity, run_rows, timed
from fistful.bow.balance import Balance
from fistful.bow.store.files import read_json
from fistful.bow.vocabulary import Limits, write_vocabulary
from fistful.bow.words import WordOptions
from fistful.pipelines.bagging import chosen_words
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.vectors import VectorOptions, VectorsConfig, VectorsJob, merge_units, pair_unit, vectors, write_vectors

FIRST = SourceOptions(caption="1")
DIM = 256
Rows = dict[str, Any]


class VectorBench:
    """Where inputs and outputs lie, and how large they are."""

    def __init__(self, given: Setting) -> None:
        self.data, self.work, self.fresh, self.turns = given.data, given.work, given.fresh, given.turns
        largest = given.captions or (200_000 if given.quick else 20_000_000)
        self.sizes = [largest // 10, largest // 4, largest]

    def counted(self, n: int) -> tuple[Path, Path]:
        """Return a TSV of n generated captions, and its counts."""
        real = generate.real_captions(self.data / "captions", generate.CLEAN)
        source = generate.write_tsv(self.work / f"clean-{n}.tsv", generate.generate(real, n, generate.NEW_CLEAN, seed=n))
        config = CountConfig(source=FIRST, running=Running(progress=False))
        return source, count(str(source), out=self.work / f"counts-{n}", config=config)


def slope(bench: VectorBench) -> Rows:
    """CPU time and peak memory of one worker over sizes, each in a process of its own; what is not linear (the decomposition) apart."""
    found = []
    for n in bench.sizes:
        source, counts = bench.counted(n)
        command = [sys.executable, "-m", "benchmarks.vectors", "--child", str(source), str(counts), str(bench.fresh())]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append({"captions": n, **json.loads(out.splitlines()[-1])})
    return linearity(found, "count_cpu", "peak_unit_mb")


def child(source: str, counts: str, out: str) -> None:
    """Do the job of `vectors` step by step, as one worker does, and print CPU time and peak memory."""
    folder, running = Path(out), Running(progress=False)
    units, _ = plan_units((source,), PlanOptions())
    vocabulary = chosen_words(Path(counts), Limits(), Balance())
    write_vocabulary(folder, vocabulary)
    job = VectorsJob(FIRST, WordOptions(), folder)

    def count_units() -> None:
        for unit in units:
            pair_unit(unit, folder, job)

    counted = timed(count_units)
    peak_unit = peak_mb()
    merged = timed(lambda: merge_units(folder, units, running))
    peak_merge = peak_mb()
    stats: dict[str, int] = {}
    decomposed = timed(lambda: stats.update(write_vectors(folder, len(vocabulary), DIM)))
    pairs_mb = sum(path.stat().st_size for path in (folder / "pairs").glob("*.parquet")) / 1e6
    figures = {
        "units": len(units),
        "count_cpu": counted.cpu + merged.cpu,
        "merge_cpu": merged.cpu,
        "decompose_cpu": decomposed.cpu,
        "peak_unit_mb": peak_unit,
        "peak_merge_mb": peak_merge,
        "peak_mb": peak_mb(),
        "pairs_mb": pairs_mb,
    }
    print(json.dumps({**{name: round(value, 2) for name, value in figures.items()}, **stats}))


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()  # getrusage would tell of the larger process that this one was forked from
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def two_workers(bench: VectorBench) -> Rows:
    """One worker against two at the largest size, by wall time: all but the decomposition is shared."""
    source, counts = bench.counted(bench.sizes[-1])
    folders: list[Path] = []

    def run(workers: int) -> None:
        folders.append(bench.fresh())
        running = Running(progress=False, workers=workers)
        vectors(
            str(source), counts=counts, out=folders[-1], config=VectorsConfig(source=FIRST, vectors=VectorOptions(dim=DIM), running=running)
        )

    found = alternate(lambda: run(1), lambda: run(2), 1)
    assert read_json(folders[-1] / "manifest.json") == read_json(folders[-2] / "manifest.json")
    return {**found, "captions": bench.sizes[-1]}


def main() -> None:
    """Measure; called with --child, be the process that `slope` measures."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        run_rows("vectors", __doc__, (slope, two_workers), VectorBench)


if __name__ == "__main__":
    main()
