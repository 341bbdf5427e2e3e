"""What object stores cost, and that they hold the same bytes: `python -m benchmarks.stores`, half an hour, a quiet machine.

The store is moto's server of the S3 protocol on this machine, a process in Python whose own share of CPU time is told. It says
nothing of a network. `--quick` shows only that it works.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np

from benchmarks import generate
from benchmarks.measure import Setting, run_rows, timed
from fistful.bow.balance import Balance
from fistful.bow.draw import mix_all
from fistful.bow.store.folders import files_below, folder_at, in_store
from fistful.bow.store.identity import sha256_hex
from fistful.bow.store.manifest import verify
from fistful.bow.store.uploads import Uploads
from fistful.bow.vocabulary import Limits, write_vocabulary
from fistful.bow.words import WordOptions
from fistful.pipelines.bagging import chosen_words
from fistful.pipelines.bags import BagOptions, BagsConfig, BagsJob, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.engine.work import Work, do_one
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions
from tests.support.object_store import s3_server

Rows = dict[str, Any]
BUCKET = "bench"
WAYS = {"one_worker": (), "two_workers": ("--workers", "2"), "dask_two_processes": ("--workers", "2", "--engine", "dask")}
QUIET = Running(progress=False)
KILLS = 20
"""Random moments at which `bags` is killed."""


class StoreBench:
    """A server, and inputs beside it."""

    def __init__(self, given: Setting) -> None:
        self.work, self.fresh, self.turns, self.quick = given.work.absolute(), given.fresh, given.turns, given.quick
        self.captions = generate.real_captions(given.data / "captions", generate.CLEAN)
        with contextlib.ExitStack() as stack:
            os.environ.update(stack.enter_context(s3_server(self.work)))
            atexit.register(stack.pop_all().close)
        fsspec.filesystem("s3").mkdir(BUCKET)
        self.n_buckets = 0

    def tars(self, n: int, n_each: int, side: int, *, whole: bool = False) -> list[Path]:
        """Return n tars of so many pictures, each with its own captions."""
        parts, name = [self.captions[i * n_each : (i + 1) * n_each] for i in range(n)], f"{'whole-' if whole else ''}{side}-{n_each}"
        return [generate.write_tar(self.work / f"{name}-{i}.tar", part, side, whole=whole) for i, part in enumerate(parts)]

    def place(self) -> str:
        """Return a new place in the store."""
        self.n_buckets += 1
        return f"s3://{BUCKET}/{self.n_buckets}"

    def server_cpu(self) -> float:
        """Return how much CPU time the server has had, in seconds."""
        (server,) = (place.parent for place in Path("/proc").glob("[0-9]*/cmdline") if f"{self.work}/fault".encode() in place.read_bytes())
        user, system = (server / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def hashes(folder: str | Path) -> dict[str, str]:
    """Return the SHA-256 of every file outside logs/."""
    place = folder_at(folder)
    names = [name for name in sorted(files_below(place)) if "logs" not in name.split("/")[:-1]]
    return {name: sha256_hex((place / name).read_bytes()) for name in names}


def fistful(*arguments: object) -> None:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "fistful", *map(str, arguments), "--no-progress"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def same_bytes(bench: StoreBench) -> Rows:
    """The objects of count, bags and label against the files of the same run on disk, by three ways of running."""
    from tests.support.clip_encoder import save_tiny_clip  # torch, which large_shard's child must not count

    sources = [tar for side in (64, 72, 80, 88) for tar in bench.tars(1, 120 if bench.quick else 300, side)]  # no two pictures alike
    encoder = save_tiny_clip(bench.fresh() / "encoder")

    def run_all(out: str, more: Sequence[str]) -> dict[str, str]:
        fistful("count", *sources, "--out", f"{out}/counts", *more)
        fistful("bags", *sources, "--counts", f"{out}/counts", "--min-count", "1", "--out", f"{out}/bags", *more)
        by_neighbours = ("--by", "knn", "--min-precision", "0", "--max-bad-fraction", "1")  # some were made so that they cannot be decoded
        fistful("label", *sources, "--model", encoder, "--like", f"{out}/bags", *by_neighbours, "--out", f"{out}/labels", *more)
        return hashes(out)

    here = run_all(str(bench.fresh()), ())
    found = {name: run_all(bench.place(), more) == here for name, more in WAYS.items()}
    assert all(found.values()), found
    return {"bar": "equal", "objects": len(here), "equal": found}


def killed(bench: StoreBench) -> Rows:
    """`bags` killed with SIGKILL at random moments, then run once more: equal bytes, and no object that a reader would refuse."""
    n, sources = (3 if bench.quick else KILLS), bench.tars(8, 40 if bench.quick else 150, 300)
    counts = count(*map(str, sources), out=bench.fresh() / "counts", config=CountConfig(running=QUIET))
    here = hashes(bags(*map(str, sources), counts=counts, out=bench.fresh() / "bags", config=BagsConfig(running=QUIET)))
    command = [sys.executable, "-m", "fistful", "bags", *map(str, sources), "--counts", str(counts), "--no-progress", "--out"]
    start, out = time.monotonic(), bench.place()
    subprocess.run([*command, out], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    begun = n_partial = n_whole = 0
    for moment in (mix_all(11, np.arange(n)) / 2.0**64).tolist():
        out = bench.place()
        process = subprocess.Popen([*command, out], stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(moment * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        there = hashes(out)
        begun += 0 < len(there) < len(here)
        n_partial += sum(here.get(name) != digest for name, digest in there.items())
        subprocess.run([*command, out], check=True, stdout=subprocess.DEVNULL)
        n_whole += hashes(out) == here and verify(out) == []
    assert (n_partial, n_whole) == (0, n)
    return {"bar": "equal", "kills": n, "killed_with_some_objects": begun, "objects_not_whole": n_partial, "equal_and_verified": n_whole}


def bags_pictures(bench: StoreBench) -> Rows:
    """Bags with pictures of some 30 kB to the store against the same to disk, in turns: wall time, and the server's CPU time in it."""
    sources = [str(path) for path in bench.tars(4, 100 if bench.quick else 1_500, 300)]
    counts = count(*sources, out=bench.fresh() / "counts", config=CountConfig(running=QUIET))
    config = BagsConfig(plan=PlanOptions(), balance=Balance(rule="cap", kept=0.5), running=QUIET)
    disk, store, server = [], [], []
    for turn in range(bench.turns + 1):
        here, there = str(bench.fresh() / "bags"), bench.place()
        on_disk = timed(lambda here=here: bags(*sources, counts=counts, out=here, config=config))
        before = bench.server_cpu()
        in_store = timed(lambda there=there: bags(*sources, counts=counts, out=there, config=config))
        if turn:  # the first warms up: imports, tables of words, connections
            disk.append(on_disk)
            store.append(in_store)
            server.append(bench.server_cpu() - before)
    assert hashes(here) == hashes(there)
    ratios = [s.wall / d.wall for s, d in zip(store, disk, strict=True)]
    return {
        "bar": 1.5,
        "turns": bench.turns,
        "megabytes": round(sum(Path(path).stat().st_size for path in sources) / 1e6, 1),
        "disk_wall": round(statistics.median(d.wall for d in disk), 3),
        "store_wall": round(statistics.median(s.wall for s in store), 3),
        "ratio_wall": round(statistics.median(ratios), 3),
        "ratio_wall_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "disk_cpu": round(statistics.median(d.cpu for d in disk), 3),
        "store_cpu": round(statistics.median(s.cpu for s in store), 3),
        "server_cpu": round(statistics.median(server), 3),
        "server_share_of_store_cpu": round(statistics.median(v / (v + s.cpu) for v, s in zip(server, store, strict=True)), 3),
    }


