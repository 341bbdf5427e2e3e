"""How fast evaluation is, beside the field's tools, and that it says the same: `make bench-evaluation`.

Each row runs both in turns with one thread of torch each, and asserts that they found the same.
`--rows` takes some rows, `--quick` small sizes that only show that the benchmark works.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluation_data import RESNET, SIDE, report_folders, tiny_imagenet, untrained
from benchmarks.measure import Setting, alternate, overlay, run_rows, timed
from fistful.bow.words import WordOptions
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results
from fistful.eval.sets.class_names import ClassName, imagenet1k
from fistful.eval.tasks.classifier import build_classifiers
from fistful.eval.tasks.prompts import build_prompts
from fistful.training.model.load import load_encoder

Rows = dict[str, Any]
REPOSITORY = Path(__file__).parents[1]
OVERLAY = ("clip-benchmark==1.6.2", "pycocoevalcap==1.2", "cloudpickle==3.1.3", "numpy==2.3.5")
"""The smallest set of packages with which clip_benchmark runs unmodified beside ours; it fails with numpy 2.4."""
PROMPTS = ("openai80", "simple7", "name", "bag")
EXPECTED_EQUAL = ("acc1", "acc5", "mean_per_class_recall")


class EvaluationBench:
    """Where inputs and outputs lie, and how large they are."""

    def __init__(self, given: Setting) -> None:
        self.data, self.work, self.turns, self.fresh, quick = given.data, given.work, given.turns, given.fresh, given.quick
        self.overlay = functools.partial(overlay, given.cache, "clip-benchmark", OVERLAY)
        self.n_classes, self.n_each = (5, 8) if quick else (200, 50)
        self.n_names = {"resnet": 10 if quick else 1_000, "vit": 1 if quick else 100}
        self.n_report, self.n_steps = (2_000, 200) if quick else (100_000, 20_000)

    def model(self, name: str) -> Path:
        """Return an untrained model: a small ResNet, or open_clip's ViT-S-16 for small pictures."""
        import open_clip

        folder = self.work / name
        if not folder.exists():
            vit: Any = open_clip.get_model_config("ViT-S-16")
            untrained(folder, RESNET if name == "resnet" else {**vit, "vision_cfg": {**vit["vision_cfg"], "image_size": SIDE}})
        return folder

    def images(self) -> Path:
        """Return Tiny-ImageNet's validation images in CLIP_benchmark's layout."""
        folder = self.work / "tiny-imagenet"
        return folder if folder.exists() else tiny_imagenet(self.data, folder, self.n_classes, self.n_each)


def environment(path: Path) -> dict[str, str]:
    """Return the environment of a program with one thread of torch."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(path)}


LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""Between us and a program stands a small process: the memory of whoever starts a program counts as that program's."""


