"""What runs differ in, so that nobody takes for one cause what has several."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from .inputs import Material, RunFolder
from .page_text import brief, number

SHORT = 8
"""Digits shown of a fingerprint."""


@dataclasses.dataclass(frozen=True, slots=True)
class Differing:
    """The options that differ between runs."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Of each run its name, its colour and its values."""
    same: str
    """What nobody should wonder about: steps and samples a step, where they are equal."""


def differing_of(material: Material) -> Differing | None:
    """Return the options, and the data, that differ between runs; None where none do, but for their seeds."""
    place = {name: i for i, name in enumerate(material.models())}
    names = {folder.fingerprint or "": folder.name for folder in (*material.data, *material.labels)}
    found = [{"data": _data(run, names), **run.options()} for run in material.runs]
    options = [name for name in dict.fromkeys(name for one in found for name in one) if name != "seed"]
    differ = [name for name in options if len({str(one.get(name)) for one in found}) > 1]
    if not differ:
        return None
    same = [
        f"{number(found[0][name])} {text}" for name, text in (("steps", "steps"), ("batch_size", "samples a step")) if name not in differ
    ]
    rows = [
        (run.name, place[run.name], tuple(_value(one.get(name)) for name in differ)) for run, one in zip(material.runs, found, strict=True)
    ]
    return Differing(tuple(name.replace("_", " ") for name in differ), tuple(rows), " of ".join(same))


def _data(run: RunFolder, names: dict[str, str]) -> str:
    """Return the folders that a run learnt from: by name where they are on the page, else by their fingerprint."""
    prints: list[str] = [one["fingerprint"] for one in run.config["inputs"]]
    return ", ".join(names.get(one, one[:SHORT]) for one in prints)


def _value(value: Any) -> str:
    if value in (None, ""):
        return "–"
    if re.fullmatch("[0-9a-f]{64}", str(value)):
        return str(value)[:SHORT]
    return brief(number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value, 24)
