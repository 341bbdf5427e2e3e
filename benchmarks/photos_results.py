"""What `make photos` found: figures over seeds and pictures with their intervals, as JSON and as a table.

With one seed an interval says what other pictures could change, and nothing is told apart. Scores of several seeds have
a second one, Student's over the seeds; a difference has one over both (decision 0016), and counts if that leaves out zero.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow import metrics
from fistful.bow.store.tables import read_table
from fistful.eval.compare import compare_configurations
from fistful.eval.results import PREDICTIONS_SCHEMA, read_results, result_name
from fistful.verbs.report.curves import METRICS, binned

POINTS = 60
"""Points kept of a training curve."""
LOSSES = ("loss", "contrastive", "words")
CAPTIONS = "captions"
"""What stands in the place of a prompt set where pictures meet captions."""
CAPTION_FIGURES = (
    *(f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 5, 10)),
    *(f"tags_{name}" for name in ("precision@3", "recall@5", "ap_head", "ap_middle", "ap_tail", "ap_macro")),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """One of the two starts, and what came of it."""

    name: str
    arms: Mapping[str, Sequence[str]]
    """The models of each arm, a seed each."""
    texts: Mapping[str, str]
    """What each arm learnt from."""
    pairs: Sequence[tuple[str, str]]
    """Arms to compare, (first, second)."""
    results: Sequence[Path]
    """Results folders."""


ResultsBySet = dict[tuple[str, str], dict[str, tuple[Path, dict[str, Any]]]]
"""By set and prompt set, each model's results folder and result."""


def read_all(folders: Sequence[Path]) -> ResultsBySet:
    """Read the results of several folders."""
    results: ResultsBySet = {}
    for folder in folders:
        for result in read_results(folder):
            results.setdefault((result["dataset"], result.get("prompts", CAPTIONS)), {})[result["model"]] = (folder, result)
    return results


def figures_of(start: Start) -> dict[str, Any]:
    """Return all that is claimed of one start."""
    sets = {}
    for (dataset, prompts), models in read_all(start.results).items():
        arms = {arm: [models[name] for name in names] for arm, names in start.arms.items() if all(name in models for name in names)}
        sets[f"{dataset}, {prompts}"] = _with_captions(arms) if prompts == CAPTIONS else _classified(arms, start.pairs)
    n_seeds = {len(names) for names in start.arms.values()}
    return {
        "seeds": max(n_seeds),
        "smoke_run": max(n_seeds) == 1,
        "says": "smoke run: one seed, which ranks nothing" if max(n_seeds) == 1 else f"{max(n_seeds)} seeds a model",
        "models": {arm: {"text": start.texts[arm], "runs": list(names), "smoke_run": len(names) == 1} for arm, names in start.arms.items()},
        "sets": sets,
    }


def _classified(arms: Mapping[str, Sequence[tuple[Path, dict[str, Any]]]], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    one = next(iter(arms.values()))[0][1]
    right = {arm: _right(runs) for arm, runs in arms.items()}
    about = {name: one["metrics"][name] for name in ("n", "n_classes", "chance1", "chance5", "covered_n", "covered_n_classes")}
    return {
        **about,
        "half": one["half"],
        "near_duplicates": one["near_duplicates"],
        "warnings": list(dict.fromkeys(line for runs in arms.values() for _, result in runs for line in result["warnings"])),
        "models": {arm: _scores(runs, right[arm]) for arm, runs in arms.items()},
        "differences": {
            f"{second} - {first}": difference(right[first], right[second]) for first, second in pairs if {first, second} <= arms.keys()
        },
    }


def _right(runs: Sequence[tuple[Path, dict[str, Any]]]) -> np.ndarray:
    """Return which images each run gets right: (S, N) floats."""
    tables = [
        read_table(folder / "predictions" / f"{result_name(r['model'], r['dataset'], r['prompts'])}.parquet", PREDICTIONS_SCHEMA)
        for folder, r in runs
    ]
    assert all(table["image"].equals(tables[0]["image"]) for table in tables)  # one set, one half, one order
    return np.stack([table["rank"].to_numpy() < 1 for table in tables]).astype(np.float64)


def _scores(runs: Sequence[tuple[Path, dict[str, Any]]], right: np.ndarray) -> dict[str, Any]:
    one = runs[0][1]
    few = {name: over_seeds([r["metrics"].get(name) for _, r in runs]) for name in ("acc5", "mean_per_class_recall", "covered_acc1")}
    return {
        "saw_imagenet_labels": one["saw_imagenet_labels"],
        "acc1": {**over_seeds([r["metrics"]["acc1"] for _, r in runs]), **_ends("images", _over_images(right))},
        **few,
        "by_frequency": {part["part"]: over_seeds([_part(r, i) for _, r in runs]) for i, part in enumerate(one["by_frequency"])},
    }


def _over_images(right: np.ndarray) -> tuple[float, float]:
    if len(right) == 1:
        return metrics.wilson(int(right.sum()), right.shape[1])
    return metrics.mean_interval(right.mean(axis=0))


def _part(result: dict[str, Any], i: int) -> float | None:
    return result["by_frequency"][i]["acc1"]


def difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Compare two arms on the same images: second - first, of top-1.

    Args:
        first: (S, N) 1 where a seed's model is right, else 0.
        second: The same of the second arm.
    """
    (change,) = compare_configurations(first, [second])
    return {
        "mean": round(change.value, 4),
        "low": round(change.low, 4),
        "high": round(change.high, 4),
        "n": first.shape[1],
        "told_apart": metrics.told_apart(change.low, change.high) if change.over_seeds else None,
        "same_predictions": np.array_equal(first, second),
    }


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, values, and Student's 95 % interval of the mean over seeds, as far as shares go; no interval from one.

    >>> over_seeds([0.1, 0.11])["seeds_low"]
    0.0415
    """
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "per_seed": list(values)}
    found: dict[str, Any] = {"mean": round(float(np.mean(known)), 4), "per_seed": [round(float(v), 4) for v in known]}
    ends = metrics.student_interval(np.array(known))
    return found if ends is None else found | _ends("seeds", (max(0.0, ends[0]), min(1.0, ends[1])))


