"""What a student takes: `python -m benchmarks.students`, half an hour, a quiet machine.

speed: texts a second of a student and of the fastest form of its teacher (all-MiniLM-L6-v2 in torch, whose texts all have one length
here, so that nothing is padded), each with tokenising, in batches of 32, on one thread, by length of text. Every turn has texts of its
own. A student's speed does not depend on what it has learnt, so its weights are drawn; its table is that of real captions.
slope: time and memory of the n-gram count over sizes. `--quick` shows only that it works.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import generate
from benchmarks.measure import Setting, alternate, linearity, run_rows, timed
from benchmarks.vectors import peak_mb
from fistful.bow.ngrams import NgramReader, NgramTable, choose_table, read_counts
from fistful.bow.sorted_counts import count_numbers, merge_counts
from fistful.bow.store.index import unit_name
from fistful.bow.student import StudentWeights
from fistful.pipelines.engine.merge import MERGED_AT_ONCE, merge_until_few
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.ngrams import NgramJob, ngram_unit
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions
from fistful.training.model.student import Student, StudentLineage, StudentTexts

FIRST = SourceOptions(caption="1")
BATCH, TABLE, HASHED, DIM, WIDTH, LONGEST = 32, 200_000, 65_536, 256, 384, 4
LENGTHS = {"title": (3, 6, 1), "caption": (9, 14, 1), "paragraph": (45, 75, 5)}
"""Words of a text, from and to, and how many captions make one."""
Rows = dict[str, Any]


class StudentBench:
    """Where inputs and outputs lie, and how large they are."""

    def __init__(self, given: Setting) -> None:
        self.data, self.work, self.fresh, self.turns, self.quick = given.data, given.work, given.fresh, given.turns, given.quick
        largest = given.captions or (200_000 if given.quick else 20_000_000)
        self.sizes = [largest // 10, largest // 4, largest]
        self.batches = 1 if given.quick else 8

    def real(self) -> list[str]:
        """Return real captions, each once, in an order of their own."""
        captions = generate.real_captions(self.data / "captions", generate.CLEAN)
        order = np.random.default_rng(0).permutation(len(captions))[: 20_000 if self.quick else None]
        return [captions[i] for i in order.tolist()]


def drawn_student(captions: list[str]) -> StudentTexts:
    """Return a student whose table is that of some captions, and whose weights are drawn."""
    reader = NgramReader("en", LONGEST)
    parts = (captions[start : start + 4_096] for start in range(0, len(captions), 4_096))
    counted = count_numbers(np.concatenate([reader.keys(pa.array(part, pa.string())).values for part in parts]))
    table, _ = choose_table(iter([counted]), TABLE, HASHED)
    return StudentTexts(Student(_drawn_weights(table), table, _lineage()))


def _drawn_weights(table: NgramTable) -> StudentWeights:
    rng = np.random.default_rng(0)
    shapes = ((table.n_rows, DIM), (DIM, DIM), (DIM,), (WIDTH, DIM), (WIDTH,))
    return StudentWeights(*(0.05 * rng.standard_normal(shape, np.float32) for shape in shapes))


def _lineage() -> StudentLineage:
    return StudentLineage(config_id="", teacher="", logit_scale=20.0, word_options={"language": "en"}, ngrams=LONGEST, hashed=HASHED)


def speed(bench: StudentBench) -> Rows:
    """Teacher and student on texts of three lengths."""
    import torch

    from benchmarks.minilm import minilm

    torch.set_num_threads(1)
    captions, teacher = bench.real(), minilm()
    half = len(captions) // 2
    student = drawn_student(captions[:half])
    found: Rows = {"bar": 20, "batch": BATCH, "threads": 1, "table": TABLE}
    for name, (shortest, longest, joined) in LENGTHS.items():
        texts = [" ".join(captions[i : i + joined]) for i in range(half, len(captions) - joined, joined)]
        texts = [text for text in texts if shortest <= len(text.split()) <= longest]
        stream = _of_one_length(texts, teacher)
        turns = bench.turns + 1
        batches = [[next(stream) for _ in range(bench.batches)] for _ in range(turns)]
        for batch in batches.pop():  # a first turn that is not counted
            teacher.embed_texts(batch)
            student(batch)
        mine, theirs = iter(batches), iter(batches)
        pair = alternate(
            lambda theirs=theirs: [teacher.embed_texts(batch) for batch in next(theirs)],
            lambda mine=mine: [student(batch) for batch in next(mine)],
            bench.turns,
        )
        n = bench.batches * BATCH
        words = np.mean([len(text.split()) for turn in batches for batch in turn for text in batch])
        rates = {"teacher_per_s": round(n / pair["baseline_wall"], 1), "student_per_s": round(n / pair["ours_wall"], 1)}
        found[name] = {**pair, **rates, "words": round(float(words), 1)}
    return found


def _of_one_length(texts: list[str], teacher: Any) -> Iterator[list[str]]:
    """Yield batches whose texts have one number of the teacher's tokens, as they come; over again when all were used."""
    while True:
        waiting: dict[int, list[str]] = {}
        for text in texts:
            batch = waiting.setdefault(len(teacher.tokens(text)), [])
            batch.append(text)
            if len(batch) == BATCH:
                yield waiting.pop(len(teacher.tokens(text)))


def slope(bench: StudentBench) -> Rows:
    """CPU time and peak memory of the n-gram count over sizes, each in a process of its own."""
    found = []
    for n in bench.sizes:
        real = generate.real_captions(bench.data / "captions", generate.CLEAN)
        source = generate.write_tsv(bench.work / f"clean-{n}.tsv", generate.generate(real, n, generate.NEW_CLEAN, seed=n))
        command = [sys.executable, "-m", "benchmarks.students", "--child", str(source), str(bench.fresh())]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append({"captions": n, **json.loads(out.splitlines()[-1])})
    return {**linearity(found, "cpu", "peak_mb"), "bar_mb": 1_000}


def child(source: str, out: str) -> None:
    """Count as one worker does, choose the table, and print CPU time and peak memory."""
    folder, running = Path(out), Running(progress=False)
    units, _ = plan_units((source,), PlanOptions())
    job = NgramJob(FIRST, "en", LONGEST)
    counted = timed(lambda: [ngram_unit(unit, folder, job) for unit in units])
    peak_unit, about = peak_mb(), {}

    def merge() -> None:
        files = [folder / unit_name("counts", unit.number, "parquet") for unit in units]
        few = merge_until_few(files, MERGED_AT_ONCE, "fistful.pipelines.ngrams:merge_unit", folder, running)
        about.update(choose_table(merge_counts(map(read_counts, few)), TABLE, HASHED)[1])

    merged = timed(merge)
    figures = {"cpu": counted.cpu + merged.cpu, "merge_cpu": merged.cpu, "peak_unit_mb": peak_unit, "peak_mb": peak_mb()}
    print(json.dumps({"units": len(units), **{name: round(value, 2) for name, value in figures.items()}, **about}))


def main() -> None:
    """Measure; called with --child, be the process that `slope` measures."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        run_rows("students", __doc__, (speed, slope), StudentBench)


if __name__ == "__main__":
    main()
