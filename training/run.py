"""`train`: data folders in, a run folder out.

>>> train("data/bags", out="runs/first", config=TrainConfig(steps=500))  # doctest: +SKIP
PosixPath('/home/me/runs/first')
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow import vocabulary as vocabularies
from fistful.bow.draw import held_out
from fistful.bow.store import manifest
from fistful.bow.store.config import semantic_values, sha256_hex
from fistful.bow.store.files import local_out
from fistful.errors import UsageError
from fistful.training.config import TrainConfig, resolve
from fistful.training.data import Samples, read_keys, read_samples
from fistful.training.order import Order, Stream

if TYPE_CHECKING:
    from fistful.training.distributed import Ranks
    from fistful.training.encoder import Encoder
    from fistful.training.export import About
    from fistful.training.loop import Trainer
    from fistful.training.pretrained import Pretrained

LOCK = "logs/lock"
Evaluate = Callable[["Encoder"], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A run, all its choices made."""

    run: Path
    config: TrainConfig
    samples: Samples
    order: Order
    pretrained: Pretrained | None
    init: str
    """Fingerprint of the weights to start from."""
    evaluate: Evaluate | None
    ranks: Ranks


def train(*data: str, out: str | Path, config: TrainConfig = TrainConfig(), evaluate: Evaluate | None = None) -> Path:
    """Train a model on data folders and write a run folder; the same call resumes, or finds it done.

    Under torchrun all processes train together, each on its share of every batch.

    Args:
        data: Data folders as fistful bags or label writes them, or webdataset tars; FOLDER*2 shows its samples twice an epoch.
        out: The run folder.
        config: How to train.
        evaluate: Called with the model, at the end and each --evaluate-every; its scores go to metrics.jsonl, the first one
            decides which model is the best. Its attribute `fingerprint`, if it has one, is part of the run's identity.

    Returns:
        The run folder.

    Raises:
        UsageError: If the call is at fault, the folder is in use, or belongs to another configuration.
        DataError: If the data is at fault.
        Interrupted: After SIGTERM or SIGINT, with a checkpoint.
    """
    from fistful.training.distributed import joined_ranks

    run = local_out(out)
    with joined_ranks() as ranks, _locked(run, ranks):
        config = resolve(config)
        pretrained, init = _read_init(config)
        cache = run / "logs" / "foreign"
        if ranks.rank == 0:
            samples = read_samples(data, config.exclude, config.needs_words, cache)
        ranks.wait()
        if ranks.rank:
            samples = read_samples(data, config.exclude, config.needs_words, cache)
        if config.text == "balanced" and config.balance() is None and not samples.has_rule:
            raise UsageError("--text balanced: tars have no rule of their own; give --rule, or use --text bag")
        order = _order(config, samples)
        config = _in_steps(config, order)
        inputs = [{"fingerprint": f, "weight": w} for f, w in zip(samples.fingerprints, samples.weights, strict=True)]
        values = _identity(config, init, getattr(evaluate, "fingerprint", ""))
        if ranks.by_first(lambda: manifest.claim(run, "train", values, inputs)):
            return run
        _train(Job(run, config, samples, order, pretrained, init, evaluate, ranks))
    return run


@contextlib.contextmanager
def _locked(run: Path, ranks: Ranks) -> Iterator[None]:
    """Keep other calls of train away from the run folder; of ranks, the first does."""
    path = run / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:

        def lock() -> None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{run}: another train is at work on this run folder; wait for it, or choose another --out") from None

        ranks.by_first(lock)
        yield


def _read_init(config: TrainConfig) -> tuple[Pretrained | None, str]:
    if not config.init:
        return None, ""
    from fistful.training.pretrained import load_pretrained

    found = load_pretrained(config.init)
    return found, found.fingerprint()


def _identity(config: TrainConfig, init: str, evaluated: str) -> dict[str, Any]:
    """Return what decides the run: of files that the options name, their content."""
    exclude = sha256_hex("\n".join(read_keys(config.exclude)).encode()) if config.exclude else ""
    return {**semantic_values(config), "init": init, "exclude": exclude, **({"evaluated_on": evaluated} if evaluated else {})}


