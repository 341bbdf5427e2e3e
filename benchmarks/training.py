"""How fast training is, beside what users know: `make bench-training`.

Each row runs both in turns, with one thread each. Rates are those of the middle of a run: a longer run less a
shorter one for whole programs (whole_programs.py); steps after the first few inside one process.
`--rows` takes some rows, `--quick` small sizes that only show that the benchmark works.
"""

from __future__ import annotations

import functools
import io
import json
import shutil
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Setting, alternate, overlay, run_rows
from benchmarks.photos_data import read_samples
from benchmarks.whole_programs import Course, against_open_clip
from fistful.bow.store.files import read_json
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import read_vocabulary
from fistful.training import loop
from fistful.training.model.model import normalise
from fistful.training.train import train
from fistful.training.train_config import TrainConfig, train_config

Rows = dict[str, Any]
OVERLAY = ("pandas==3.1.1", "webdataset==0.2.86")
"""The smallest set of packages with which open_clip_train runs unmodified beside ours."""
SIDE = 64
TINY = {
    "model_cfg": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 32, "head_width": 64},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {},
}


class TrainingBench:
    """Where inputs and outputs lie, and how large they are."""

    def __init__(self, given: Setting) -> None:
        self.data, self.work, self.turns, self.fresh, quick = given.data, given.work, given.turns, given.fresh, given.quick
        self.quick, self.overlay = quick, functools.partial(overlay, given.cache, "open-clip-train", OVERLAY)
        self.n_short, self.n_long = (256, 512) if quick else (512, 3_072)
        self.n_loader = 256 if quick else 3_000
        self.n_cached, self.n_frozen = (256, 512) if quick else (5_000, 25_000)

    def photos(self) -> list[tuple[bytes, str]]:
        """Return pictures of 80 px and their first captions."""
        n = max(self.n_long, self.n_loader * (1 if self.quick else 2))
        samples = islice(read_samples(self.data / "photos/captioned/flickr8k-00000.tar.gz"), n)
        return [(sample["jpg"], sample["txt"].decode()) for sample in samples]

    def tars(self, n: int, side: int = 80) -> Path:
        """Write n photos into a folder of two webdataset tars; at 300 px each is a mosaic of 16, for its detail."""
        folder = self.work / f"tars-{n}-{side}"
        if folder.exists():
            return folder
        folder.mkdir(parents=True)
        photos = self.photos()
        for part in range(2):
            files: dict[str, bytes] = {}
            for i in range(part, n, 2):
                files[f"{i:06d}.jpg"] = photos[i][0] if side == 80 else mosaic([photos[(i + k * 7) % len(photos)][0] for k in range(16)])
                files[f"{i:06d}.txt"] = photos[i][1].encode()
            (folder / f"{part:05d}.tar").write_bytes(tar_bytes(files))
        return folder


