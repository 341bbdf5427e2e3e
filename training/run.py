"""`train`: data folders in, a run folder out.

>>> train("data/bags", out="runs/first", config=TrainConfig(steps=500))  # doctest: +SKIP
PosixPath('/home/me/runs/first')
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow import vocabulary as vocabularies
from fistful.bow.draw import held_out
from fistful.bow.store import manifest
from fistful.bow.store.config import semantic_values
from fistful.bow.store.files import local_out
from fistful.errors import UsageError
from fistful.training.config import TrainConfig, resolve
from fistful.training.data import Samples, read_samples
from fistful.training.order import Order, Stream

if TYPE_CHECKING:
    from fistful.training.encoder import Encoder
    from fistful.training.loop import Trainer

LOCK = "logs/lock"


def train(
    *data: str,
    out: str | Path,
    config: TrainConfig = TrainConfig(),
    evaluate: Callable[[Encoder], Mapping[str, float]] | None = None,
) -> Path:
    """Train a model on data folders and write a run folder; the same call resumes, or finds it done.

    Args:
        data: Data folders as fistful bags or label writes them; FOLDER*2 shows its samples twice an epoch.
        out: The run folder.
        config: How to train.
        evaluate: Called with the finished model; its scores go to metrics.jsonl.

    Returns:
        The run folder.

    Raises:
        UsageError: If the call is at fault, the folder is in use, or belongs to another configuration.
        DataError: If the data is at fault.
        Interrupted: After SIGTERM or SIGINT, with a checkpoint.
    """
    run = local_out(out)
    with _locked(run):
        config = resolve(config)
        samples = read_samples(data)
        order = _order(config, samples)
        inputs = [{"fingerprint": f, "weight": w} for f, w in zip(samples.fingerprints, samples.weights, strict=True)]
        if manifest.claim(run, "train", semantic_values(config), inputs):
            return run
        _train(run, config, samples, order, evaluate)
    return run


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[None]:
    path = run / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{run}: another train is at work on this run folder; wait for it, or choose another --out") from None
        yield


def _order(config: TrainConfig, samples: Samples) -> Order:
    streams = []
    held = held_out(samples.number, config.holdout) & ~samples.pseudo
    for salt, pseudo in enumerate((False, True)):
        mask = (samples.pseudo == pseudo) & ~held
        n_each = np.bincount(samples.folder[mask], minlength=len(samples.folders))
        weights = tuple(zip(n_each.tolist(), samples.weights, strict=True))
        streams.append(Stream(members=np.flatnonzero(mask), weights=weights, seed=config.seed, salt=salt))
    n_epoch = sum(stream.per_epoch() for stream in streams)
    if config.batch_size > n_epoch:
        raise UsageError(f"--batch-size {config.batch_size}: an epoch has only {n_epoch} samples; use a smaller batch or more data")
    if not streams[0].per_epoch() and config.pseudo_share < 1:
        raise UsageError(f"--pseudo-share {config.pseudo_share}: all samples are pseudo-labelled; add a folder of real ones, or use 1")
    return Order(real=streams[0], pseudo=streams[1], batch_size=config.batch_size, pseudo_share=config.pseudo_share)


def _train(run: Path, config: TrainConfig, samples: Samples, order: Order, evaluate: Callable[..., Mapping[str, float]] | None) -> None:
    from fistful.training import checkpoint
    from fistful.training.loop import torch_settings

    with torch_settings(config):
        trainer = _trainer(run, config, samples, order)
        for problem in trainer.resume():
            print(problem, file=sys.stderr)
        trainer.train()
        _export(run, trainer)
        if evaluate is not None:
            _note_scores(run, config, evaluate)
    _write_replaced(run, trainer)
    checkpoint.remove_all(run)
    manifest.finish(run, {}, {})
    _warn(trainer)


def _trainer(run: Path, config: TrainConfig, samples: Samples, order: Order) -> Trainer:
    import open_clip

    from fistful.training import export
    from fistful.training.loader import Loader
    from fistful.training.loop import Trainer
    from fistful.training.model import Model, shape_of, square_size

    shape = shape_of(config, len(samples.vocabulary))
    rule = config.balance()
    vocabulary = samples.vocabulary if rule is None else samples.vocabulary.balanced(rule)
    tokenizer = open_clip.SimpleTokenizer(context_length=config.context_length)
    loader = Loader(config, samples, order, square_size(shape), vocabulary, tokenizer)
    belongs = {"id": manifest.read_config(run)["id"], "data": samples.fingerprints}
    return Trainer(config, run, Model(shape, config.temperature), loader, samples, belongs, export.preprocess_config())


def _export(run: Path, trainer: Trainer) -> None:
    from fistful.training import export

    samples = trainer.samples
    lineage = export.Lineage(
        config_id=trainer.belongs["id"],
        data=samples.fingerprints,
        saw_imagenet_labels=False,
        vocabulary_sha256=samples.vocabulary_sha256,
        word_options=samples.word_options,
        holdout=trainer.config.holdout,
    )
    vocabulary = (samples.folders[0] / vocabularies.FILE).read_bytes()
    export.write_model(run, trainer.model, lineage, vocabulary, trainer.head_statistics())


def _note_scores(run: Path, config: TrainConfig, evaluate: Callable[..., Mapping[str, float]]) -> None:
    from fistful.training.export import FOLDER
    from fistful.training.loop import METRICS
    from fistful.training.towers import own_encoder

    scores = dict(evaluate(own_encoder(run / FOLDER, str(run))))
    with open(run / METRICS, "a") as file:
        file.write(json.dumps({"step": config.steps, "scores": scores}, sort_keys=True) + "\n")


def _write_replaced(run: Path, trainer: Trainer) -> None:
    broken: dict[int, Any] = trainer.loader.pictures.broken
    lines = [json.dumps({"sample": trainer.samples.name(row), "why": why}) + "\n" for row, why in sorted(broken.items())]
    if lines:
        (run / "logs" / "replaced.jsonl").write_text("".join(lines))


def _warn(trainer: Trainer) -> None:
    """Say what was left out; the verb says what was done."""
    if trainer.skipped:
        print(f"{trainer.run}: {len(trainer.skipped)} steps skipped, their loss was no number", file=sys.stderr)
    if trainer.loader.pictures.broken:
        print(
            f"{trainer.run}: {len(trainer.loader.pictures.broken)} broken pictures replaced; logs/replaced.jsonl says why", file=sys.stderr
        )