def call(bench: EvaluationBench, command: list[str], path: Path) -> int:
    """Run a program and return the largest memory that it had resident, in bytes."""
    launched = [sys.executable, "-c", LAUNCH, sys.executable, "-m", *command]
    done = subprocess.run(launched, env=environment(path), cwd=bench.work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return int(done.stdout) * 1024


# Zero-shot: whole programs, the same images, model and precision


def zeroshot_resnet(bench: EvaluationBench) -> Rows:
    """Tiny-ImageNet with four prompt sets against clip_benchmark with one of them: a small ResNet."""
    return _zeroshot(bench, "resnet")


def zeroshot_vit(bench: EvaluationBench) -> Rows:
    """The same with open_clip's ViT-S-16."""
    return _zeroshot(bench, "vit")


def _zeroshot(bench: EvaluationBench, name: str) -> Rows:
    model, images, packages = bench.model(name), bench.images(), bench.overlay()
    found: dict[str, Any] = {}

    def theirs() -> None:
        out = bench.fresh() / "out.json"
        options = f"--dataset wds/tiny --dataset_root {images} --model local-dir:{model} --pretrained none --num_workers 1 --no_amp"
        command = ["clip_benchmark.cli", "eval", *options.split(), "--task", "zeroshot_classification", "--output", str(out)]
        call(bench, command, packages)
        found["theirs"] = json.loads(out.read_text())["metrics"]

    def ours() -> None:
        out = bench.fresh() / "results"
        prompts = [word for name in PROMPTS for word in ("--prompts", name)]
        call(bench, ["fistful.eval", str(model), "--data", str(images), "--out", str(out), *prompts, "--no-progress"], REPOSITORY)
        found["ours"] = {result["prompts"]: result["metrics"] for result in read_results(out)}

    figures = alternate(theirs, ours, bench.turns)
    same = found["ours"]["openai80"]
    assert [*found["ours"]] == [*PROMPTS]
    assert [same[key] for key in ("acc1", "acc5")] == [found["theirs"][key] for key in ("acc1", "acc5")], (same, found["theirs"])
    assert abs(same["mean_per_class_recall"] - found["theirs"]["mean_per_class_recall"]) < 1e-9
    return {
        **shares(figures),
        "what": f"clip_benchmark eval with CLIP's 80 templates, fistful evaluate with {', '.join(PROMPTS)}: {name}, {SIDE} px, fp32",
        "n_images": same["n"],
        "n_classes": same["n_classes"],
        **{key: same[key] for key in EXPECTED_EQUAL},
        "bar": 0.8,
    }


def shares(figures: Rows) -> Rows:
    """Add the share of the baseline's time that ours takes, which the bars are about."""
    low, high = figures["ratio_wall_range"]
    return {**figures, "share_wall": round(1 / figures["ratio_wall"], 3), "share_wall_range": [round(1 / high, 3), round(1 / low, 3)]}


# The classifier


def classifier_resnet(bench: EvaluationBench) -> Rows:
    """ImageNet's 1,000 names with 80 templates against open_clip.build_zero_shot_classifier: the text tower of 2 layers."""
    return _classifier(bench, "resnet")


def classifier_vit(bench: EvaluationBench) -> Rows:
    """The same with the first 100 names: the text tower of ViT-S-16, 12 layers."""
    return _classifier(bench, "vit")


def _classifier(bench: EvaluationBench, name: str) -> Rows:
    import torch

    torch.set_num_threads(1)
    model, classes = bench.model(name), imagenet1k()[: bench.n_names[name]]
    found: dict[str, np.ndarray] = {}
    figures = alternate(
        lambda: found.update(theirs=plain_classifier(model, [entry.name for entry in classes], "openai80")),
        lambda: found.update(ours=our_classifier(model, classes)),
        bench.turns,
    )
    np.testing.assert_allclose(found["ours"], found["theirs"], atol=1e-5)
    return {
        **shares(figures),
        "what": f"{len(classes)} names of ImageNet with 80 templates, the model loaded too: {name}, fp32",
        "largest_difference": float(np.abs(found["ours"] - found["theirs"]).max()),
        "bar": 0.3,
    }


def plain_classifier(model: Path, names: list[str], prompts: str) -> np.ndarray:
    """Return the (C, D) classifier that open_clip builds."""
    import open_clip
    import torch

    templates = {"openai80": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple7": open_clip.SIMPLE_IMAGENET_TEMPLATES, "name": [str]}
    clip = open_clip.create_model(f"local-dir:{model}", require_pretrained=True).eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{model}")
    with torch.inference_mode():
        return open_clip.build_zero_shot_classifier(clip, tokenizer, names, templates[prompts]).T.numpy()


def our_classifier(model: Path, classes: list[ClassName]) -> np.ndarray:
    """Return the (C, D) classifier that we build."""
    prompts = build_prompts("openai80", classes, own=[], options=WordOptions(), synonyms=False)
    return build_classifiers(load_encoder(str(model)), [prompts], classes)[0].weights


# Digits


def digits(bench: EvaluationBench) -> Rows:
    """Accuracies on Tiny-ImageNet against open_clip's own functions and a plain loop: equal, to the digit."""
    model, images = bench.model("resnet"), bench.images()
    prompts = ("openai80", "simple7", "name")
    out = evaluate(str(model), data=(str(images),), out=bench.fresh() / "r", config=EvaluateConfig(prompts=prompts, progress=False))
    names = (images / "classnames.txt").read_text().splitlines()
    theirs = plain_accuracies(model, images, {name: plain_classifier(model, names, name) for name in prompts})
    ours = {result["prompts"]: (result["metrics"]["acc1"], result["metrics"]["acc5"]) for result in read_results(out)}
    assert ours == theirs, (ours, theirs)
    n = read_results(out)[0]["metrics"]["n"]
    return {
        "what": "acc1 and acc5 of the small ResNet by open_clip and by us, equal to the digit",
        "n_images": n,
        "acc": ours,
        "bar": "equal",
    }


def plain_accuracies(model: Path, images: Path, classifiers: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Return acc1 and acc5 by open_clip's model and transform, and the lines of its `accuracy`."""
    import open_clip
    import torch
    import webdataset

    clip: Any
    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{model}", require_pretrained=True)
    clip.eval()
    pairs = webdataset.WebDataset(str(images / "test/0.tar"), shardshuffle=False, empty_check=False).decode("pil").to_tuple("jpg", "cls")
    logits: dict[str, list[torch.Tensor]] = {name: [] for name in classifiers}
    labels: list[int] = []
    with torch.inference_mode():
        for batch, numbers in pairs.map_tuple(preprocess, int).batched(64, partial=True):
            features: Any = clip.encode_image(batch if isinstance(batch, torch.Tensor) else torch.stack(batch), normalize=True)
            for name, weights in classifiers.items():
                logits[name].append(100.0 * features @ torch.from_numpy(weights).T)
            labels += [int(one) for one in numbers]
    target = torch.tensor(labels)
    return {name: tuple(accuracy(torch.cat(parts), target)) for name, parts in logits.items()}  # pyright: ignore[reportReturnType]


def accuracy(output: Any, target: Any, topk: tuple[int, ...] = (1, 5)) -> list[float]:
    """Return top-k accuracies as open_clip_train.zero_shot does, less a call that numpy 2.4 refuses."""
    pred = output.topk(max(topk), 1, True, True)[1].t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    return [float(correct[:k].reshape(-1).float().sum()) / len(target) for k in topk]


# The report


def report(bench: EvaluationBench) -> Rows:
    """The page of five runs, 100,000 samples and their results on 100,000 images of 1,000 classes."""
    folders = report_folders(bench.data, bench.fresh(), bench.n_report, n_runs=5, n_steps=bench.n_steps)
    page, memory = bench.work / "report.html", 0

    def make() -> None:
        nonlocal memory
        memory = call(bench, ["fistful", "report", *map(str, folders), "--out", str(page)], REPOSITORY)

    took = timed(make)
    return {
        "what": f"fistful report: {bench.n_report} samples, 5 runs of {bench.n_steps} steps, their results on as many images",
        "seconds": round(took.wall, 2),
        "peak_memory_mb": round(memory / 1e6),
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "bar": {"seconds": 60, "peak_memory_mb": 1000, "page_mb": 10},
    }


ROWS: tuple[Callable[[EvaluationBench], Rows], ...] = (
    zeroshot_resnet,
    zeroshot_vit,
    classifier_resnet,
    classifier_vit,
    digits,
    report,
)


def main() -> None:
    """Run rows and write their figures."""
    run_rows("evaluation", __doc__, ROWS, EvaluationBench)


if __name__ == "__main__":
    main()
