"""JSON documents that name pictures and their captions: COCO's, Karpathy's, and a list of objects."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from typing import Any

from fistful.bow.store.files import open_input
from fistful.bow.store.plain_text import SURROGATE
from fistful.errors import UsageError

from .source_options import CAPTIONS, SourceOptions, usual_name

FILE_NAMES = ("file_name", "filename", "image_path", "filepath", "file_path", "image", "img_path", "image_name", "img", "path", "file")
"""Names of columns and fields that name a picture's file, the likeliest first."""
MOST_BYTES = 4 << 30
"""Largest document that is read: it is held in memory at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A picture of a document; `wrong` says what is wrong with it, where something is."""

    name: str
    captions: tuple[str, ...]
    fields: dict[str, Any]
    split: str = ""
    wrong: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """What a document is, and its pictures in its order."""

    what: str
    entries: list[Entry]


def read_document(path: str, options: SourceOptions) -> Document:
    """Read a JSON document.

    Raises:
        UsageError: If it is none of the kinds that are known.
    """
    with open_input(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path}: has more than {MOST_BYTES >> 30} GiB; make JSONL or parquet of it")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON ({type(error).__name__})") from None
    document = _coco(found) or _karpathy(found) or _objects(found, options)
    if document is None:
        raise UsageError(
            f"{path}: is JSON of a kind that is not read; expected COCO's captions (images, annotations), "
            "Karpathy's (images with sentences), or a list of objects that name an image and its caption"
        )
    return document


def _coco(found: Any) -> Document | None:
    """Read {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}."""
    images, annotations = _lists_of_objects(found, "images"), _lists_of_objects(found, "annotations")
    if images is None or annotations is None or not any("caption" in annotation for annotation in annotations):
        return None
    captions: dict[Any, list[str]] = {_key(image.get("id")): [] for image in images}
    stray = []
    for number, annotation in enumerate(annotations, 1):
        of, text = captions.get(_key(annotation.get("image_id"))), annotation.get("caption")
        if of is None:
            stray.append(
                Entry("", (), {}, wrong=f"annotation {number} belongs to no image (image_id {str(annotation.get('image_id'))[:40]})")
            )
        elif isinstance(text, str):
            of.append(text)
    entries = [
        _entry(number, image.get("file_name"), captions[_key(image.get("id"))], {"coco_id": image.get("id")})
        for number, image in enumerate(images, 1)
    ]
    return Document("COCO captions", entries + stray)


def _karpathy(found: Any) -> Document | None:
    """Read {"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}."""
    images = _lists_of_objects(found, "images")
    if not images or not all(isinstance(image.get("sentences"), list) for image in images):
        return None
    entries = []
    for number, image in enumerate(images, 1):
        captions = [sentence.get("raw") for sentence in image["sentences"] if isinstance(sentence, dict)]
        name, folder, split = image.get("filename"), image.get("filepath"), image.get("split")
        name = posixpath.join(folder, name) if isinstance(folder, str) and isinstance(name, str) else name
        entries.append(_entry(number, name, captions, {}, split if isinstance(split, str) else ""))
    return Document("Karpathy's captions", entries)


def _objects(found: Any, options: SourceOptions) -> Document | None:
    """Read [{"image": NAME, "caption": TEXT or [TEXT, ...]}]."""
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        return None
    image = options.image if options.names_images else usual_name(found[0], FILE_NAMES)
    caption = options.caption if options.caption in found[0] else usual_name(found[0], CAPTIONS)
    if image is None:
        return None
    entries = []
    for number, one in enumerate(found, 1):
        told = one.get(caption) if caption else []
        split = one.get("split")
        entries.append(
            _entry(number, one.get(image), told if isinstance(told, list) else [told], {}, split if isinstance(split, str) else "")
        )
    return Document("list of pictures", entries)


def _lists_of_objects(found: Any, name: str) -> list[dict[str, Any]] | None:
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else None


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _entry(number: int, name: Any, captions: list[Any], fields: dict[str, Any], split: str = "") -> Entry:
    if not isinstance(name, str) or not name:
        return Entry("", (), fields, split, f"image {number} has no file name")
    if any(isinstance(text, str) and SURROGATE.search(text) for text in (name, *captions)):
        return Entry("", (), fields, split, f"image {number} holds half of a surrogate pair")
    texts = tuple(text.strip() for text in captions if isinstance(text, str) and text.strip())
    return Entry(name, texts, fields, split)
