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

from fistful.bow.embeddings import check_features
from fistful.bow.store.dead_letters import dead_letter_table
from fistful.bow.store.files import write_json
from fistful.bow.store.tables import write_table
from fistful.bow.words import WordOptions
from fistful.errors import DataError
from fistful.progress import progress_bar
from fistful.training.model.encoder import Encoder

from .checks import copies, not_covered, odd_pixels, seen_before, warnings_of
from .evaluate_config import EvaluateConfig
from .results import classes_table, kept_result, multilabel_classes_table, multilabel_predictions_table, predictions_table, result_name
from .sets import duplicates
from .sets.evaluation_set import EvalSet
from .sets.ready import ImageTally, Ready, check_refused, ready_images
from .tasks import multilabel, zeroshot
from .tasks.classifier import Classifier, build_classifiers
from .tasks.probe import TEMPERATURE, K, Neighbours, count_copies, same_classes, votes_of
from .tasks.prompts import KNN, Prompts, build_prompts, options_for
from .tasks.zeroshot import Predictions

NAMES_KEPT = 100
"""Refused images named in a result; dead_letters/ has all of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class EvalJob:
    """A model to be evaluated on a set."""

    model: str
    """What results call it."""
    encoder: Encoder
    eval_set: EvalSet
    options: WordOptions
    """How class names become words for a model that does not say it."""
    covered: np.ndarray | None
    """(C,) which classes the vocabulary can speak of; None without a vocabulary."""
    df: np.ndarray | None
    """(C,) in how many samples the rarest word of each class's name occurs."""
    training: np.ndarray | None
    """(M,) perceptual hashes of the training images, uint64; None where they were not given."""
    config: EvaluateConfig
    probe: EvalSet | None = None
    """The set whose images are the neighbours of a probe; the evaluated set itself leaves each image out of its own."""

    def prompt_sets(self) -> list[Prompts]:
        """Write the prompts of all prompt sets."""
        options = options_for(self.encoder, self.options)
        return [
            build_prompts(name, self.eval_set.classes, own=self.eval_set.templates, options=options, synonyms=self.config.synonyms)
            for name in self.config.prompts
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedImages:
    """What one model says of some images, a classifier each."""

    labels: np.ndarray
    """(N,) true classes; of a multi-label set (N, C), which classes each image has."""
    predictions: list[Predictions]
    among: list[np.ndarray]
    """Ranks among the covered classes alone, for their images; empty without a vocabulary."""
    scores: list[np.ndarray]
    """(N, C) all scores, of a multi-label set; else empty, as the two before are there."""
    features: np.ndarray
    """(N, D) for a probe; (N, 0) without."""


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedSet:
    """What one model says of one set."""

    images: list[str]
    sha256: list[str]
    sources: list[str]
    near: np.ndarray | None
    """(N,) which are near-duplicates of training images; None where training data was not given."""
    judged: JudgedImages
    tally: ImageTally
    probe: dict[str, Any] | None = None
    """Whom a probe has asked."""


def score_set(folder: Path, job: EvalJob) -> list[dict[str, Any]]:
    """Evaluate a model on a set, unless that was done already; return a result a prompt set, and one of the probe.

    Raises:
        UsageError: If a prompt set or the probe does not fit.
        DataError: If the set is broken or has too many bad images, or the model gives no numbers.
    """
    prompt_sets = job.prompt_sets()
    kinds = [*(prompts.name for prompts in prompt_sets), *([KNN] if job.probe is not None else [])]
    names = [result_name(job.model, job.eval_set.name, kind) for kind in kinds]
    kept = [kept_result(folder, name, job.encoder.fingerprint) for name in names]
    if None not in kept:
        return [result for result in kept if result is not None]
    start = time.monotonic()
    cache = None if job.config.cache is None else Path(job.config.cache)
    classifiers = build_classifiers(job.encoder, prompt_sets, job.eval_set.classes, cache)
    texts_done = time.monotonic()
    seen = see_all(job, classifiers)
    check_refused(job.eval_set.name, seen.tally, job.config.max_bad_fraction)
    if job.probe is not None:
        seen = _ask(job, job.probe, seen)
        classifiers.append(Classifier(KNN, np.zeros((0, 0)), 0, 0, []))
    results = [_result(job, classifier, seen, i) for i, classifier in enumerate(classifiers)]
    for i, name in enumerate(names):
        _write_tables(folder, name, job, seen, i)
    for name, result in zip(names, results, strict=True):
        write_json(folder, f"results/{name}.json", result)
    log = result_name(job.model, job.eval_set.name)
    write_log(folder, log, job.config.half, seen.tally.looked_at, texts_done - start, time.monotonic() - texts_done)
    return results


def see_all(job: EvalJob, classifiers: Sequence[Classifier]) -> JudgedSet:
    """Show a model the images of a set once."""
    tally, images, parts = ImageTally(), [], []
    stream = ready_images(job.eval_set.read(), job.encoder.prepare, job.config.half, tally, hashed=job.training is not None)
    with progress_bar(f"{job.model} on {job.eval_set.name}", job.eval_set.n_images, job.config.progress) as update:
        while batch := list(islice(stream, job.config.batch_size)):
            pixels = np.stack([image.pixels for image in batch])
            if not images:
                tally.notes += odd_pixels(job.encoder.preprocess, pixels)
            parts.append(_judge(job, classifiers, batch, pixels))
            images += [(image.name, image.sha256, image.source, image.phash) for image in batch]
            update(len(images), f"{len(tally.letters)} refused")
    if not images:
        first = "".join(f"; the first {letter.place}: {letter.detail}" for letter in tally.letters[:1])
        raise DataError(
            f"{job.eval_set.name}: has no image that can be used ({tally.looked_at} looked at, {len(tally.letters)} refused{first})"
        )
    paths, digests, sources, hashes = (list(column) for column in zip(*images, strict=True))
    near = None if job.training is None else duplicates.near(np.array(hashes, np.uint64), job.training)
    return JudgedSet(paths, digests, sources, near, _join(parts), tally)


def _judge(job: EvalJob, classifiers: Sequence[Classifier], batch: Sequence[Ready], pixels: np.ndarray) -> JudgedImages:
    """Score a batch of images and keep of it what figures need."""
    names = [image.name for image in batch]
    scores, features_ND = _score_batch(job, classifiers, pixels, names)
    if job.eval_set.multilabel:
        for scores_NC in scores:
            zeroshot.check_scores(scores_NC, names)
        return JudgedImages(multilabel.truth_of([image.labels for image in batch], len(job.eval_set.classes)), [], [], scores, features_ND)
    labels_N = np.array([image.label for image in batch], dtype=np.int64)
    return JudgedImages(labels_N, *_rank(job, scores, labels_N, names), [], features_ND)


def _rank(job: EvalJob, scores: list[np.ndarray], labels_N: np.ndarray, names: Sequence[str]) -> tuple[list[Predictions], list[np.ndarray]]:
    predictions = [zeroshot.predict(scores_NC, labels_N, names) for scores_NC in scores]
    return predictions, [] if job.covered is None else [zeroshot.ranks_among(scores_NC, labels_N, job.covered) for scores_NC in scores]


def _join(parts: Sequence[JudgedImages]) -> JudgedImages:
    predictions = [zeroshot.join(several) for several in zip(*(part.predictions for part in parts), strict=True)]
    among = [np.concatenate(several) for several in zip(*(part.among for part in parts), strict=True)]
    scores = [np.concatenate(several) for several in zip(*(part.scores for part in parts), strict=True)]
    labels, features = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "features"))
    return JudgedImages(labels, predictions, among, scores, features)


