"""The training loop: a batch in, a step of the weights; stopped and gone on with at any step."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TextIO

from fistful.errors import Interrupted

from .left_out import log_skipped
from .metrics_file import METRIC_LINES, METRICS, write_metrics
from .speed import report_speed
from .step import step
from .trainer import Trainer


def take_steps(trainer: Trainer, evaluate: Callable[[], dict[str, float]] | None, stop: threading.Event) -> None:
    """Take all steps that are left.

    Args:
        trainer: The run.
        evaluate: Returns the scores of the model as it is, each --evaluate-every.
        stop: Ends the loop after the step that is being taken.

    Raises:
        Interrupted: When `stop` is set, with a checkpoint of the last step.
        DataError: If too many losses are no numbers.
    """
    run, config, first = trainer.job.run, trainer.job.config, trainer.job.ranks.rank == 0
    every = -(-config.optimiser.steps // METRIC_LINES)
    speed = report_speed(run / "logs", trainer.step, config, config.run.progress and first, first)
    with open(run / METRICS if first else os.devnull, "a") as metrics, speed as report:
        for batch in trainer.loader.batches(trainer.step, config.optimiser.steps):
            taken = step(trainer.model, batch, trainer.objectives, trainer.optimizer, trainer.setting, stop)
            trainer.note(taken)
            if not taken.is_learnt:
                log_skipped(trainer, batch)
            is_end = trainer.step == config.optimiser.steps
            if trainer.step % every == 0 or is_end:
                write_metrics(metrics, trainer.step, taken.values)
            report(trainer.step, taken.values, trainer.loader.waited_s)
            due = evaluate is not None and config.run.evaluate_every > 0 and trainer.step % config.run.evaluate_every == 0
            if evaluate is not None and due and not is_end:
                write_metrics(metrics, trainer.step, {"scores": evaluate()})
            if due or taken.is_last or (trainer.step % config.run.checkpoint_every == 0 and not is_end):
                _to_disk(metrics)
                trainer.save()
            if taken.is_last:
                raise Interrupted(f"{run}: stopped at step {trainer.step} of {config.optimiser.steps}; the same command goes on from there")


def _to_disk(metrics: TextIO) -> None:
    """Let no checkpoint be newer than the lines of its steps."""
    metrics.flush()
    if metrics.name != os.devnull:
        os.fsync(metrics.fileno())