def _in_steps(config: TrainConfig, order: Order) -> TrainConfig:
    if not config.epochs:
        return config
    return dataclasses.replace(config, steps=max(1, round(config.epochs * order.per_epoch() / config.batch_size)))


def _order(config: TrainConfig, samples: Samples) -> Order:
    streams = []
    hidden = samples.left_out | (held_out(samples.number, config.holdout) & ~samples.pseudo)
    for salt, pseudo in enumerate((False, True)):
        mask = (samples.pseudo == pseudo) & ~hidden
        n_each = np.bincount(samples.folder[mask], minlength=len(samples.folders))
        weights = tuple(zip(n_each.tolist(), samples.weights, strict=True))
        streams.append(Stream(members=np.flatnonzero(mask), weights=weights, seed=config.seed, salt=salt))
    n_epoch = sum(stream.per_epoch() for stream in streams)
    if not n_epoch:
        raise UsageError(f"--exclude {config.exclude} --holdout {config.holdout}: leave no sample to learn from")
    if config.batch_size > n_epoch:
        raise UsageError(f"--batch-size {config.batch_size}: an epoch has only {n_epoch} samples; use a smaller batch or more data")
    if config.batch_size % config.world_size:
        raise UsageError(f"--batch-size {config.batch_size}: does not divide among {config.world_size} processes; use a multiple of it")
    if not streams[0].per_epoch() and config.pseudo_share < 1:
        raise UsageError(f"--pseudo-share {config.pseudo_share}: all samples are pseudo-labelled; add a folder of real ones, or use 1")
    return Order(real=streams[0], pseudo=streams[1], batch_size=config.batch_size, pseudo_share=config.pseudo_share)


def _train(job: Job) -> None:
    from fistful.training import checkpoint, export
    from fistful.training.loop import METRICS, stop_signals, torch_settings

    run, first = job.run, job.ranks.rank == 0
    with torch_settings(job.config), stop_signals() as stop:
        trainer = _trainer(job)
        _freeze(job, trainer, stop)
        for problem in trainer.resume():
            print(problem, file=sys.stderr)
        if first and job.config.progress:
            print(_begins(job, trainer), file=sys.stderr)
        trainer.train(stop)
        if job.evaluate is not None:
            scores = trainer.evaluate()
            if first:
                with open(run / METRICS, "a") as file:
                    file.write(json.dumps({"step": trainer.step, "scores": scores}, sort_keys=True) + "\n")
        with trainer.mean.in_place():
            if first:
                export.write_model(run, export.FOLDER, trainer.model, _about(job, trainer), trainer.head_statistics())
        best = checkpoint.best_step(trainer.evaluated, trainer.step)
        if first and best is not None and job.config.evaluate_every:
            checkpoint.load_weights(run, checkpoint.best_name(best), trainer.model)
            export.write_model(run, export.BEST_FOLDER, trainer.model, _about(job, trainer), trainer.head_statistics())
    if first:
        _write_replaced(run, trainer)
        checkpoint.remove_all(run)
        shutil.rmtree(run / "logs" / "tmp", ignore_errors=True)  # what a kill left behind; nobody else is at work here
        manifest.finish(run, {}, {})
        _warn(trainer)
    job.ranks.wait()


def _begins(job: Job, trainer: Trainer) -> str:
    """Say what is about to be trained, so that a slip is seen before hours are spent."""
    config = job.config
    n_learn = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    what = f"{job.order.per_epoch():,} samples an epoch, {n_learn / 1e6:.1f} million weights that learn"
    where = f"{config.device}, {config.precision}, {config.threads} threads"
    n_missed, n_lines = job.samples.misses
    missed = f"; {n_missed:,} of {n_lines:,} lines of --exclude name no sample with a picture" if n_missed else ""
    return f"train: {what}, steps {trainer.step:,} to {config.steps:,} of {config.batch_size} samples on {where}{missed}"


