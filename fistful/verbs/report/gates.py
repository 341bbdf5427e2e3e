"""Gates of tuned models: how much of each module a layer lets through."""

from __future__ import annotations

import dataclasses

from .inputs import Material

PARTS = ("adapter", "lora", "prefix")
MAX_RUNS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class GateRow:
    """One layer of one tower."""

    layer: str
    shares: tuple[float, ...]
    """The mean gate of each of PARTS over training samples, 0 to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunGates:
    """The gates of a run, image tower first, layers from the input on."""

    name: str
    rows: tuple[GateRow, ...]


def gates_of(material: Material) -> tuple[RunGates, ...]:
    """Return the gates of the runs that have some."""
    found = [(run.name, run.about["gates"]) for run in material.runs if run.about.get("gates")]
    return tuple(
        RunGates(
            name,
            tuple(
                GateRow(f"{tower} {number}", tuple(float(layer[part]) for part in PARTS))
                for tower, layers in sorted(gates.items())
                for number, layer in enumerate(layers, 1)
            ),
        )
        for name, gates in found[:MAX_RUNS]
    )
