"""What every source yields: rows, and dead letters for the rows that cannot be used."""

from __future__ import annotations

import dataclasses
import re

from fistful.bow.store.dead_letters import RAW_BYTES, DeadLetter, Reason
from fistful.pipelines.units import Unit, printable

BATCH_ROWS = 16_384
BATCH_BYTES = 64 << 20
MAX_TEXT = 1 << 24
"""Longest line, row or text of a sample, in bytes; past it it is not a caption."""
MAX_MEMBER = 1 << 28
"""Largest image file read into memory, in bytes."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of characters: how Python carries names that are not UTF-8. No table or tar can hold them."""


@dataclasses.dataclass(slots=True)
class Row:
    """A sample as it was read."""

    number: int
    source_key: str
    captions: list[str]
    image: bytes | None = None
    extension: str = ""
    source: str = ""
    extra: str = "{}"

    def size_bytes(self) -> int:
        """Return about how much memory its content takes."""
        return len(self.image or b"") + sum(map(len, self.captions))


@dataclasses.dataclass(slots=True)
class Batch:
    """Some consecutive rows of a unit: the usable ones, the refused ones, and how many in all."""

    rows: list[Row] = dataclasses.field(default_factory=list)
    letters: list[DeadLetter] = dataclasses.field(default_factory=list)
    n_read: int = 0
    n_bytes: int = 0

    def full(self) -> bool:
        """Return whether it is time for the next batch."""
        return len(self.rows) + len(self.letters) >= BATCH_ROWS or self.n_bytes >= BATCH_BYTES


def make_letter(reason: Reason, unit: Unit, place: str, detail: str, raw: bytes) -> DeadLetter:
    """Return a dead letter of a unit, with no more of the raw row than is kept."""
    return DeadLetter(reason, unit.name, printable(place), detail, raw[:RAW_BYTES])
