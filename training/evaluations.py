"""Models that a run writes, and their scores: before the first step, each --evaluate-every, and at the end."""

from __future__ import annotations

import shutil

import torch

from fistful.bow import vocabulary as vocabularies
from fistful.bow.store import manifest
from fistful.bow.store.model_folder import BEST_FOLDER, FOLDER
from fistful.errors import FistfulError, UsageError

from . import checkpoint as checkpoints
from .data.holdout import BY
from .head_statistics import head_statistics
from .metrics_file import METRICS, write_metrics
from .model import export
from .model.card import model_card
from .model.export import About, Lineage
from .model.tower_encoders import own_encoder
from .trainer import Trainer


def try_evaluation(trainer: Trainer) -> None:
    """Evaluate once before the first step, so that what cannot be evaluated fails before hours are spent; the scores are not kept."""
    job = trainer.job
    if job.evaluate is None or trainer.step > 0:
        return
    try:
        with torch.random.fork_rng():  # loading a model draws weights: a run that resumes does not come by here
            job.ranks.by_first(lambda: _scores(trainer))
    except FistfulError:
        job.ranks.by_first(lambda: manifest.release(job.run))  # another --evaluate-on may take the folder
        raise


def evaluate(trainer: Trainer) -> dict[str, float]:
    """Evaluate the model as it is now, and keep its weights if no earlier ones were better.

    Raises:
        DataError: If a weight is no number.
    """
    job, evaluated = trainer.job, trainer.evaluated
    trainer.check_weights()
    with trainer.mean.in_place():
        scores = job.ranks.by_first(lambda: _scores(trainer))
        evaluated.append([trainer.step, next(iter(scores.values()))])
        if job.ranks.rank == 0 and checkpoints.best_step(evaluated, trainer.step) == trainer.step:
            checkpoints.save_weights(job.run, checkpoints.best_name(trainer.step), trainer.model)
    return scores


def write_models(trainer: Trainer) -> None:
    """Write the last model and its scores, and the best one where there were several evaluations."""
    job, first = trainer.job, trainer.job.ranks.rank == 0
    with trainer.mean.in_place():
        if first:
            _write_model(trainer, FOLDER)
    if job.evaluate is not None:
        scores = evaluate(trainer)
        if first:
            with open(job.run / METRICS, "a") as metrics:
                write_metrics(metrics, trainer.step, {"scores": scores})
    best = checkpoints.best_step(trainer.evaluated, trainer.step)
    if first and best is not None and job.config.run.evaluate_every:
        checkpoints.load_weights(job.run, checkpoints.best_name(best), trainer.model)
        _write_model(trainer, BEST_FOLDER)


def _scores(trainer: Trainer) -> dict[str, float]:
    """Evaluate the model as it is, by way of a folder that others would load."""
    job = trainer.job
    assert job.evaluate is not None
    folder = f"logs/evaluated/{FOLDER}"
    _write_model(trainer, folder)
    encoder = own_encoder(job.run / folder, str(job.run), trainer.setting.device)
    try:
        scores = {name: float(value) for name, value in job.evaluate(encoder).items()}
    finally:
        shutil.rmtree(job.run / "logs" / "evaluated")
    if not scores:
        raise UsageError("--evaluate-every: the evaluation returned no score")
    return scores


def _write_model(trainer: Trainer, folder: str) -> None:
    export.write_model(trainer.job.run, folder, trainer.model, _about(trainer), head_statistics(trainer))


def _about(trainer: Trainer) -> About:
    job, samples, config = trainer.job, trainer.job.samples, trainer.job.config
    claimed = manifest.read_config(job.run)["config"]
    lineage = Lineage(
        config_id=trainer.belongs["id"],
        data=samples.fingerprints,
        saw_imagenet_labels=False if job.pretrained is None else job.pretrained.saw_imagenet_labels,
        vocabulary_sha256=samples.vocabulary_sha256,
        word_options=samples.word_options,
        holdout=config.data.holdout,
        holdout_by=BY,
        init=job.init,
        train_image=config.model.train_image,
        exclude=claimed["exclude"],
    )
    vocabulary = samples.vocabulary_folder / vocabularies.FILE
    tuning = trainer.model.tuning
    card = model_card(trainer.model.shape, lineage, claimed, is_whole=tuning is None or tuning.merges)
    return About(lineage, job.preprocess, vocabulary.read_bytes() if trainer.model.shape.n_words else b"", card)
