"""What a run is going to do: its data read, and all its choices made definite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from open_clip import SimpleTokenizer

from fistful.bow.store.identity import canonical_json, semantic_values, sha256_hex
from fistful.bow.store.manifest import CONFIG, MANIFEST
from fistful.bow.vocabulary import Vocabulary
from fistful.errors import UsageError

from .data.holdout import BY, hidden_rows
from .data.order import Order, Stream
from .data.reading import read_keys, read_samples
from .data.samples import TrainingSamples
from .data.shard_cache import check_room, find_stored, tidy
from .data.texts import LEAST_CONTEXT, MOST_CONTEXT, TextLengths, measure_texts, reads_caption
from .distributed import Ranks
from .masking import MASKING_OFF
from .model.encoder import Encoder
from .model.preprocess import default_preprocess, preprocess_of
from .model.pretrained import load_pretrained
from .model.towers import folder_config
from .model.weights import Pretrained
from .model.word_vectors import WordVectors, read_word_vectors
from .train_config import MAX_STEPS, TrainConfig, changed, resolve

SHARDS = "logs/shards"
"""Where shards of a bucket lie while the run goes on."""

Evaluate = Callable[[Encoder], Mapping[str, float]]


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
    vectors: WordVectors | None
    """What the words tower starts from."""
    preprocess: dict[str, Any]
    """How pictures are prepared."""
    evaluate: Evaluate | None
    ranks: Ranks
    lengths: TextLengths | None
    """Of the texts; None where no transformer reads any."""
    n_held: int
    """Samples that --holdout keeps aside."""


def plan_job(data: tuple[str, ...], run: Path, config: TrainConfig, evaluate: Evaluate | None, ranks: Ranks) -> Job:
    """Read the data, and make every choice that it, the machine or the weights to start from decide.

    Raises:
        UsageError: If options and data do not go together.
        DataError: If the data is at fault.
    """
    config = resolve(config)
    pretrained, init = _read_init(config, run)
    preprocess = preprocess_of(config, pretrained)
    if ranks.rank == 0:
        samples, hidden = _read(data, config, run, first=True)
    ranks.wait()
    if ranks.rank:
        samples, hidden = _read(data, config, run, first=False)
    if config.text.text == "balanced" and config.text.balance() is None and not samples.has_rule:
        raise UsageError("--text balanced: tars have no rule of their own; give --rule, or use --text bag")
    order = make_order(config, samples, hidden)
    if not (run / MANIFEST).exists():  # a finished run needs no room
        check_room(config, samples, order)
    lengths = _text_lengths(config, samples, order)
    config = settle_by_data(config, order, lengths, pretrained)
    vectors = read_word_vectors(config.model.word_vectors, samples.vocabulary.words) if config.model.word_vectors else None
    n_held = int((hidden & ~samples.left_out).sum())
    return Job(run, config, samples, order, pretrained, init, vectors, preprocess, evaluate, ranks, lengths, n_held)


def identity_of(job: Job) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what decides the run: options, of files that they name the content, and the data."""
    config, evaluated = job.config, getattr(job.evaluate, "fingerprint", "")
    more = {"preprocess": job.preprocess} if job.preprocess != default_preprocess() else {}
    more |= {"evaluated_on": evaluated} if evaluated else {}
    more |= {"holdout_by": BY} if config.data.holdout else {}
    more |= {"word_vectors": job.vectors.fingerprint()} if job.vectors is not None else {}
    of_folder = folder_config(config.model.model)
    more |= {"model": sha256_hex(canonical_json(of_folder))} if of_folder is not None else {}
    exclude = sha256_hex("\n".join(read_keys(config.data.exclude)).encode()) if config.data.exclude else ""
    inputs = [{"fingerprint": f, "weight": w} for f, w in zip(job.samples.fingerprints, job.samples.weights, strict=True)]
    values = {name: value for name, value in semantic_values(config).items() if config.has_fusion or name not in MASKING_OFF}
    return {**values, "init": job.init, "exclude": exclude, **more}, inputs


def _read(data: tuple[str, ...], config: TrainConfig, run: Path, *, first: bool) -> tuple[TrainingSamples, np.ndarray]:
    """Read the samples, and which of them are not shown; the first rank leaves in logs/ what the others need not find out again."""
    samples = read_samples(data, config.data.exclude, config.needs_words, run / "logs" / "foreign")
    samples = dataclasses.replace(samples, stored=find_stored(samples, run / SHARDS))
    if first:
        tidy(run / SHARDS, samples.stored)
    return samples, hidden_rows(config, samples, run / "logs" / "contents")


def _read_init(config: TrainConfig, run: Path) -> tuple[Pretrained | None, str]:
    if not config.model.init:
        return None, ""
    try:
        found = load_pretrained(config.model.init)
    except UsageError as error:
        if not (run / CONFIG).exists():
            raise
        raise UsageError(f"{error}; if what {run} was begun from lies elsewhere now, --init with that place goes on") from None
    return found, found.fingerprint()