def _ends(kind: str, ends: tuple[float, float]) -> dict[str, float]:
    return {f"{kind}_low": round(ends[0], 4), f"{kind}_high": round(ends[1], 4)}


def _with_captions(arms: Mapping[str, Sequence[tuple[Path, dict[str, Any]]]]) -> dict[str, Any]:
    """Return retrieval and tagging; shares get the mean ends of their seeds' intervals over images, average precisions none."""
    one = next(iter(arms.values()))[0][1]
    n = {"image": one["n_captions"], "text": one["metrics"]["n"], "tags": one["metrics"]["tags_n"]}
    found: dict[str, Any] = {"n": n, "models": {}}
    for arm, runs in arms.items():
        figures = {name: over_seeds([r["metrics"].get(name) for _, r in runs]) for name in CAPTION_FIGURES}
        for name, figure in figures.items():
            ends = [[r["metrics"][f"{name}_{end}"] for _, r in runs] for end in ("low", "high") if f"{name}_low" in runs[0][1]["metrics"]]
            if ends and figure["mean"] is not None:
                figure |= _ends("images", (float(np.mean(ends[0])), float(np.mean(ends[1]))))
        found["models"][arm] = {"tags_by": runs[0][1]["tags_by"], **figures}
    return found


# Curves


def curves_of(runs: Sequence[Path]) -> dict[str, dict[str, list[float]]]:
    """Return at most POINTS points of each loss of each run: means of neighbouring steps."""
    found = {}
    for run in runs:
        rows = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
        rows = [row for row in rows if row.get("loss") is not None]
        steps = np.array([row["step"] for row in rows])
        kept = [name for name in LOSSES if all(row.get(name) is not None for row in rows)]
        lines = {name: binned(steps, np.array([row[name] for row in rows]), POINTS) for name in kept}
        found[run.name] = {"step": lines["loss"][0].round(1).tolist(), **{name: y.round(4).tolist() for name, (_, y) in lines.items()}}
    return found


# What is printed


def table_of(name: str, figures: dict[str, Any]) -> str:
    """Return one start's scores and differences as text."""
    lines = ["", f"{name}: {figures['says']}"]
    for title, group in figures["sets"].items():
        lines += _caption_lines(title, group) if title.endswith(CAPTIONS) else _class_lines(title, group)
    return "\n".join(lines)


def _class_lines(title: str, group: dict[str, Any]) -> list[str]:
    half = "" if group["half"] == "all" else f", {group['half']} half"
    lines = ["", f"  {title}{half}: {group['n']:,} images, top-1 in %, 95 % intervals; guessing gives {100 * group['chance1']:.1f}"]
    for arm, scores in group["models"].items():
        saw = "  its tower saw ImageNet's labels" if scores["saw_imagenet_labels"] else ""
        smoke = "  one seed" if len(scores["acc1"]["per_seed"]) == 1 else ""
        lines.append(f"    {arm:<14}{_said(scores['acc1'], '5.1f')}{saw}{smoke}")
    for pair, change in group["differences"].items():
        lines.append(f"    {pair:<26}{_said(change, '+5.1f')}{_verdict(change)}")
    return lines


def _verdict(change: dict[str, Any]) -> str:
    if change["same_predictions"]:
        return "  the same answers: nothing was compared"
    if change["told_apart"] is None:
        return "  one seed: no verdict"
    return "" if change["told_apart"] else "  not told apart"


def _caption_lines(title: str, group: dict[str, Any]) -> list[str]:
    n = group["n"]
    lines = ["", f"  {title}: {n['text']:,} pictures set aside, {n['image']:,} captions; in %"]
    for arm, scores in group["models"].items():
        shown = (("image R@10", "image_retrieval_recall@10"), ("tags AP macro", "tags_ap_macro"), ("rare words", "tags_ap_tail"))
        lines.append(f"    {arm:<14}" + "  ".join(f"{text} {_said(scores[key], '5.1f')}" for text, key in shown))
    return lines


def _said(figure: dict[str, Any], form: str) -> str:
    if figure["mean"] is None:
        return "-"
    short = form.replace("5", "")
    spans = [
        f"{kind}{100 * figure[low]:{short}} to {100 * figure[high]:{short}}"
        for kind, low, high in (("", "low", "high"), ("images ", "images_low", "images_high"), ("seeds ", "seeds_low", "seeds_high"))
        if low in figure
    ]
    return f"{100 * figure['mean']:{form}}" + (f" [{'; '.join(spans)}]" if spans else "")
