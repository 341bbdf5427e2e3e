"""How fast training and labelling are on a GPU, beside unmodified open_clip_train and the bare forward pass: `make bench-gpu`.

Pictures are JPEGs of 300 px (a thousand different ones, under many keys), models see 224 px in bf16. Rates are those of the middle of a
run (whole_programs.py), each row runs both in turns. Where torch sees no GPU one line says so. `--quick` shows only that it works.
"""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks import labels
from benchmarks.measure import Setting, run_rows
from benchmarks.photos_data import read_samples
from benchmarks.training import TrainingBench, mosaic
from benchmarks.whole_programs import Course, against_open_clip, run_ours
from fistful.bow.balance import Balance
from fistful.bow.store.files import atomic_file
from fistful.bow.store.shard import add_file, end_tar
from fistful.bow.vocabulary import Limits
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running

Rows = dict[str, Any]
DEVICE, PRECISION = "cuda", "bf16"
QUIET = Running(progress=False)


class GpuBench(TrainingBench):
    """Pictures in tars, as they are and as bags."""

    def __init__(self, given: Setting) -> None:
        super().__init__(given)
        self.n_pictures, self.batch = (32, 32) if given.quick else (1_000, 512)
        self.n_large = 32 if given.quick else 20_000
        self.cores = max(2, len(os.sched_getaffinity(0)))
        round_of_workers = self.batch * self.cores  # theirs rounds an epoch up to as many samples
        self.n_short, self.n_long = (
            (round_of_workers, 2 * round_of_workers) if given.quick else (3 * round_of_workers, 12 * round_of_workers)
        )

    def tars(self, n: int, side: int = 300) -> Path:
        """Write n samples of 300 px into a folder of webdataset tars, one for each core, the same pictures again and again."""
        return self.written(n, side, self.cores)

    def written(self, n: int, side: int, n_tars: int) -> Path:
        """Write n samples into so many tars."""
        folder = self.work / f"tars-{n}-{side}-{n_tars}"
        if len([*folder.glob("*.tar")]) == n_tars:
            return folder
        samples = list(islice(read_samples(self.data / "photos/captioned/flickr8k-00000.tar.gz"), 16 + self.n_pictures))
        small, captions = [sample["jpg"] for sample in samples], [sample["txt"] for sample in samples]
        pictures = [mosaic([small[(i + k * 7) % len(small)] for k in range(16)]) for i in range(self.n_pictures)]
        for part in range(n_tars):
            with atomic_file(folder, f"{part:05d}.tar") as tar:
                for i in range(part, n, n_tars):
                    add_file(tar, f"{i:06d}.jpg", pictures[i % len(pictures)])
                    add_file(tar, f"{i:06d}.txt", captions[i % len(captions)])
                end_tar(tar)
        return folder

    def bags(self, n: int) -> Path:
        """Return n samples as a folder of bags."""
        tars, work = str(self.tars(n)), self.work / f"bags-{n}"
        counts = count(tars, out=work / "counts", config=CountConfig(running=QUIET))
        balance, limits = Balance(rule="cap", kept=0.5), Limits(min_count=1)
        return bags(tars, counts=counts, out=work / "bags", config=BagsConfig(balance=balance, limits=limits, running=QUIET))

    def course(self, model: str, **more: Any) -> Course:
        """Return what both programs do with a model."""
        how: dict[str, Any] = {"side": 300, "batch": self.batch, "device": DEVICE, "precision": PRECISION, "workers": self.cores}
        return Course(model=model, **{"context": 77, **how, **more})


def where(course: Course) -> Rows:
    """Return what a figure depends on beside the machine's processors."""
    gpu = torch.cuda.get_device_name(0) if course.device == "cuda" else "none"
    return {"gpu": gpu, "what": f"{course.model}, 224 px, batch {course.batch}, {course.precision}, {course.workers} decoders"}


def captions_rn50(bench: GpuBench) -> Rows:
    """ResNet-50 on captions of 77 positions, both programs."""
    return _captions(bench, "RN50")


def captions_vit_b32(bench: GpuBench) -> Rows:
    """ViT-B/32 on captions of 77 positions, both programs."""
    return _captions(bench, "ViT-B-32")


def _captions(bench: GpuBench, model: str) -> Rows:
    course = bench.course(model)
    return {**where(course), **against_open_clip(bench, course), "bar": 1.0}


def bags_rn50(bench: GpuBench) -> Rows:
    """ResNet-50, ours on bags of 16 positions, theirs on captions of 77."""
    return _bags(bench, "RN50")


def bags_vit_b32(bench: GpuBench) -> Rows:
    """ViT-B/32, ours on bags of 16 positions, theirs on captions of 77."""
    return _bags(bench, "ViT-B-32")


def _bags(bench: GpuBench, model: str) -> Rows:
    course = bench.course(model, text="bag", context=16)
    return {**where(course), **against_open_clip(bench, course, bench.bags), "bar": 1.3}


def waiting(bench: GpuBench) -> Rows:
    """Share of a run on bags that waits for data: ViT-B/32, the whole of it and its first batches too."""
    course = bench.course("ViT-B-32", text="bag", context=16)
    run = run_ours(bench, course, str(bench.bags(bench.n_long)))
    last = json.loads((run / "logs" / "speed.jsonl").read_text().splitlines()[-1])
    return {**where(course), **last, "bar": 0.05}


def label_vit_b32(bench: GpuBench) -> Rows:
    """Pictures/s of `label` through ViT-B/32, from JPEGs of 300 px to files, against the bare forward pass in the same passes, fp32."""
    unit = labels.unit_of(bench.written(bench.n_large, 300, 1))
    return {**where(bench.course("ViT-B-32", precision="fp32")), **labels.against_forward(bench, labels.vit_b32(bench), unit, 0.9, DEVICE)}


ROWS = (captions_rn50, captions_vit_b32, bags_rn50, bags_vit_b32, waiting, label_vit_b32)


def main() -> None:
    """Measure and write benchmarks/results/gpu-DATE.json, where there is a GPU."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: torch sees no GPU here; nothing was measured")
        return
    run_rows("gpu", __doc__, ROWS, GpuBench)


if __name__ == "__main__":
    main()
