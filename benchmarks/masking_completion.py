"""Half-captioned archives: which of a Corel picture's keywords are missing? A part of `make evidence-masking`.

    python -m benchmarks.masking_completion --seeds 0 1 2 --out masking-out       # benchmarks/results/completion-DATE.json

Corel5k's keywords, a fifth of the pictures held out (never shown, copies neither). Of each held-out picture with two keywords or more
half are hidden, drawn by the picture. Beside the head that knows the other half: the word head of the same run, which looks at the
picture alone; the same head with another picture's places; and the prior, the most frequent words. Known words are no answer for any.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.contents import index_contents
from fistful.bow.draw import held_out, mix_all
from fistful.bow.metrics import paired_ratio_interval, ratio_interval, told_apart
from fistful.bow.ragged import Ragged
from fistful.bow.store.files import read_json, write_json
from fistful.bow.store.index import read_index
from fistful.bow.vocabulary import read_vocabulary
from fistful.pipelines.completing import keep_half
from fistful.training.data.readings import padded
from fistful.training.model.load import load_encoder
from fistful.training.train_config import TrainConfig, changed, train_config

from . import evidence_data as data
from .evidence_data import RUNNING, bags_in
from .evidence_scores import _pictures_of
from .measure import RESULTS, write_results

POOL = data.Pool("corel", ("corel5k",))
HOLDOUT = 0.2
K = 3
STEPS = 300


def config_of(seed: int, out: Path) -> TrainConfig:
    """Return how words of bags are learnt to be found from the picture and the other words."""
    config = train_config(
        init="fistful.training.model.pretrained:efficientnet_lite0",
        train_image="none",
        text_tower="words",
        text="bag",
        objective="joint",
        mask_rate=0.5,
        holdout=HOLDOUT,
        batch_size=128,
        steps=STEPS,
        device="cpu",
        threads=1,
        decoders=1,
        features=str(out / "features"),
        progress=False,
    )
    return changed(config, seed=seed)


def bags_of(root: Path, out: Path) -> Path:
    """Return the data folder of Corel's pictures."""
    from fistful.pipelines.bags import BagsConfig, bags
    from fistful.pipelines.count import CountConfig, count

    data.cut_pool(root, POOL, out / "corel", ())
    counts = count(str(out / "corel/all"), out=out / "corel-counts", config=CountConfig(running=RUNNING))
    return bags(str(out / "corel/all"), counts=counts, out=out / "bags/corel", config=BagsConfig(running=RUNNING))


def found_of(scores_NV: np.ndarray, known: Ragged, hidden: Ragged) -> np.ndarray:
    """Return how many of the K best words of each picture are hidden ones; known words are none of them."""
    scores_NV = scores_NV.copy()
    scores_NV[known.rows(), known.values] = -np.inf
    best_NK = np.argsort(-scores_NV, axis=1, kind="stable")[:, :K]
    truth_NV = np.zeros(scores_NV.shape, bool)
    truth_NV[hidden.rows(), hidden.values] = True
    return np.take_along_axis(truth_NV, best_NK, axis=1).sum(axis=1)


def score(run: Path, folder: Path) -> dict[str, list[int]]:
    """Return, for each held-out picture, how many of its hidden words each way finds, and how many could be found."""
    encoder: Any = load_encoder(str(run))
    index = read_index(folder)
    bags, held = bags_in(folder), held_out(index_contents(folder, index), HOLDOUT)
    rows = np.flatnonzero(held & (bags.lengths() >= 2))
    pixels = _pictures_of(folder, encoder)[rows]
    own = bags.pick(rows)
    is_known = keep_half(own, rows.astype(np.uint64), 0)
    known, hidden = own.take(is_known), own.take(~is_known)
    seen_NF, words_NL = encoder.completer.images(pixels), padded(known)
    order = np.argsort(mix_all(0x53485546, np.arange(len(rows))), kind="stable")
    other = np.empty(len(order), np.int64)
    other[order] = np.roll(order, 1)
    df_V = read_vocabulary(folder).df.astype(np.float64)
    ways = {
        "completion": encoder.completer.shares(seen_NF, words_NL),
        "shuffled picture": encoder.completer.shares(seen_NF[other], words_NL),
        "no known words": encoder.completer.shares(seen_NF, np.full((len(rows), 1), -1)),
        "word head": encoder.word_shares(pixels),
        "prior": np.tile(df_V, (len(rows), 1)),
    }
    found = {name: found_of(scores, known, hidden).tolist() for name, scores in ways.items()}
    return found | {"of": np.full(len(rows), K).tolist(), "could be found": np.minimum(hidden.lengths(), K).tolist()}


def figures_of(seeds: dict[int, dict[str, list[int]]]) -> dict[str, Any]:
    """Return precision@3 of hidden words of each way, and by how much completion is ahead, over photos, of all seeds together."""
    total = {name: np.sum([one[name] for one in seeds.values()], axis=0).astype(float) for name in next(iter(seeds.values()))}
    asked, most = total.pop("of"), total.pop("could be found")
    figures: dict[str, Any] = {"seeds": len(seeds), "photos": len(asked), "best possible": _share(most, asked)}
    for name, hits in total.items():
        low, high = ratio_interval(hits, asked)
        figures[name] = {"precision": _share(hits, asked), "low": round(low, 4), "high": round(high, 4)}
        if name != "completion":
            alike = np.minimum(hits, total["completion"])
            low, high = paired_ratio_interval(hits - alike, total["completion"] - alike, asked)
            ahead = {
                "completion ahead": _share(total["completion"] - hits, asked),
                "ahead_low": round(low, 4),
                "ahead_high": round(high, 4),
            }
            figures[name] |= {**ahead, "told_apart": told_apart(low, high)}
    return figures


def _share(hits: np.ndarray, asked: np.ndarray) -> float:
    return round(float(hits.sum() / asked.sum()), 4)


def main() -> None:
    """Train and score what is missing, then write the figures."""
    from fistful.training.train import train

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("masking-out"))
    asked = parser.parse_args()
    folder = bags_of(Path(os.environ["FISTFUL_DATA"]), asked.out)
    found = {}
    for seed in asked.seeds:
        place = f"completion/{seed}.json"
        if not (asked.out / place).exists():
            run = train(str(folder), out=asked.out / "runs/completion" / str(seed), config=config_of(seed, asked.out))
            write_json(asked.out, place, score(run, folder))
        found[seed] = read_json(asked.out / place)
    rows = figures_of(found)
    for name, row in rows.items():
        print(f"{name}: {row}")
    print(write_results("completion", rows, RESULTS))


if __name__ == "__main__":
    main()
