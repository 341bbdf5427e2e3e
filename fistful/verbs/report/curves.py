"""Training curves: loss by step, a line a run with its name at its end."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.store.files import parse_json
from fistful.training.metrics_file import METRICS

from ...errors import DataError
from ...wording import counted
from . import figures
from .figures import Figure
from .inputs import Material, RunFolder
from .page_text import brief, listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 240
"""Points of a line: more than a screen shows add nothing but bytes."""
SMOOTH = 20
"""The bold line is a mean over this part of the run."""
MAX_RUNS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """The losses of a run."""

    name: str
    place: int
    steps: np.ndarray
    losses: np.ndarray
    n_skipped: int
    """Steps whose loss was no number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """A row of the table below the figure."""

    name: str
    colour: int
    steps: str
    loss: str
    learnt: str


@dataclasses.dataclass(frozen=True, slots=True)
class Curves:
    """The section."""

    figure: Figure
    endings: tuple[Ending, ...]
    note: str


def curves_of(material: Material) -> Curves | None:
    """Build the section; None without a run that has taken steps."""
    place = {name: i for i, name in enumerate(material.models())}
    runs = sorted(material.runs, key=lambda run: place[run.name])
    found = [(run, curve) for run in runs[:MAX_RUNS] if (curve := _read(run, place[run.name])) is not None]
    if not found:
        return None
    curves = [curve for _, curve in found]
    endings = tuple(_ending(run, curve) for run, curve in found)
    return Curves(_draw(curves), endings, _note([run for run, _ in found], len(material.runs) - MAX_RUNS))


def _read(run: RunFolder, place: int) -> Curve | None:
    path = run.path / METRICS
    if not path.exists():
        return None
    steps, losses, n_skipped = array("q"), array("d"), 0
    for step, loss in _rows(path):
        if loss is None or not math.isfinite(loss):
            n_skipped += 1
            continue
        steps.append(step)
        losses.append(loss)
    return Curve(run.name, place, np.array(steps), np.array(losses), n_skipped) if len(steps) else None


def _rows(path: Path) -> list[tuple[int, float | None]]:
    rows = []
    with open(path, "rb") as file:
        for n, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # a run that is at work has not finished this line
            try:
                row = parse_json(line)
                if "loss" in row:
                    rows.append((int(row["step"]), None if row["loss"] is None else float(row["loss"])))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(f"{path} row {n}: found {line[:60]!r}, expected a JSON object with step and loss") from None
    return rows


def binned(steps: np.ndarray, values: np.ndarray, n: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most n points: means of neighbouring steps.

    >>> [part.tolist() for part in binned(np.arange(4), np.array([1.0, 3.0, 5.0, 7.0]), 2)]
    [[0.5, 2.5], [2.0, 6.0]]
    """
    if len(steps) <= n:
        return steps.astype(float), values
    edges = np.linspace(0, len(steps), n + 1).astype(np.int64)
    counts = np.diff(edges)
    return np.add.reduceat(steps.astype(float), edges[:-1]) / counts, np.add.reduceat(values, edges[:-1]) / counts


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return a running mean over a part of the run on both sides of each point, fewer at its ends."""
    half = max(1, len(values) // SMOOTH // 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(half, np.minimum(at, len(values) - 1 - at))
    return (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)


def _draw(curves: Sequence[Curve]) -> Figure:
    lines = [(curve, *binned(curve.steps, curve.losses)) for curve in curves]
    lines = [(curve, x, y, smoothed(y)) for curve, x, y in lines]

    def paint(axes: Axes) -> None:
        for curve, x, y, mean in lines:
            axes.plot(x, y, color=figures.colour(curve.place), linewidth=0.8, alpha=0.3)
            axes.plot(x, mean, color=figures.colour(curve.place), linewidth=1.8, linestyle=figures.dash(curve.place))
        low, high = min(float(y.min()) for _, _, y, _ in lines), max(float(np.quantile(y, 0.995)) for _, _, y, _ in lines)
        room = 0.04 * (high - low) or 0.1
        axes.set_ylim(low - room, high + room)
        axes.set_xlim(0, max(float(x[-1]) for _, x, _, _ in lines))
        gap = (high - low + 2 * room) * 15 / 260
        ends = figures.spread([float(mean[-1]) for *_, mean in lines], gap, low - room, high + room)
        for (curve, x, _, mean), y_label in zip(lines, ends, strict=True):
            axes.annotate(
                figures.label(curve.name, 12),
                (float(x[-1]), float(mean[-1])),
                xytext=(1.02, y_label),
                textcoords=axes.get_yaxis_transform(),
                color=figures.colour(curve.place),
                va="center",
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": figures.colour(curve.place), "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
            )
        axes.grid(axis="y")
        axes.set_xlabel("step")

    said = "; ".join(f"{brief(curve.name)} from {float(mean[0]):.2f} to {float(mean[-1]):.2f}" for curve, _, _, mean in lines)
    return figures.draw(
        paint, title="Loss by step", unit="training loss", alt=f"Training loss by step. {said}.", height=312, left=44, right=110
    )


def _ending(run: RunFolder, curve: Curve) -> Ending:
    options = run.options()
    learnt = [str(options[name]) for name in ("objective", "text", "text_tower", "model") if options.get(name) is not None]
    last = smoothed(binned(curve.steps, curve.losses)[1])[-1]
    steps = f"{int(curve.steps[-1]):,}" + (f" ({curve.n_skipped:,} skipped)" if curve.n_skipped else "")
    return Ending(run.name, curve.place, steps, f"{float(last):.2f}", ", ".join(learnt))


def _note(runs: Sequence[RunFolder], n_left_out: int) -> str:
    def differ(name: str) -> bool:
        return len({str(run.options().get(name)) for run in runs}) > 1

    names: dict[str, str] = {"objective": "objectives", "text": "texts", "batch_size": "batch sizes", "text_tower": "text towers"}
    other = [words for name, words in names.items() if differ(name)]
    note = "The bold line is a running mean. "
    if other:
        note += (
            f"These runs have different {listing(other)}, so a lower line is not a better model: read each line's shape, not their order."
        )
    else:
        note += "A lower line fits the training data better; whether that helps is in the scores."
    return note + (f" {counted(n_left_out, 'run')} more not drawn." if n_left_out > 0 else "")


def unfinished(runs: Sequence[Any]) -> list[str]:
    """Return the names of folders without a manifest."""
    return [folder.name for folder in runs if folder.fingerprint is None]
