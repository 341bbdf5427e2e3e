"""What a run says before its first step, so that a slip is seen before hours are spent."""

from __future__ import annotations

import sys

import numpy as np

from fistful.bow.store.files import write_json
from fistful.wording import counted

from .data.shard_cache import gigabytes, room_of, shown_shards
from .data.texts import reads_caption
from .job import SHARDS, Job
from .trainer import Trainer

TEXTS = "logs/texts.json"
"""How many texts there are, and how much of them the context cuts off."""


def announce(trainer: Trainer) -> None:
    """Say what is about to be trained, and what of the data will not be learnt from."""
    if trainer.job.config.run.progress:
        print(_begins(trainer), file=sys.stderr)
    for line in [*_about_stores(trainer.job), *_about_words(trainer.job), *_about_texts(trainer.job)]:
        print(f"train: {line}", file=sys.stderr)


def _begins(trainer: Trainer) -> str:
    job, config = trainer.job, trainer.job.config
    n_learn = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    aside = f", {job.n_held:,} kept aside by --holdout" if config.data.holdout else ""
    what = f"{job.order.per_epoch():,} samples an epoch{aside}, {n_learn / 1e6:.1f} million weights that learn"
    where = f"{config.run.device}, {config.run.precision}, {config.run.threads} threads"
    n_missed, n_lines = job.samples.misses
    missed = f"; {n_missed:,} of {n_lines:,} lines of --exclude name no sample with a picture" if n_missed else ""
    steps = f"steps {trainer.step:,} to {config.optimiser.steps:,} of {config.optimiser.batch_size} samples"
    return f"train: {what}, {steps} on {where}{missed}"


def _about_stores(job: Job) -> list[str]:
    """Say how much is fetched, and where it lies meanwhile."""
    sizes = [each.size for each in shown_shards(job.samples, job.order).values()]
    if not sizes:
        return []
    room = min(sum(sizes), room_of(job.config))
    what = f"{counted(len(sizes), 'shard')} of {gigabytes(sum(sizes))} GB in a bucket"
    return [f"{what}; up to {gigabytes(room)} GB of them lie in {job.run / SHARDS} until the end"]


def _about_words(job: Job) -> list[str]:
    """Say which labels cannot be drawn anew, and how many words start without a vector."""
    config, samples, lines = job.config, job.samples, []
    bare = samples.pseudo & (samples.likely.lengths() == 0)
    if config.data.pseudo == "drawn" and bare[job.order.pseudo.members].any():
        names = ", ".join(str(samples.folders[number]) for number in np.unique(samples.folder[bare]))
        lines.append(f"{names}: labels without shares, as earlier versions wrote them: their bags are the same each epoch")
    if job.vectors is not None and job.vectors.n_found < len(samples.vocabulary) / 2:
        told = f"has a vector for {job.vectors.n_found:,} of the {len(samples.vocabulary):,} words of the vocabulary"
        lines.append(f"--word-vectors {config.model.word_vectors}: {told}; the others start at random")
    return lines


def _about_texts(job: Job) -> list[str]:
    """Say which folders show nothing, and which texts are no captions though captions were asked for, are empty, or are cut."""
    config, samples = job.config, job.samples
    members = np.concatenate([job.order.real.members, job.order.pseudo.members])
    unseen = np.bincount(samples.folder[members], minlength=len(samples.folders)) == 0
    lines = [f"{path}: no sample of it is shown" for path, is_unseen in zip(samples.folders, unseen, strict=True) if is_unseen]
    if not config.has_text:
        return lines
    captioned = reads_caption(config, samples, members)
    n_empty = int((~captioned & (samples.bags.lengths()[members] == 0)).sum())
    n_bags = int((~captioned).sum()) - n_empty if config.text.text == "caption" else 0
    lines += [f"{n_bags:,} of {len(members):,} samples have no caption: their bag is their text"] if n_bags else []
    lines += [f"{n_empty:,} of {len(members):,} samples have no word: their text is empty; --exclude leaves them out"] if n_empty else []
    if job.lengths is not None:
        cut = job.lengths.cut_at(config.model.context_length)
        write_json(job.run, TEXTS, {**cut, "samples": len(members), "bags_for_captions": n_bags, "empty": n_empty})
        if cut["texts_cut"]:
            share = f"{cut['texts_cut'] / cut['texts']:.2%} of the texts, {cut['tokens_cut'] / cut['tokens']:.2%} of their tokens"
            longest = job.lengths.tokens.max()
            lines.append(f"{config.model.context_length} text positions cut {share}; --context-length {longest} would hold all")
    return lines