def mosaic(photos: list[bytes]) -> bytes:
    """Return a JPEG of 300 px made of 16 photos."""
    from PIL import Image

    from fistful.bow.store.images import decode_image

    canvas = Image.new("RGB", (320, 320))
    for i, photo in enumerate(photos):
        canvas.paste(decode_image(photo).resize((80, 80)), (i % 4 * 80, i // 4 * 80))
    buffer = io.BytesIO()
    canvas.crop((10, 10, 310, 310)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


# Whole programs: the same data, model, batch, crop and precision


def captions_against_open_clip(bench: TrainingBench) -> Rows:
    """Samples/s on captions against unmodified open_clip_train, 80 px pictures, a small ResNet."""
    return {**_against_open_clip(bench, 1), "bar": 1.0}


def two_processes_against_open_clip(bench: TrainingBench) -> Rows:
    """The same of two processes each, which torchrun starts, gloo between them; a batch of 64 is 32 for each."""
    return {**_against_open_clip(bench, 2), "bar": 1.1}


def _against_open_clip(bench: TrainingBench, n_ranks: int) -> Rows:
    model = bench.work / "tiny"
    model.mkdir(exist_ok=True)
    (model / "open_clip_config.json").write_text(json.dumps(TINY))
    each = "" if n_ranks == 1 else f", {n_ranks} processes of one thread each (gloo), theirs with --local-loss --gather-with-grad"
    how = "ResNet of 1 block a stage, 64 px, 32 text positions, batch 64, fp32, random crop"
    found = against_open_clip(bench, Course(model=str(model), context=32, ranks=n_ranks))
    return {"what": f"open_clip_train.main and fistful train: {how}{each}", **found}


# Bags against captions, the same trainer


def bags_against_captions_rn50(bench: TrainingBench) -> Rows:
    """Samples/s on bags of 16 positions against captions of 77: open_clip's RN50 at 64 px."""
    return _bags_against_captions(bench, "RN50", batch=8, steps=4 if bench.quick else 10)


def bags_against_captions_vit(bench: TrainingBench) -> Rows:
    """Samples/s on bags of 16 positions against captions of 77: open_clip's ViT-S-16 at 64 px."""
    return _bags_against_captions(bench, "ViT-S-16", batch=16, steps=4 if bench.quick else 14)


def _bags_against_captions(bench: TrainingBench, model: str, batch: int, steps: int) -> Rows:
    data = bench.tars(bench.n_short)
    common = {"model": model, "image_size": SIDE, "batch_size": batch, "steps": steps, "threads": 1, "progress": False}
    captions = train_config(**common, text="caption", context_length=77)
    bags = train_config(**common, text="bag", context_length=16)
    pairs = [(rate_within(bench, data, captions), rate_within(bench, data, bags)) for _ in range(bench.turns)]
    ratios = [ours / theirs for theirs, ours in pairs]
    return {
        "what": f"{model} at {SIDE} px, batch {batch}, fp32: captions of 77 positions, bags of 16",
        "captions_samples_per_s": round(statistics.median(p[0] for p in pairs), 2),
        "bags_samples_per_s": round(statistics.median(p[1] for p in pairs), 2),
        "ratio": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "turns": bench.turns,
        "bar": 1.3,
    }


def rate_within(bench: TrainingBench, data: Path, config: TrainConfig) -> float:
    """Return samples a second of the steps after the second."""
    ends: list[float] = []
    step = loop.step

    def note(*arguments: Any) -> Any:
        result = step(*arguments)
        ends.append(time.perf_counter())
        return result

    loop.step = note
    try:
        folder = bench.fresh()
        train(str(data), out=folder, config=config)
    finally:
        loop.step = step
    shutil.rmtree(folder)
    return config.optimiser.batch_size * (len(ends) - 2) / (ends[-1] - ends[1])


# The loader alone


def loader_80(bench: TrainingBench) -> Rows:
    """Random crops and tokens of 80 px pictures, one pass, against webdataset's pipeline with open_clip's transform."""
    return _loader(bench, 80, "full")


def loader_300(bench: TrainingBench) -> Rows:
    """The same of 300 px pictures."""
    return _loader(bench, 300, "full")


def loader_300_scaled(bench: TrainingBench) -> Rows:
    """The same of 300 px pictures, decoded at a scale: pixels differ a little from the baseline's."""
    return _loader(bench, 300, "scaled")


def _loader(bench: TrainingBench, side: int, decode: str) -> Rows:
    import torch

    torch.set_num_threads(1)
    n = bench.n_loader
    folder = bench.tars(n, side)
    found: dict[str, np.ndarray] = {}
    ours = prepared(bench, folder, decode)
    figures = alternate(lambda: found.update(theirs=pass_of_webdataset(folder)), lambda: found.update(ours=ours()), bench.turns)
    assert found["theirs"][0] == found["ours"][0] == n // 64 * 64
    np.testing.assert_allclose(found["ours"][1:], found["theirs"][1:], atol=0.03)  # mean and deviation of all pixels
    return {**figures, "what": f"{n} pictures of {side} px, {decode} decoding, to float32 batches of 64 and tokens", "bar": 1.5}


def pass_of_webdataset(folder: Path) -> np.ndarray:
    """Go through tars as an open_clip user does, and return how many pictures there were, their mean and deviation."""
    import open_clip
    import webdataset
    from open_clip.transform import image_transform

    transform = image_transform(SIDE, is_train=True)
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    tars = sorted(map(str, folder.glob("*.tar")))
    pipeline = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pilrgb").to_tuple("jpg", "txt")
    batches = pipeline.map_tuple(transform, lambda text: tokenizer(text)[0]).batched(64, partial=False)
    return summary(images for images, _ in batches)


def prepared(bench: TrainingBench, folder: Path, decode: str) -> Callable[[], np.ndarray]:
    """Return a function that goes through tars once, decoding anew each time."""
    import open_clip

    from fistful.training.data.loader import Loader
    from fistful.training.data.reading import read_samples
    from fistful.training.job import make_order
    from fistful.training.resize_and_crop import Fit
    from fistful.training.train_config import resolve, train_config

    options = {
        "text": "caption",
        "augment": "resized",
        "decode": decode,
        "context_length": 32,
        "batch_size": 64,
        "cache_mb": 0,
        "decoders": 1,
    }
    config = resolve(train_config(**options, threads=1, context_length=32))
    samples = read_samples((str(folder),), needs_words=False, cache=bench.fresh())
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD

    def once() -> np.ndarray:
        tokenizer = open_clip.SimpleTokenizer(context_length=32)
        loader = Loader(config, samples, make_order(config, samples, samples.left_out), Fit(SIDE), samples.vocabulary, tokenizer)
        batches = loader.batches(0, len(samples) // 64)
        return summary(normalise(batch.images, mean, std) for batch in batches)

    return once


def summary(batches: Any) -> np.ndarray:
    """Return how many pictures there are, and mean and deviation of their values."""
    n, total, squares, values = 0, 0.0, 0.0, 0
    for images in batches:
        n, values = n + len(images), values + images.numel()
        total, squares = total + float(images.sum()), squares + float((images * images).sum())
    return np.array([n, total / values, np.sqrt(squares / values - (total / values) ** 2)])


# Whole runs


def waiting(bench: TrainingBench) -> Rows:
    """Share of a whole run that waits for data: tiny-resnet on cached 80 px pictures, two threads."""
    run = bench.fresh()
    options = {"epochs": 3.0, "text": "bag", "augment": "crop", "progress": False}
    train(str(bench.tars(min(bench.n_cached, bench.n_long))), out=run, config=train_config(**options))
    last = json.loads((run / "logs" / "speed.jsonl").read_text().splitlines()[-1])
    return {**last, "what": "tiny-resnet, 3 epochs, random crops of kept pictures, first epoch decodes", "bar": 0.05}


def frozen(bench: TrainingBench) -> Rows:
    """Seconds of a run of 10 epochs on 25,000 pictures whose features are there: the contrastive loss, words tower."""
    return _frozen(bench, "contrastive", "fp32")


def frozen_joint(bench: TrainingBench) -> Rows:
    """The same with a head of these captions' words beside it, in bf16 where the machine has it."""
    from fistful.training.device import has_bf16

    return _frozen(bench, "joint", "bf16" if has_bf16("cpu") else "fp32")


def _frozen(bench: TrainingBench, objective: str, precision: str) -> Rows:
    """Features are made up: what is timed does not depend on their values. The words are those of real captions."""
    from fistful.training import frozen

    folder = bench.tars(min(bench.n_frozen, bench.n_long))
    repeats = bench.n_frozen / min(bench.n_frozen, bench.n_long)
    options = {"init": "fistful.training.model.pretrained:efficientnet_lite0", "train_image": "none", "text_tower": "words", "text": "bag"}
    size = min(512, bench.n_frozen)
    config = train_config(**options, objective=objective, precision=precision, batch_size=size, epochs=10, progress=False)
    compute = frozen._compute

    def made_up(_trainer: Any, part: Any, _update: Any) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(part.rows), 1280)).astype(np.float16)

    frozen._compute = made_up
    try:
        run = bench.fresh()
        start = time.perf_counter()
        train(f"{folder}*{repeats:g}", out=run, config=config)
        seconds = time.perf_counter() - start
    finally:
        frozen._compute = compute
    steps, n_words = read_json(run / "config.json")["config"]["steps"], len(read_vocabulary(run / "model"))
    what = f"{objective}, {precision}, {steps} steps of {config.optimiser.batch_size}, {n_words} words"
    return {"what": what, "seconds": round(seconds, 1), "bar": 60}


ROWS = (
    captions_against_open_clip,
    two_processes_against_open_clip,
    bags_against_captions_rn50,
    bags_against_captions_vit,
    loader_80,
    loader_300,
    loader_300_scaled,
    waiting,
    frozen,
    frozen_joint,
)


def main() -> None:
    """Run rows and write their figures."""
    run_rows("training", __doc__, ROWS, TrainingBench)


if __name__ == "__main__":
    main()
