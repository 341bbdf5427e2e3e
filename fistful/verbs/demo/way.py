"""`fistful demo`: the whole way on drawings, with the real verbs in their order.

Drawings with their names go in. Four models of equal steps learn from captions, from full bags, from
balanced bags, and from bags thinned blindly to the same fraction. The third says of drawings whose names
are hidden which words are likely, and a fifth draws bags from that, anew each epoch, beside the real ones;
its words start from vectors that the names taught. Out come their zero-shot scores. Every step is an
ordinary verb, so a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fistful.bow.store.files import local_out, write_json
from fistful.bow.store.identity import check_numbers, semantic

from ...errors import DataError, UsageError
from ...wording import table

if TYPE_CHECKING:
    from fistful.bow.ragged import Ragged
    from fistful.training.train_config import TrainConfig

KEPT = 0.5
"""Fraction of words that balancing leaves in the demo, and blind thinning with it."""
CONTEXT = 24
"""Text positions of every model, so that they differ in what they read alone: enough for the longest text, a name of 21 tokens."""
HIDDEN = 0.35
"""Fraction of the drawings whose names are hidden, to be labelled."""
HOLDOUT = 0.1
"""Fraction of the captioned drawings that no model sees: what scores are worth is measured on them."""
DIM = 64
"""Numbers of a word vector: a quarter of the words that there are."""

MODELS = {
    "captions": "names as they are",
    "bags": "all their words",
    "balanced": "their words thinned by frequency, anew each epoch",
    "random": "their words thinned blindly to the same fraction: the control",
    "pseudo": "balanced bags, and of drawings without a name bags drawn anew each epoch from what 'balanced' says of them",
}
SETS = {"unseen": "concepts that training never saw", "seen": "one variant of concepts that training saw"}
LABELLER, PSEUDO = "balanced", "pseudo"
DIFFERS = "pseudo differs from balanced in its text tower too: a mean of words, whose vectors start from the names alone."
"""What the table must say of its fifth model; steps, batches and image tower are those of the others."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Options of `fistful demo`."""

    seed: int = semantic(0)
    """Seed of the split, the draws and the models."""
    steps: int = semantic(400)
    """Optimiser steps of each model, of 64 drawings. After too few of them a model knows no word, and cannot label."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.seed < 0:
            raise UsageError(f"--steps {self.steps} --seed {self.seed}: expected steps above 0 and a seed from 0")
        check_numbers(self)


def demo(out: str | Path, config: DemoConfig | None = None, say: Callable[[str], None] = print) -> Path:
    """Go the whole way on OpenMoji's drawings.

    Args:
        out: Folder for data, counts, bags, runs, pseudo-labels, results and the page.
        config: Options.
        say: Called with each line that is worth reading.

    Returns:
        The folder.
    """
    config = config or DemoConfig()
    folder = local_out(out)
    clock = _Clock(say)
    bagged = _make_bags(folder, config, clock)
    from fistful.training.train import train  # after the drawings: what brings their package brings torch too

    pseudo = None
    for name, recipe in recipes(folder, config).items():
        data = [str(bagged)] if name != PSEUDO else [str(bagged), str(pseudo)]
        train(*data, out=folder / "runs" / name, config=recipe)
        clock.lap(f"model '{name}' trained on {MODELS[name]}")
        if name == LABELLER:
            pseudo = give_labels(folder, bagged, config)
    found = hidden_precision(folder)
    clock.lap(f"{found['images']:,} of {found['hidden']:,} drawings without a name labelled and checked")
    results = _evaluate(folder)
    clock.lap("evaluated")
    page = _page(folder, config)
    clock.lap("page drawn")
    say("\n".join(["", demo_table(results), "", precision_lines(found), "", f"The page: {page}"]))
    return folder


class _Clock:
    """Says what was done and how long it took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._last = say, time.monotonic()

    def lap(self, text: str) -> None:
        now = time.monotonic()
        self._say(f"{now - self._last:6.1f} s  {text}")
        self._last = now


