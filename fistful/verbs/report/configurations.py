"""Configurations: models that differ in their seed alone, side by side, and each against the first on the same images."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fistful.bow.metrics import told_apart
from fistful.bow.store.tables import read_table
from fistful.eval.compare import Difference, compare_configurations
from fistful.eval.results import PREDICTIONS_SCHEMA, RANKS_SCHEMA, result_name

from ...wording import counted
from .inputs import Material, ResultsFolder, RunFolder
from .page_text import brief, listing, number, percent, shown, signed
from .scores import Cell, Result

MAX_SETS = 6
"""Sets compared; the scores have all of them."""
SEED_OF_NAME = re.compile(r"([-_./ (]+(seed|run|s)?|seed)[-_./ ]*$")


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """Models that were trained in the same way on the same data, with seeds of their own."""

    name: str
    labels: tuple[str, ...]
    """What their results are called."""


@dataclasses.dataclass(frozen=True, slots=True)
class ComparedImages:
    """What the models of several configurations make of the same images."""

    configurations: tuple[Configuration, ...]
    right: tuple[np.ndarray, ...]
    """(S, N) of each configuration, 1 where a seed's model is right; float64."""
    said: tuple[np.ndarray | None, ...]
    """(S, N) the class that each seed's model names; None in retrieval."""
    labels: np.ndarray | None
    """(N,) true classes; None in retrieval."""
    images: list[str]
    sha256: list[str]
    left_out: tuple[str, ...]
    """Models that saw other images, or name other classes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A configuration on a set."""

    name: str
    colour: int
    seeds: str
    score: Cell
    difference: Cell
    verdict: str


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """The configurations on one set."""

    title: str
    where: str
    """The set in a sentence."""
    measure: str
    lines: tuple[Line, ...]
    note: str


def configurations_of(material: Material) -> list[Configuration]:
    """Group the scored models by all that decides a run but its seed; a model without its run stands alone."""
    groups: dict[bytes | str, dict[str, None]] = {}
    for folder in material.results:
        for result in folder.results:
            run = run_of(material, result)
            key = result["label"] if run is None else run.configuration()
            groups.setdefault(key, {})[result["label"]] = None
    found: list[Configuration] = []
    for labels in map(tuple, groups.values()):
        name = group_name(labels)
        taken = {one.name for one in found}
        found.append(Configuration(labels[0] if name in taken else name, labels))
    return found


def run_of(material: Material, result: Result) -> RunFolder | None:
    """Return the run that a result's model came from: by fingerprint, else by a name that only one has."""
    for run in material.runs:
        if run.model_fingerprint is not None and run.model_fingerprint == result.get("model_fingerprint"):
            return run
    named = [run for run in material.runs if result["model"] in (run.name, run.path.name) and not (run.path / "model").exists()]
    return named[0] if len(named) == 1 else None


def group_name(labels: Sequence[str]) -> str:
    """Return what to call models that differ in their seed.

    >>> group_name(["bags-seed0", "bags-seed1"]), group_name(["captions"]), group_name(["3", "4"])
    ('bags', 'captions', '3 and others')
    """
    if len(labels) == 1:
        return labels[0]
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False))
    common = "".join(letters[0] for letters in same).rstrip("0123456789")
    return SEED_OF_NAME.sub("", common) or f"{labels[0]} and others"


def judged_sets(material: Material, top: int) -> list[tuple[tuple[str, str], ComparedImages]]:
    """Read the predictions of all sets that two configurations or more were measured on."""
    configurations = configurations_of(material)
    sources: dict[tuple[str, str], list[tuple[ResultsFolder, Result]]] = {}
    for folder in material.results:
        for result in folder.results:
            sources.setdefault((result["dataset"], result.get("prompts", "")), []).append((folder, result))
    found = []
    for key, results in sources.items():
        judged = _judge(results, configurations, top)
        if judged is not None and (len(judged.configurations) > 1 or len(judged.right[0]) > 1):
            found.append((key, judged))
    return found[:MAX_SETS]


