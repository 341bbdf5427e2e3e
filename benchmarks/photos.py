"""The whole way on the photos: `make photos`.

Twice the same: a small tower from scratch, and a pretrained tower that is kept frozen. From each start models learn from captions, bags,
balanced bags, and bags thinned blindly; one labels the pictures without a caption, and another learns from both. On the frozen tower two
more start from word vectors that captions without pictures taught. Prompts are chosen on one half of Tiny-ImageNet; claims are made on
the other, on CIFAR-10, and on captioned pictures that were set aside. Every stage is a verb.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, write_results
from benchmarks.photos_data import HELD, cut_photos, eval_sets
from benchmarks.photos_results import Start, curves_of, figures_of, read_all, table_of
from fistful.bow.balance import Balance
from fistful.bow.store.files import read_json
from fistful.errors import DataError, FistfulError
from fistful.pipelines.engine.stage import Running
from fistful.training import recipes
from fistful.training.device import has_bf16
from fistful.training.train_config import TrainConfig, changed

KEPT = 0.5
"""Fraction of words that balancing leaves, and blind thinning with it."""
RULE = Balance(rule="w2v", kept=KEPT)
"""What served best in our probe: it moves precision from frequent to rare words at the smallest cost."""
HOLDOUT = 0.1
"""Fraction of the captioned pictures that no model sees: what pseudo-words are worth is measured on them."""
PROMPTS = ("name", "bag", "simple7", "openai80")
"""Chosen from, on the development half."""
LABELLER, PSEUDO, VECTORS, BOTH = "balanced", "pseudo", "vectors", "pseudo-vectors"
PAIRS = (
    *(("captions", "bags"), ("bags", "balanced"), ("bags", "random"), ("random", "balanced"), ("balanced", PSEUDO)),
    *(("balanced", VECTORS), (PSEUDO, BOTH), ("balanced", BOTH)),
)
TEXT_ALONE = ("coco-val2017.tsv.gz", "coco-comp5329.csv.gz", "laion-alttext.csv.gz")
"""Captions without pictures; Flickr30k's would tell of photos that are set aside, as it holds Flickr8k's."""
FROZEN_STEPS = 200
"""Of 512 pictures, as in our probe: five epochs."""
CONTEXT = 48
"""Text positions of every model: as many as `train` would choose for the arm with the longest texts, full bags, of which 0.4 % are cut
(of captions 0.2 %); one number for all, so that they differ in what they read alone."""
RUNNING = Running(workers=2, progress=False)

TEXTS = {
    "captions": "one caption a picture and epoch",
    "bags": "all words of all captions",
    "balanced": "these words thinned by frequency, anew each epoch",
    "random": "these words thinned blindly to the same fraction: the control",
    PSEUDO: "balanced bags, and of pictures without a caption bags drawn anew each epoch from what the model 'balanced' says of them",
    VECTORS: "as 'balanced', each word starting from its vector of captions alone",
    BOTH: "as 'pseudo', each word starting from its vector of captions alone",
}
OTHER_TEXTS = {
    "recipe": "as 'balanced', for all the steps of the recipe photos-frozen; one seed: a smoke run",
    "tiny-clip": "one caption a picture and epoch, without a word head",
    "tiny-fistful": "balanced bags, without a word head",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What is run, and where."""

    data: Path
    out: Path
    results: Path
    """Where the dated JSON goes."""
    small: bool
    seeds: int
    """Of the frozen start."""
    steps: int
    """Of each model from scratch, of 64 pictures."""
    frozen_steps: int
    """Of each model on the frozen tower, of 512 pictures."""
    recipe_steps: int
    """Of the one model that takes all steps of its recipe."""