def large_shard(bench: StoreBench) -> Rows:
    """Memory of a process that writes two shards of 256 MB, to disk and to the store, which takes the first while the second is made."""
    sources = bench.tars(2, 100 if bench.quick else 8_000, 300)
    counts = count(*map(str, sources), out=bench.fresh() / "counts", config=CountConfig(running=QUIET))
    found: Rows = {"bar": 1_000}
    for name, out in (("disk", str(bench.fresh())), ("store", bench.place())):
        command = [sys.executable, "-m", "benchmarks.stores", "--child", str(counts), out, *map(str, sources)]
        found[f"{name}_peak_mb"] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        found["shard_mb"] = round(files_below(folder_at(out))["shards/00000.tar"] / 1e6, 1)
    return found


def train_from_store(bench: StoreBench) -> Rows:
    """Training on pictures of some 30 kB from the store against the same from disk, in turns: samples and CPU time after the first epoch,
    whose end finds all shards there, and how much longer the store's steps waited for data; the weights are equal."""
    from fistful.training.train_config import train_config

    sources = [str(path) for path in bench.tars(4, 100 if bench.quick else 500, 300, whole=True)]
    counts = count(*sources, out=bench.fresh() / "counts", config=CountConfig(running=QUIET))
    here = bags(*sources, counts=counts, out=bench.fresh() / "bags", config=BagsConfig(plan=PlanOptions(unit_mb=4.0), running=QUIET))
    there = bench.place()
    for name in files_below(here):
        fsspec.filesystem("s3").put_file(str(here / name), f"{there}/{name}")
    options: Rows = {"epochs": 3.0, "text": "bag", "threads": 1, "decoders": 1, "cache_mb": 0, "progress": False, "checkpoint_every": 10**6}
    shards = [path.stat().st_size for path in (here / "shards").iterdir()]
    found: Rows = {"bar": 0.97, "turns": bench.turns, "shards": len(shards), "megabytes": round(sum(shards) / 1e6, 1)}
    for order in ("samples", "shards"):
        config = train_config(**options, order=order)
        pairs = [tuple(_trained(bench, str(data), config) for data in (here, there)) for _ in range(bench.turns)]
        assert all(disk.weights == store.weights for disk, store in pairs)
        ratios = [store.samples_per_s / disk.samples_per_s for disk, store in pairs]
        found[f"order_{order}"] = {
            "disk_samples_per_s": round(statistics.median(disk.samples_per_s for disk, _ in pairs), 1),
            "store_samples_per_s": round(statistics.median(store.samples_per_s for _, store in pairs), 1),
            "ratio_warm": round(statistics.median(ratios), 3),
            "ratio_warm_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "ratio_warm_cpu": round(statistics.median(disk.cpu / store.cpu for disk, store in pairs), 3),
            "waited_cold_s": round(statistics.median(store.waited - disk.waited for disk, store in pairs), 2),
            "seconds_from_disk": round(statistics.median(disk.seconds for disk, _ in pairs), 1),
        }
    return found