def _score_batch(
    job: EvalJob, classifiers: Sequence[Classifier], pixels: np.ndarray, names: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Score a batch of images with each classifier; each tower sees it once, and only if asked."""
    features_ND = words_NV = np.empty((len(names), 0), np.float32)
    if job.probe is not None or any(classifier.prompts != "head" for classifier in classifiers):
        features_ND = check_features(job.encoder.embed_images(pixels), names, job.model, zeros_allowed=False)
    if job.encoder.word_scores is not None and any(classifier.prompts == "head" for classifier in classifiers):
        words_NV = job.encoder.word_scores(pixels)
    scores = [
        zeroshot.head_scores(words_NV, c.weights) if c.prompts == "head" else zeroshot.class_scores(features_ND, c.weights)
        for c in classifiers
    ]
    return scores, features_ND if job.probe is not None else np.empty((len(names), 0), np.float32)


def _ask(job: EvalJob, probe: EvalSet, seen: JudgedSet) -> JudgedSet:
    """Ask the nearest neighbours of each image; return what was seen with their answers last."""
    judged, same, tally = seen.judged, probe is job.eval_set, seen.tally
    if same:
        keys = Neighbours(probe.name, judged.features, judged.labels, seen.sha256, tally.digest.hexdigest(), len(tally.letters))
    else:
        keys = embed_set(job.model, job.encoder, probe, job.eval_set, job.config)
    ranked, start = [], 0
    for scores_NC in votes_of(keys, judged.features, len(job.eval_set.classes), same=same):
        rows = slice(start, start + len(scores_NC))
        ranked.append(_rank(job, [scores_NC], judged.labels[rows], seen.images[rows]))
        start = rows.stop
    predictions = [*judged.predictions, zeroshot.join([several for (several,), _ in ranked])]
    among = [*judged.among, *([] if job.covered is None else [np.concatenate([among for _, (among,) in ranked])])]
    about = {"k": K, "temperature": TEMPERATURE, "leave_one_out": same, "n": len(keys.labels_M)}
    about |= {"dataset": keys.name, "content": keys.content, "refused": keys.n_refused}
    about["n_copies"] = count_copies(seen.sha256, keys.sha256, same=same)
    return dataclasses.replace(seen, judged=dataclasses.replace(judged, predictions=predictions, among=among), probe=about)


def _write_tables(folder: Path, name: str, job: EvalJob, seen: JudgedSet, i: int) -> None:
    judged, about = seen.judged, (seen.images, seen.sha256, seen.sources)
    if job.eval_set.multilabel:
        predictions = multilabel_predictions_table(*about, judged.labels, judged.scores[i])
        classes = multilabel_classes_table(job.eval_set.classes, judged.labels, judged.scores[i], job.covered, job.df)
    else:
        predictions = predictions_table(*about, judged.labels, judged.predictions[i])
        classes = classes_table(job.eval_set.classes, judged.labels, judged.predictions[i].ranks, job.covered, job.df)
    write_table(folder, f"predictions/{name}.parquet", predictions)
    write_table(folder, f"classes/{name}.parquet", classes)
    write_table(folder, f"dead_letters/{name}.parquet", dead_letter_table(seen.tally.letters))


def _figures(job: EvalJob, seen: JudgedSet, i: int) -> dict[str, Any]:
    """Return the figures of a set whose images have one label each."""
    labels, ranks = seen.judged.labels, seen.judged.predictions[i].ranks
    figures = zeroshot.summarise(ranks, labels, len(job.eval_set.classes))
    if job.covered is not None:
        own = (np.cumsum(job.covered) - 1)[labels[job.covered[labels]]]
        among = zeroshot.summarise(seen.judged.among[i], own, int(job.covered.sum()))
        figures |= {f"covered_{name}": value for name, value in among.items()}
    return {
        "metrics": figures,
        "by_source": zeroshot.by_source(ranks, seen.sources),
        "by_frequency": [] if job.df is None else zeroshot.by_frequency(ranks, labels, job.df),
    }


def _multilabel_figures(job: EvalJob, seen: JudgedSet, i: int) -> dict[str, Any]:
    truth_NC, scores_NC = seen.judged.labels, seen.judged.scores[i]
    return {
        "metrics": multilabel.summarise(scores_NC, truth_NC, job.covered),
        "by_source": multilabel.by_source(scores_NC, truth_NC, seen.sources),
        "by_frequency": [] if job.df is None else multilabel.by_frequency(scores_NC, truth_NC, job.df),
    }


def _result(job: EvalJob, classifier: Classifier, seen: JudgedSet, i: int) -> dict[str, Any]:
    """Return CLIP_benchmark's result with our additions beside and inside its metrics."""
    tally, probe = seen.tally, seen.probe if classifier.prompts == KNN else None
    return {
        "dataset": job.eval_set.name,
        "model": job.model,
        "pretrained": job.encoder.fingerprint[:16],
        "task": "zeroshot_classification" if probe is None else "knn_probe",
        **({} if probe is None else {"probe": probe}),
        "language": "en",
        "prompts": classifier.prompts,
        "n_texts": classifier.n_texts,
        **(_multilabel_figures if job.eval_set.multilabel else _figures)(job, seen, i),
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
        "taken": job.eval_set.taken,
        "warnings": [
            *warnings_of(job.encoder, job.eval_set, classifier, tally),
            *not_covered(job.eval_set.classes, job.covered),
            *seen_before(seen.images, seen.near),
            *copies(probe),
        ],
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


def embed_set(model: str, encoder: Encoder, probe: EvalSet, asked: EvalSet, config: EvaluateConfig) -> Neighbours:
    """Show a model the images of a set whose classes are those of another.

    Raises:
        UsageError: If the sets have other classes.
        DataError: If the set is broken or has too many bad images, or the model gives no numbers.
    """
    number, tally = same_classes(probe, asked), ImageTally()
    stream = ready_images(probe.read(), encoder.prepare, "all", tally)
    features, labels, sha256 = [], [], []
    with progress_bar(f"{model} on {probe.name}", probe.n_images, config.progress) as update:
        while batch := list(islice(stream, config.batch_size)):
            found = encoder.embed_images(np.stack([image.pixels for image in batch]))
            features.append(check_features(found, [image.name for image in batch], model, zeros_allowed=False))
            labels += [number[image.label] for image in batch]
            sha256 += [image.sha256 for image in batch]
            update(len(labels), f"{len(tally.letters)} refused")
    check_refused(probe.name, tally, config.max_bad_fraction)
    features_MD = np.concatenate(features) if features else np.zeros((0, 1), np.float32)
    return Neighbours(probe.name, features_MD, np.array(labels, np.int64), sha256, tally.digest.hexdigest(), len(tally.letters))