class Clock:
    """Says what was done and how long it took, and remembers it when the program is started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time a stage; of a stage that is stopped nothing is noted."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        with open(self._path, "a") as file:
            file.write(json.dumps({"stage": name, "seconds": round(seconds, 2)}) + "\n")
        print(f"{seconds:7.1f} s  {name}", flush=True)

    def minutes(self) -> dict[str, float]:
        """Return the minutes of each stage, of all calls together."""
        found: dict[str, float] = {}
        for line in self._path.read_text().splitlines():
            row = json.loads(line)
            found[row["stage"]] = found.get(row["stage"], 0.0) + row["seconds"] / 60
        return {name: round(minutes, 2) for name, minutes in found.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A start on its way: its models' recipes, and how the verbs are told of them."""

    name: str
    options: Options
    clock: Clock
    arms: Mapping[str, list[TrainConfig]]
    """The recipes of each arm, a seed each."""
    spec_of: Callable[[Path], str]
    """How evaluation and labelling name a run."""

    def run(self, arm: str, config: TrainConfig) -> Path:
        """Return a run's folder."""
        return self.options.out / "runs" / (f"{self.name}-{arm}" + (f"-{config.run.seed}" if len(self.arms[arm]) > 1 else ""))

    def runs(self, arms: list[str], n_seeds: int | None = None) -> list[Path]:
        """Return the folders of these arms' runs, seed by seed."""
        return [self.run(arm, config) for arm in arms for config in self.arms[arm][:n_seeds]]

    def specs(self, arms: list[str], n_seeds: int | None = None) -> list[str]:
        """Return their encoders' names."""
        return [self.spec_of(run) for run in self.runs(arms, n_seeds)]


def photos(options: Options) -> Path:
    """Go the whole way, and write what was found."""
    from fistful.pipelines.bags import BagOptions, BagsConfig, bags
    from fistful.pipelines.count import CountConfig, count
    from fistful.training.announce import TEXTS

    out, clock = options.out, Clock(options.out / "logs" / "minutes.jsonl")
    with clock.stage("photos cut into parts"):
        taken = cut_photos(options.data, out / "data", options.small)
    captioned, bagged = str(out / "data/captioned"), out / "bags"
    with clock.stage("words counted"):
        counts = count(captioned, out=out / "counts", config=CountConfig(running=RUNNING))
    with clock.stage("bags written"):
        bags(captioned, counts=counts, out=bagged, config=BagsConfig(balance=RULE, running=RUNNING))
        aside = BagsConfig(bags=BagOptions(txt="caption"), running=RUNNING)
        for source in HELD:
            bags(str(out / "data/held" / source), counts=counts, out=out / "held" / source, config=aside)
    with clock.stage("word vectors"):
        _vectors(options, captioned, counts)
    rows: dict[str, Any] = {"photos": taken, "bags": _bag_figures(bagged), "starts": {}, "pseudo_labels": {}, "texts_cut": {}}
    runs: list[Path] = []
    for way in (scratch(options, clock), frozen(options, clock)):
        arms, labels = _train(way, bagged)
        start, prompts, measured = _evaluate(way, bagged, arms)
        rows["starts"][way.name] = {"prompts": prompts, "prompts_on_dev": measured, **figures_of(start)}
        rows["pseudo_labels"][way.name] = labels
        rows["texts_cut"] |= {run.name: read_json(run / TEXTS) for run in way.runs(arms) if (run / TEXTS).exists()}
        runs += way.runs(arms)
        with clock.stage(f"{way.name}: page"):
            print(f"{'':10} {_page(way, bagged, arms, start.results)}")
    return _write(options, clock, rows, runs)


def _vectors(options: Options, captioned: str, counts: Path) -> None:
    from fistful.pipelines.vectors import VectorOptions, VectorsConfig, vectors

    text = [str(options.data / "captions" / name) for name in TEXT_ALONE]
    config = VectorsConfig(vectors=VectorOptions(dim=32 if options.small else VectorOptions().dim), running=RUNNING)
    vectors(captioned, *text, counts=counts, out=options.out / "word-vectors", config=config)