class Trained(NamedTuple):
    """A run of some epochs."""

    weights: dict[str, str]
    samples_per_s: float
    """After the first epoch."""
    cpu: float
    """Seconds of CPU time after the first epoch."""
    waited: float
    """Seconds that steps waited for data in all."""
    seconds: float
    """That all steps took."""


def _trained(bench: StoreBench, data: str, config: Any) -> Trained:
    """Train for some epochs, and look at the clocks after each step."""
    from fistful.training import loop
    from fistful.training.train import train

    ends: list[tuple[float, float]] = []
    take = loop.step

    def note(*arguments: Any) -> Any:
        result = take(*arguments)
        ends.append((time.perf_counter(), time.process_time()))
        return result

    loop.step = note
    try:
        run = train(data, out=bench.fresh() / "run", config=config)
    finally:
        loop.step = take
    first, last = round(len(ends) / config.optimiser.epochs), json.loads((run / "logs/speed.jsonl").read_text().splitlines()[-1])
    wall, cpu = (after - before for before, after in zip(ends[first], ends[-1], strict=True))
    weights = {name: digest for name, digest in hashes(run).items() if name.startswith("model/")}
    rate = (len(ends) - 1 - first) * config.optimiser.batch_size / wall
    return Trained(weights, rate, cpu, last["waiting_share"] * last["seconds"], last["seconds"])


def child(counts: str, out: str, *sources: str) -> None:
    """Bag a unit a source as a worker does, and print the peak memory in MB."""
    folder, options = folder_at(out), PlanOptions(unit_mb=1e6, unit_files=10**9)
    write_vocabulary(folder, chosen_words(Path(counts), Limits(), Balance()))
    work = Work("fistful.pipelines.bags:bag_unit", folder, BagsJob(SourceOptions(), WordOptions(), BagOptions(), folder), "bags")
    uploads = Uploads() if in_store(folder) else None
    for unit in plan_units(sources, options)[0]:
        do_one(unit, work, uploads)
    if uploads is not None:
        uploads.close()
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(round(int(peak) / 1024, 1))  # getrusage would tell the peak of the process that started this one, if that is more


ROWS = (same_bytes, killed, bags_pictures, large_shard, train_from_store)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        run_rows("stores", __doc__, ROWS, StoreBench)
