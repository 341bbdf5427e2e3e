"""The comparison: configurations side by side, what changed by class, and example pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...wording import counted
from .changes import Changes, Example, changes_of, pictures_of
from .classes import facts_of
from .configurations import Side, judged_sets, side_of
from .inputs import Material
from .page_text import brief
from .report_config import ReportConfig
from .sample_pictures import Picture


@dataclasses.dataclass(frozen=True, slots=True)
class SetComparison:
    """The comparison on one set."""

    side: Side
    changes: Changes | None


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """The section."""

    keys: tuple[tuple[str, str], ...]
    """Sets and prompt sets that it is about."""
    parts: tuple[SetComparison, ...]
    pictures: dict[str, Picture]
    """Of example images, by their hash."""
    note: str


def comparison_of(material: Material, config: ReportConfig) -> Comparison | None:
    """Build the section; None where nothing can be compared."""
    place = {name: i for i, name in enumerate(material.models())}
    keys, parts = [], []
    for key, judged in judged_sets(material, config.top):
        facts = facts_of(material, key) if judged.labels is not None else None
        changes = changes_of(judged, facts, place) if facts is not None else None
        keys.append(key)
        parts.append(SetComparison(side_of(key, judged, place, config.top), changes))
    if not parts:
        return None
    pictures = pictures_of(_examples(parts), config.sets)
    note = "" if pictures or not any(_examples(parts)) else "Pictures of the examples: give their evaluation set with --sets."
    return Comparison(tuple(keys), tuple(parts), pictures, note)


def _examples(parts: Sequence[SetComparison]) -> list[Example]:
    return [e for part in parts if part.changes for by in part.changes.by for c in (*by.gained, *by.lost) for e in c.examples]


def readings(comparison: Comparison | None) -> list[str]:
    """Return a sentence a set, if there are several seeds of a configuration."""
    sides = [part.side for part in comparison.parts] if comparison else []
    return [_reading(side) for side in sides] if any(line.seeds != "1" for side in sides for line in side.lines) else []


def _reading(side: Side) -> str:
    first, *others = side.lines
    text = f"On {side.where}, {side.measure} is {first.score.value}\u00a0% for {brief(first.name)} ({_seeds(first.seeds)})"
    for line in others:
        text += (
            f"; {brief(line.name)} ({_seeds(line.seeds)}) differs by {line.difference.value} [{line.difference.interval}]: {line.verdict}"
        )
    return text + "."


def _seeds(n: str) -> str:
    return counted(int(n.replace(",", "")), "seed")
