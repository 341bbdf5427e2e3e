"""`fistful demo`: the whole way on drawings, with the real verbs in their order.

Drawings with their names go in; models of equal steps that learnt from captions, from full bags, from
balanced bags, and from bags thinned blindly to the same fraction come out, with their zero-shot scores.
Every step is an ordinary verb, so a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fistful.bow.store.config import semantic
from fistful.bow.store.files import local_out
from fistful.errors import UsageError

if TYPE_CHECKING:
    from fistful.training.config import TrainConfig

KEPT = 0.5
"""Fraction of words that balancing leaves in the demo, and blind thinning with it."""
MIN_COUNT = 3
"""Smallest df of a word: as the held-out concepts were chosen."""

MODELS = {
    "captions": "names as they are",
    "bags": "all their words",
    "balanced": "words thinned by frequency, drawn anew each epoch",
    "random": "words thinned blindly to the same fraction: the control",
}
SETS = {"unseen": "concepts that training never saw", "seen": "one variant of concepts that training saw"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Options of `fistful demo`."""

    seed: int = semantic(0)
    """Seed of the split, the draws and the models."""
    steps: int = semantic(300)
    """Optimiser steps of each model, of 64 drawings."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.seed < 0:
            raise UsageError(f"--steps {self.steps} --seed {self.seed}: expected steps above 0 and a seed from 0")


def demo(out: str | Path, config: DemoConfig | None = None, say: Callable[[str], None] = print) -> Path:
    """Go the whole way on OpenMoji's drawings.

    Args:
        out: Folder for data, counts, bags, runs and results.
        config: Options.
        say: Called with each line that is worth reading.

    Returns:
        The folder.
    """
    from fistful.bow.balance import Balance
    from fistful.bow.vocabulary import Limits
    from fistful.demo_data import write_demo_data
    from fistful.pipelines.bags import BagOptions, BagsConfig, bags
    from fistful.pipelines.count import count

    config = config or DemoConfig()
    folder = local_out(out)
    clock = _Clock(say)
    data = write_demo_data(folder / "data", config.seed)
    held = f"{data.n_unseen_classes} concepts ({data.n_unseen} drawings), {data.n_seen} single variants"
    clock.lap(f"{data.n_captioned:,} captioned drawings; held out: {held}")
    captioned = str(folder / "data" / "captioned")
    counts = count(captioned, out=folder / "counts")
    balance = Balance(rule="cap", kept=KEPT)
    bagged = bags(
        captioned,
        counts=counts,
        out=folder / "bags",
        config=BagsConfig(limits=Limits(min_count=MIN_COUNT), balance=balance, bags=BagOptions(seed=config.seed, wordless="keep")),
    )
    clock.lap("words counted, bags written")
    for name, recipe in recipes(config).items():
        _train(bagged, folder / "runs" / name, recipe)
        clock.lap(f"model trained on {name}: {MODELS[name]}")
    results = _evaluate(folder, config)
    clock.lap("evaluated")
    say("")
    say(demo_table(results))
    return folder


class _Clock:
    """Says what was done and how long it took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._last = say, time.monotonic()

    def lap(self, text: str) -> None:
        now = time.monotonic()
        self._say(f"{now - self._last:6.1f} s  {text}")
        self._last = now


def recipes(config: DemoConfig) -> dict[str, TrainConfig]:
    """Return how each model is trained: all alike but for their text."""
    from fistful.training.config import TrainConfig

    base = TrainConfig(steps=config.steps, seed=config.seed, context_length=16, lr=2e-3, progress=True)
    return {
        "captions": dataclasses.replace(base, text="caption"),
        "bags": dataclasses.replace(base, text="bag"),
        "balanced": dataclasses.replace(base, text="balanced"),
        "random": dataclasses.replace(base, text="balanced", rule="random", kept=KEPT),
    }


def _train(data: Path, run: Path, recipe: TrainConfig) -> None:
    from fistful.training.run import train

    train(str(data), out=run, config=recipe)


def _evaluate(folder: Path, config: DemoConfig) -> list[dict[str, Any]]:
    from fistful.eval.config import EvaluateConfig
    from fistful.eval.results import read_results
    from fistful.eval.run import evaluate

    runs = [str(folder / "runs" / name) for name in recipes(config)]
    sets = tuple(str(folder / "data" / "eval" / name) for name in SETS)
    out = evaluate(*runs, data=sets, out=folder / "results", config=EvaluateConfig(prompts=("name",), seed=config.seed))
    return read_results(out)


def demo_table(results: list[dict[str, Any]]) -> str:
    """Return the table that the demo ends with, and what may be read from it."""
    rows = [["learnt from", "test", "images", "classes", "top-1 [95 %]", "chance", "top-5 [95 %]", "chance"]]
    for result in sorted(results, key=lambda r: list(SETS).index(r["dataset"])):
        m = result["metrics"]
        top1, top5 = (f"{m[k]:6.1%} [{m[k + '_low']:5.1%}, {m[k + '_high']:5.1%}]" for k in ("acc1", "acc5"))
        rows.append(
            [result["model"], result["dataset"], f"{m['n']}", f"{m['n_classes']}", top1, f"{m['chance1']:.1%}", top5, f"{m['chance5']:.1%}"]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(w) if i > 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    n_models = len({result["model"] for result in results})
    lines.insert(2 + n_models, "")
    return "\n".join([*lines, "", *reading(results)])


def reading(results: list[dict[str, Any]]) -> list[str]:
    """Return what the figures of one seed say, and what they do not."""
    lines = [f"{name}: {text}." for name, text in SETS.items()]
    for name in SETS:
        spans = [(r["metrics"]["acc5_low"], r["metrics"]["acc5_high"], r["model"]) for r in results if r["dataset"] == name]
        apart = [(a, b) for a in spans for b in spans if a[0] > b[1]]
        if apart:
            pairs = ", ".join(f"{a[2]} over {b[2]}" for a, b in apart)
            lines.append(f"On {name}, top-5 intervals do not overlap for {pairs}. It is one seed: a hint, no ranking.")
        else:
            lines.append(f"On {name}, the top-5 intervals of all models overlap: one seed of this size does not rank them.")
    return lines
