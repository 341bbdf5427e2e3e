"""What a run left out: steps whose loss was no number, and pictures that are broken."""

from __future__ import annotations

import json
import shlex
import sys

from fistful.errors import DataError

from .step import Noted
from .trainer import Trainer

MAX_SKIPPED = 10
"""Steps that may be skipped for a loss that is no number; a run that needs more has diverged."""


def log_skipped(trainer: Trainer, noted: Noted) -> None:
    """Note the samples of a step that was skipped.

    Raises:
        DataError: If too many were.
    """
    run, skipped = trainer.job.run, trainer.skipped
    keys = [trainer.job.samples.keys[int(row)].as_py() for row in noted.rows]
    with open(run / "logs" / f"skipped-{trainer.job.ranks.rank}.jsonl", "a") as log:
        log.write(json.dumps({"step": noted.step, "keys": keys}) + "\n")
    if len(skipped) > MAX_SKIPPED:
        raise DataError(
            f"{run}: the loss was no number in {len(skipped)} steps, at last in step {noted.step} "
            f"(samples {', '.join(keys[:5])}, ...); at most {MAX_SKIPPED} are skipped; a smaller --lr helps"
        )


def report_left_out(trainer: Trainer) -> None:
    """Say what was left out, and write down which pictures others took the place of; the verb says what was done."""
    run, samples = trainer.job.run, trainer.job.samples
    if trainer.skipped:
        share = f"{len(trainer.skipped)} of {trainer.job.config.optimiser.steps} steps skipped, their loss was no number"
        print(f"{run}: {share}; a smaller --lr helps", file=sys.stderr)
    broken: dict[int, str] = trainer.loader.pictures.broken
    if broken:
        lines = [json.dumps({"sample": samples.name(row), "why": why}) + "\n" for row, why in sorted(broken.items())]
        (run / "logs" / "replaced.jsonl").write_text("".join(lines))
        own = [str(path) for i, path in enumerate(samples.folders) if (i, 0) not in samples.shards]
        ask = f"; fistful verify {shlex.join(own)} tells whether files changed" if own else ""
        said = f"{len(broken)} of {len(samples)} pictures are broken and were replaced"
        print(f"{run}: {said}; logs/replaced.jsonl says why{ask}", file=sys.stderr)
