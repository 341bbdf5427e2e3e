"""What a run of the masking lab is asked on Flickr8k's development photos: retrieval, plain and reranked, and what the picture is worth.

Shapes: N pictures, M captions, L text places, C channels, D embedding, S seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import SimpleTokenizer

from fistful.bow.draw import mix_all
from fistful.bow.metrics import paired_ratio_interval, seeds_interval, told_apart
from fistful.bow.ragged import Ragged
from fistful.bow.store.index import read_index
from fistful.bow.tokens import ChunkTokenizer
from fistful.eval.tasks.reranking import reranked
from fistful.eval.tasks.retrieval import RetrievalRanks, of_images, retrieval_ranks
from fistful.training.data.readings import token_texts
from fistful.training.masking import Masking, content_tokens, draw_hidden
from fistful.training.model.export import Exported, read_model
from fistful.training.model.fusion import text_places
from fistful.training.model.matching import Matcher
from fistful.training.model.model import normalise
from fistful.training.model.places import frozen_features, see_frozen
from fistful.training.model.tower_encoders import TowerEncoder, encoder_of

from .evidence_scores import PASS, _pictures_of
from .measure import over_seeds

NEAREST = 10
"""Answers that are put in order once more."""
KINDS = ("content", "stop")
MASK_SEED = 1_000_003
"""Of the places hidden for measuring: no run's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What every run is measured on."""

    frozen_NF: np.ndarray
    """float16: places and features of the trunk that all runs share, as training keeps them."""
    captions: list[str]
    owner_M: np.ndarray
    """The picture of each caption."""


def lay_ground(dev: Path, run: Path, kept: Path) -> Ground:
    """Read the development photos as any run's trunk sees them, and keep that."""
    lists = read_index(dev)["captions"].to_pylist()
    if not kept.exists():
        exported = read_model(run / "model")
        encoder = encoder_of(exported, run / "model", run.name)
        mean, std = encoder.preprocess["mean"], encoder.preprocess["std"]
        parts = torch.from_numpy(_pictures_of(dev, encoder)).split(PASS)
        with torch.inference_mode():
            seen = torch.cat([frozen_features(exported.model, normalise(part, mean, std)) for part in parts])
        np.save(kept, seen.numpy().astype(np.float16))
    captions = [caption for own in lists for caption in own]
    return Ground(np.load(kept), captions, np.repeat(np.arange(len(lists)), [len(own) for own in lists]))


def score(run: Path, ground: Ground, rate: float) -> dict[str, Any]:
    """Return a run's figures for each photo."""
    exported = read_model(run / "model")
    encoder = encoder_of(exported, run / "model", run.name)
    with torch.inference_mode():
        sights = [see_frozen(exported.model, torch.from_numpy(part).float()) for part in np.array_split(ground.frozen_NF, 32)]
        places_NE = torch.cat([exported.model.fusion.from_image(sight[0]) for sight in sights])
    images_ND = torch.cat([sight[2] for sight in sights]).numpy()
    figures = _retrieval(encoder, images_ND, places_NE, ground)
    return figures | ({"gap": _image_gap(exported, places_NE, ground, rate)} if rate else {})


def _retrieval(encoder: TowerEncoder, images_ND: np.ndarray, places_NE: torch.Tensor, ground: Ground) -> dict[str, Any]:
    texts_MD = encoder.embed_texts(ground.captions)
    plain = retrieval_ranks(images_ND, texts_MD, ground.owner_M)
    matcher = encoder.matcher
    assert isinstance(matcher, Matcher)
    read, flat = matcher.read_texts(ground.captions), places_NE.flatten(1).numpy()
    again, passes = reranked(images_ND, texts_MD, plain, NEAREST, lambda pairs, cosines: matcher.scores(flat, read, pairs, cosines))
    return {"plain": _hits(plain), "reranked": _hits(again), "passes": passes}


