"""The images of a set as a model wants them, in order, decoded by a few threads ahead of the model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from fistful.bow.store.dead_letters import NOT_FETCHED, DeadLetter, Refused
from fistful.bow.store.images import decode_image
from fistful.errors import DataError

from .duplicates import phash
from .evaluation_set import SEVERAL, Sample

Half = Literal["all", "dev", "test"]

DECODE_THREADS = 2
"""Decoding and resizing leave the interpreter's lock; two threads keep one small tower busy."""

AHEAD = 256
"""Images decoded ahead of the model: 38 MB at 224 pixels."""


class Ready(NamedTuple):
    """A decoded image."""

    name: str
    sha256: str
    """Of the image's bytes: what the halves are drawn by, and what pairs images between results."""
    source: str
    label: int
    labels: tuple[int, ...]
    pixels: np.ndarray
    """uint8 (H, W, 3)."""
    phash: int
    """Perceptual hash, for finding near-duplicates; 0 where it is not wanted."""


@dataclasses.dataclass(slots=True)
class ImageTally:
    """Every image of a set is in one of these: used, refused, or left to the other half."""

    digest: Any = dataclasses.field(default_factory=hashlib.sha256)
    """Over all names and contents, in order."""
    n_in: int = 0
    other_half: int = 0
    letters: list[DeadLetter] = dataclasses.field(default_factory=list)
    per_class: dict[int, int] = dataclasses.field(default_factory=dict)
    """Images that the set has of each class, whether used or not."""
    label_of: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """The classes of each image, by its hash."""
    n_copies: int = 0
    """Images that repeat an earlier one byte for byte."""
    n_torn: int = 0
    """Copies that stand under another class."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What was found odd about the pixels."""

    @property
    def looked_at(self) -> int:
        """Images that were used or refused: what lies in the other half was neither."""
        return self.n_in - self.other_half


def half_of(sha256: str) -> Half:
    """Return which half of its set an image belongs to: by its content, so that copies stay together.

    >>> half_of("7f" + 62 * "0"), half_of("80" + 62 * "0")
    ('dev', 'test')
    """
    return "dev" if int(sha256[:2], 16) < 128 else "test"


def ready_images(
    samples: Iterable[Sample | DeadLetter],
    prepare: Callable[[Image.Image], np.ndarray],
    half: Half,
    tally: ImageTally,
    *,
    hashed: bool = False,
) -> Iterator[Ready]:
    """Decode the images of one half in order, and tally all of them; `hashed` computes their perceptual hashes too."""
    waiting: deque[tuple[Sample, str, Future[tuple[np.ndarray, int]]]] = deque()
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        for sample in samples:
            digest = _count(sample, half, tally)
            if digest is not None and isinstance(sample, Sample):
                waiting.append((sample, digest, pool.submit(_decode, sample.data, prepare, hashed)))
            if len(waiting) >= AHEAD:
                yield from _finish(*waiting.popleft(), tally)
        while waiting:
            yield from _finish(*waiting.popleft(), tally)


def _count(sample: Sample | DeadLetter, half: Half, tally: ImageTally) -> str | None:
    """Tally one image; return its SHA-256 if it is to be decoded."""
    tally.n_in += 1
    if isinstance(sample, DeadLetter):
        tally.letters.append(sample)
        tally.digest.update(f"{sample.place}\0{sample.reason}\n".encode())
        return None
    digest = hashlib.sha256(sample.data).hexdigest()
    said = sample.label if sample.label != SEVERAL else list(sample.labels)
    tally.digest.update(f"{sample.name}\0{said}\0{digest}\n".encode("utf-8", "surrogateescape"))
    if digest in tally.label_of:
        tally.n_copies += 1
        tally.n_torn += tally.label_of[digest] != sample.classes()
    tally.label_of.setdefault(digest, sample.classes())
    for label in sample.classes():
        tally.per_class[label] = tally.per_class.get(label, 0) + 1
    if half not in ("all", half_of(digest)):
        tally.other_half += 1
        return None
    return digest


def check_refused(name: str, tally: ImageTally, limit: float) -> None:
    """Check that not too many images of a set were refused; what img2dataset could not fetch is no fault of them.

    Raises:
        DataError: If so; the message names the first.
    """
    bad = [letter for letter in tally.letters if letter.reason != NOT_FETCHED]
    if len(bad) > limit * tally.looked_at:
        first = bad[0]
        raise DataError(
            f"{name}: {len(bad)} of {tally.looked_at} images refused, the first {first.place} ({first.reason}: {first.detail}); "
            f"expected at most {limit:.0%}; --max-bad-fraction allows more"
        )


def _decode(data: bytes, prepare: Callable[[Image.Image], np.ndarray], hashed: bool) -> tuple[np.ndarray, int]:
    image = decode_image(data)
    return prepare(image), phash(image) if hashed else 0


def _finish(sample: Sample, digest: str, decoded: Future[tuple[np.ndarray, int]], tally: ImageTally) -> Iterator[Ready]:
    try:
        yield Ready(sample.name, digest, sample.source, sample.label, sample.labels, *decoded.result())
    except Refused as refused:
        tally.letters.append(DeadLetter(refused.reason, sample.name, sample.name, refused.detail, sample.data[:1000]))
