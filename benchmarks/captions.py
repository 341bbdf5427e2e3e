"""How fast the caption jobs are, beside what a user would write instead: `make bench-captions`.

Each row runs both in turns in one process, by CPU and wall time, and asserts that they made the same.
`--rows` takes some of them, `--quick` small sizes that only show that the benchmark works.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import generate, plain
from benchmarks.measure import Setting, alternate, linearity, run_rows, timed
from fistful.bow.balance import Balance
from fistful.bow.draw import draw_u32, sample_number
from fistful.bow.store.files import read_json
from fistful.bow.tokens import import_spacy
from fistful.bow.vocabulary import Limits, choose_words, read_counted, read_vocabulary, write_vocabulary
from fistful.bow.words import Analyzer, WordOptions
from fistful.pipelines.bagging import analyzer_of_this_thread
from fistful.pipelines.bags import BagOptions, BagsJob, bag_unit
from fistful.pipelines.count import CountConfig, count, count_unit
from fistful.pipelines.engine.beam import run_units
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.engine.work import Work, do_one
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.read.units import Unit

FIRST = SourceOptions(caption="1")
Rows = dict[str, Any]


class CaptionBench:
    """Where inputs and outputs lie, and how large they are."""

    def __init__(self, given: Setting) -> None:
        self.data, self.work, self.turns, self.fresh, quick = given.data, given.work, given.turns, given.fresh, given.quick
        self.n_count = 60_000 if quick else 3_000_000
        self.n_bags = 10_000 if quick else 200_000
        self.n_images = {72: 1_000 if quick else 10_000, 300: 400 if quick else 3_000}
        largest = given.captions or (200_000 if quick else 20_000_000)
        self.sizes = [largest // 10, largest // 4, largest // 2, largest]
        self.n_real = 5_000 if quick else None

    def tsv(self, n: int) -> Path:
        """Return a TSV of n generated clean captions."""
        real = generate.real_captions(self.data / "captions", generate.CLEAN)
        return generate.write_tsv(self.work / f"clean-{n}.tsv", generate.generate(real, n, generate.NEW_CLEAN, seed=n))


# Word ids


def ids_clean_warm(bench: CaptionBench) -> Rows:
    """Clean captions, chunk table built."""
    return _ids(bench, generate.CLEAN, warm=True, bar=12)


def ids_clean_cold(bench: CaptionBench) -> Rows:
    """Clean captions, empty chunk table."""
    return _ids(bench, generate.CLEAN, warm=False, bar=3)


def ids_web(bench: CaptionBench) -> Rows:
    """Web alt text, empty chunk table."""
    return _ids(bench, generate.WEB, warm=False, bar=5)


def _ids(bench: CaptionBench, files: dict[str, int], warm: bool, bar: float) -> Rows:

    captions = generate.real_captions(bench.data / "captions", files)[: bench.n_real]
    array = pa.array(captions, pa.string())
    nlp, analyzer = import_spacy().blank("en"), Analyzer(WordOptions())
    expected = plain.words_of(nlp, captions)
    words = analyzer.analyse(array)
    assert [[analyzer.words[i] for i in row] for row in words] == expected
    misses = analyzer.n_analysed / len(captions)

    def baseline() -> None:
        plain.words_of(nlp if warm else import_spacy().blank("en"), captions)

    def ours() -> None:
        (analyzer if warm else Analyzer(WordOptions())).analyse(array)

    found = alternate(baseline, ours, bench.turns)
    return {**found, "bar": bar, "captions": len(captions), "misses_per_caption": 0.0 if warm else round(misses, 3)}


# Jobs


def count_job(bench: CaptionBench) -> Rows:
    """Count unit by unit against one spaCy loop over the same rows."""
    source = bench.tsv(bench.n_count)
    units, _ = plan_units((str(source),), PlanOptions())
    config = CountConfig(source=FIRST)
    counted: dict[str, tuple[int, int]] = {}
    misses: list[int] = []
    folders: list[Path] = []

    def baseline() -> None:
        counted.update(plain.count(source))

    def ours() -> None:
        folders.append(bench.fresh())
        count(str(source), out=folders[-1], config=CountConfig(source=FIRST, running=Running(progress=False)))

    found = alternate(baseline, ours, bench.turns)
    vocabulary = read_vocabulary(folders[-1])
    ours_counted = zip(vocabulary.words, vocabulary.tf.tolist(), vocabulary.df.tolist(), strict=True)
    assert {word: (tf, df) for word, tf, df in ours_counted} == counted
    timed(lambda: misses.append(_misses(units, config, bench.fresh())))
    return {
        **found,
        "bar": 4,
        "captions": bench.n_count,
        "captions_per_second": round(bench.n_count / found["ours_wall"]),
        "misses_per_caption": round(misses[0] / bench.n_count, 3),
    }


def _misses(units: list[Unit], config: CountConfig, folder: Path) -> int:
    for unit in units:
        count_unit(unit, folder, config)
    return analyzer_of_this_thread(config.words).n_analysed


def bags_text(bench: CaptionBench) -> Rows:
    """Bags without images against a loop with spaCy and tarfile; the tars are equal to the byte."""
    source = bench.tsv(bench.n_bags)
    return _bags(bench, source, FIRST, plain.bags_of_text, bar=4)


def bags_3kb(bench: CaptionBench) -> Rows:
    """Bags with images of some 3 kB against webdataset."""
    return _bags(bench, _tar(bench, 72), SourceOptions(), plain.bags_of_images, bar=4)


def bags_30kb(bench: CaptionBench) -> Rows:
    """Bags with images of some 30 kB against webdataset."""
    return _bags(bench, _tar(bench, 300), SourceOptions(), plain.bags_of_images, bar=2)


def table_3kb(bench: CaptionBench) -> Rows:
    """Bags from a table that names images of some 3 kB against a loop with csv, open and tarfile."""
    return _bags(bench, _table(bench, 72), SourceOptions(), plain.bags_of_table, bar=2)


def table_30kb(bench: CaptionBench) -> Rows:
    """Bags from a table that names images of some 30 kB against a loop with csv, open and tarfile."""
    return _bags(bench, _table(bench, 300), SourceOptions(), plain.bags_of_table, bar=1.5)


def _table(bench: CaptionBench, side: int) -> Path:
    tar = _tar(bench, side)
    return generate.write_table(tar, tar.with_suffix(""))


def _tar(bench: CaptionBench, side: int) -> Path:
    captions = generate.real_captions(bench.data / "captions", generate.CLEAN)[: bench.n_images[side]]
    return generate.write_tar(bench.work / f"images-{side}-{len(captions)}.tar", captions, side)


def _bags(bench: CaptionBench, source: Path, options: SourceOptions, baseline: Callable[..., None], bar: float) -> Rows:
    folder = bench.fresh()
    counts = count(str(source), out=folder / "counts", config=CountConfig(source=options, running=Running(progress=False)))
    vocabulary = choose_words(*read_counted(counts), Limits(), Balance(rule="cap", kept=0.5))
    write_vocabulary(folder, vocabulary)
    (unit,), _ = plan_units((str(source),), PlanOptions(unit_mb=1e6, unit_files=10**9))
    job = BagsJob(options, WordOptions(), BagOptions(), folder)
    timed(lambda: bag_unit(unit, folder, job))
    index = pq.read_table(folder / "index" / "00000.parquet")
    draws = _draws(index)

    def theirs() -> None:
        baseline(source, folder / "plain.tar", plain.Balancer(vocabulary, draws))

    found = alternate(theirs, lambda: bag_unit(unit, folder, job), bench.turns)
    assert plain.members(folder / "plain.tar") == plain.members(folder / "shards" / "00000.tar")
    n, size = index.num_rows, unit.size
    return {**found, "bar": bar, "samples": n, "bytes_per_sample": round(size / n), "us_per_sample": round(found["ours_cpu"] / n * 1e6, 2)}


def _draws(index: pa.Table) -> list[int]:
    """Return the draw of each word of each bag, so that the baseline can make the same samples."""
    rows = np.array([int(key.split("_")[1]) for key in index["key"].to_pylist()], np.uint64)
    bags = index["words"].combine_chunks()
    lengths = np.diff(bags.offsets.to_numpy())
    return draw_u32(0, np.repeat(sample_number(0, rows), lengths), bags.flatten().to_numpy(), 0).tolist()


# Engine and size


def beam(bench: CaptionBench) -> Rows:
    """The same unit functions in a plain loop and under Beam; the ratio is loop / Beam, at least 1 / 1.15."""
    source = bench.tsv(bench.n_count)
    units, _ = plan_units((str(source),), PlanOptions(unit_mb=4))

    def work() -> Work:
        return Work("fistful.pipelines.count:count_unit", bench.fresh(), CountConfig(source=FIRST), "count")

    def loop() -> None:
        here = work()
        for unit in units:
            do_one(unit, here)

    loop()  # both find modules imported; the tables of a thread are empty in each turn
    found = alternate(loop, lambda: run_units(units, work(), 1, lambda _: None), bench.turns)
    return {**found, "bar": round(1 / 1.15, 3), "units": len(units)}


def two_workers(bench: CaptionBench) -> Rows:
    """One worker against two at the largest size (--captions), by wall time; wants two cores of its own."""
    source = bench.tsv(bench.sizes[-1])
    folders: list[Path] = []

    def run(workers: int) -> None:
        folders.append(bench.fresh())
        count(str(source), out=folders[-1], config=CountConfig(source=FIRST, running=Running(progress=False, workers=workers)))

    found = alternate(lambda: run(1), lambda: run(2), 1 if bench.n_real else max(1, bench.turns // 2))
    assert read_json(folders[-1] / "manifest.json") == read_json(folders[-2] / "manifest.json")
    return {**found, "bar": 1.8, "captions": bench.sizes[-1]}


def slope(bench: CaptionBench) -> Rows:
    """Time and peak memory of one worker over sizes, each in a process of its own."""
    found = []
    for n in bench.sizes:
        source = bench.tsv(n)
        command = [sys.executable, "-m", "benchmarks.captions", "--child", str(source), str(bench.fresh())]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append({"captions": n, **json.loads(out.splitlines()[-1])})
    return linearity(found, "cpu", "peak_mb")


def child(source: str, out: str) -> None:
    """Count a TSV unit by unit as a worker does, and print CPU time and peak memory."""
    units, _ = plan_units((source,), PlanOptions())
    config = CountConfig(source=FIRST)
    folder = Path(out)

    def work() -> None:
        for unit in units:
            count_unit(unit, folder, config)

    took = timed(work)
    status = Path("/proc/self/status").read_text()  # getrusage would tell of the larger process that this one was forked from
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"cpu": round(took.cpu, 3), "wall": round(took.wall, 3), "peak_mb": round(peak, 1)}))


ROWS = (ids_clean_warm, ids_clean_cold, ids_web, count_job, bags_text, bags_3kb, bags_30kb, table_3kb, table_30kb, beam, two_workers, slope)


def open_bench(given: Setting) -> CaptionBench:
    """Import what would be imported in the first turn."""
    bench = CaptionBench(given)
    (given.work / "warm.tsv").write_text("a dog\n")
    count(str(given.work / "warm.tsv"), out=bench.fresh(), config=CountConfig(source=FIRST, running=Running(progress=False)))
    return bench


def main() -> None:
    """Measure; called with --child, be the process that `slope` measures."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        run_rows("captions", __doc__, ROWS, open_bench)


if __name__ == "__main__":
    main()
