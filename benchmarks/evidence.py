"""The lab: `make evidence`. What helps a student that has a fifth of the captions, and what helps one that has all.

One process a share of the seeds; every stage is a verb, and what was stopped goes on where it was:

    python -m benchmarks.evidence frozen --seeds 0 1 2 3 & python -m benchmarks.evidence frozen --seeds 4 5 6 7
    python -m benchmarks.evidence small --seeds 0 1 2 3 4
    python -m benchmarks.evidence frozen small --figures   # benchmarks/results/evidence-DATE.json, test halves opened

All arms of a lab take equally many steps of equally many pictures; of an arm with pseudo-labels half of each batch has
captions. Figures: benchmarks/evidence_scores.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fistful.bow.store.files import read_json, write_json
from fistful.training import recipes
from fistful.training.train_config import TrainConfig, changed

from . import evidence_data as data
from . import evidence_labels as labels
from .evidence_data import RUNNING
from .evidence_features import KnownPhotos
from .evidence_figures import write_figures
from .evidence_scores import Ground, lay_ground, score
from .measure import RESULTS

KEPT = 0.5
"""Fraction of words that balancing and blind thinning leave."""
WORDS = 8
"""Of a bag, where a budget leaves some: of Flickr8k's bags about KEPT."""
BLIND = (("text", "balanced"), ("rule", "random"), ("kept", KEPT))
"""Bags thinned by chance, anew each epoch: what is gained by redrawing alone, without labels and without looking at words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lab:
    """A kind of student, and where all of its files lie."""

    name: str
    root: Path
    """FISTFUL_DATA."""
    out: Path
    pool: data.Pool
    config: TrainConfig
    is_frozen: bool
    known: KnownPhotos
    """Features of the frozen tower, of teachers too."""

    @property
    def folder(self) -> Path:
        """Where this lab's files lie."""
        return self.out / self.name

    def path(self, *parts: str | int) -> Path:
        """Return a path in this lab's folder."""
        return self.folder.joinpath(*map(str, parts))

    def train(self, folders: Sequence[Path], out: Path, config: TrainConfig) -> Path:
        """Train a model, or find it trained."""
        from fistful.training.train import train

        if config.model.train_image == "none":
            for folder in folders:
                self.known.write(folder)
        run = train(*map(str, folders), out=out, config=config)
        if config.model.train_image == "none":
            for folder in folders:
                self.known.remember(folder)
        return run


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """What a student learns from, and what else is different about it."""

    name: str
    data: Callable[[Lab, int], list[Path]]
    """Data folders for a seed."""
    vectors: Callable[[Lab, int], Path] | None = None
    options: tuple[tuple[str, object], ...] = ()
    """Options of training that differ from the lab's."""


def frozen_lab(root: Path, out: Path) -> Lab:
    """Return students on a pretrained tower that stays as it is (ImageNet's labels seen), its features computed once."""
    config = labels.teacher_config(out)
    return Lab("frozen", root, out, data.FLICKR, config, is_frozen=True, known=KnownPhotos(out / "features", config))


def small_lab(root: Path, out: Path) -> Lab:
    """Return students that start from nothing, taught by teachers on the pretrained tower."""
    joint = changed(
        recipes.tiny_joint(300), text="bag", text_tower="words", batch_size=256, image_size=48, augment="crop", temperature=0.05
    )
    config = changed(joint, device="cpu", threads=1, progress=False, cache_mb=2_048)
    known = KnownPhotos(out / "features", labels.teacher_config(out))
    return Lab("small", root, out, data.PHOTOS, config, is_frozen=False, known=known)


LABS = {"frozen": frozen_lab, "small": small_lab}


# Data


def bags_of(lab: Lab, *place: str | int) -> Path:
    """Return the data folder of a captioned part: `all`, or a seed's `fifth`. All have the words of all captions."""
    from fistful.pipelines.bags import BagsConfig, bags
    from fistful.pipelines.count import CountConfig, count

    counts = count(str(lab.path("photos/all")), out=lab.path("counts"), config=CountConfig(running=RUNNING))
    return bags(str(lab.path("photos", *place)), counts=counts, out=lab.path("bags", *place), config=BagsConfig(running=RUNNING))


def dev_of(lab: Lab) -> Path:
    """Return the data folder of the development photos, with the words of the lab."""
    from fistful.pipelines.bags import BagsConfig, bags

    photos = data.cut_dev(lab.root, lab.out / "dev")
    return bags(str(photos), counts=lab.path("counts"), out=lab.path("bags/dev"), config=BagsConfig(running=RUNNING))


def everything(lab: Lab, seed: int) -> list[Path]:
    """Return all captions."""
    del seed
    return [bags_of(lab, "all")]


def fifth(lab: Lab, seed: int) -> list[Path]:
    """Return a fifth of the captions."""
    return [bags_of(lab, seed, "fifth")]


def with_pseudo(kind: str) -> Callable[[Lab, int], list[Path]]:
    """Return a fifth of the captions, and labels of a kind for the other photos."""
    return lambda lab, seed: [*fifth(lab, seed), labels.labelled(lab, seed, kind)]


