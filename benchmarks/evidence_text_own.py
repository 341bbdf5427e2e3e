"""A student in place of the text tower of a model of our own: classes by name, and captions of pictures.

The model is a transformer of captions beside a frozen EfficientNet-Lite0 that saw ImageNet's labels, taught by Flickr8k's photos but
those of its development split.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fistful.bow.store.files import read_json, write_json
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.distill import DistillConfig, distill
from fistful.pipelines.read.sources import SourceOptions
from fistful.training import recipes
from fistful.training.student_options import StudentOptions
from fistful.training.train import train
from fistful.training.train_config import changed

from .evidence_data import FLICKR, RUNNING, cut_dev, cut_pool
from .photos_data import eval_sets

STEPS, EPOCHS, THREADS = 150, 5.0, 1


def _short(results: dict[str, Any]) -> dict[str, Any]:
    """Return of an evaluation what both reached, and how far the student is from the model."""
    reached = [{name: one[name] for name in ("model", "dataset", "prompts", "metrics")} for one in results["results"]]
    return {"results": reached, "comparisons": results["comparisons"]}


def own_model(root: Path, out: Path, captions: Path, held_out: Path) -> dict[str, Any]:
    """Train the model and its student, evaluate both, and write OUT/figures.json.

    Args:
        root: FISTFUL_DATA.
        out: Folder; what is there stays.
        captions: What the student learns from, beside the model's own.
        held_out: Photos that it does not learn from.
    """
    if (out / "figures.json").exists():
        return read_json(out / "figures.json")
    cut_pool(root, FLICKR, out / "photos", ())
    photos = str(out / "photos/all")
    counts = count(photos, out=out / "counts", config=CountConfig(running=RUNNING))
    bagged = bags(photos, counts=counts, out=out / "bags", config=BagsConfig(running=RUNNING))
    recipe = changed(recipes.photos_frozen(STEPS), text="caption", text_tower="transformer", features=str(out / "features"))
    run = train(str(bagged), out=out / "run", config=changed(recipe, device="cpu", threads=THREADS, decoders=1, progress=False))
    options = StudentOptions(epochs=EPOCHS, exclude=str(held_out), photo="photo", threads=THREADS, device="cpu")
    config = DistillConfig(source=SourceOptions(image="none"), student=options, running=RUNNING)
    student = distill(str(run), str(captions), out=out / "student", config=config)
    dev = str(cut_dev(root, out / "dev"))
    models, tiny = (str(run), f"{student}+{run}"), eval_sets(root, root, small=False)["tiny-imagenet"]
    found, quiet = {}, EvaluateConfig(progress=False, device="cpu")
    for name, data, asked in (("tiny-imagenet", tiny, dataclasses.replace(quiet, half="dev")), ("flickr8k", dev, quiet)):
        results = evaluate(*models, data=(data,), out=out / name, config=asked)
        found[name] = _short(read_json(results / "results.json"))
    last = json.loads((student / "metrics.jsonl").read_text().splitlines()[-1])["scores"]
    write_json(out, "figures.json", {"student": last, "evaluation": found})
    return read_json(out / "figures.json")