def _hits(ranks: RetrievalRanks) -> dict[str, list[float]]:
    """Return each photo's share of captions that find it first, and whether it finds one of its own first."""
    n_captions = of_images(ranks, np.ones(len(ranks.captions)))
    shares = of_images(ranks, ranks.captions < 1) / n_captions
    return {"image": np.round(shares, 4).tolist(), "text": (ranks.images < 1).astype(int).tolist()}


def _image_gap(exported: Exported, places_NE: torch.Tensor, ground: Ground, rate: float) -> dict[str, list[list[int]]]:
    """Return of each photo how many hidden tokens there are, and how many are found with its own and with another's places."""
    model, tokenizer = exported.model, SimpleTokenizer(context_length=exported.model.shape.model_cfg["text_cfg"]["context_length"])
    tokens = tokenizer(ground.captions)
    is_content = content_tokens(token_texts(tokenizer), ChunkTokenizer("en").stop_words)(tokens.numpy())
    hidden = _hidden(tokens.numpy(), is_content, rate)
    order = np.argsort(mix_all(0x53485546, np.arange(len(places_NE))), kind="stable")
    other_N = np.empty(len(order), np.int64)
    other_N[order] = np.roll(order, 1)  # nobody's own
    found = {kind: np.zeros((len(places_NE), 3), np.int64) for kind in KINDS}
    for start in range(0, len(tokens), PASS):
        part, mask = tokens[start : start + PASS], torch.from_numpy(hidden[start : start + PASS])
        photos = ground.owner_M[start : start + PASS]
        right = [_right(model, part, mask, places_NE[torch.from_numpy(of)]) for of in (photos, other_N[photos])]
        rows = photos[mask.nonzero()[:, 0].numpy()]
        content = is_content[start : start + PASS][mask.numpy()]
        for kind, wanted in zip(KINDS, (content, ~content), strict=True):
            for column, hits in enumerate((np.ones(len(rows), bool), *right)):
                found[kind][:, column] += np.bincount(rows[wanted], weights=hits[wanted], minlength=len(places_NE)).astype(np.int64)
    return {kind: counts.tolist() for kind, counts in found.items()}


def _hidden(tokens_ML: np.ndarray, is_content_ML: np.ndarray, rate: float) -> np.ndarray:
    """Hide places by rule uniform: the same for all runs of a rate."""
    place, end_M = np.arange(tokens_ML.shape[1]), tokens_ML.argmax(axis=1)
    may = (place > 0) & (place < end_M[:, None])
    texts = Ragged(np.concatenate([[0], np.cumsum(may.sum(axis=1))]), np.nonzero(may)[1])
    numbers = np.arange(len(tokens_ML))
    hidden = np.zeros(tokens_ML.shape, bool)
    hidden[may] = draw_hidden(texts, is_content_ML[may], numbers, np.zeros(len(numbers), np.int64), Masking(rate, "uniform", MASK_SEED))
    return hidden


@torch.inference_mode()
def _right(model: Any, tokens_BL: torch.Tensor, hidden_BL: torch.Tensor, places_BNE: torch.Tensor) -> np.ndarray:
    """Return whether the likeliest answer at each hidden place is right; a token that no answer is for is wrong."""
    fusion = model.fusion
    fused = fusion.fuse(*text_places(model, tokens_BL, hidden_BL), places_BNE)[hidden_BL]
    return (fusion.answers_V[fusion.answer(fused).argmax(dim=1)] == tokens_BL[hidden_BL]).numpy()


# Figures

Scores = Mapping[int, Mapping[str, Any]]
"""By seed, what `score` found."""
RETRIEVALS = tuple((how, way) for how in ("reranked", "plain") for way in ("image", "text"))


