"""What changed by class: against how frequent its word is, what gained and lost most, and pictures of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fistful.bow.draw import mix_all
from fistful.bow.metrics import student_interval
from fistful.bow.store.dead_letters import Refused
from fistful.eval.sets.evaluation_set import Sample
from fistful.eval.sets.layouts import open_set

from . import figures
from .classes import MAX_DOTS, ClassFacts, frequency_parts, mostly_single, trend
from .configurations import ComparedImages
from .figures import Figure
from .page_text import brief, number, percent, signed
from .sample_pictures import SALT, Picture, thumbnail
from .scores import Cell, ScoreRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_OTHERS = 4
"""Configurations whose changes against the first are shown by class."""
EXTREMES = 6
"""Classes that gained most, and lost most."""
EXAMPLES = 2
"""Pictures shown of each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """An image that one of two configurations gets right and the other does not."""

    image: str
    sha256: str
    said: tuple[str, str]
    """What the first configuration takes it for, and the other."""


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """A class."""

    name: str
    df: str
    n: str
    first: str
    second: str
    change: str
    turned: str
    """Images newly right, and newly wrong."""
    examples: tuple[Example, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One configuration against the first, class by class."""

    title: str
    first: str
    second: str
    figure: Figure | None
    gained: tuple[Changed, ...]
    lost: tuple[Changed, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """All configurations against the first, on one set."""

    by: tuple[Change, ...]
    parts: tuple[str, ...]
    """Names of the parts by word frequency; () where that is not known."""
    rows: tuple[ScoreRow, ...]
    """Changes by these parts, a row a configuration."""
    note: str

    @property
    def mostly_single(self) -> bool:
        """Whether the classes named have hardly more than an image each."""
        return mostly_single([row.n for change in self.by for row in (*change.gained, *change.lost)])


def changes_of(judged: ComparedImages, facts: ClassFacts, place: dict[str, int]) -> Changes | None:
    """Build the part of one set; None for retrieval and for single configurations."""
    if judged.labels is None or len(judged.configurations) < 2:
        return None
    n = np.bincount(judged.labels, minlength=len(facts.names))
    recalls = [_by_class(right.mean(axis=0), judged.labels, n) for right in judged.right]
    known = facts.with_images(n)
    parts = frequency_parts(known.n, known.df) if (known.df >= 0).all() else []
    shown = range(1, min(len(recalls), MAX_OTHERS + 1))
    by = tuple(_change(judged, known, recalls, i, place) for i in shown)
    rows = tuple(
        ScoreRow(
            judged.configurations[i].name,
            place[judged.configurations[i].labels[0]],
            tuple(_mean(recalls[i] - recalls[0], p) for _, p in parts),
        )
        for i in range(1, len(recalls))
    )
    notes = [] if parts else ["How often the classes' words occur is not known; give the data folder too."]
    if len(recalls) > MAX_OTHERS + 1:
        notes.append(f"Classes are shown of the first {MAX_OTHERS} of {len(recalls) - 1} configurations.")
    return Changes(by, tuple(name for name, _ in parts), rows if parts else (), " ".join(notes))


def _by_class(values: np.ndarray, labels: np.ndarray, n: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, weights=values, minlength=len(n)) / n


def _mean(change_C: np.ndarray, part: np.ndarray) -> Cell:
    """Return the mean change of some classes with its 95 % interval over classes."""
    ends = student_interval(change_C[part])
    return Cell(signed(float(change_C[part].mean())), "" if ends is None else f"{signed(ends[0])} to {signed(ends[1])}")


def _change(judged: ComparedImages, facts: ClassFacts, recalls: Sequence[np.ndarray], i: int, place: dict[str, int]) -> Change:
    first, second = judged.configurations[0].name, judged.configurations[i].name
    change_C = recalls[i] - recalls[0]
    seen = np.flatnonzero(facts.n > 0)
    up = seen[np.lexsort((seen, -facts.n[seen], -change_C[seen]))][:EXTREMES]
    down = seen[np.lexsort((seen, -facts.n[seen], change_C[seen]))][:EXTREMES]
    title = f"{brief(second)} minus {brief(first)}"
    drawn = _draw(facts, change_C, title, place[judged.configurations[i].labels[0]]) if (facts.df > 0).any() else None
    gained = tuple(_changed(judged, facts, recalls, i, int(c)) for c in up if change_C[c] > 0)
    lost = tuple(_changed(judged, facts, recalls, i, int(c)) for c in down if change_C[c] < 0)
    return Change(title, first, second, drawn, gained, lost)


def _changed(judged: ComparedImages, facts: ClassFacts, recalls: Sequence[np.ndarray], i: int, c: int) -> Changed:
    assert judged.labels is not None
    rows = np.flatnonzero(judged.labels == c)
    first, second = judged.right[0][:, rows].mean(axis=0), judged.right[i][:, rows].mean(axis=0)
    better, worse = float((second * (1 - first)).sum()), float((first * (1 - second)).sum())
    gain = (second - first) * (1 if recalls[i][c] >= recalls[0][c] else -1)
    best = rows[np.argsort(-gain, kind="stable")[:EXAMPLES]][: int((gain > 0).sum())]
    return Changed(
        facts.names[c],
        "–" if facts.df[c] < 0 else number(int(facts.df[c])),
        number(int(facts.n[c])),
        percent(recalls[0][c], 0),
        percent(recalls[i][c], 0),
        signed(recalls[i][c] - recalls[0][c], 0),
        f"+{number(round(better, 1))} −{number(round(worse, 1))}",
        tuple(_example(judged, facts, i, int(row)) for row in best),
    )


def _example(judged: ComparedImages, facts: ClassFacts, i: int, row: int) -> Example:
    better = judged.right[i][:, row].mean() > judged.right[0][:, row].mean()
    said = [_said(judged, facts, k, row, right=better == (k > 0)) for k in (0, i)]
    return Example(judged.images[row], judged.sha256[row], (said[0], said[1]))


def _said(judged: ComparedImages, facts: ClassFacts, k: int, row: int, *, right: bool) -> str:
    """Return what a configuration takes an image for: a seed that has it right, or one that has it wrong."""
    said_SN = judged.said[k]
    assert said_SN is not None
    seed = int(np.flatnonzero(judged.right[k][:, row] == right)[0])
    return facts.names[int(said_SN[seed, row])]


def _draw(facts: ClassFacts, change_C: np.ndarray, title: str, place: int) -> Figure:
    """Draw the change of each class against the frequency of its rarest word."""
    seen = np.flatnonzero((facts.n > 0) & (facts.df > 0))
    drawn = np.sort(seen[np.argsort(mix_all(0, SALT, seen), kind="stable")[:MAX_DOTS]])
    df, y = facts.df[drawn].astype(float), 100 * change_C[drawn]
    aside, up = ((mix_all(way, SALT, drawn) >> np.uint64(32)).astype(float) / 2.0**32 - 0.5 for way in (1, 2))
    middle, means = trend(facts.df, 100 * change_C, seen)
    high = max(5.0, float(np.abs(y).max()) * 1.08)

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=figures.MUTED, linewidth=1, zorder=0)
        axes.scatter(df * 10 ** (0.06 * aside), y + 0.05 * high * up, s=11, color=figures.colour(place), alpha=0.35, linewidths=0)
        axes.plot(middle, means, "-", color=figures.colour(place), linewidth=2)
        axes.set_xscale("log")
        axes.set_ylim(-high, high)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        figures.few_ticks(axes.xaxis, *(df.min(), df.max()))
        axes.set_xlabel("df of its rarest word, logarithmic")

    said = ", ".join(f"{signed(m / 100)} at df {number(round(at))}" for at, m in zip(middle, means, strict=True))
    alt = f"{title}: change of each class against the frequency of its rarest word. Means: {said}."
    return figures.draw(paint, title=title, unit="change, points", alt=alt, height=230, width=270, left=42, right=10)


def pictures_of(examples: Iterable[Example], sets: Sequence[str]) -> dict[str, Picture]:
    """Find example images in evaluation sets and make them small, by their hash; what is not there has no picture."""
    from hashlib import sha256

    wanted = {example.sha256: example.image for example in examples}
    found: dict[str, Picture] = {}
    for spec in sets:
        for sample in open_set(spec, None).read() if len(found) < len(wanted) else ():
            if isinstance(sample, Sample) and sample.name in wanted.values() and (digest := sha256(sample.data).hexdigest()) in wanted:
                try:
                    found[digest] = thumbnail(sample.data)
                except Refused:
                    continue  # the page then says the image's name alone
    return found
