"""Scores by class, against how often the class's rarest word occurs in the captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fistful.bow.draw import mix_all
from fistful.bow.frequency import class_thirds_by_df
from fistful.bow.metrics import wilson
from fistful.bow.store.tables import read_table
from fistful.eval.results import CLASSES_SCHEMA, result_name
from fistful.eval.sets.class_names import ClassName
from fistful.eval.tasks.coverage import Coverage, read_coverage

from ...wording import counted
from . import figures
from .figures import Figure
from .inputs import Material
from .page_text import brief, number, percent, shown
from .sample_pictures import SALT
from .scores import Cell, Result, ScoreRow, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SETS = 4
MAX_MODELS = 6
"""Models drawn, and columns of the table of classes."""
MAX_DOTS = 1_000
"""Classes drawn of each model."""
EXTREMES = 8
"""Best and worst classes named."""
BINS = 6


@dataclasses.dataclass(frozen=True, slots=True)
class ClassFacts:
    """The classes of one set."""

    names: list[str]
    n: np.ndarray
    """(C,) images of each class."""
    df: np.ndarray
    """(C,) as in ClassScores."""

    def with_images(self, n: np.ndarray) -> ClassFacts:
        """Return the classes with other numbers of images."""
        return dataclasses.replace(self, n=n)


@dataclasses.dataclass(frozen=True, slots=True)
class ClassScores:
    """What several models make of the classes of one set."""

    names: list[str]
    n: np.ndarray
    """(C,) images of each class."""
    df: np.ndarray
    """(C,) samples with the rarest word of its name; 0 where the vocabulary lacks one, -1 where that is not known."""
    models: list[str]
    recall: np.ndarray
    """(M, C) share of its images that are right; NaN without images."""


@dataclasses.dataclass(frozen=True, slots=True)
class Extreme:
    """A class that models find easy, or hard."""

    name: str
    df: str
    n: str
    recalls: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Buckets:
    """Scores by how frequent the class's rarest word is."""

    names: tuple[str, ...]
    rows: tuple[ScoreRow, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Classes:
    """The classes of one set."""

    title: str
    figures: tuple[Figure, ...]
    buckets: Buckets | None
    models: tuple[str, ...]
    best: tuple[Extreme, ...]
    worst: tuple[Extreme, ...]
    note: str

    @property
    def mostly_single(self) -> bool:
        """Whether the classes named have hardly more than an image each."""
        return mostly_single([row.n for row in (*self.best, *self.worst)])


def mostly_single(images: Sequence[str]) -> bool:
    """Return whether two of three classes or more have a single image, which is right or wrong: no share that could be read."""
    return bool(images) and 3 * images.count("1") >= 2 * len(images)


def classes_of(material: Material, top: int) -> tuple[Classes, ...]:
    """Build the section, a part a set."""
    place = {name: i for i, name in enumerate(material.models())}
    sources = [(folder.path, grouped(folder.results)) for folder in material.results]
    keys = list(dict.fromkeys(key for _, groups in sources for key in groups))
    coverage, parts = _coverage(material), []
    for key in keys[:MAX_SETS]:
        scores = _read([(path, groups.get(key, [])) for path, groups in sources], top, coverage)
        if scores is not None:
            parts.append(_part(key, scores, place, top, len(keys) - MAX_SETS))
    return tuple(parts)


def _read(sources: Sequence[tuple[Path, list[Result]]], top: int, coverage: Coverage | None) -> ClassScores | None:
    """Read the classes of one set; models that name other classes than the first are left out."""
    tables = []
    for folder, results in sources:
        for result in results:
            path = folder / "classes" / f"{result_name(result['model'], result['dataset'], result['prompts'])}.parquet"
            if path.exists():
                tables.append((result["label"], read_table(path, CLASSES_SCHEMA)))
    if not tables:
        return None
    facts = _facts(tables[0][1], coverage)
    same = [(model, table) for model, table in tables if table["name"].to_pylist() == facts.names][:MAX_MODELS]
    recall = np.array([table[f"recall{top}"].to_numpy() for _, table in same])
    return ClassScores(facts.names, facts.n, facts.df, [model for model, _ in same], recall)


def _facts(table: pa.Table, coverage: Coverage | None) -> ClassFacts:
    names, df = table["name"].to_pylist(), table["df"].to_pylist()
    if coverage is not None and any(value is None for value in df):
        df = coverage.of_classes([ClassName(folder, name) for folder, name in zip(table["folder"].to_pylist(), names, strict=True)])[1]
    return ClassFacts(names, table["n"].to_numpy(), np.array([-1 if value is None else int(value) for value in df], np.int64))


def facts_of(material: Material, key: tuple[str, str]) -> ClassFacts | None:
    """Return the classes of a set and prompt set; None where no result has them."""
    for folder in material.results:
        for result in grouped(folder.results).get(key, []):
            path = folder.path / "classes" / f"{result_name(result['model'], *key)}.parquet"
            if path.exists():
                return _facts(read_table(path, CLASSES_SCHEMA), _coverage(material))
    return None


def _coverage(material: Material) -> Coverage | None:
    return next((read_coverage(str(data.path)) for data in material.data if data.vocabulary is not None), None)


def _part(key: tuple[str, str], scores: ClassScores, place: dict[str, int], top: int, n_sets_left_out: int) -> Classes:
    known = bool((scores.df >= 0).all())
    shots = [_dots(scores, m, place[model], top) for m, model in enumerate(scores.models)] if known and (scores.df > 0).any() else []
    best, worst = _extremes(scores)
    notes = [] if known else ["How often the classes' words occur is not known; give the data folder too."]
    if len(scores.names) > MAX_DOTS and shots:
        notes.append(f"{MAX_DOTS:,} of {len(scores.names):,} classes are drawn, chosen by a draw.")
    if n_sets_left_out > 0:
        notes.append(f"{counted(n_sets_left_out, 'set')} more not shown.")
    title = f"{shown(key[0], 80)} · prompts {shown(key[1], 40)} · top-{top}"
    return Classes(title, tuple(shots), buckets(scores, place) if known else None, tuple(scores.models), best, worst, " ".join(notes))


def _dots(scores: ClassScores, m: int, place: int, top: int) -> Figure:
    seen = np.flatnonzero((scores.n > 0) & (scores.df > 0))
    drawn = np.sort(seen[np.argsort(mix_all(0, SALT, seen), kind="stable")[:MAX_DOTS]])
    df, y = scores.df[drawn].astype(float), 100 * scores.recall[m, drawn]
    aside, up = ((mix_all(way, SALT, drawn) >> np.uint64(32)).astype(float) / 2.0**32 - 0.5 for way in (1, 2))
    middle, means = trend(scores.df, 100 * scores.recall[m], seen)

    def paint(axes: Axes) -> None:
        axes.scatter(df * 10 ** (0.06 * aside), y + 5 * up, s=11, color=figures.colour(place), alpha=0.35, linewidths=0)
        axes.plot(middle, means, "-", color=figures.colour(place), linewidth=2)
        axes.set_xscale("log")
        axes.set_ylim(-6, 106)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        figures.few_ticks(axes.xaxis, *(df.min(), df.max()) if len(df) else (1.0, 1.0))
        axes.set_xlabel("df of its rarest word, logarithmic")

    said = ", ".join(f"{percent(share / 100)} at df {number(round(at))}" for at, share in zip(middle, means, strict=True))
    alt = f"{brief(scores.models[m])}: share right of each class against the frequency of its rarest word. Means: {said}."
    return figures.draw(paint, title=scores.models[m], unit=f"top-{top}, %", alt=alt, height=230, width=270, left=38, right=10)


def trend(df_C: np.ndarray, values_C: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of classes of about equal df: parts of about as many classes, equal df in one part."""
    df = df_C[seen]
    edges = np.unique(np.quantile(df, np.linspace(0, 1, BINS + 1)[:-1], method="lower")) if len(seen) else df
    place = np.searchsorted(edges, df, side="right")
    parts = [seen[place == i] for i in np.unique(place)]
    middle = [np.exp(np.log(df_C[part]).mean()) for part in parts]
    return np.array(middle), np.array([values_C[part].mean() for part in parts])


def buckets(scores: ClassScores, place: dict[str, int]) -> Buckets:
    """Return shares of right images by the frequency of the classes' words."""
    parts = frequency_parts(scores.n, scores.df)
    rows = [ScoreRow(model, place[model], tuple(_share(scores, m, part) for _, part in parts)) for m, model in enumerate(scores.models)]
    return Buckets(tuple(name for name, _ in parts), tuple(rows))


def frequency_parts(n: np.ndarray, df: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return thirds of the classes that have images (`class_thirds_by_df`), and those without a known word.

    Args:
        n: (C,) images of each class.
        df: (C,) of its rarest word; 0 where the vocabulary lacks one; none may be unknown.
    """
    parts = class_thirds_by_df(df, n > 0)
    missing = np.flatnonzero((n > 0) & (df == 0))
    parts += [("word not in the vocabulary", missing)] if len(missing) else []
    return [(f"{name}, {_range(df[part])}{counted(len(part), 'class', 'classes')}", part) for name, part in parts]


def _range(df: np.ndarray) -> str:
    low, high = int(df.min()), int(df.max())
    return "" if high == 0 else f"df {low:,}, " if low == high else f"df {low:,}–{high:,}, "


def _share(scores: ClassScores, m: int, part: np.ndarray) -> Cell:
    n = int(scores.n[part].sum())
    right = round(float((scores.recall[m, part] * scores.n[part]).sum()))
    low, high = wilson(right, n)
    return Cell(percent(right / n), f"{percent(low)}–{percent(high)}")


def _extremes(scores: ClassScores) -> tuple[tuple[Extreme, ...], tuple[Extreme, ...]]:
    """Return the classes of highest and of lowest mean over the models; of equals those with more images."""
    seen = np.flatnonzero(scores.n > 0)
    mean = scores.recall[:, seen].mean(axis=0)
    best = seen[np.lexsort((seen, -scores.n[seen], -mean))][:EXTREMES]
    worst = [i for i in seen[np.lexsort((seen, -scores.n[seen], mean))][:EXTREMES] if i not in set(best.tolist())]
    return tuple(_extreme(scores, i) for i in best), tuple(_extreme(scores, i) for i in worst)


def _extreme(scores: ClassScores, i: int) -> Extreme:
    df = "–" if scores.df[i] < 0 else number(int(scores.df[i]))
    return Extreme(scores.names[i], df, number(int(scores.n[i])), tuple(percent(value, 0) for value in scores.recall[:, i]))
