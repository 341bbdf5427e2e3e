"""Dead letters: what was refused, why, and where it stood."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from .tables import ROW_GROUP, TableWriter

Reason = Literal[
    "bad_caption",  # a caption that is not UTF-8
    "bad_image",  # bytes that are no image of a known kind
    "bad_json",  # metadata that is not a JSON object
    "bad_name",  # a file name that leaves its folder, or is there twice
    "bad_row",  # another number of columns than the header or the first row
    "huge_image",  # more pixels than MAX_PIXELS
    "no_caption",  # an empty caption, or none
    "no_image",  # a sample without an image where others have one
    "no_label",  # an image to be labelled without one word that can be given to it; of an evaluation set, without one of its classes
    "no_words",  # a caption without one word of the vocabulary
    "not_fetched",  # a row of which img2dataset says that no picture came: its tars and folders leave such rows out
    "truncated",  # an archive that ends, or breaks, in the middle
]
NOT_FETCHED: Reason = "not_fetched"
REASONS: tuple[str, ...] = get_args(Reason)

RAW_BYTES = 1_000
"""How much of a refused row is kept."""

DEAD_LETTER_SCHEMA = pa.schema(
    [("reason", pa.string()), ("file", pa.string()), ("place", pa.string()), ("detail", pa.string()), ("raw", pa.binary())]
)


class Refused(Exception):
    """A sample that cannot be used: its reason, what exactly was found, and its bytes where only the reader still has them."""

    def __init__(self, reason: Reason, detail: str, raw: bytes = b"") -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
        self.raw = raw[:RAW_BYTES]


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused sample."""

    reason: Reason
    file: str
    """Name of the input file, relative to its source."""
    place: str
    """Where in the file: "row 17", or a member's name."""
    detail: str
    raw: bytes
    picture: str = ""
    """What the row of a table calls its picture, where that can be told; not written."""


def dead_letter_table(letters: list[DeadLetter]) -> pa.Table:
    """Return dead letters as a table, in their order."""
    return pa.table(
        {
            "reason": [letter.reason for letter in letters],
            "file": [letter.file for letter in letters],
            "place": [letter.place for letter in letters],
            "detail": [letter.detail for letter in letters],
            "raw": [letter.raw[:RAW_BYTES] for letter in letters],
        },
        schema=DEAD_LETTER_SCHEMA,
    )


class Letters:
    """Dead letters of a unit, in their order; many of them are kept as compressed parquet, so that a bad file does not fill the memory."""

    def __init__(self, letters: Iterable[DeadLetter] = ()) -> None:
        self._waiting: list[DeadLetter] = []
        self._writer = TableWriter(DEAD_LETTER_SCHEMA)
        self.by_reason: dict[str, int] = {}
        self += letters

    def __iadd__(self, letters: Iterable[DeadLetter]) -> Letters:
        for letter in letters:
            self.append(letter)
        return self

    def append(self, letter: DeadLetter) -> None:
        """Add a letter."""
        self.by_reason[letter.reason] = self.by_reason.get(letter.reason, 0) + 1
        self._waiting.append(letter)
        if len(self._waiting) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.add(dead_letter_table(self._waiting))
        self._waiting = []

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """Write FOLDER/NAME atomically and return its size and hash."""
        if self._waiting:
            self._flush()
        return self._writer.write(folder, name)
