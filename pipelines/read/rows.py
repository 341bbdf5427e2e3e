"""What every source yields: batches of rows as columns, and dead letters for the rows that cannot be used.

A batch is columns, not objects: at a million captions a second an object a row would be most of the time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.store.dead_letters import RAW_BYTES, DeadLetter, Reason, Refused
from fistful.bow.store.plain_text import printable

from .units import Unit

BATCH_ROWS = 16_384
"""Rows in a batch, where they come one by one."""
BATCH_BYTES = 8 << 20
"""Images and text in a batch, in bytes, where they come one by one."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class RowBatch:
    """Some consecutive rows of a unit: the usable ones as columns, the refused ones, and how many in all.

    Captions are stripped and not empty. A column that is the same in all rows is one value.
    """

    numbers: np.ndarray
    """int64: where each usable row stood among all rows of the unit."""
    captions: pa.StringArray
    """All captions, row after row."""
    groups: np.ndarray
    """int64, a number more than rows: row i has the captions groups[i] to groups[i + 1]."""
    letters: list[DeadLetter]
    n_read: int
    source_keys: list[str] | Places
    images: list[bytes | None] | None = None
    extensions: list[str] | None = None
    sources: str | list[str] = ""
    extra: str | list[str] = "{}"
    pictures: list[str] | None = None
    """What the column says that names pictures, for whoever makes a listing of them."""

    @property
    def n_rows(self) -> int:
        """How many rows can be used."""
        return len(self.numbers)

    @property
    def rows(self) -> list[Row]:
        """The rows as objects, for work that costs far more than they do."""
        captions, groups = self.captions.to_pylist(), self.groups.tolist()
        keys = self.keys()
        return [
            Row(
                number=int(self.numbers[i]),
                source_key=keys[i],
                captions=captions[groups[i] : groups[i + 1]],
                image=self.images[i] if self.images else None,
                extension=self.extensions[i] if self.extensions else "",
                source=self.sources if isinstance(self.sources, str) else self.sources[i],
                extra=self.extra if isinstance(self.extra, str) else self.extra[i],
            )
            for i in range(self.n_rows)
        ]

    def key(self, i: int) -> str:
        """Return what the source calls one row."""
        return self.source_keys[i] if isinstance(self.source_keys, list) else self.source_keys.at(int(self.numbers[i]))

    def pick(self, rows: np.ndarray) -> RowBatch:
        """Return some of the rows, in the order asked for."""
        lengths = np.diff(self.groups)[rows]
        groups = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.groups[rows] - groups[:-1], lengths) + np.arange(groups[-1])
        picked = rows.tolist()
        return dataclasses.replace(
            self,
            numbers=self.numbers[rows],
            captions=self.captions.take(pa.array(places)),
            groups=groups,
            source_keys=[self.source_keys[i] for i in picked] if isinstance(self.source_keys, list) else self.source_keys,
            images=[self.images[i] for i in picked] if self.images else None,
            extensions=[self.extensions[i] for i in picked] if self.extensions else None,
            sources=self.sources if isinstance(self.sources, str) else [self.sources[i] for i in picked],
            extra=self.extra if isinstance(self.extra, str) else [self.extra[i] for i in picked],
        )

    def slices(self, n_rows: int) -> Iterator[RowBatch]:
        """Yield the same rows in batches of at most so many; the first has the letters and counts all."""
        for start in range(0, max(self.n_rows, 1), n_rows):
            part = slice(start, start + n_rows)
            groups = self.groups[start : start + n_rows + 1]
            yield dataclasses.replace(
                self,
                numbers=self.numbers[part],
                captions=self.captions.slice(groups[0], groups[-1] - groups[0]),
                groups=groups - groups[0],
                letters=[] if start else self.letters,
                n_read=0 if start else self.n_read,
                source_keys=self.source_keys[part] if isinstance(self.source_keys, list) else self.source_keys,
                images=self.images[part] if self.images else None,
                extensions=self.extensions[part] if self.extensions else None,
                sources=self.sources if isinstance(self.sources, str) else self.sources[part],
                extra=self.extra if isinstance(self.extra, str) else self.extra[part],
            )

    def keys(self) -> list[str]:
        """Return what the source calls each row."""
        return self.source_keys if isinstance(self.source_keys, list) else self.source_keys.of(self.numbers)

    def caption_lists(self) -> pa.ListArray:
        """Return each row's captions as a list."""
        return pa.ListArray.from_arrays(pa.array(self.groups, pa.int32()), self.captions)


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Names of rows that are known by where they stand: "row 17 from byte 4096"."""

    after: str

    def of(self, numbers: np.ndarray) -> list[str]:
        """Return the names of rows, counted from 1."""
        return [f"row {n}{self.after}" for n in (numbers + 1).tolist()]

    def at(self, number: int) -> str:
        """Return the name of one row."""
        return f"row {number + 1}{self.after}"


def make_letter(reason: Reason, unit: Unit, place: str, detail: str, raw: bytes, picture: str = "") -> DeadLetter:
    """Return a dead letter of a unit, with no more of the raw row than is kept."""
    return DeadLetter(reason, unit.name, printable(place), detail, raw[:RAW_BYTES], picture)


def letters_only(letters: list[DeadLetter]) -> RowBatch:
    """Return a batch without one usable row."""
    return batch_of_rows([], letters, len(letters))


def no_caption(unit: Unit, place: str) -> DeadLetter:
    """Return the dead letter of a row without a caption."""
    return make_letter("no_caption", unit, place, "caption is empty or missing", b"")


def batch_of_rows(rows: Sequence[Row], letters: list[DeadLetter], n_read: int) -> RowBatch:
    """Put rows together."""
    return RowBatch(
        numbers=np.array([row.number for row in rows], np.int64),
        captions=pa.array([caption for row in rows for caption in row.captions], pa.string()),
        groups=np.cumsum([0, *(len(row.captions) for row in rows)], dtype=np.int64),
        letters=letters,
        n_read=n_read,
        source_keys=[row.source_key for row in rows],
        images=[row.image for row in rows],
        extensions=[row.extension for row in rows],
        sources=[row.source for row in rows],
        extra=[row.extra for row in rows],
    )


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def extra_json(fields: dict[str, Any]) -> str:
    """Return a row's extra fields as one JSON text.

    Raises:
        Refused: bad_json, where a value has no place in JSON.
    """
    try:
        return _ENCODER.encode(fields)
    except (ValueError, RecursionError):
        raise Refused("bad_json", "holds a number that is out of range") from None
