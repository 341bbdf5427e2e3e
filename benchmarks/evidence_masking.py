"""The masking lab: `make evidence-masking`. Does hiding more words of a caption teach more, and does it matter which are hidden?

    python -m benchmarks.evidence_masking --seeds 0 1 2 --out masking-out             # trains and scores what is missing
    python -m benchmarks.evidence_masking --figures --out masking-out                 # benchmarks/results/masking-DATE.json

EfficientNet-Lite0 (ImageNet's labels seen) frozen at 128 pixels, its map cached once; a text transformer of two layers, a fusion head of
two; Flickr8k's photos but the development split, and COCO's, 6,499 in all, with their captions. Each arm takes equally many steps, at
a cost a step that depends on the rate by a few percent, which is printed; arms called `-minutes` take as many as cost what those of
uniform-15 do (`--cost` measures it first). Reranked over the 10 nearest of Flickr8k's 999 development
photos. The figures of the paper that this asks after (arXiv 2212.05195) are of 4 million pairs and a model of 135 million weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from fistful.bow.store import manifest
from fistful.bow.store.files import read_json, write_json
from fistful.training.train_config import TrainConfig, changed, train_config

from . import evidence_data as data
from .evidence_data import RUNNING
from .masking_scores import figures_of, lay_ground, score
from .measure import RESULTS, write_results

POOL = data.Pool("masking", ("flickr8k", "coco"))
STEPS = 300
"""Three epochs."""
COST_STEPS = 9


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """What is hidden."""

    name: str
    rate: float = 0.0
    rule: str = "uniform"
    as_long_as: str = ""
    """Takes as much CPU time as this arm; "": as many steps as all."""


ARMS = (
    Arm("uniform-15", 0.15),
    Arm("uniform-60", 0.6),
    Arm("content-15", 0.15, "content"),
    Arm("content-60", 0.6, "content"),
    Arm("uniform-60-minutes", 0.6, as_long_as="uniform-15"),
    Arm("content-60-minutes", 0.6, "content", as_long_as="content-15"),
    Arm("uniform-30", 0.3),
    Arm("uniform-75", 0.75),
    Arm("none"),
)


def config_of(arm: Arm, seed: int, features: Path, steps: int) -> TrainConfig:
    """Return how an arm learns."""
    common = train_config(
        init="fistful.training.model.pretrained:efficientnet_lite0",
        train_image="none",
        embed_dim=128,
        text="caption",
        context_length=16,
        match_weight=1.0,
        batch_size=64,
        steps=steps,
        device="cpu",
        threads=1,
        decoders=1,
        features=str(features),
        checkpoint_every=100,
        keep_checkpoints=1,
        progress=False,
    )
    more = {"mask_rate": arm.rate, "mask_rule": arm.rule} if arm.rate else {}
    return changed(common, seed=seed, **more)


def bags_of(root: Path, out: Path) -> tuple[Path, Path]:
    """Return the data folders to learn from and to measure on."""
    from fistful.pipelines.bags import BagsConfig, bags
    from fistful.pipelines.count import CountConfig, count

    data.cut_pool(root, POOL, out / "photos", ())
    counts = count(str(out / "photos/all"), out=out / "counts", config=CountConfig(running=RUNNING))
    learnt = bags(str(out / "photos/all"), counts=counts, out=out / "bags/all", config=BagsConfig(running=RUNNING))
    dev = bags(str(data.cut_dev(root, out / "dev")), counts=counts, out=out / "bags/dev", config=BagsConfig(running=RUNNING))
    return learnt, dev


def train_arm(arm: Arm, seed: int, learnt: Path, out: Path, steps: int, features: Path) -> Path:
    """Train an arm, or find it trained."""
    from fistful.training.train import train

    return train(str(learnt), out=out / "runs" / arm.name / str(seed), config=config_of(arm, seed, features, steps))


def steps_of(arm: Arm, steps: int, out: Path) -> int:
    """Return how many steps an arm takes."""
    if not arm.as_long_as:
        return steps
    if not (out / "cost.json").exists():
        raise SystemExit(f"{arm.name} takes as long as {arm.as_long_as}: --cost measures what their steps cost, first")
    cost = read_json(out / "cost.json")
    return round(steps * cost[arm.as_long_as] / cost[arm.name.removesuffix("-minutes")])


def seconds_of(run: Path) -> float:
    """Return how long the steps took, those of a run that was stopped together."""
    total = last = 0.0
    for line in (run / "logs/speed.jsonl").read_text().splitlines():
        seconds = float(json.loads(line)["seconds"])
        total, last = total + (last if seconds < last else 0.0), seconds
    return round(total + last, 1)


def measure_cost(out: Path, turns: int = 3) -> None:
    """Write what a step of each arm costs, in CPU seconds: medians of steps, arms in turns."""
    from fistful.training import loop

    learnt, _ = bags_of(Path(os.environ["FISTFUL_DATA"]), out)
    arms = [arm for arm in ARMS if not arm.as_long_as]
    found: dict[str, list[float]] = {arm.name: [] for arm in arms}
    real = loop.step
    for _ in range(turns):
        for arm in arms:
            taken: list[float] = []

            def timed(*arguments: Any, taken: list[float] = taken) -> Any:
                start = time.process_time()
                result = real(*arguments)
                taken.append(time.process_time() - start)
                return result

            loop.step = timed
            shutil.rmtree(out / "cost", ignore_errors=True)
            train_arm(arm, 0, learnt, out / "cost", COST_STEPS, out / "features")
            found[arm.name] += taken[2:]
    loop.step = real
    shutil.rmtree(out / "cost")
    write_json(out, "cost.json", {name: round(statistics.median(taken), 3) for name, taken in found.items()})


def go(seeds: list[int], names: list[str], out: Path, steps: int) -> None:
    """Train and score what is missing, a seed after the other."""
    learnt, dev = bags_of(Path(os.environ["FISTFUL_DATA"]), out)
    for seed in seeds:
        for arm in (arm for arm in ARMS if not names or arm.name in names):
            place = f"scores/{arm.name}/{seed}.json"
            if (out / place).exists():
                continue
            start, n_steps = time.perf_counter(), steps_of(arm, steps, out)
            run = train_arm(arm, seed, learnt, out, n_steps, out / "features")
            trained = time.perf_counter()
            ground = lay_ground(dev, run, out / "dev-features.npy")
            found = score(run, ground, arm.rate)
            write_json(out, place, {**found, "seconds": seconds_of(run), "steps": n_steps})
            told = {how: sum(found[how]["image"]) / len(found[how]["image"]) for how in ("plain", "reranked")}
            print(arm.name, seed, told, f"{trained - start:.0f} s + {time.perf_counter() - trained:.0f} s", flush=True)


def figures(out: Path) -> None:
    """Write and print what was found."""
    found: dict[str, dict[int, Any]] = {}
    for place in sorted((out / "scores").glob("*/*.json")):
        found.setdefault(place.parent.name, {})[int(place.stem)] = read_json(place)
    arms = {arm.name: found[arm.name] for arm in ARMS if arm.name in found}
    first = next((out / "runs").glob("*/*"))
    cost = {"cpu_seconds_a_step": read_json(out / "cost.json")} if (out / "cost.json").exists() else {}
    rows = {
        **figures_of(arms),
        **cost,
        "photos": read_json(out / "photos/cut.json")["photos"],
        "config": manifest.read_config(first)["config"],
    }
    gained = {f"{arm}, reranked - plain": told for arm, told in rows["reranked - plain"].items()}
    for pair, values in {**rows["differences"], **gained}.items():
        for name, told in values.items():
            print(f"{pair:36}{name:22}{told['mean']:+6.2f} [{told['low']:+.2f}, {told['high']:+.2f}]  {told['seeds']} seeds")
    for arm, seeds in rows["image_gap"].items():
        for seed, gap in seeds.items():
            parts = ", ".join(
                f"{kind} {gap[kind]['mean']:+.2f} [{gap[kind]['low']:+.2f}, {gap[kind]['high']:+.2f}]"
                for kind in ("all", "content", "stop")
            )
            print(f"image gap of {arm}, seed {seed}: {parts}{': VOID, the picture is not looked at' if gap['void'] else ''}")
    print(write_results("masking", rows, RESULTS, indent=None))


def main() -> None:
    """Read the command line and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=[], choices=[arm.name for arm in ARMS], help="these alone")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("masking-out"))
    parser.add_argument("--cost", action="store_true", help="measure what a step of each arm costs, and train nothing else")
    parser.add_argument("--figures", action="store_true", help="train nothing; write what was found")
    asked = parser.parse_args()
    if asked.figures:
        figures(asked.out)
    elif asked.cost:
        measure_cost(asked.out)
    else:
        go(asked.seeds, asked.arms, asked.out, asked.steps)


if __name__ == "__main__":
    main()
