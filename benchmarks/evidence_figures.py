"""Figures of the lab: means over seeds with Student's 95 % intervals, paired differences, and shares of the gap."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .measure import over_seeds, write_results

Scores = Mapping[int, Mapping[str, Any]]
"""By seed, what `evidence_scores.score` found."""
MEASURES: dict[str, tuple[str, ...]] = {
    "cosine macro": ("cosine", "ap_macro"),
    "cosine head": ("cosine", "ap_head"),
    "cosine middle": ("cosine", "ap_middle"),
    "cosine tail": ("cosine", "ap_tail"),
    "head-path macro": ("head", "ap_macro"),
    "head-path head": ("head", "ap_head"),
    "head-path middle": ("head", "ap_middle"),
    "head-path tail": ("head", "ap_tail"),
    **{f"{name} {half}": (name, half) for name in ("tiny-imagenet", "cifar10") for half in ("dev", "dev_covered", "test", "test_covered")},
}
PAIRS = (
    ("fifth", "drawn"),
    ("fixed", "drawn"),
    ("once", "drawn"),
    ("copied", "drawn"),
    ("placebo", "drawn"),
    ("all", "drawn"),
    ("all", "drawn+vectors"),
    ("all", "drawn+other"),
    ("all+vectors", "drawn+vectors"),
    ("fifth", "fifth+vectors"),
    ("fifth+random", "fifth+vectors"),
    ("fifth", "fifth+random"),
    ("fifth", "fifth+own"),
    ("fifth", "fifth+other"),
    ("all", "all+vectors"),
    ("fifth", "fifth+loss"),
    ("all", "all+loss"),
    ("drawn", "drawn-head"),
    ("drawn", "drawn-knn"),
    ("drawn", "drawn-prompts"),
    ("drawn", "drawn-again"),
    ("drawn", "drawn+20k"),
    ("all", "drawn+20k"),
    *((f"all-random{more}", f"all-{way}{more}") for more in ("", "+vectors") for way in ("w2v", "cap", "budget")),
    ("all", "all-random"),
    ("fifth", "fifth-random"),
    ("all-random", "drawn"),
    ("fifth-random", "drawn"),
    ("fifth-random", "drawn-random"),
    ("all-random", "drawn-random"),
    ("drawn", "drawn-random"),
    ("all-caption", "drawn"),
    ("all", "all-w2v"),
    ("all", "all-caption"),
)
"""First and second arm of each difference, second - first."""
GAPS = (("fifth", "all"), ("fifth+vectors", "all+vectors"), ("fifth-random", "all-random"))
"""What a share of the gap is measured between."""


def write_figures(folder: Path, found: Mapping[str, Mapping[str, Scores]], labels: Mapping[str, Any]) -> Path:
    """Write FOLDER/evidence-DATE.json, every score of every seed and what follows, and print what follows.

    Args:
        folder: Where to write.
        found: By lab and arm, the scores.
        labels: By lab and seed, figures of the labels.
    """
    rows = {lab: {"scores": arms, "labels": labels[lab], **figures_of(arms)} for lab, arms in found.items()}
    for lab, row in rows.items():
        print(f"{lab}: share of the gap in macro average precision of words, by cosine")
        for gap, arms in row["shares_of_the_gap"].items():
            print(f"  {gap}")
            for arm, share in arms.items():
                print(f"    {arm:22}{share['mean']:6.2f}  {share.get('low', '')} to {share.get('high', '')}  {share['seeds']} seeds")
    return write_results("evidence", rows, folder, indent=None)


def figures_of(arms: Mapping[str, Scores]) -> dict[str, Any]:
    """Return means, paired differences and shares of the gap, in points of 100."""
    means = {arm: {name: _told(_values(scores, place)) for name, place in MEASURES.items()} for arm, scores in arms.items()}
    differences = {
        f"{second} - {first}": {name: _told(_paired(arms[first], arms[second], place)) for name, place in MEASURES.items()}
        for first, second in PAIRS
        if first in arms and second in arms
    }
    shares = {}
    for low, high in GAPS:
        if low in arms and high in arms:
            place = MEASURES["cosine macro"]
            of_gap = {arm: _shares(arms[low], arms[high], scores, place) for arm, scores in arms.items() if arm not in (low, high)}
            shares[f"{low} to {high}"] = {arm: _told(values, 1.0) for arm, values in of_gap.items() if len(values)}
    return {"means": means, "differences": differences, "shares_of_the_gap": shares}


def _value(scores: Mapping[str, Any], place: tuple[str, ...]) -> float:
    value: Any = scores
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    return np.nan if value is None else float(value)


def _values(scores: Scores, place: tuple[str, ...]) -> np.ndarray:
    return _known([_value(scores[seed], place) for seed in sorted(scores)])


def _paired(first: Scores, second: Scores, place: tuple[str, ...]) -> np.ndarray:
    return _known([_value(second[seed], place) - _value(first[seed], place) for seed in sorted(first.keys() & second.keys())])


def _shares(low: Scores, high: Scores, arm: Scores, place: tuple[str, ...]) -> np.ndarray:
    """Return (arm - low) / (high - low), seed by seed."""

    def share(seed: int) -> float:
        bottom, top = _value(low[seed], place), _value(high[seed], place)
        return (_value(arm[seed], place) - bottom) / (top - bottom)

    return _known([share(seed) for seed in sorted(low.keys() & high.keys() & arm.keys())])


def _known(values: list[float]) -> np.ndarray:
    found = np.array(values, np.float64)
    return found[~np.isnan(found)]


def _told(values: np.ndarray, unit: float = 100.0) -> dict[str, Any] | None:
    return over_seeds(values, unit) if len(values) else None
