"""A model on its way: what training changes, saved at any step and gone on with."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import open_clip
import torch

from fistful.bow.store import manifest
from fistful.errors import DataError

from . import checkpoint as checkpoints
from .data.loader import Loader
from .fusing import add_fusion
from .job import Job, words_of
from .losses import objectives_of
from .masked_losses import fused_objectives
from .metrics_file import truncate_metrics
from .model.model import Model, shape_of, square_size
from .model.pretrained import start_from
from .model.tune import Tuned
from .optimise import RunningMean, make_optimizer
from .passes import Objectives, Towers
from .resize_and_crop import fit_of
from .step import Noted, Setting


@dataclasses.dataclass(slots=True)
class Trainer:
    """The state of a run, and what its steps need."""

    job: Job
    setting: Setting
    belongs: dict[str, Any]
    """Run id and data fingerprints, written into every checkpoint."""
    loader: Loader
    model: Model
    optimizer: torch.optim.Optimizer
    objectives: Objectives
    mean: RunningMean
    step: int = 0
    skipped: list[int] = dataclasses.field(default_factory=list)
    """Steps that were skipped because their loss was no number."""
    evaluated: list[list[float]] = dataclasses.field(default_factory=list)
    """Step and first score of each evaluation."""

    def count(self) -> None:
        """Count a step that was taken."""
        self.mean.update(self.step)
        self.step += 1

    def note(self, noted: Noted) -> None:
        """Take note of what came of a step."""
        if not noted.is_learnt:
            self.skipped.append(noted.step)

    def resume(self) -> list[str]:
        """Go back to the newest checkpoint, and return a line for each that could not be read."""
        found, problems = checkpoints.load_newest(self.job.run, self.belongs)
        if found:
            more = checkpoints.restore(found, self.model, self.optimizer)
            about = found["about"]
            self.step, self.skipped, self.evaluated = about["step"], about["skipped"], about["evaluated"]
            for kind, tensors in self._remembered().items():
                of_kind = {name.removeprefix(f"{kind}."): tensor for name, tensor in more.items() if name.startswith(f"{kind}.")}
                tensors |= {name: tensor.to(self.setting.device) for name, tensor in of_kind.items()}
        if self.job.ranks.rank == 0:
            truncate_metrics(self.job.run, self.step, {step for step, _ in self.evaluated})
        return problems

    def check_weights(self) -> None:
        """Check that every weight is a number, before anything is made of them.

        Raises:
            DataError: If one is none.
        """
        weights = [*self.model.named_parameters(), *self.mean.tensors.items()]
        if not torch.stack([tensor.detach().isfinite().all() for _, tensor in weights]).all():
            wrong = next(name for name, tensor in weights if not tensor.detach().isfinite().all())
            raise DataError(
                f"{self.job.run}: after step {self.step} weights of {wrong} are no numbers, so they are not written; "
                "a smaller --lr helps, in another --out"
            )

    def save(self) -> None:
        """Write a checkpoint of this step; all ranks have the same weights, so the first one does.

        Raises:
            DataError: If a weight is no number; what was written before stays.
        """
        self.check_weights()
        if self.job.ranks.rank == 0:
            about = {**self.belongs, "step": self.step, "skipped": self.skipped, "evaluated": self.evaluated}
            more = {f"{kind}.{name}": tensor for kind, tensors in self._remembered().items() for name, tensor in tensors.items()}
            checkpoints.save_checkpoint(self.job.run, self.model, self.optimizer, more, about, self.job.config.run.keep_checkpoints)
        self.job.ranks.wait()

    def _remembered(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"mean": self.mean.tensors, **{name: objective.tensors for name, (_, objective) in self.objectives.items()}}


def make_trainer(job: Job) -> Trainer:
    """Return a run before its first step."""
    config, samples, words = job.config, job.samples, job.samples.vocabulary
    shape = shape_of(config, len(words), job.pretrained)
    tokenizer = open_clip.SimpleTokenizer(context_length=config.model.context_length)
    fit = fit_of(job.preprocess, square_size(shape))
    loader = Loader(config, samples, job.order, fit, words_of(config, samples), tokenizer, job.ranks)
    model = Model(shape, config.model.temperature)
    if job.pretrained is not None:
        start_from(model, job.pretrained, config.model.init_towers, config.model.init)
    if model.words is not None and job.vectors is not None:
        model.words.start_from(torch.from_numpy(job.vectors.vectors_VE))
    if model.words is not None and config.loss.tower_word_weight:
        model.words.add_bias()
    add_fusion(model, config, samples, tokenizer, np.concatenate([job.order.real.members, job.order.pseudo.members]))
    if config.model.tune != "none":
        model.tune(Tuned(init=config.model.init, kind=config.model.tune, image=config.model.train_image != "none"), config.model.merge)
    model.freeze(config.model.train_image)
    if config.run.grad_checkpointing:
        model.recompute(config.model.train_image != "none")
    device = f"cuda:{job.ranks.local}" if config.run.device == "cuda" else "cpu"
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    towers = Towers(model, config, job.preprocess)
    if config.run.compile:
        towers.compile()
    unreached = [f"model.{name}" for name in model.unreached()] if job.ranks.size > 1 else []
    return Trainer(
        job=job,
        setting=Setting(config, device, job.ranks.together(towers, unreached), job.ranks),
        belongs={"id": manifest.read_config(job.run)["id"], "data": samples.fingerprints},
        loader=loader,
        model=model,
        optimizer=make_optimizer(config, model),
        objectives=objectives_of(config, words.df, words.n_samples, job.ranks) | fused_objectives(config, words),
        mean=RunningMean(model, config.optimiser.ema),
    )
