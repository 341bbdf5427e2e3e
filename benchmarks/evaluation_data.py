"""What the evaluation benchmark is run on: untrained models whose answers differ, Tiny-ImageNet, and folders for a large report."""

from __future__ import annotations

import json
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos_data import read_samples
from fistful.bow.store import manifest
from fistful.bow.store.files import atomic_file, write_bytes, write_json
from fistful.bow.store.identity import semantic_values
from fistful.bow.store.shard import add_file, end_tar, tar_bytes
from fistful.bow.store.tables import write_table
from fistful.eval.compare import compare_with_first
from fistful.eval.results import classes_table, predictions_table, result_name
from fistful.eval.sets.class_names import ClassName, imagenet1k
from fistful.eval.tasks.zeroshot import Predictions, summarise
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.training.train_config import train_config

SIDE = 64
RESNET = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 32, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
"""A small ResNet beside a small text tower that reads CLIP's 77 positions."""


def untrained(folder: Path, model_cfg: dict[str, Any]) -> Path:
    """Write an untrained open_clip model as a local folder, its features centred: without that it says the same of everything."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model: Any = open_clip.create_model(f"local-dir:{folder}").eval()
    coarse = torch.randn(32, 3, 4, 4)
    pictures = torch.nn.functional.interpolate(coarse, size=model_cfg["vision_cfg"]["image_size"], mode="bilinear")
    texts = open_clip.SimpleTokenizer(context_length=model.context_length)([entry.name for entry in imagenet1k()[:50]])
    with torch.no_grad():
        image_mean, text_mean = model.encode_image(pictures).mean(dim=0), model.encode_text(texts).mean(dim=0)
        if hasattr(model.visual, "attnpool"):
            model.visual.attnpool.c_proj.bias -= image_mean
        else:
            model.visual.ln_post.bias -= image_mean @ torch.linalg.pinv(model.visual.proj)
        model.ln_final.bias -= text_mean @ torch.linalg.pinv(model.text_projection)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def tiny_imagenet(data: Path, folder: Path, n_classes: int, n_each: int) -> Path:
    """Write Tiny-ImageNet's validation images in CLIP_benchmark's layout, with CLIP's 80 templates."""
    import open_clip

    source = data / "eval" / "tiny-imagenet"
    rows = [line.split("\t") for line in (source / "classes.tsv").read_text().splitlines()]
    column = rows[0].index("name")
    names = {row[0]: row[column] for row in sorted(rows[1:])[:n_classes]}
    label = {wnid: i for i, wnid in enumerate(names)}
    files: dict[str, bytes] = {}
    seen = dict.fromkeys(names, 0)
    with tarfile.open(source / "val.tar.gz") as tar:
        for member in tar:
            wnid = member.name.split("/")[-2] if member.isfile() else ""
            if wnid in label and seen[wnid] < n_each:
                content = tar.extractfile(member)
                assert content is not None
                key = f"s{sum(seen.values()):07d}"
                files |= {f"{key}.jpg": content.read(), f"{key}.cls": str(label[wnid]).encode()}
                seen[wnid] += 1
    templates = [template("{c}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    for name, lines in {"classnames.txt": names.values(), "zeroshot_classification_templates.txt": templates}.items():
        write_bytes(folder, name, "".join(f"{line}\n" for line in lines).encode())
    write_bytes(folder, "dataset_type.txt", b"classification\n")
    write_bytes(folder, "test/nshards.txt", b"1\n")
    write_bytes(folder, "test/0.tar", tar_bytes(files))
    return folder


def captioned(data: Path, path: Path, n: int) -> Path:
    """Write n captioned photos as one tar; where there are too few they come again."""
    samples = islice(read_samples(data / "photos/captioned/flickr8k-00000.tar.gz"), n)
    photos = [(sample["jpg"], sample["txt"]) for sample in samples]
    with atomic_file(path.parent, path.name) as tar_file:
        for i in range(n):
            picture, text = photos[i % len(photos)]
            add_file(tar_file, f"{i:07d}.jpg", picture)
            add_file(tar_file, f"{i:07d}.txt", text)
        end_tar(tar_file)
    return path


def report_folders(data: Path, root: Path, n: int, n_runs: int, n_steps: int) -> list[Path]:
    """Write bags of n samples, runs, and what an evaluation of them on n images of 1,000 classes would leave behind."""
    source, running = str(captioned(data, root / "photos.tar", n)), Running(progress=False)
    counts = count(source, out=root / "counts", config=CountConfig(running=running))
    bags(source, counts=str(counts), out=root / "bags", config=BagsConfig(running=running))
    runs = [_run(root / f"run-{i}", n_steps, seed=i) for i in range(n_runs)]
    return [root / "bags", *runs, _results(root / "results", [run.name for run in runs], n)]


def _run(folder: Path, steps: int, seed: int) -> Path:
    manifest.claim(folder, "train", semantic_values(train_config(steps=steps, seed=seed)), [{"fingerprint": "00" * 32, "weight": 1.0}])
    losses = 4.0 / (1 + np.arange(steps) / 200) + np.random.default_rng(seed).random(steps) / 10
    lines = [json.dumps({"step": step, "loss": round(loss, 6), "lr": 0.001}) for step, loss in enumerate(losses.tolist(), start=1)]
    write_bytes(folder, "metrics.jsonl", ("\n".join(lines) + "\n").encode())
    manifest.finish(folder, {}, {})
    return folder


def _results(folder: Path, models: list[str], n: int) -> Path:
    manifest.claim(folder, "evaluate", {"prompts": ["name"], "seed": 0}, {"models": models})
    classes = imagenet1k()
    results = [_result(folder, model, classes, n, seed) for seed, model in enumerate(models)]
    write_json(folder, "results.json", {"format": 1, "results": results, "comparisons": compare_with_first(folder, results)})
    manifest.finish(folder, {}, {})
    return folder


def _result(folder: Path, model: str, classes: list[ClassName], n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(classes)
    ranks = (rng.exponential(3 + seed, n)).astype(np.int32)
    top = rng.integers(0, len(classes), (n, 5), dtype=np.int32)
    rows = np.flatnonzero(ranks < 5)
    top[rows, ranks[rows]] = labels[rows]
    scores = -np.sort(-rng.random((n, 5), dtype=np.float32), axis=1)
    stem = result_name(model, "photos", "name")
    names = [f"photos/{i}.jpg" for i in range(n)]
    digests = [f"{i:064x}" for i in range(n)]
    write_table(folder, f"predictions/{stem}.parquet", predictions_table(names, digests, [""] * n, labels, Predictions(top, scores, ranks)))
    write_table(folder, f"classes/{stem}.parquet", classes_table(classes, labels, ranks, None, np.arange(len(classes), 0, -1)))
    result = {
        "dataset": "photos",
        "model": model,
        "prompts": "name",
        "task": "zeroshot_classification",
        "metrics": summarise(ranks, labels, len(classes)),
        "refused": {},
        "warnings": [],
        "model_fingerprint": f"{seed:064x}",
        "content": "12" * 32,
    }
    write_json(folder, f"results/{stem}.json", result)
    return result