def arms_of(lab: Lab) -> list[Arm]:
    """Return the arms, those that others are compared with first."""
    corpora, other, own, noise = (functools.partial(labels.vectors, kind=kind) for kind in ("all", "other", "fifth", "random"))
    fixed = (("pseudo", "fixed"),)
    main = [
        Arm("fifth", fifth),
        Arm("all", everything),
        Arm("drawn", with_pseudo("mean")),
        Arm("placebo", with_pseudo("placebo")),
        Arm("copied", with_pseudo("copied"), options=fixed),
        Arm("fixed", with_pseudo("mean"), options=fixed),
        Arm("once", with_pseudo("once"), options=fixed),
        Arm("drawn-head", with_pseudo("head")),
    ]
    if not lab.is_frozen:
        return [*main[:6], Arm("drawn+20k", lambda lab, seed: [*with_pseudo("mean")(lab, seed), labels.labelled(lab, seed, "others")])]
    vectors = [
        Arm("fifth+vectors", fifth, corpora),
        Arm("all+vectors", everything, corpora),
        Arm("drawn+vectors", with_pseudo("mean"), corpora),
        Arm("fifth+random", fifth, noise),
        Arm("fifth-random", fifth, options=BLIND),
        Arm("drawn-random", with_pseudo("mean"), options=BLIND),
        Arm("fifth+own", fifth, own),
        Arm("drawn+other", with_pseudo("mean"), other),
        Arm("fifth+other", fifth, other),
    ]
    more = [
        Arm("drawn-knn", with_pseudo("knn")),
        Arm("drawn-prompts", with_pseudo("prompts")),
        Arm("drawn-again", with_pseudo("again")),
        Arm("drawn+20k", lambda lab, seed: [*with_pseudo("mean")(lab, seed), labels.labelled(lab, seed, "others")]),
        Arm("fifth+loss", fifth, options=(("tower_word_weight", 1.0),)),
        Arm("all+loss", everything, options=(("tower_word_weight", 1.0),)),
    ]
    return [*main, *vectors, *more, *_balancing(corpora)]


def _balancing(corpora: Callable[[Lab, int], Path]) -> list[Arm]:
    """Return ways of thinning bags of all captions, each with and without word vectors."""
    found = []
    ways: dict[str, tuple[tuple[str, object], ...]] = {
        "caption": (("captions", "one"),),
        "random": BLIND,
        "w2v": (("text", "balanced"), ("rule", "w2v"), ("kept", KEPT)),
        "cap": (("text", "balanced"), ("rule", "cap"), ("kept", KEPT)),
        "budget": (("text", "balanced"), ("rule", "budget"), ("n_words", WORDS)),
    }
    for name, options in ways.items():
        found += [Arm(f"all-{name}", everything, None, options), Arm(f"all-{name}+vectors", everything, corpora, options)]
    return found


# Runs


def train_arm(lab: Lab, arm: Arm, seed: int) -> Path:
    """Train an arm's student, or find it trained."""
    options = {"seed": seed, **dict(arm.options)}
    if arm.vectors is not None:
        options["word_vectors"] = str(arm.vectors(lab, seed))
    return lab.train(arm.data(lab, seed), lab.path("runs", arm.name, seed), changed(lab.config, **options))


def go(lab: Lab, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Train and score the arms, seed by seed; figures of each go to SCORES/ARM/SEED.json and to the log."""
    data.cut_pool(lab.root, lab.pool, lab.path("photos"), seeds)
    lab.known.learn(bags_of(lab, "all"), lab.path("plan"))
    ground: Ground | None = None
    for seed in seeds:
        for arm in (arm for arm in arms_of(lab) if not names or arm.name in names):
            place = lab.path("scores", arm.name, f"{seed}.json")
            if place.exists():
                continue
            start = time.monotonic()
            run = train_arm(lab, arm, seed)
            ground = ground or lay_ground(lab.root, dev_of(lab), bags_of(lab, "all"), run, lab.is_frozen)
            figures = score(run, ground)
            write_json(place.parent, place.name, figures)
            seconds = time.monotonic() - start
            print(f"{lab.name} {arm.name:20} seed {seed}  cosine {figures['cosine']['ap_macro']:.4f}  {seconds:.0f} s", flush=True)


def main() -> None:
    """Read the command line and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", nargs="*", choices=[*LABS], default=[*LABS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[*range(5)])
    parser.add_argument("--arms", nargs="*", default=[], help="these alone")
    parser.add_argument("--out", type=Path, default=Path("evidence-out"))
    parser.add_argument("--figures", action="store_true", help="train nothing; write what was found")
    asked = parser.parse_args()
    root = Path(os.environ["FISTFUL_DATA"])
    made = [LABS[name](root, asked.out) for name in asked.labs]
    if not asked.figures:
        for lab in made:
            go(lab, asked.seeds, asked.arms)
    else:
        write_figures(RESULTS, {lab.name: _found(lab) for lab in made}, {lab.name: _labels(lab) for lab in made})


def _found(lab: Lab) -> dict[str, dict[int, Any]]:
    """Return what was scored, by arm and seed."""
    found: dict[str, dict[int, Any]] = {}
    for place in sorted(lab.path("scores").glob("*/*.json")):
        found.setdefault(place.parent.name, {})[int(place.stem)] = read_json(place)
    return found


def _labels(lab: Lab) -> dict[str, dict[str, float]]:
    seeds = [int(place.parent.parent.name) for place in sorted(lab.path("labelled").glob("*/mean/manifest.json"))]
    return {str(seed): labels.figures_of_labels(lab, seed) for seed in seeds}


if __name__ == "__main__":
    main()
