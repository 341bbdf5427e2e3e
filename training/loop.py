"""The training loop: a batch in, a step of the weights; stopped and gone on with at any step."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from fistful.errors import Interrupted

from .data.loader import Batch
from .data.on_device import on_device
from .left_out import log_skipped
from .metrics_file import METRIC_LINES, METRICS, write_metrics
from .passes import rehearse
from .speed import Report, report_speed
from .step import Taken, read, step
from .trainer import Trainer

READ_EVERY = {"cpu": 1, "cuda": 16}
"""Steps between two readings of losses. Reading waits until a GPU has done all that it was given, and leaves it without work for a
moment: in 16 steps one does not count. A CPU is never waited for."""


def take_steps(trainer: Trainer, evaluate: Callable[[], dict[str, float]] | None, stop: threading.Event) -> None:
    """Take all steps that are left.

    Args:
        trainer: The run.
        evaluate: Returns the scores of the model as it is, each --evaluate-every.
        stop: Ends the loop after the step that is being taken, on a GPU within READ_EVERY steps.

    Raises:
        Interrupted: When `stop` is set, with a checkpoint of the last step.
        DataError: If too many losses are no numbers.
    """
    run, config, first = trainer.job.run, trainer.job.config, trainer.job.ranks.rank == 0
    speed = report_speed(run / "logs", trainer.step, config, config.run.progress and first, first)
    unread: list[Taken] = []
    with open(run / METRICS if first else os.devnull, "a") as metrics, speed as report:
        for batch in _batches(trainer):
            unread.append(step(trainer.model, batch, trainer.objectives, trainer.optimizer, trainer.setting, stop))
            trainer.count()
            is_end = trainer.step == config.optimiser.steps
            to_evaluate = evaluate is not None and config.run.evaluate_every > 0 and trainer.step % config.run.evaluate_every == 0
            to_save = to_evaluate or (trainer.step % config.run.checkpoint_every == 0 and not is_end)
            if not (to_save or is_end or trainer.step % READ_EVERY[config.run.device] == 0):
                continue
            stopped = _note(trainer, unread, metrics, report)
            if evaluate is not None and to_evaluate and not is_end:
                write_metrics(metrics, trainer.step, {"scores": evaluate()})
            if to_save or stopped:
                _to_disk(metrics)
                trainer.save()
            if stopped:
                raise Interrupted(f"{run}: stopped at step {trainer.step} of {config.optimiser.steps}; the same command goes on from there")


def _batches(trainer: Trainer) -> Iterator[Batch]:
    """Yield the batches that are left, on the device."""
    batches = on_device(trainer.loader.batches(trainer.step, trainer.job.config.optimiser.steps), trainer.setting.device)
    for number, batch in enumerate(batches):
        if number == 0 and trainer.job.ranks.size > 1:
            n_parts = trainer.job.config.optimiser.accumulation
            rehearse(trainer.setting.towers, trainer.model.train(), batch, trainer.objectives, n_parts)
        yield batch


def _note(trainer: Trainer, unread: list[Taken], metrics: TextIO, report: Report) -> bool:
    """Read the steps taken since the last reading, and return whether any rank was asked to stop."""
    steps = trainer.job.config.optimiser.steps
    every, stopped = -(-steps // METRIC_LINES), False
    for noted in read(unread):
        trainer.note(noted)
        if not noted.is_learnt:
            log_skipped(trainer, noted)
        done = noted.step + 1
        if done % every == 0 or done == steps:
            write_metrics(metrics, done, noted.values)
        report(done, noted.values, trainer.loader.waited_s)
        stopped |= noted.is_last
    unread.clear()
    return stopped


def _to_disk(metrics: TextIO) -> None:
    """Let no checkpoint be newer than the lines of its steps."""
    metrics.flush()
    if metrics.name != os.devnull:
        os.fsync(metrics.fileno())
