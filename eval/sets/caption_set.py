"""Captioned pictures as evaluation sees them: data folders that `fistful bags` wrote, of captions that the model has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fistful.bow.store.index import read_index
from fistful.bow.store.manifest import fingerprint, read_config
from fistful.bow.vocabulary import Vocabulary, read_vocabulary
from fistful.errors import UsageError

from .evaluation_set import Sample
from .open_set import set_name
from .shard_pictures import image_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionSet:
    """A data folder as evaluation sees it."""

    name: str
    folder: Path
    index: dict[str, list[Any]]
    rows: list[int]
    """Of the index: the samples that have a picture and a caption."""
    vocabulary: Vocabulary
    digest: str
    """Of the folder's manifest."""

    def fingerprint(self, show: bool = False) -> dict[str, Any]:  # noqa: ARG002 - nothing is read, so there is nothing to show
        """Return what names the folder's content, as a set of classes has it."""
        return {"name": self.name, "data": self.digest}

    def samples(self) -> Iterator[Sample]:
        """Yield the images; a sample's label is its row in the index."""
        index = self.index
        for row in self.rows:
            key, source = index["key"][row], index["source"][row]
            yield Sample(key, image_bytes(self.folder, key, index["image_offset"][row], index["image_size"][row]), row, source or "")


def open_captions(spec: str) -> CaptionSet:
    """Open a data folder that `fistful bags` wrote.

    Raises:
        UsageError: If another verb wrote it, it is not finished, or has no captioned picture.
    """
    folder = Path(spec)
    verb = read_config(folder)["verb"]
    if verb != "bags":
        raise UsageError(f"--data {spec}: was written by fistful {verb}; expected class folders, or a folder that fistful bags wrote")
    digest = fingerprint(folder)
    index = read_index(folder).select(["key", "captions", "words", "source", "image_offset", "image_size"]).to_pydict()
    rows = [i for i, (captions, size) in enumerate(zip(index["captions"], index["image_size"], strict=True)) if captions and size]
    if not rows:
        raise UsageError(f"--data {spec}: has no picture beside its captions; fistful bags copies pictures from tars and folders of images")
    return CaptionSet(set_name(folder), folder, index, rows, read_vocabulary(folder), digest)
