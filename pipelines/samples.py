"""Writing a sample: its members in the shard and its row of the index, side by side."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pyarrow as pa

from fistful.bow.store.images import Header
from fistful.bow.store.index import INDEX_SCHEMA
from fistful.bow.store.shard import Sink, add_file
from fistful.pipelines.rows import Row

NO_IMAGE = Header("", 0, 0)

_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What is written of a row."""

    key: str
    row: Row
    header: Header
    text: str
    """What KEY.txt says."""
    ids: list[int]
    """Word ids of the full bag, in the order of first appearance; for pseudo-labels best first."""
    words: list[str]
    scores: list[float]
    """Beside the words of a pseudo-bag; [] for a real one."""
    pseudo: bool


class SampleWriter:
    """Appends samples to a tar and collects their index rows."""

    def __init__(self, tar: Sink) -> None:
        self._tar = tar
        self._rows: list[tuple[Any, ...]] = []

    def add(self, sample: Sample) -> None:
        """Append a sample: the image's bytes unchanged, KEY.json, KEY.txt."""
        row, offset, image_name = sample.row, 0, ""
        if row.image is not None:
            image_name = f"{sample.key}.{row.extension}"
            offset = add_file(self._tar, image_name, row.image)
        caption = row.captions[0] if row.captions else ""
        fields = {
            "bag": sample.words,
            "caption": caption,
            "captions": row.captions,
            "extra": row.extra,
            "pseudo": sample.pseudo,
            "scores": sample.scores,
            "source": row.source,
            "source_key": row.source_key,
        }  # by name, as canonical JSON has them: sorting again would cost
        add_file(self._tar, f"{sample.key}.json", _encoder.encode(fields).encode("ascii"))
        add_file(self._tar, f"{sample.key}.txt", sample.text.encode("utf-8"))
        words = (sample.ids, sample.scores, sample.pseudo)
        image = (image_name, offset, len(row.image or b""), sample.header.width, sample.header.height)
        self._rows.append((sample.key, row.source_key, row.captions, *words, *image, row.source, row.extra))

    def index(self) -> pa.Table:
        """Return the index of what was added."""
        columns = list(zip(*self._rows, strict=True)) or [() for _ in INDEX_SCHEMA.names]
        return pa.table(dict(zip(INDEX_SCHEMA.names, map(list, columns), strict=True)), schema=INDEX_SCHEMA)