def _judge(results: Sequence[tuple[ResultsFolder, Result]], configurations: Sequence[Configuration], top: int) -> ComparedImages | None:
    """Join the predictions of several models image by image."""
    tables: dict[str, pa.Table] = {}
    retrieval, left_out = False, []
    for folder, result in results:
        path = folder.path / "predictions" / f"{result_name(result['model'], result['dataset'], result.get('prompts', ''))}.parquet"
        columns = pq.read_schema(path).names if path.exists() else []
        if columns in (RANKS_SCHEMA.names, PREDICTIONS_SCHEMA.names) and result["label"] not in tables:  # others have no rank to compare
            retrieval = columns == RANKS_SCHEMA.names
            tables[result["label"]] = _read(path, retrieval)
    if not tables:
        return None
    first = next(iter(tables.values()))
    for label, table in list(tables.items()):
        if not all(table[name].equals(first[name]) for name in first.column_names if name in ("image", "sha256", "label")):
            left_out.append(label)
            del tables[label]
    chosen = [(c, [tables[label] for label in c.labels if label in tables]) for c in configurations]
    chosen = [(dataclasses.replace(c, labels=tuple(x for x in c.labels if x in tables)), own) for c, own in chosen if own]
    right = [np.stack([_numbers(t["rank"]) < (5 if retrieval else top) for t in own]).astype(np.float64) for _, own in chosen]
    said = [None if retrieval else np.stack([_numbers(pc.list_element(t["top"], 0)) for t in own]) for _, own in chosen]
    labels = None if retrieval else _numbers(first["label"])
    images, digests = first["image"].to_pylist(), first["sha256"].to_pylist()
    return ComparedImages(tuple(c for c, _ in chosen), tuple(right), tuple(said), labels, images, digests, tuple(left_out))


def _read(path: Path, retrieval: bool) -> pa.Table:
    table = read_table(path, RANKS_SCHEMA if retrieval else PREDICTIONS_SCHEMA)
    return table.select(["image", "sha256", "rank"] if retrieval else ["image", "sha256", "label", "rank", "top"])


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy()


def side_of(key: tuple[str, str], judged: ComparedImages, place: dict[str, int], top: int) -> Side:
    """Put the configurations of one set beside each other."""
    others = judged.right[1:]
    differences = [None, *compare_configurations(judged.right[0], others)] if others else [None]
    pairs = zip(judged.configurations, judged.right, differences, strict=True)
    lines = tuple(_line(c, right, difference, judged.configurations[0].name, place) for c, right, difference in pairs)
    measure = f"top-{top}" if judged.labels is not None else "text R@5"
    about = f"prompts {brief(key[1])} · " if judged.labels is not None else ""
    title = f"{brief(key[0], 80)} · {about}{counted(len(judged.images), 'image')}"
    left_out = f"Not compared, for other images or class names: {listing(judged.left_out)}." if judged.left_out else ""
    where = brief(key[0]) + ("" if key[1] in ("", "name") or judged.labels is None else f" with prompts {brief(key[1])}")
    return Side(title, where, measure, lines, left_out)


def _line(c: Configuration, right: np.ndarray, difference: Difference | None, first: str, place: dict[str, int]) -> Line:
    scores = right.mean(axis=1)
    spread = f"{percent(scores.min())}–{percent(scores.max())}" if len(scores) > 1 else ""
    score, seeds = Cell(percent(scores.mean()), spread), number(len(scores))
    if difference is None:
        return Line(c.name, place[c.labels[0]], seeds, score, Cell("–"), "the others are compared with it")
    change = Cell(signed(difference.value), f"{signed(difference.low)} to {signed(difference.high)}")
    return Line(c.name, place[c.labels[0]], seeds, score, change, verdict(difference, c.name, first))


def verdict(difference: Difference, name: str, first: str) -> str:
    """Return what may be read from a difference, in words.

    >>> verdict(Difference(0.1, 0.05, 0.15, over_seeds=False), "bags", "captions")
    'bags is ahead on these images; one seed: a smoke run'
    """
    if not told_apart(difference.low, difference.high):
        text = "not told apart"
    else:
        text = f"{shown(name if difference.low > 0 else first, 60)} is ahead" + ("" if difference.over_seeds else " on these images")
    return text if difference.over_seeds else f"{text}; one seed: a smoke run"
