"""A unit: a piece of input that is read at once, whose outputs have its number."""

from __future__ import annotations

import dataclasses
from typing import Literal

Kind = Literal["tsv", "csv", "jsonl", "parquet", "tar", "images", "json", "txt"]


TABLES: tuple[Kind, ...] = ("tsv", "csv", "jsonl", "parquet")
"""Kinds with columns, or fields."""
IN_LINES: tuple[Kind, ...] = ("tsv", "jsonl", "txt")
"""Kinds of which each line is a row, so that they can be entered at any line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A piece of input."""

    number: int
    kind: Kind
    path: str
    """Where it lies: a file, or for images their folder. Never written to an output."""
    name: str
    """Its name relative to the source: what outputs call it, in letters that any table can hold."""
    start: int
    """First byte of a TSV's, JSONL's or plain text's range, first row group of a parquet file, first picture of a listing, or 0."""
    stop: int
    """End of the range; a line belongs to the range that it starts in."""
    files: tuple[str, ...] = ()
    """Names of the images of a run, relative to the folder."""
    size: int = 0
    """Bytes to read, for sorting and forecasts."""
    root: str | None = None
    """Of pictures that a table or a JSON document names: the folder that their names start from. Never written to an output."""
    has_pictures: bool = False
    """Whether its rows should have pictures; False for those of a folder or a listing leaves pictures alone, and only texts are read."""
