"""One model on one set: one pass over the images for all prompt sets, and the files that come of it."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.store.dead_letters import dead_letter_table
from fistful.bow.store.files import read_json, write_json
from fistful.bow.store.tables import write_table
from fistful.bow.words import WordOptions
from fistful.errors import DataError
from fistful.eval import duplicates, zeroshot
from fistful.eval.checks import odd_pixels, seen_before, warnings_of
from fistful.eval.classifier import Classifier, build_classifiers, check_features
from fistful.eval.config import EvaluateConfig
from fistful.eval.datasets import EvalSet
from fistful.eval.images import Tally, ready_images
from fistful.eval.prompts import Prompts, build_prompts
from fistful.eval.results import classes_table, predictions_table, result_name
from fistful.eval.zeroshot import Predictions
from fistful.progress import progress_bar
from fistful.training.encoder import Encoder

NAMES_KEPT = 100
"""Refused images named in a result; dead_letters/ has all of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A model to be evaluated on a set."""

    model: str
    """What results call it."""
    encoder: Encoder
    eval_set: EvalSet
    options: WordOptions
    """How class names become words."""
    covered: np.ndarray | None
    """(C,) which classes the vocabulary can speak of; None without a vocabulary."""
    df: np.ndarray | None
    """(C,) in how many samples the rarest word of each class's name occurs."""
    training: np.ndarray | None
    """(M,) perceptual hashes of the training images, uint64; None where they were not given."""
    config: EvaluateConfig

    def prompt_sets(self) -> list[Prompts]:
        """Write the prompts of all prompt sets."""
        return [
            build_prompts(name, self.eval_set.classes, own=self.eval_set.templates, options=self.options, synonyms=self.config.synonyms)
            for name in self.config.prompts
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What one model says of one set."""

    images: list[str]
    sha256: list[str]
    sources: list[str]
    near: np.ndarray | None
    """(N,) which are near-duplicates of training images; None where training data was not given."""
    labels: np.ndarray
    """(N,) true classes."""
    found: list[Predictions]
    """A prompt set each."""
    among: list[np.ndarray]
    """Ranks among the covered classes alone, for their images, a prompt set each; empty without a vocabulary."""
    tally: Tally


def score_set(folder: Path, job: Job) -> list[dict[str, Any]]:
    """Evaluate a model on a set, unless that was done already; return a result a prompt set.

    Raises:
        DataError: If the set is broken or has too many bad images, or the model gives no numbers.
    """
    prompt_sets = job.prompt_sets()
    names = [result_name(job.model, job.eval_set.name, prompts.name) for prompts in prompt_sets]
    if all((folder / "results" / f"{name}.json").exists() for name in names):
        return [read_json(folder / "results" / f"{name}.json") for name in names]
    start = time.monotonic()
    classifiers = build_classifiers(job.encoder, prompt_sets, job.eval_set.classes)
    texts_done = time.monotonic()
    seen = see_all(job, classifiers)
    check_refused(job.eval_set.name, seen.tally, job.config.max_bad_fraction)
    results = [_result(job, classifier, seen, i) for i, classifier in enumerate(classifiers)]
    for i, name in enumerate(names):
        _write_tables(folder, name, job, seen, i)
    for name, result in zip(names, results, strict=True):
        write_json(folder, f"results/{name}.json", result)
    log = result_name(job.model, job.eval_set.name)
    write_log(folder, log, job.config.half, seen.tally.n_in, texts_done - start, time.monotonic() - texts_done)
    return results


def see_all(job: Job, classifiers: Sequence[Classifier]) -> Seen:
    """Show a model the images of a set once."""
    tally, images, labels = Tally(), [], []
    found: list[list[Predictions]] = [[] for _ in classifiers]
    among: list[list[np.ndarray]] = [[] for _ in classifiers]
    stream = ready_images(job.eval_set.read(), job.encoder.prepare, job.config.half, tally)
    with progress_bar(f"{job.model} on {job.eval_set.name}", job.eval_set.n_images, job.config.progress) as update:
        while batch := list(islice(stream, job.config.batch_size)):
            names = [image.name for image in batch]
            pixels = np.stack([image.pixels for image in batch])
            if not images:
                tally.notes += odd_pixels(getattr(job.encoder, "preprocess", None), pixels)
            scores = _score_batch(job, classifiers, pixels, names)
            labels_N = np.array([image.label for image in batch], dtype=np.int64)
            for i, scores_NC in enumerate(scores):
                found[i].append(zeroshot.predict(scores_NC, labels_N, names))
                if job.covered is not None:
                    among[i].append(zeroshot.ranks_among(scores_NC, labels_N, job.covered))
            images += [(image.name, image.sha256, image.source, image.dhash) for image in batch]
            labels.append(labels_N)
            update(len(images), f"{len(tally.letters)} refused")
    if not images:
        raise DataError(f"{job.eval_set.name}: has no image that can be used ({tally.n_in} looked at, {len(tally.letters)} refused)")
    paths, digests, sources, hashes = (list(column) for column in zip(*images, strict=True))
    joined = [zeroshot.join(parts) for parts in found]
    near = None if job.training is None else duplicates.near(np.array(hashes, np.uint64), job.training)
    return Seen(paths, digests, sources, near, np.concatenate(labels), joined, [np.concatenate(parts) for parts in among if parts], tally)


def _score_batch(job: Job, classifiers: Sequence[Classifier], pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    """Score a batch of images with each classifier; each tower sees it once, and only if asked."""
    features_ND = words_NV = np.empty((0, 0), np.float32)
    if any(classifier.prompts != "head" for classifier in classifiers):
        features_ND = check_features(job.encoder.embed_images(pixels), names, job.model, zeros_allowed=False)
    if job.encoder.word_scores is not None and any(classifier.prompts == "head" for classifier in classifiers):
        words_NV = job.encoder.word_scores(pixels)
    return [
        zeroshot.head_scores(words_NV, c.weights) if c.prompts == "head" else zeroshot.class_scores(features_ND, c.weights)
        for c in classifiers
    ]


def check_refused(name: str, tally: Tally, limit: float) -> None:
    """Stop where too many images of a set were refused.

    Raises:
        DataError: If so.
    """
    refused = len(tally.letters)
    if refused > limit * tally.n_in:
        first = tally.letters[0]
        raise DataError(
            f"{name}: {refused} of {tally.n_in} images refused, the first {first.place} ({first.reason}: {first.detail}); "
            f"expected at most {limit:.0%}; --max-bad-fraction allows more"
        )


def _write_tables(folder: Path, name: str, job: Job, seen: Seen, i: int) -> None:
    predictions = predictions_table(seen.images, seen.sha256, seen.sources, seen.labels, seen.found[i])
    classes = classes_table(job.eval_set.classes, seen.labels, seen.found[i].ranks, job.covered, job.df)
    write_table(folder, f"predictions/{name}.parquet", predictions)
    write_table(folder, f"classes/{name}.parquet", classes)
    write_table(folder, f"dead_letters/{name}.parquet", dead_letter_table(seen.tally.letters))


def _result(job: Job, classifier: Classifier, seen: Seen, i: int) -> dict[str, Any]:
    """Return CLIP_benchmark's result with our additions beside and inside its metrics."""
    tally, seed = seen.tally, job.config.seed
    figures = zeroshot.summarise(seen.found[i].ranks, seen.labels, len(job.eval_set.classes), seed)
    if job.covered is not None:
        labels = (np.cumsum(job.covered) - 1)[seen.labels[job.covered[seen.labels]]]
        among = zeroshot.summarise(seen.among[i], labels, int(job.covered.sum()), seed)
        figures |= {f"covered_{name}": value for name, value in among.items()}
    ranks = seen.found[i].ranks
    return {
        "dataset": job.eval_set.name,
        "model": job.model,
        "pretrained": job.encoder.fingerprint[:16],
        "task": "zeroshot_classification",
        "language": "en",
        "metrics": figures,
        "prompts": classifier.prompts,
        "n_texts": classifier.n_texts,
        "by_source": zeroshot.by_source(ranks, seen.sources),
        "by_frequency": [] if job.df is None else zeroshot.by_frequency(ranks, seen.labels, job.df),
        "half": job.config.half,
        "n_in": tally.n_in,
        "other_half": tally.other_half,
        "refused": dict(sorted(Counter(letter.reason for letter in tally.letters).items())),
        "refused_images": [letter.place for letter in tally.letters[:NAMES_KEPT]],
        "content": tally.digest.hexdigest(),
        "model_fingerprint": job.encoder.fingerprint,
        "saw_imagenet_labels": job.encoder.saw_imagenet_labels,
        "image_size": job.encoder.image_size,
        "near_duplicates": None if seen.near is None else int(seen.near.sum()),
        "warnings": [*warnings_of(job.encoder, job.eval_set, classifier, tally), *seen_before(seen.images, seen.near)],
    }


def write_log(folder: Path, name: str, half: str, n_images: int, texts_s: float, images_s: float) -> None:
    """Write what may differ between equal runs: times, rates, versions; and when which half was looked at."""
    record = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "half": half,
        "host": platform.node(),
        "images_per_s": round(n_images / max(images_s, 1e-9), 1),
        "images_s": round(images_s, 3),
        "texts_s": round(texts_s, 3),
        "versions": {package: version(package) for package in ("fistful", "numpy", "pyarrow", "pillow")},
    }
    write_json(folder, f"logs/{name}.json", record)