def scratch(options: Options, clock: Clock) -> Way:
    """Return the start from random weights: the demo's models, and the recipes without a word head."""
    common = {"context_length": CONTEXT, "holdout": HOLDOUT, "progress": False}
    joint = changed(recipes.tiny_joint(options.steps), **common)
    plain = {"tiny-clip": recipes.tiny_clip(options.steps), "tiny-fistful": recipes.tiny_fistful(options.steps)}
    arms = {
        "captions": changed(joint, text="caption"),
        **_bag_arms(joint),
        **{name: changed(config, **common) for name, config in plain.items()},
    }
    return Way("scratch", options, clock, {arm: [config] for arm, config in arms.items()}, str)


def frozen(options: Options, clock: Clock) -> Way:
    """Return the start from a pretrained tower that stays as it is; its captions are read as bags of one caption."""
    features = str(options.out / "features")
    recipe = recipes.photos_frozen(options.frozen_steps)
    precision = "bf16" if has_bf16("cpu") else "fp32"  # the head over thousands of words is most of the work
    joint = changed(recipe, precision=precision, device="cpu", holdout=HOLDOUT, features=features, progress=False)
    lead = changed(joint, word_vectors=str(options.out / "word-vectors"))
    arms = {"captions": changed(joint, text="bag", captions="one"), **_bag_arms(joint), VECTORS: lead, BOTH: lead}
    seeded = {arm: [changed(config, seed=seed) for seed in range(options.seeds)] for arm, config in arms.items()}
    seeded["recipe"] = [changed(joint, steps=options.recipe_steps)]
    return Way("frozen", options, clock, seeded, lambda run: f"benchmarks.photos_tower:shared {json.dumps({'run': str(run)})}")


def _bag_arms(joint: TrainConfig) -> dict[str, TrainConfig]:
    return {
        "bags": changed(joint, text="bag"),
        "balanced": joint,
        "random": changed(joint, rule="random", kept=KEPT),
        PSEUDO: joint,
    }


def _train(way: Way, bagged: Path) -> tuple[list[str], dict[str, Any]]:
    """Train all models of a start; return the arms that there are, and what is known of the pseudo-labels."""
    from fistful.training.train import train

    def train_arm(arm: str, *data: Path) -> None:
        with way.clock.stage(f"{way.name}: '{arm}' trained"):
            for config in way.arms[arm]:
                train(*map(str, data), out=way.run(arm, config), config=config)

    labelled = [arm for arm in (PSEUDO, BOTH) if arm in way.arms]
    arms = [arm for arm in way.arms if arm not in labelled]
    for arm in arms:
        train_arm(arm, bagged)
    try:
        with way.clock.stage(f"{way.name}: pictures without a caption labelled"):
            labels = _label(way, bagged)
    except DataError as error:  # a model that knows too little gives no word: a result too
        return arms, {"none": str(error)}
    for arm in labelled:
        train_arm(arm, bagged, way.options.out / f"pseudo-{way.name}")
    return list(way.arms), labels


def _label(way: Way, bagged: Path) -> dict[str, Any]:
    from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, check_lineage, label

    run, out = way.run(LABELLER, way.arms[LABELLER][0]), way.options.out
    assert (check_lineage(str(run), bagged) or {})["holdout"] == HOLDOUT  # the shared encoder has no lineage of its own
    plenty = LabelOptions(by="mean", min_precision=0.0) if way.options.small else LabelOptions(by="mean")
    folder = label(
        str(out / "data/uncaptioned"),
        model=way.spec_of(run),
        like=bagged,
        out=out / f"pseudo-{way.name}",
        config=LabelConfig(label=plenty, running=RUNNING),
    )
    return _label_figures(folder, bagged, run.name)