def figures_of(arms: Mapping[str, Scores]) -> dict[str, Any]:
    """Return means, paired differences and image gaps, in points of 100."""
    means = {
        arm: {
            **{f"{how} {way} R@1": over_seeds([float(np.mean(one[how][way])) for one in scores.values()]) for how, way in RETRIEVALS},
        }
        for arm, scores in arms.items()
    }
    pairs = [("uniform-15", "uniform-60"), ("content-15", "content-60"), ("uniform-15", "content-15"), ("uniform-60", "content-60")]
    pairs += [(f"{rule}-15", f"{rule}-60-minutes") for rule in ("uniform", "content")]
    pairs += [("uniform-15", "uniform-30"), ("uniform-60", "uniform-75")]
    pairs += [("none", arm) for arm in arms if arm != "none"]
    known = [(first, second) for first, second in pairs if first in arms and second in arms]
    differences = {f"{second} - {first}": differences_of(arms[first], arms[second]) for first, second in known}
    gained = {arm: _gained(scores) for arm, scores in arms.items()}
    gaps = {arm: {seed: gaps_of(one["gap"]) for seed, one in scores.items() if "gap" in one} for arm, scores in arms.items()}
    return {
        "means": means,
        "differences": differences,
        "rules": _rules(arms),
        "reranked - plain": gained,
        "image_gap": {a: g for a, g in gaps.items() if g},
    }


def differences_of(first: Scores, second: Scores) -> dict[str, Any]:
    """Return the difference of each recall, second - first, over the seeds that both have and over photos."""
    seeds, found = sorted(first.keys() & second.keys()), {}
    for how, way in RETRIEVALS:
        one_SN, other_SN = (np.array([scores[seed][how][way] for seed in seeds], np.float64) for scores in (first, second))
        low, high = seeds_interval(one_SN, other_SN) if len(seeds) > 1 else (np.nan, np.nan)
        value = other_SN.mean() - one_SN.mean()
        found[f"{how} {way} R@1"] = {**_points(value, low, high), "told_apart": told_apart(low, high), "seeds": len(seeds)}
    return found


def _gained(scores: Scores) -> dict[str, Any]:
    """Return by how much reranked recalls are ahead of plain ones of the same models."""
    again = {seed: dict.fromkeys(("plain", "reranked"), one["reranked"]) for seed, one in scores.items()}
    return {name.removeprefix("plain "): told for name, told in differences_of(scores, again).items() if name.startswith("plain")}


def _rules(arms: Mapping[str, Scores]) -> dict[str, Any]:
    """Return, over seeds, by how much content differs from uniform at 15 more than at 60, each difference without its sign."""
    four = ("uniform-15", "content-15", "uniform-60", "content-60")
    if not set(four) <= arms.keys():
        return {}
    seeds = sorted(set.intersection(*(set(arms[arm]) for arm in four)))
    found = {}
    for how, way in RETRIEVALS:
        mean = {arm: np.array([np.mean(arms[arm][seed][how][way]) for seed in seeds]) for arm in four}
        at = {rate: mean[f"content-{rate}"] - mean[f"uniform-{rate}"] for rate in (15, 60)}
        found[f"{how} {way} R@1"] = {
            "|content - uniform| at 15 minus at 60": over_seeds(np.abs(at[15]) - np.abs(at[60])),
            "content - uniform at 60 minus at 15": over_seeds(at[60] - at[15]),
        }
    return found


def gaps_of(found: Mapping[str, list[list[int]]]) -> dict[str, Any]:
    """Return accuracy of hidden tokens with their own picture, with another's, and the difference; void where that may be 0."""
    both = {kind: np.array(counts, np.float64) for kind, counts in found.items()}
    both["all"] = sum(both.values(), np.zeros_like(both["stop"]))
    gaps = {}
    for kind, counts in both.items():
        total, own, other = counts.T
        alike, some = np.minimum(own, other), total > 0
        low, high = paired_ratio_interval((other - alike)[some], (own - alike)[some], total[some])
        shares = {"own": own.sum() / total.sum(), "shuffled": other.sum() / total.sum()}
        told = {name: round(100 * float(value), 3) for name, value in shares.items()}
        gaps[kind] = {**told, **_points(shares["own"] - shares["shuffled"], low, high), "tokens": int(total.sum())}
    return gaps | {"void": bool(gaps["all"]["low"] <= 0)}


def _points(value: float, low: float, high: float) -> dict[str, float]:
    return {"mean": round(100 * float(value), 3), "low": round(100 * float(low), 3), "high": round(100 * float(high), 3)}
