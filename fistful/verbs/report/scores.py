"""Scores: the table with intervals and chance, its figure, and what may be read from both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fistful.bow.metrics import told_apart
from fistful.eval.results import PAIRED

from ...wording import counted
from . import figures
from .figures import Figure
from .inputs import Material, RunFolder
from .page_text import brief, listing, number, percent, signed, spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FIGURES = 6
MAX_WARNINGS = 20
MAX_READINGS = 4
"""Sets that the headline speaks of; the table has all of them."""
TASK = "zeroshot_classification"

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """A figure with its interval."""

    value: str
    interval: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreRow:
    """A model's scores on a set."""

    model: str
    colour: int
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A set with one prompt set, and the models that were measured on it."""

    title: str
    rows: tuple[ScoreRow, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same images."""

    first: str
    second: str
    difference: Cell
    verdict: str


@dataclasses.dataclass(frozen=True, slots=True)
class PairedGroup:
    """Pairs of models on one set."""

    title: str
    rows: tuple[Paired, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """The section."""

    groups: tuple[Group, ...]
    figures: tuple[Figure, ...]
    n_figures_left_out: int
    paired: tuple[PairedGroup, ...]
    others: tuple[Group, ...]
    """Results of other tasks, each with the names of its measures as its first row."""
    warnings: tuple[str, ...]
    n_warnings_left_out: int


def grouped(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Return the classification results of each set and prompt set, in the order found."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.get("task", TASK) == TASK and "acc1" in result["metrics"]:
            groups.setdefault((result["dataset"], result.get("prompts", "")), []).append(result)
    return groups


def all_results(material: Material) -> list[Result]:
    """Return the results of all folders."""
    return [result for folder in material.results for result in folder.results]


def scores_of(material: Material, top: int, compared: Sequence[tuple[str, str]] = ()) -> Scores | None:
    """Build the section; None without results. What is compared elsewhere on the page is not compared here."""
    results = all_results(material)
    if not results:
        return None
    place = {name: i for i, name in enumerate(material.models())}
    groups = grouped(results)
    lines = warning_lines(results)
    shots = [_dots(key, group, place, k) for key, group in list(groups.items())[: MAX_FIGURES // 2] for k in (top, 6 - top)]
    return Scores(
        groups=tuple(_group(key, group, place) for key, group in groups.items()),
        figures=tuple(shot for shot in shots if shot),
        n_figures_left_out=max(0, len(groups) - MAX_FIGURES // 2),
        paired=tuple(_paired_groups(material, compared)),
        others=tuple(_other_groups(results)),
        warnings=tuple(lines[:MAX_WARNINGS]),
        n_warnings_left_out=max(0, len(lines) - MAX_WARNINGS),
    )


def _group(key: tuple[str, str], group: Sequence[Result], place: dict[str, int]) -> Group:
    return Group(_title(key, group), (*(_row(r, place[r["label"]]) for r in group), _guessing(group[0]["metrics"])))


def _title(key: tuple[str, str], group: Sequence[Result]) -> str:
    m = group[0]["metrics"]
    about = f"{counted(m['n'], 'image')}, {counted(m['n_classes'], 'class', 'classes')}"
    return f"{brief(key[0], 80)}{_half(group)} · prompts {brief(key[1])} · {about}"


def _half(group: Sequence[Result]) -> str:
    """Say which half of the set was looked at, nothing for all of it."""
    halves = sorted({r.get("half", "all") for r in group})
    return "" if halves == ["all"] else f", {' and '.join(halves)}{' half' if len(halves) == 1 else ''}"


def _row(result: Result, place: int) -> ScoreRow:
    m = result["metrics"]
    return ScoreRow(result["label"], place, tuple(_cell(m, name) for name in ("acc1", "acc5", "mean_per_class_recall")))


def _guessing(m: dict[str, Any]) -> ScoreRow:
    chances = (m.get("chance1"), m.get("chance5"), m.get("chance1"))
    return ScoreRow("guessing", -1, tuple(Cell(percent(chance)) for chance in chances))


def _cell(m: dict[str, Any], name: str) -> Cell:
    if m.get(name) is None:
        return Cell("–")
    low, high = m.get(f"{name}_low"), m.get(f"{name}_high")
    return Cell(percent(m[name]), "" if low is None else f"{percent(low)}–{percent(high)}")


def _dots(key: tuple[str, str], group: Sequence[Result], place: dict[str, int], k: int) -> Figure | None:
    name = f"acc{k}"
    rows = [(r["label"], r["metrics"]) for r in group if r["metrics"].get(name) is not None]
    if not rows or rows[0][1]["n_classes"] <= k:  # all are right then, by construction
        return None
    chance = rows[0][1].get(f"chance{k}")

    def paint(axes: Axes) -> None:
        for y, (model, m) in enumerate(rows):
            tint, value = figures.colour(place[model]), 100 * m[name]
            axes.plot([100 * m[f"{name}_low"], 100 * m[f"{name}_high"]], [y, y], color=tint, linewidth=2, solid_capstyle="round")
            axes.plot([value], [y], figures.marker(place[model]), color=tint, markersize=7)
        if chance is not None:
            axes.axvline(100 * chance, color=figures.MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
            axes.text(100 * chance, -0.75, "  chance", color=figures.MUTED, va="center")
        axes.set_yticks(range(len(rows)), [figures.label(model) for model, _ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=figures.INK)
        axes.set_ylim(len(rows) - 0.4, -1.1)
        axes.set_xlim(0, min(102.0, 108 * max(m[f"{name}_high"] for _, m in rows) + 0.5))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(f"top-{k}, % (95 % interval)")

    values = "; ".join(
        f"{brief(model)} {percent(m[name])} [{percent(m[name + '_low'])}, {percent(m[name + '_high'])}]" for model, m in rows
    )
    alt = f"Top-{k} on {brief(key[0], 60)} in percent with 95 % intervals: {values}. Chance: {percent(chance)}."
    left = 14 + 8 * max(len(figures.label(model)) for model, _ in rows)
    title = f"{key[0]}, top-{k}" + (f", prompts {key[1]}" if key[1] not in ("", "name") else "")
    return figures.draw(paint, title=title, alt=alt, height=76 + 28 * len(rows), width=figures.HALF, left=left, right=14)


def _paired_groups(material: Material, compared: Sequence[tuple[str, str]]) -> Iterable[PairedGroup]:
    for folder in material.results:
        groups: dict[tuple[str, str, str], list[Paired]] = {}
        for comparison in folder.comparisons:
            for measure, name in PAIRED.items():
                if f"{measure}_difference" in comparison and not (
                    measure == "acc1" and (comparison["dataset"], comparison["prompts"]) in compared
                ):
                    groups.setdefault((comparison["dataset"], comparison["prompts"], name), []).append(_paired(comparison, measure))
        of = f" · {brief(folder.name)}" if len(material.results) > 1 else ""
        for (dataset, prompts, name), rows in groups.items():
            about = f"prompts {brief(prompts)} · {name}" if name == PAIRED["acc1"] else name
            yield PairedGroup(f"{brief(dataset, 80)} · {about}{of}", tuple(rows))


def _paired(comparison: dict[str, Any], measure: str) -> Paired:
    difference, low, high = (comparison[f"{measure}_{name}"] for name in ("difference", "low", "high"))
    verdict = "not told apart" if not told_apart(low, high) else f"{comparison['second'] if low > 0 else comparison['first']} is ahead"
    return Paired(comparison["first"], comparison["second"], Cell(signed(difference), f"{signed(low)} to {signed(high)}"), verdict)


def warning_lines(results: Iterable[Result]) -> list[str]:
    """Return what evaluation warned of, once for all models that it holds for."""
    models: dict[tuple[str, str], dict[str, None]] = {}
    for result in results:
        for line in result.get("warnings", ()):
            models.setdefault((result["dataset"], line), {})[result["label"]] = None
    return [f"{brief(dataset, 60)} ({listing(list(names), 6)}): {line}" for (dataset, line), names in models.items()]


def _other_groups(results: Iterable[Result]) -> Iterable[Group]:
    """Yield tables of tasks other than classification: measures down, models across."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.get("task", TASK) != TASK or "acc1" not in result["metrics"]:
            groups.setdefault((result["dataset"], result.get("task", ""), result.get("prompts", "")), []).append(result)
    for (dataset, task, prompts), group in groups.items():
        measured = group[0]["metrics"]
        names = [name for name, value in measured.items() if isinstance(value, int | float) or value is None]
        shown_names = [name for name in names if not name.endswith(("_low", "_high"))]
        shown_names.sort(key=lambda name: (not isinstance(measured[name], int), *_in_order(name)))  # counts, then shares
        head = ScoreRow("", -1, tuple(Cell(result["label"]) for result in group))
        rows = [ScoreRow(name.replace("_", " "), -1, tuple(_measure(r["metrics"], name) for r in group)) for name in shown_names]
        said = f" · prompts {brief(prompts)}" if task == TASK else ""
        yield Group(f"{brief(dataset, 80)} · {task.replace('_', ' ')}{said}", (head, *rows))


def _in_order(name: str) -> tuple[bool, str, int, str]:
    """Sort the number of images first, then measures by name and by their k, each with what it is reranked behind it."""
    stem, _, k = name.partition("@")
    return name != "n", stem.removeprefix("reranked_"), int(k) if k.isdecimal() else 0, stem


def _measure(m: dict[str, Any], name: str) -> Cell:
    value = m.get(name)
    return _cell(m, name) if isinstance(value, float) and 0 <= value <= 1 else Cell(number(value))


# What may be read


def title_of(material: Material) -> str:
    """Return the page's heading."""
    scored = {r["label"] for r in all_results(material)}
    n_models, n_sets = len(scored) or len(material.models()), len({r["dataset"] for r in all_results(material)})
    words = [_so_many(n, one) for n, one in ((n_models, "model"), (n_sets, "test set")) if n]
    if not words:
        found = (
            (material.quizzes, "quiz folder"),
            (material.data, "data folder"),
            (material.labels, "labelled folder"),
            (material.vectors, "folder", " of word vectors"),
        )
        words = [_so_many(len(folders), *name) for folders, *name in found if folders]
    text = ", ".join(words)
    return text[:1].upper() + text[1:]


def _so_many(n: int, one: str, more: str = "") -> str:
    return f"{spelled(n)} {one}{'' if n == 1 else 's'}{more}"


def headline(material: Material, top: int, readings: Sequence[str] = ()) -> list[str]:
    """Return what was measured and what may be read from it, in a few sentences; `readings` are those over several seeds."""
    groups = grouped(all_results(material))
    if not groups and (others := all_results(material)):
        who = listing(list(dict.fromkeys(r["label"] for r in others)))
        return [f"What {who} made of {listing(list(dict.fromkeys(r['dataset'] for r in others)), 4, 120)}: see the scores.", *readings]
    if not groups and material.quizzes:
        return [f"What the text towers of {listing(material.models())} can tell apart, by tasks about words.", *readings]
    if not groups:
        return ["Nothing was scored here: this page shows what went in, and no sentence about which model is better follows from it."]
    models = list(dict.fromkeys(r["label"] for group in groups.values() for r in group))
    sizes = {key: (group[0]["metrics"], _half(group)) for key, group in groups.items()}
    sets = dict.fromkeys(
        f"{counted(m['n'], 'image')} of {counted(m['n_classes'], 'class', 'classes')} ({brief(key[0])}{half})"
        for key, (m, half) in sizes.items()
    )
    who = f"The model {listing(models)} was" if len(models) == 1 else f"{spelled(len(models)).capitalize()} models, {listing(models)}, were"
    lines = [f"{who} asked to name {listing(list(sets), 4, 120)}, from class names alone."]
    lines += [_seeds(material.runs, models)] if len(models) > 1 else []
    lines += list(readings[:MAX_READINGS]) or [_reading(key, group, top) for key, group in list(groups.items())[:MAX_READINGS]]
    if len(models) == 1:
        lines.append("The interval says how far other images of the same kind could move a score; another seed would move it too.")
    return lines


def n_seeds(runs: Sequence[RunFolder]) -> list[int]:
    """Return with how many seeds each run's configuration was trained, its own included."""
    keys, seeds = [], {}
    for run in runs:
        keys.append(run.configuration())
        seeds.setdefault(keys[-1], set()).add(run.options().get("seed"))
    return [len(seeds[key]) for key in keys]


def _seeds(runs: Sequence[RunFolder], models: Sequence[str]) -> str:
    found = n_seeds([run for run in runs if run.name in models])
    if len(found) < len(models):
        return "How many seeds stand behind a model is not known here; with one each, this is a smoke run."
    if max(found) == 1:
        return "Each was trained once, with one seed: a smoke run. It shows that the way works, and ranks nothing by itself."
    span = f"{min(found)}" if min(found) == max(found) else f"{min(found)} to {max(found)}"
    return f"Seeds behind a configuration: {span}. Compare configurations over their seeds, not single models."


def _reading(key: tuple[str, str], group: Sequence[Result], top: int) -> str:
    name, chance = f"acc{top}", group[0]["metrics"].get(f"chance{top}")
    found = sorted(((r["metrics"], brief(r["label"])) for r in group if r["metrics"].get(name) is not None), key=lambda one: one[0][name])
    if not found:
        return f"{brief(key[0])} has too few classes for top-{top}."
    (low, worst), (high, best) = found[0], found[-1]
    of_worst, of_best = f"{percent(low[name])}\u00a0% ({worst})", f"{percent(high[name])}\u00a0% ({best})"
    span = f"is {of_best}" if len(found) == 1 else f"goes from {of_worst} to {of_best}"
    prompts = "" if key[1] in ("", "name") else f" with prompts {brief(key[1])}"
    text = f"On {brief(key[0])}{prompts}, top-{top} {span}; guessing gives {percent(chance)}\u00a0%."
    apart = [f"{model} over {other}" for m, model in found for n, other in found if m[f"{name}_low"] > n[f"{name}_high"]]
    if apart:
        text += f" Intervals do not overlap for {listing(apart, 4, 100)}: a hint, to be checked with more seeds."
    elif len(found) > 1:
        text += " All intervals overlap, so it does not say which model is better."
    guessing = [model for m, model in found if chance is not None and m[f"{name}_low"] <= chance]
    return text + (f" Not told apart from guessing: {listing(guessing)}." if guessing else "")