def make_order(config: TrainConfig, samples: TrainingSamples, hidden: np.ndarray) -> Order:
    """Return which samples each batch shows.

    Raises:
        UsageError: If the samples do not fill a batch as the options ask.
    """
    size, pseudo_share, n_ranks = config.optimiser.batch_size, config.data.pseudo_share, config.run.world_size
    streams = []
    for salt, pseudo in enumerate((False, True)):
        mask = (samples.pseudo == pseudo) & ~hidden & (pseudo_share > 0 or not pseudo)  # of labels that are never shown nothing counts
        n_each = np.bincount(samples.folder[mask], minlength=len(samples.folders))
        weights = tuple(zip(n_each.tolist(), samples.weights, strict=True))
        members = np.flatnonzero(mask)
        shards = shard_sizes(samples, members) if config.data.order == "shards" else ()
        streams.append(Stream(members=members, weights=weights, seed=config.run.seed, salt=salt, shards=shards))
    order = Order(real=streams[0], pseudo=streams[1], batch_size=size, pseudo_share=pseudo_share)
    _check_shown(samples, order)
    if not streams[0].per_epoch() and pseudo_share < 1 and (samples.pseudo & ~hidden).any():
        raise UsageError(f"--pseudo-share {pseudo_share}: all samples are pseudo-labelled; add a folder of real ones, or use 1")
    n_epoch = order.per_epoch()
    if not n_epoch:
        raise UsageError(f"--exclude {config.data.exclude} --holdout {config.data.holdout}: leave no sample to learn from")
    if size > n_epoch:
        fits = 1 << (n_epoch.bit_length() - 1)
        raise UsageError(f"--batch-size {size}: an epoch has only {n_epoch} samples; --batch-size {fits} fits, or give more data")
    if size % n_ranks:
        raise UsageError(f"--batch-size {size}: is not a multiple of {n_ranks}, the number of processes")
    if streams[1].per_epoch() and pseudo_share and not order.most_pseudo:
        raise UsageError(
            f"--batch-size {size} --pseudo-share {pseudo_share}: a batch has no room for a pseudo-labelled sample; "
            "use a larger batch or share, or --pseudo-share 0"
        )
    return order


def shard_sizes(samples: TrainingSamples, members: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return how many of these rows each shard has, int64, for each folder; rows of a shard stand together."""
    units, folders = samples.unit[members], samples.folder[members]
    found = []
    for folder in range(len(samples.folders)):
        own = units[folders == folder]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        found.append(np.diff(np.append(starts, len(own))))
    return tuple(found)


def _check_shown(samples: TrainingSamples, order: Order) -> None:
    """Refuse a folder that weighs so little that no epoch shows a sample of it."""
    for number, folder in enumerate(samples.folders):
        n = sum(stream.weights[number][0] for stream in (order.real, order.pseudo))
        if n and not any(stream.slots()[number] for stream in (order.real, order.pseudo)):
            raise UsageError(
                f"{folder}*{samples.weights[number]:g}: an epoch shows none of its {n:,} samples; "
                f"give {folder}*{1 / n:.2g} or more, or leave it out"
            )


def _text_lengths(config: TrainConfig, samples: TrainingSamples, order: Order) -> TextLengths | None:
    """Look at the texts that the transformer will read, the same ones in every process.

    Raises:
        UsageError: If captions are asked for, and there are none.
    """
    members = np.concatenate([order.real.members, order.pseudo.members])
    if config.text.text == "caption" and config.has_text and not reads_caption(config, samples, members).any():
        raise UsageError("--text caption: found no sample with a caption; use --text bag or balanced, or add a folder that has captions")
    if not config.has_text or config.model.text_tower == "words":
        return None
    return measure_texts(config, samples, words_of(config, samples), SimpleTokenizer(), members)


def words_of(config: TrainConfig, samples: TrainingSamples) -> Vocabulary:
    """Return the words, with the keep probabilities of the run's rule."""
    rule = config.text.balance()
    return samples.vocabulary if rule is None else samples.vocabulary.balanced(rule)


def settle_by_data(config: TrainConfig, order: Order, lengths: TextLengths | None, pretrained: Pretrained | None) -> TrainConfig:
    """Make the choices definite that the data decides: steps, text positions."""
    if config.optimiser.epochs:
        steps = config.optimiser.epochs * order.per_epoch() / config.optimiser.batch_size
        if steps > MAX_STEPS:
            raise UsageError(f"--epochs {config.optimiser.epochs:g}: are {steps:g} steps, expected at most {MAX_STEPS:,}")
        config = changed(config, steps=max(1, round(steps)))
    if config.model.context_length:
        return config
    most = MOST_CONTEXT
    if config.model.init_towers == "both" and pretrained is not None and pretrained.model_cfg is not None:
        most = min(most, pretrained.model_cfg.get("text_cfg", {}).get("context_length", most))
    return changed(config, context_length=LEAST_CONTEXT if lengths is None else lengths.fitting(most))
