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
from fistful.bow.store import manifest
from fistful.bow.store.files import local_out, write_json
from fistful.bow.store.identity import semantic_values, sha256_hex
from fistful.bow.store.model_folder import BEST_FOLDER, FOLDER
from fistful.bow.vocabulary import Vocabulary
from fistful.errors import DataError, FistfulError, UsageError

from .data.holdout import BY, hidden_rows
from .data.order import Order, Stream
from .data.reading import read_keys, read_samples
from .data.samples import TrainingSamples
from .train_config import MAX_STEPS, TrainConfig, resolve

if TYPE_CHECKING:
    from .data.texts import TextLengths
    from .distributed import Ranks
    from .loop import Trainer
    from .model.encoder import Encoder
    from .model.export import About
    from .model.weights import Pretrained

LOCK = "logs/lock"
TEXTS = "logs/texts.json"
"""How many texts there are, and how much of them the context cuts off."""
UNMOVED = 1e-6
"""A loss that differs by no more than this share of itself, over a whole run, has not moved."""
Evaluate = Callable[["Encoder"], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A run, all its choices made."""

    run: Path
    config: TrainConfig
    samples: TrainingSamples
    order: Order
    pretrained: Pretrained | None
    init: str
    """Fingerprint of the weights to start from."""
    preprocess: dict[str, Any]
    """How pictures are prepared."""
    evaluate: Evaluate | None
    ranks: Ranks
    lengths: TextLengths | None
    """Of the texts; None where no transformer reads any."""


def train(*data: str, out: str | Path, config: TrainConfig = TrainConfig(), evaluate: Evaluate | None = None) -> Path:
    """Train a model on data folders and write a run folder; the same call resumes, or finds it done.

    Under torchrun all processes train together, each on its share of every batch.

    Args:
        data: Data folders as fistful bags or label writes them, or webdataset tars; FOLDER*2 shows its samples twice an epoch.
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
        Interrupted: After SIGTERM or SIGINT, with a checkpoint.
    """
    from .distributed import joined_ranks
    from .model.preprocess import preprocess_of

    run = local_out(out)
    with joined_ranks() as ranks, _locked(run, ranks):
        config = resolve(config)
        pretrained, init = _read_init(config)
        preprocess = preprocess_of(config, pretrained)
        if ranks.rank == 0:
            samples, hidden = _read(data, config, run)
        ranks.wait()
        if ranks.rank:
            samples, hidden = _read(data, config, run)
        if config.text == "balanced" and config.balance() is None and not samples.has_rule:
            raise UsageError("--text balanced: tars have no rule of their own; give --rule, or use --text bag")
        order = _order(config, samples, hidden)
        lengths = _text_lengths(config, samples, order)
        config = _of_data(config, order, lengths, pretrained)
        inputs = [{"fingerprint": f, "weight": w} for f, w in zip(samples.fingerprints, samples.weights, strict=True)]
        values = _identity(config, init, preprocess, getattr(evaluate, "fingerprint", ""))
        if ranks.by_first(lambda: manifest.claim(run, "train", values, inputs)):
            return run
        _train(Job(run, config, samples, order, pretrained, init, preprocess, evaluate, ranks, lengths))
    return run


def _read(data: tuple[str, ...], config: TrainConfig, run: Path) -> tuple[TrainingSamples, np.ndarray]:
    """Read the samples, and which of them are not shown; the first rank leaves in logs/ what the others need not find out again."""
    samples = read_samples(data, config.exclude, config.needs_words, run / "logs" / "foreign")
    return samples, hidden_rows(config, samples, run / "logs" / "contents")


@contextlib.contextmanager
def _locked(run: Path, ranks: Ranks) -> Iterator[None]:
    """Keep other calls of train away from the run folder; of several processes, the first holds the lock."""
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
    from .model.pretrained import load_pretrained

    found = load_pretrained(config.init)
    return found, found.fingerprint()


def _identity(config: TrainConfig, init: str, preprocess: dict[str, Any], evaluated: str) -> dict[str, Any]:
    """Return what decides the run: of files that the options name, their content."""
    from .model.preprocess import default_preprocess

    more = {"preprocess": preprocess} if preprocess != default_preprocess() else {}
    more |= {"evaluated_on": evaluated} if evaluated else {}
    more |= {"holdout_by": BY} if config.holdout else {}
    exclude = sha256_hex("\n".join(read_keys(config.exclude)).encode()) if config.exclude else ""
    return {**semantic_values(config), "init": init, "exclude": exclude, **more}


def _of_data(config: TrainConfig, order: Order, lengths: TextLengths | None, pretrained: Pretrained | None) -> TrainConfig:
    """Make the choices definite that the data decides: steps, text positions."""
    from .data.texts import LEAST_CONTEXT, MOST_CONTEXT

    if config.epochs:
        steps = config.epochs * order.per_epoch() / config.batch_size
        if steps > MAX_STEPS:
            raise UsageError(f"--epochs {config.epochs:g}: are {steps:g} steps, expected at most {MAX_STEPS:,}")
        config = dataclasses.replace(config, steps=max(1, round(steps)))
    if config.context_length:
        return config
    most = MOST_CONTEXT
    if config.init_towers == "both" and pretrained is not None and pretrained.model_cfg is not None:
        most = min(most, pretrained.model_cfg.get("text_cfg", {}).get("context_length", most))
    return dataclasses.replace(config, context_length=LEAST_CONTEXT if lengths is None else lengths.fitting(most))


def _text_lengths(config: TrainConfig, samples: TrainingSamples, order: Order) -> TextLengths | None:
    """Look at the texts that the transformer will read, the same ones in every process.

    Raises:
        UsageError: If captions are asked for, and there are none.
    """
    from open_clip import SimpleTokenizer

    from .data.texts import measure_texts, reads_caption

    members = np.concatenate([order.real.members, order.pseudo.members])
    if config.text == "caption" and config.has_text and not reads_caption(config, samples, members).any():
        raise UsageError("--text caption: found no sample with a caption; use --text bag or balanced, or add a folder that has captions")
    if not config.has_text or config.text_tower == "words":
        return None
    return measure_texts(config, samples, _vocabulary(config, samples), SimpleTokenizer(), members)


def _vocabulary(config: TrainConfig, samples: TrainingSamples) -> Vocabulary:
    """Return the words, with the keep probabilities of the run's rule."""
    rule = config.balance()
    return samples.vocabulary if rule is None else samples.vocabulary.balanced(rule)


def _order(config: TrainConfig, samples: TrainingSamples, hidden: np.ndarray) -> Order:
    streams = []
    for salt, pseudo in enumerate((False, True)):
        mask = (samples.pseudo == pseudo) & ~hidden
        n_each = np.bincount(samples.folder[mask], minlength=len(samples.folders))
        weights = tuple(zip(n_each.tolist(), samples.weights, strict=True))
        streams.append(Stream(members=np.flatnonzero(mask), weights=weights, seed=config.seed, salt=salt))
    order = Order(real=streams[0], pseudo=streams[1], batch_size=config.batch_size, pseudo_share=config.pseudo_share)
    _check_shown(samples, order)
    n_epoch = order.per_epoch()
    if not n_epoch:
        raise UsageError(f"--exclude {config.exclude} --holdout {config.holdout}: leave no sample to learn from")
    if config.batch_size > n_epoch:
        raise UsageError(f"--batch-size {config.batch_size}: an epoch has only {n_epoch} samples; use a smaller batch or more data")
    if config.batch_size % config.world_size:
        raise UsageError(f"--batch-size {config.batch_size}: is not a multiple of {config.world_size}, the number of processes")
    if not streams[0].per_epoch() and config.pseudo_share < 1:
        raise UsageError(f"--pseudo-share {config.pseudo_share}: all samples are pseudo-labelled; add a folder of real ones, or use 1")
    if streams[1].per_epoch() and config.pseudo_share and not order.most_pseudo:
        raise UsageError(
            f"--batch-size {config.batch_size} --pseudo-share {config.pseudo_share}: a batch has no room for a pseudo-labelled sample; "
            "use a larger batch or share, or --pseudo-share 0"
        )
    return order


def _check_shown(samples: TrainingSamples, order: Order) -> None:
    """Refuse a folder that weighs so little that no epoch shows a sample of it."""
    for number, folder in enumerate(samples.folders):
        n = sum(stream.weights[number][0] for stream in (order.real, order.pseudo))
        if n and not any(stream.slots()[number] for stream in (order.real, order.pseudo)):
            raise UsageError(
                f"{folder}*{samples.weights[number]:g}: an epoch shows none of its {n:,} samples; "
                f"give {folder}*{1 / n:.2g} or more, or leave it out"
            )


def _train(job: Job) -> None:
    from . import checkpoint
    from .loop import METRICS, stop_signals, torch_settings
    from .model import export

    run, first = job.run, job.ranks.rank == 0
    with torch_settings(job.config), stop_signals() as stop:
        trainer = _trainer(job)
        _freeze(job, trainer, stop)
        for problem in trainer.resume():
            print(problem, file=sys.stderr)
        if first and job.config.progress:
            print(_begins(job, trainer), file=sys.stderr)
        if first:
            for line in _about_texts(job):
                print(line, file=sys.stderr)
        _try_evaluation(job, trainer)
        trainer.train(stop)
        trainer.save()  # whatever fails from here on, the same command need not train again
        job.ranks.by_first(lambda: check_learnt(run))
        with trainer.mean.in_place():
            if first:
                export.write_model(run, FOLDER, trainer.model, _about(job, trainer), trainer.head_statistics())
        if job.evaluate is not None:
            scores = trainer.evaluate()
            if first:
                with open(run / METRICS, "a") as file:
                    file.write(json.dumps({"step": trainer.step, "scores": scores}, sort_keys=True) + "\n")
        best = checkpoint.best_step(trainer.evaluated, trainer.step)
        if first and best is not None and job.config.evaluate_every:
            checkpoint.load_weights(run, checkpoint.best_name(best), trainer.model)
            export.write_model(run, BEST_FOLDER, trainer.model, _about(job, trainer), trainer.head_statistics())
    if first:
        _write_replaced(run, trainer)
        checkpoint.remove_all(run)
        shutil.rmtree(run / "logs" / "tmp", ignore_errors=True)  # what a kill left behind; nobody else is at work here
        manifest.finish(run, {}, {})
        _warn(trainer)
    job.ranks.wait()


def _try_evaluation(job: Job, trainer: Trainer) -> None:
    """Evaluate once before the first step, so that what cannot be evaluated fails before hours are spent; the scores are not kept."""
    import torch

    if trainer.score is None or trainer.step > 0:
        return
    try:
        with torch.random.fork_rng():  # loading a model draws weights: a run that resumes does not come by here
            job.ranks.by_first(trainer.score)
    except FistfulError:
        job.ranks.by_first(lambda: manifest.release(job.run))  # another --evaluate-on may take the folder
        raise


def check_learnt(run: Path) -> None:
    """Check that a run that took its steps learnt something from them.

    Raises:
        DataError: If all steps were skipped, or the loss never moved.
    """
    from .loop import METRICS

    losses = [row["loss"] for row in map(json.loads, (run / METRICS).read_text().splitlines()) if "loss" in row]
    known = [loss for loss in losses if loss is not None]
    if losses and not known:
        raise DataError(
            f"{run}: nothing was learnt: the loss was no number in any of {len(losses)} steps, and all were skipped; "
            "a smaller --lr may help, in another --out"
        )
    if len(known) > 1 and max(known) - min(known) <= UNMOVED * abs(known[0]):
        raise DataError(
            f"{run}: nothing was learnt: the loss was {known[0]:.6g} from the first step to the last; "
            "expected pictures and texts that differ, and a --batch-size above 1"
        )


def _begins(job: Job, trainer: Trainer) -> str:
    """Say what is about to be trained, so that a slip is seen before hours are spent."""
    config = job.config
    n_learn = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    what = f"{job.order.per_epoch():,} samples an epoch, {n_learn / 1e6:.1f} million weights that learn"
    where = f"{config.device}, {config.precision}, {config.threads} threads"
    n_missed, n_lines = job.samples.misses
    missed = f"; {n_missed:,} of {n_lines:,} lines of --exclude name no sample with a picture" if n_missed else ""
    return f"train: {what}, steps {trainer.step:,} to {config.steps:,} of {config.batch_size} samples on {where}{missed}"


def _about_texts(job: Job) -> list[str]:
    """Say which folders show nothing, and which texts are no captions though captions were asked for, are empty, or are cut."""
    from .data.texts import reads_caption

    config, samples = job.config, job.samples
    members = np.concatenate([job.order.real.members, job.order.pseudo.members])
    unseen = np.bincount(samples.folder[members], minlength=len(samples.folders)) == 0
    lines = [f"{path}: no sample of it is shown" for path, is_unseen in zip(samples.folders, unseen, strict=True) if is_unseen]
    if not config.has_text:
        return [f"train: {line}" for line in lines]
    captioned = reads_caption(config, samples, members)
    n_empty = int((~captioned & (samples.bags.lengths()[members] == 0)).sum())
    n_bags = int((~captioned).sum()) - n_empty if config.text == "caption" else 0
    lines += [f"{n_bags:,} of {len(members):,} samples have no caption: their bag is their text"] if n_bags else []
    lines += [f"{n_empty:,} of {len(members):,} samples have no word: their text is empty; --exclude leaves them out"] if n_empty else []
    if job.lengths is not None:
        cut = job.lengths.cut_at(config.context_length)
        write_json(job.run, TEXTS, {**cut, "samples": len(members), "bags_for_captions": n_bags, "empty": n_empty})
        if cut["texts_cut"]:
            share = f"{cut['texts_cut'] / cut['texts']:.2%} of the texts, {cut['tokens_cut'] / cut['tokens']:.2%} of their tokens"
            lines.append(f"{config.context_length} text positions cut {share}; --context-length {job.lengths.tokens.max()} would hold all")
    return [f"train: {line}" for line in lines]


def _trainer(job: Job) -> Trainer:
    import open_clip

    from .data.loader import Loader
    from .loop import Trainer
    from .model.model import Model, shape_of, square_size
    from .model.pretrained import start_from
    from .pixels import fit_of

    config, samples = job.config, job.samples
    shape = shape_of(config, len(samples.vocabulary), job.pretrained)
    tokenizer = open_clip.SimpleTokenizer(context_length=config.context_length)
    fit = fit_of(job.preprocess, square_size(shape))
    loader = Loader(config, samples, job.order, fit, _vocabulary(config, samples), tokenizer, job.ranks)
    model = Model(shape, config.temperature)
    if job.pretrained is not None:
        start_from(model, job.pretrained, config.init_towers, config.init)
    model.freeze(config.train_image)
    belongs = {"id": manifest.read_config(job.run)["id"], "data": samples.fingerprints}
    trainer = Trainer(config, job.run, model, loader, samples, belongs, job.preprocess, job.ranks)
    if job.evaluate is not None:
        trainer.score = lambda: _scores(job, trainer)
    return trainer


def _freeze(job: Job, trainer: Trainer, stop: threading.Event) -> None:
    """Compute the features of a frozen tower, or find them."""
    from .frozen import features_of

    config, loader = job.config, trainer.loader
    if config.train_image == "none":
        folder = Path(config.features) if config.features else job.run / "logs" / "features"
        loader.features = features_of(trainer, folder, stop.is_set)


def _about(job: Job, trainer: Trainer) -> About:
    from .model.export import About, Lineage

    samples, config = job.samples, job.config
    lineage = Lineage(
        config_id=trainer.belongs["id"],
        data=samples.fingerprints,
        saw_imagenet_labels=False if job.pretrained is None else job.pretrained.saw_imagenet_labels,
        vocabulary_sha256=samples.vocabulary_sha256,
        word_options=samples.word_options,
        holdout=config.holdout,
        holdout_by=BY,
        init=job.init,
        train_image=config.train_image,
    )
    vocabulary = samples.vocabulary_folder / vocabularies.FILE
    return About(lineage, trainer.preprocess, vocabulary.read_bytes() if trainer.model.shape.n_words else b"")


def _scores(job: Job, trainer: Trainer) -> dict[str, float]:
    """Evaluate the model as it is, by way of a folder that others would load."""
    from .model import export
    from .model.towers import own_encoder

    assert job.evaluate is not None
    folder = f"logs/evaluated/{FOLDER}"
    export.write_model(job.run, folder, trainer.model, _about(job, trainer), trainer.head_statistics())
    encoder = own_encoder(job.run / folder, str(job.run), trainer.device)
    try:
        scores = {name: float(value) for name, value in job.evaluate(encoder).items()}
    finally:
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
