"""Rows of webdataset and img2dataset tars."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from fistful.bow.store.dead_letters import DeadLetter, Reason, Refused
from fistful.bow.store.images import IN_SHARDS
from fistful.bow.store.plain_text import SURROGATE, BadText, decode
from fistful.bow.store.tar_samples import PICTURES, TEXTS, TarRefusal, TarSample, read_tar_samples

from .jsonl import json_object
from .rows import Row, extra_json, make_letter, no_caption
from .units import Unit


def read_tar(unit: Unit, stream: io.BufferedReader[Any], with_images: bool, need_captions: bool) -> Iterator[Row | DeadLetter]:
    """Yield the samples of a tar; those that lack something come last."""
    needs: dict[Reason, frozenset[str]] = {}
    if need_captions:
        needs["no_caption"] = TEXTS
    if with_images:
        needs["no_image"] = PICTURES

    def make(sample: TarSample) -> Row | DeadLetter:
        if need_captions and TEXTS.isdisjoint(sample.members):
            return no_caption(unit, sample.key)  # it may wait long: no image is held
        return row_of(unit, sample, with_images)

    for found in read_tar_samples(stream, make, needs=needs, contents=TEXTS | PICTURES if with_images else TEXTS):
        yield make_letter(found.reason, unit, found.place, found.detail, found.raw) if isinstance(found, TarRefusal) else found


def row_of(unit: Unit, sample: TarSample, with_images: bool) -> Row:
    """Return a sample as a row.

    Raises:
        Refused: If its texts cannot be used.
    """
    fields = json_object(sample.contents["json"]) if "json" in sample.contents else {}
    captions = captions_of(fields, sample.contents.get("txt"))
    extension = sample.picture
    image = sample.contents[extension] if extension and with_images else None
    source = fields.pop("source", None)
    source = source if isinstance(source, str) and source and not SURROGATE.search(source) else unit.name
    extra = extra_json(fields) if fields else "{}"
    return Row(sample.number, sample.key, captions, image, IN_SHARDS.get(extension, extension), source, extra)


def captions_of(fields: dict[str, Any], txt: bytes | None) -> list[str]:
    """Take the captions out of a sample's fields, or else out of its text.

    Raises:
        Refused: If they are no texts.
    """
    captions, single = fields.pop("captions", None), fields.pop("caption", None)
    if captions is None:
        if txt is None:
            captions = [single] if isinstance(single, str) else []
        else:
            try:
                captions = [decode(txt)]
            except BadText as error:
                raise Refused("bad_caption", str(error)) from None
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise Refused("bad_json", 'expected "captions" to be a list of strings')
    if any(SURROGATE.search(c) for c in captions):
        raise Refused("bad_caption", "holds half of a surrogate pair")
    return [c.strip() for c in captions]
