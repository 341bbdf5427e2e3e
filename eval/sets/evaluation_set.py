"""An evaluation set as the rest of the room sees it, whatever it was on disk."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import hash_file
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.progress import progress_bar

from .class_names import ClassName

HASH_THREADS = 4


HASHED_AT_ONCE = 1_000
"""Files between two looks at the progress bar."""


SEVERAL = -1
"""Label of an image in a multi-label set."""


class Sample(NamedTuple):
    """An image as it lies on disk."""

    name: str
    """Its path inside the set."""
    data: bytes
    label: int
    """Index of its class; SEVERAL where `labels` has them."""
    source: str = ""
    """Where a pooled set says the image came from."""
    labels: tuple[int, ...] = ()
    """Indices of its classes, any number, in a multi-label set."""

    def classes(self) -> tuple[int, ...]:
        """Return its classes."""
        return self.labels if self.label == SEVERAL else (self.label,)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvalSet:
    """A labelled set of images."""

    name: str
    classes: list[ClassName]
    read: Callable[[], Iterator[Sample | DeadLetter]]
    """Yields every image once, always in the same order; what cannot be used comes as a dead letter."""
    n_images: int
    """How many images the names in it promise."""
    files: list[tuple[str, Path]]
    """What is read, by the names that say which image it is; the class names are in `classes`."""
    multilabel: bool = False
    """Whether an image may have several classes, or none."""
    templates: list[str] = dataclasses.field(default_factory=list)
    """Prompt templates that the set itself brings."""
    taken: list[str] = dataclasses.field(default_factory=list)
    """A line for what was recognised rather than named: what is read, and how."""
    warnings: list[str] = dataclasses.field(default_factory=list)

    def fingerprint(self, show: bool = False) -> dict[str, Any]:
        """Return what names all that the set gives to a result: its classes, its templates, and the content of its files.

        Every file is read for it, of any size and time: a label that was put right changes neither.

        Args:
            show: Whether to show a progress bar.
        """
        said = [[[c.folder, c.name, *c.synonyms] for c in self.classes], self.multilabel, self.templates, self.warnings]
        return {"name": self.name, "said": sha256_hex(canonical_json(said)), "files": len(self.files), "content": self._content(show)}

    def _content(self, show: bool) -> str:
        digest, done = hashlib.sha256(), 0
        with ThreadPoolExecutor(HASH_THREADS) as pool, progress_bar(f"hashing {self.name}", len(self.files), show) as update:
            for start in range(0, len(self.files), HASHED_AT_ONCE):
                part = self.files[start : start + HASHED_AT_ONCE]
                for (name, _), own in zip(part, pool.map(_sha256, (path for _, path in part)), strict=True):
                    digest.update(f"{name}\0{own}\n".encode("utf-8", "surrogateescape"))
                done += len(part)
                update(done, "")
        return digest.hexdigest()


def _sha256(path: Path) -> str:
    try:
        return hash_file(path)["sha256"]
    except OSError:
        return ""  # the image is refused when it is read