def _trainer(job: Job) -> Trainer:
    import open_clip

    from fistful.training import export
    from fistful.training.loader import Loader
    from fistful.training.loop import Trainer
    from fistful.training.model import Model, shape_of, square_size
    from fistful.training.pretrained import start_from

    config, samples = job.config, job.samples
    shape = shape_of(config, len(samples.vocabulary), job.pretrained)
    rule = config.balance()
    vocabulary = samples.vocabulary if rule is None else samples.vocabulary.balanced(rule)
    tokenizer = open_clip.SimpleTokenizer(context_length=config.context_length)
    loader = Loader(config, samples, job.order, square_size(shape), vocabulary, tokenizer, job.ranks)
    model = Model(shape, config.temperature)
    preprocess = export.preprocess_config()
    if job.pretrained is not None:
        start_from(model, job.pretrained, config.init_towers, config.init)
        preprocess |= job.pretrained.preprocess_cfg or {}
    model.freeze(config.train_image)
    belongs = {"id": manifest.read_config(job.run)["id"], "data": samples.fingerprints}
    trainer = Trainer(config, job.run, model, loader, samples, belongs, preprocess, job.ranks)
    if job.evaluate is not None:
        trainer.score = lambda: _scores(job, trainer)
    return trainer


def _freeze(job: Job, trainer: Trainer, stop: threading.Event) -> None:
    """Compute the features of a frozen tower, or find them."""
    from fistful.training.features import features_of

    config, loader = job.config, trainer.loader
    if config.train_image == "none":
        folder = Path(config.features) if config.features else job.run / "logs" / "features"
        loader.features = features_of(trainer, folder, stop.is_set)


def _about(job: Job, trainer: Trainer) -> About:
    from fistful.training.export import About, Lineage

    samples, config = job.samples, job.config
    lineage = Lineage(
        config_id=trainer.belongs["id"],
        data=samples.fingerprints,
        saw_imagenet_labels=False if job.pretrained is None else job.pretrained.saw_imagenet_labels,
        vocabulary_sha256=samples.vocabulary_sha256,
        word_options=samples.word_options,
        holdout=config.holdout,
        init=job.init,
        train_image=config.train_image,
    )
    vocabulary = samples.vocabulary_folder / vocabularies.FILE
    return About(lineage, trainer.preprocess, vocabulary.read_bytes() if trainer.model.shape.n_words else b"")


def _scores(job: Job, trainer: Trainer) -> dict[str, float]:
    """Evaluate the model as it is, by way of a folder that others would load."""
    from fistful.training import export
    from fistful.training.towers import own_encoder

    assert job.evaluate is not None
    folder = f"logs/evaluated/{export.FOLDER}"
    export.write_model(job.run, folder, trainer.model, _about(job, trainer), trainer.head_statistics())
    scores = {name: float(value) for name, value in job.evaluate(own_encoder(job.run / folder, str(job.run))).items()}
    shutil.rmtree(job.run / "logs" / "evaluated")
    if not scores:
        raise UsageError("--evaluate-every: the evaluation returned no score")
    return scores


def _write_replaced(run: Path, trainer: Trainer) -> None:
    broken: dict[int, Any] = trainer.loader.pictures.broken
    lines = [json.dumps({"sample": trainer.samples.name(row), "why": why}) + "\n" for row, why in sorted(broken.items())]
    if lines:
        (run / "logs" / "replaced.jsonl").write_text("".join(lines))


def _warn(trainer: Trainer) -> None:
    """Say what was left out; the verb says what was done."""
    if trainer.skipped:
        share = f"{len(trainer.skipped)} of {trainer.config.steps} steps skipped, their loss was no number"
        print(f"{trainer.run}: {share}; a smaller --lr helps", file=sys.stderr)
    if trainer.loader.pictures.broken:
        own = [str(path) for i, path in enumerate(trainer.samples.folders) if (i, 0) not in trainer.samples.shards]
        said = f"{len(trainer.loader.pictures.broken)} of {len(trainer.samples)} pictures are broken and were replaced"
        ask = f"; fistful verify {shlex.join(own)} tells whether files changed" if own else ""
        print(f"{trainer.run}: {said}; logs/replaced.jsonl says why{ask}", file=sys.stderr)