def _label_figures(folder: Path, bagged: Path, labeller: str) -> dict[str, Any]:
    """Return how many words were right on held-out captioned pictures, beside copying, and the most frequent words."""
    from fistful.bow.vocabulary import read_vocabulary
    from fistful.pipelines.pseudo.captioned import read_like
    from fistful.pipelines.pseudo.held_out import held_pictures
    from fistful.pipelines.pseudo.label import CAPTIONED

    stats, like = read_json(folder / "stats.json"), read_like(folder / CAPTIONED, bagged)
    n_words = max(1, round(stats["words_in_bags"] / max(1, stats["kept"])))
    truth = [set(words.tolist()) for words in like.bags.pick(np.flatnonzero(held_pictures(bagged, HOLDOUT)[like.rows]))]
    frequent = [set(range(n_words))] * len(truth)  # ids go by falling frequency
    given = {name: stats[name] for name in ("rows", "kept", "refused", "words_in_bags")}
    return {
        "labeller": labeller,
        **given,
        "words_a_picture": round(stats["words_in_bags"] / max(1, stats["kept"]), 2),
        "vocabulary": len(read_vocabulary(folder)),
        **{name: value for name, value in stats.items() if name.startswith("held_out_") and not isinstance(value, list)},
        "held_out_share_right_of_most_frequent_words": share_right(frequent, truth),
    }


def share_right(given: list[set[int]], truth: list[set[int]]) -> float:
    """Return the share of given words that are right."""
    return round(sum(len(a & b) for a, b in zip(given, truth, strict=True)) / max(1, sum(map(len, given))), 4)


def _evaluate(way: Way, bagged: Path, arms: list[str]) -> tuple[Start, str, dict[str, float]]:
    """Choose prompts on the development half, and measure all models where claims are made."""
    from fistful.eval.evaluate import evaluate
    from fistful.eval.evaluate_config import EvaluateConfig

    out, sets = way.options.out, eval_sets(way.options.data, way.options.out / "data", way.options.small)
    plain = [arm for arm in arms if not way.arms[arm][0].has_head]
    joint = [arm for arm in arms if arm not in plain]
    place = out / "results"
    with way.clock.stage(f"{way.name}: prompts chosen"):
        config = EvaluateConfig(prompts=PROMPTS, half="dev", progress=False)
        dev = evaluate(*way.specs(joint, 1), data=(sets["tiny-imagenet"],), out=place / f"{way.name}-dev", config=config)
        chosen, measured = choose_prompts(dev)
    known = (str(bagged), *([str(out / f"pseudo-{way.name}")] if PSEUDO in arms else []))
    base = EvaluateConfig(prompts=(chosen, "head"), vocabulary=str(bagged), trained_on=known, progress=False)
    folders = []
    with way.clock.stage(f"{way.name}: evaluated"):
        for name, some, prompts in (("joint", joint, (chosen, "head")), ("plain", plain, (chosen,))):
            for data, half in (("tiny-imagenet", "test"), ("cifar10", "all")) if some else ():
                config = dataclasses.replace(base, prompts=prompts, half=half)
                folders.append(evaluate(*way.specs(some), data=(sets[data],), out=place / f"{way.name}-{name}-{data}", config=config))
    with way.clock.stage(f"{way.name}: evaluated on captions set aside"):
        aside = tuple(str(out / "held" / source) for source in HELD)
        config = EvaluateConfig(progress=False)
        folders.append(evaluate(*way.specs(arms), data=aside, out=place / f"{way.name}-captions", config=config))
    models = {arm: [run.name for run in way.runs([arm])] for arm in arms}
    pairs = [*PAIRS, ("tiny-clip", "tiny-fistful")]
    return Start(way.name, models, TEXTS | OTHER_TEXTS, pairs, folders), chosen, measured


def choose_prompts(dev: Path) -> tuple[str, dict[str, float]]:
    """Return the prompt set with the highest mean top-1 over the models, and all means."""
    means = {
        prompts: round(float(np.mean([result["metrics"]["acc1"] for _, result in models.values()])), 4)
        for (_, prompts), models in read_all([dev]).items()
    }
    return max(means, key=lambda name: (means[name], -PROMPTS.index(name))), means


