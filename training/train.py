"""`train`: data folders in, a run folder out. The file reads downwards as a run goes.

>>> train("data/bags", out="runs/first", config=train_config(steps=500))  # doctest: +SKIP
PosixPath('/home/me/runs/first')
"""

from __future__ import annotations

import functools
import shutil
import sys
import threading
from pathlib import Path

from fistful.bow.store import manifest
from fistful.bow.store.files import local_out

from . import checkpoint
from .announce import announce
from .distributed import joined_ranks
from .evaluations import evaluate as evaluate_now
from .evaluations import try_evaluation, write_models
from .frozen import features_of
from .job import SHARDS, Evaluate, identity_of, plan_job
from .left_out import report_left_out
from .loop import take_steps
from .metrics_file import check_learnt
from .surroundings import locked, stop_signals, torch_settings
from .train_config import TrainConfig
from .trainer import Trainer, make_trainer


def train(*data: str, out: str | Path, config: TrainConfig = TrainConfig(), evaluate: Evaluate | None = None) -> Path:
    """Train a model on data folders and write a run folder; the same call resumes, or finds it done.

    Under torchrun all processes train together, each on its share of every batch.

    Args:
        data: Data folders as fistful bags or label writes them, on disk or in an object store, or webdataset tars on disk;
            FOLDER*2 shows its samples twice an epoch.
        out: The run folder.
        config: How to train.
        evaluate: Called with the model, at the end and each --evaluate-every, and before the first step to see that it works.
            Its scores go to metrics.jsonl, the first one decides which model is the best. Its attribute `fingerprint`, if it
            has one, is part of the run's identity.

    Returns:
        The run folder.

    Raises:
        UsageError: If the call is at fault, the folder is in use, or belongs to another configuration.
        DataError: If the data is at fault, or nothing was learnt.
        MachineError: If a store does not answer; the same call goes on from the last checkpoint.
        Interrupted: After SIGTERM or SIGINT, with a checkpoint.
    """
    run = local_out(out)
    with joined_ranks() as ranks, locked(run, ranks):
        job = plan_job(data, run, config, evaluate, ranks)
        values, inputs = identity_of(job)
        if ranks.by_first(lambda: manifest.claim(run, "train", values, inputs)):
            return run
        run_options = job.config.run
        with torch_settings(run_options.threads, run_options.seed, run_options.device), stop_signals() as stop:
            trainer = make_trainer(job)
            _begin(trainer, stop)
            take_steps(trainer, functools.partial(evaluate_now, trainer) if evaluate is not None else None, stop)
            ranks.by_first(lambda: check_learnt(run))
            trainer.save()  # whatever fails from here on, the same command need not train again
            write_models(trainer)
        if ranks.rank == 0:
            _close(trainer)
        ranks.wait()
    return run


def _begin(trainer: Trainer, stop: threading.Event) -> None:
    """Go to the step that is next, and say what will be done."""
    job = trainer.job
    if job.config.model.train_image == "none":
        folder = Path(job.config.run.features) if job.config.run.features else job.run / "logs" / "features"
        trainer.loader.features = features_of(trainer, folder, stop.is_set)
    for problem in trainer.resume():
        print(problem, file=sys.stderr)
    if job.ranks.rank == 0:
        announce(trainer)
    try_evaluation(trainer)


def _close(trainer: Trainer) -> None:
    """Leave nothing that depends on how often the run was stopped, and sign the folder."""
    run = trainer.job.run
    report_left_out(trainer)
    checkpoint.remove_all(run)
    for name in ("logs/tmp", SHARDS):  # what a kill left behind, and what could be fetched again; nobody else is at work here
        shutil.rmtree(run / name, ignore_errors=True)
    manifest.finish(run, {}, {})