def _make_bags(folder: Path, config: DemoConfig, clock: _Clock) -> Path:
    from fistful.bow.balance import Balance
    from fistful.bow.vocabulary import Limits
    from fistful.pipelines.bags import BagOptions, BagsConfig, bags
    from fistful.pipelines.count import count
    from fistful.pipelines.vectors import VectorOptions, VectorsConfig, vectors

    from .drawings import MIN_COUNT, write_demo_data

    data = write_demo_data(folder / "data", config.seed, hidden_fraction=HIDDEN)
    held = f"held out: {data.n_unseen_classes} concepts ({data.n_unseen} drawings) and {data.n_seen} single variants"
    clock.lap(f"{data.n_captioned:,} drawings with their names, {data.n_hidden:,} with hidden names; {held}")
    captioned = str(folder / "data" / "captioned")
    counts = count(captioned, out=folder / "counts")
    limits = Limits(min_count=MIN_COUNT)  # as the held-out concepts were chosen
    options = BagsConfig(
        limits=limits,
        balance=Balance(rule="cap", kept=KEPT),
        bags=BagOptions(seed=config.seed, wordless="keep"),
    )
    bagged = bags(captioned, counts=counts, out=folder / "bags", config=options)
    words = VectorsConfig(limits=limits, vectors=VectorOptions(dim=DIM))
    vectors(captioned, counts=counts, out=folder / "word-vectors", config=words)
    clock.lap("words counted, bags and word vectors written")
    return bagged


def recipes(folder: Path, config: DemoConfig) -> dict[str, TrainConfig]:
    """Return how each model is trained: all alike but for their text, and the last for its text tower (DIFFERS)."""
    from fistful.training.train_config import changed, train_config

    base = train_config(objective="joint", steps=config.steps, seed=config.seed, context_length=CONTEXT, lr=2e-3, holdout=HOLDOUT)
    return {
        "captions": changed(base, text="caption"),
        "bags": changed(base, text="bag"),
        "balanced": changed(base, text="balanced"),
        "random": changed(base, text="balanced", rule="random", kept=KEPT),
        PSEUDO: changed(base, text="balanced", text_tower="words", word_vectors=str(folder / "word-vectors")),
    }


def give_labels(folder: Path, bagged: Path, config: DemoConfig) -> Path:
    """Let the balanced model label the drawings whose names are hidden."""
    from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label

    hidden, model = str(folder / "data" / "hidden"), str(folder / "runs" / LABELLER)
    options = LabelConfig(label=LabelOptions(seed=config.seed))
    try:
        return label(hidden, model=model, like=bagged, out=folder / "pseudo", config=options)
    except DataError as error:
        if config.steps >= DemoConfig().steps:
            raise
        why = f"after {config.steps} steps the model knows too little to label with ({str(error).partition(';')[0]})"
        raise DataError(f"{why}; give more steps, such as {DemoConfig().steps}, and another --out") from error


def _evaluate(folder: Path) -> list[dict[str, Any]]:
    from fistful.eval.evaluate import evaluate
    from fistful.eval.evaluate_config import EvaluateConfig
    from fistful.eval.results import read_results

    runs = [str(folder / "runs" / name) for name in MODELS]
    sets = tuple(str(folder / "data" / "eval" / name) for name in SETS)
    out = evaluate(*runs, data=sets, out=folder / "results", config=EvaluateConfig(prompts=("name",)))
    return read_results(out)


def _page(folder: Path, config: DemoConfig) -> Path:
    from ..report import ReportConfig, report

    runs = [str(folder / "runs" / name) for name in MODELS]
    options = ReportConfig(
        title="A fistful of drawings",
        truth=str(folder / "data" / "hidden-names.tsv"),
        precision=str(folder / "precision.json"),
        images=str(folder / "data" / "hidden"),
        top=5,
        seed=config.seed,
    )
    data = (str(folder / "bags"), str(folder / "pseudo"))
    return report(*runs, out=folder / "report.html", results=(str(folder / "results"),), data=data, config=options)


# How good the pseudo-labels are, against the hidden names