def _bag_figures(bagged: Path) -> dict[str, Any]:
    from fistful.bow.vocabulary import read_vocabulary

    stats = read_json(bagged / "stats.json")
    names = ("kept_fraction_realised", "bags_emptied", "effective_words_before", "effective_words_after", "rows", "kept", "duplicates")
    return {"rule": f"w2v, kept {KEPT}", "vocabulary": len(read_vocabulary(bagged)), **{name: stats[name] for name in names}}


def _page(way: Way, bagged: Path, arms: list[str], results: Any) -> Path:
    from fistful.verbs.report import ReportConfig, report

    out = way.options.out
    labelled = [str(out / f"pseudo-{way.name}")] if PSEUDO in arms else []
    tower = "a small tower from scratch" if way.name == "scratch" else "a frozen tower that saw ImageNet's labels"
    config = ReportConfig(title=f"Photos: words on {tower}", images=str(out / "data/uncaptioned"))
    runs = map(str, way.runs(arms))
    return report(
        *runs, out=out / f"report-{way.name}.html", results=tuple(map(str, results)), data=(str(bagged), *labelled), config=config
    )


def _write(options: Options, clock: Clock, rows: dict[str, Any], runs: list[Path]) -> Path:
    rows["minutes"] = clock.minutes()
    rows["steps"] = {"scratch": options.steps, "frozen": options.frozen_steps, "recipe": options.recipe_steps}
    rows["small"] = options.small
    for name, figures in rows["starts"].items():
        print(table_of(name, figures))
    for name, labels in rows["pseudo_labels"].items():
        print(f"\npseudo-labels of {name}: {labels_line(labels)}")
    curves = write_results("curves", curves_of(runs), options.results, indent=None)
    path = write_results("photos", rows, options.results)
    print(f"\n{sum(rows['minutes'].values()):.1f} minutes in all; {path} and {curves}")
    return path


def labels_line(labels: dict[str, Any]) -> str:
    """Return what is said of pseudo-labels."""
    if "none" in labels:
        return f"none ({labels['none']})"
    copied, frequent = labels.get("held_out_nearest"), labels["held_out_share_right_of_most_frequent_words"]
    beside = f"; copied from the nearest picture {copied['precision']:.1%}, of as many labels {copied['labels']:.1%}" if copied else ""
    return (
        f"{labels['kept']:,} of {labels['rows']:,} pictures got {labels['words_a_picture']} words each; right on "
        f"{labels['held_out_images']:,} held-out captioned pictures: {labels['held_out_precision']:.1%}, of as many of the most frequent "
        f"words {frequent:.1%}{beside}"
    )


def main() -> None:
    """Read the options and go."""
    parser = argparse.ArgumentParser(description="The whole way on the photos; stopped, it goes on where it was.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FISTFUL_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("photos-out"))
    parser.add_argument("--results", type=Path, help="where the dated JSON goes; benchmarks/results, for --small the output folder")
    parser.add_argument("--small", action="store_true", help="few pictures and steps, which only show that it works: two minutes")
    parser.add_argument("--seeds", type=int, help="of each model on the frozen tower (5)")
    parser.add_argument("--steps", type=int, help="of each model from scratch (600)")
    asked = parser.parse_args()
    small = asked.small
    options = Options(
        data=asked.data.absolute(),
        out=asked.out.absolute(),
        results=asked.results or (asked.out if small else RESULTS),
        small=small,
        seeds=asked.seeds or (2 if small else 5),
        steps=asked.steps or (10 if small else recipes.tiny_clip().optimiser.steps),
        frozen_steps=10 if small else FROZEN_STEPS,
        recipe_steps=15 if small else recipes.photos_frozen().optimiser.steps,
    )
    try:
        photos(options)
    except FistfulError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