def hidden_precision(folder: Path) -> dict[str, Any]:
    """Compare pseudo-words with the hidden names, beside two baselines that give the same images as many words.

    Returns:
        The share of right words of the labels, of the most frequent words, and of the nearest captioned
        drawing's words; how many images were labelled, of how many; written to precision.json too.
    """
    from fistful.bow.embeddings import read_embeddings
    from fistful.bow.store.index import read_index
    from fistful.training.neighbours import nearest

    pseudo, real = read_index(folder / "pseudo"), read_index(folder / "bags")
    truth = _true_bags(folder, pseudo["source_key"].to_pylist())
    given = [set(words) for words in pseudo["words"].to_pylist()]
    images = read_embeddings(_parts(folder / "pseudo" / "stages" / "images"))
    captioned = read_embeddings(_parts(folder / "pseudo" / "stages" / "captioned"))
    place = {key: i for i, key in enumerate(images.source_keys)}
    rows = np.array([place[key] for key in pseudo["source_key"].to_pylist()])
    closest, _ = nearest(captioned.features, images.features[rows], 1)
    bag_of = dict(zip(real["key"].to_pylist(), real["words"].to_pylist(), strict=True))
    copied = [set(bag_of[captioned.source_keys[i]]) for i in closest[:, 0]]
    frequent = [set(range(len(words))) for words in given]  # ids go by falling frequency
    found = {
        "images": len(given),
        "hidden": len(place),
        "labels": _precision(given, truth),
        "most_frequent_words": _precision(frequent, truth),
        "nearest_caption": _precision(copied, truth),
    }
    write_json(folder, "precision.json", {"the words of the nearest named drawing": found["nearest_caption"]})
    return found


def _parts(stage: Path) -> list[Path]:
    return sorted((stage / "embeddings").glob("*.parquet"), key=lambda path: int(path.stem))


def _true_bags(folder: Path, keys: list[str]) -> list[set[int]]:
    from fistful.bow.vocabulary import read_vocabulary
    from fistful.bow.words import Analyzer, WordOptions

    with open(folder / "data" / "hidden-names.tsv", encoding="utf-8", newline="") as file:
        names = {row["key"]: row["name"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    analyzer, ids = Analyzer(WordOptions()), read_vocabulary(folder / "bags").ids()
    words: Ragged = analyzer.analyse(pa.array([names[key] for key in keys], pa.string()))
    return [{ids[analyzer.words[i]] for i in row if analyzer.words[i] in ids} for row in words]


def _precision(given: list[set[int]], truth: list[set[int]]) -> float:
    n_right = sum(len(a & b) for a, b in zip(given, truth, strict=True))
    return round(n_right / max(1, sum(map(len, given))), 4)


def precision_lines(found: dict[str, Any]) -> str:
    """Return what is said of the pseudo-labels."""
    rows = [
        ("pseudo-words of the model", "labels"),
        ("as many of the most frequent words", "most_frequent_words"),
        ("the words of the nearest named drawing", "nearest_caption"),
    ]
    lines = [f"Pseudo-labels of {found['images']:,} drawings against their hidden names; share of right words:"]
    return "\n".join([*lines, *(f"  {text:<40}{found[name]:6.1%}" for text, name in rows)])


# What is said at the end


def demo_table(results: list[dict[str, Any]]) -> str:
    """Return the table that the demo ends with, and what may be read from it."""
    rows = [["learnt from", "test", "images", "classes", "top-1 [95 %]", "chance", "top-5 [95 %]", "chance"]]
    for result in sorted(results, key=lambda r: list(SETS).index(r["dataset"])):
        m = result["metrics"]
        top1, top5 = (f"{m[k]:6.1%} [{m[k + '_low']:5.1%}, {m[k + '_high']:5.1%}]" for k in ("acc1", "acc5"))
        figures = [f"{m['n']:,}", f"{m['n_classes']:,}", top1, f"{m['chance1']:.1%}", top5, f"{m['chance5']:.1%}"]
        rows.append([result["model"], result["dataset"], *figures])
    lines = table(rows, left=range(2), rule=True)
    lines.insert(2 + len({result["model"] for result in results}), "")
    return "\n".join([*lines, "", *reading(results)])


def reading(results: list[dict[str, Any]]) -> list[str]:
    """Return what the figures of one seed say, and what they do not."""
    lines = [*(f"{name}: {text}." for name, text in SETS.items()), DIFFERS]
    for name in SETS:
        spans = [(r["metrics"]["acc5_low"], r["metrics"]["acc5_high"], r["model"]) for r in results if r["dataset"] == name]
        apart = [(a, b) for a in spans for b in spans if a[0] > b[1]]
        if apart:
            pairs = ", ".join(f"{a[2]} over {b[2]}" for a, b in apart)
            lines.append(f"On {name}, top-5 intervals do not overlap for {pairs}. It is one seed: a hint, no ranking.")
        else:
            lines.append(f"On {name}, the top-5 intervals of all models overlap: one seed of this size does not rank them.")
    return lines
