"""Rows of webdataset and img2dataset tars, whatever is in them."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from fistful.bow.store.dead_letters import DeadLetter, Reason, Refused
from fistful.bow.store.images import EXTENSIONS, IN_SHARDS
from fistful.bow.store.kinds import is_hidden
from fistful.bow.store.plain_text import BadText, decode
from fistful.bow.store.untar import Member, TarReader, unpacked

from .jsonl import json_object
from .lines import is_broken
from .rows import MAX_MEMBER, MAX_TEXT, SURROGATE, Row, extra_json, make_letter, no_caption
from .units import Unit

BROKEN = (tarfile.TarError, EOFError, zlib.error, ValueError, OSError)
"""What reading a broken archive raises; an OSError with a number is the disk's."""

TEXTS = frozenset({"txt", "json"})
READ = TEXTS | EXTENSIONS.keys()

APART = "its parts do not stand side by side in the archive; pack it again sorted: tar --sort=name -cf NEW.tar FOLDER"
LEAVES = "name leaves its folder"
TWICE = "/twice"
"""Marks a sample with a name that stands twice; no extension has a slash."""


def read_tar(unit: Unit, stream: io.BufferedReader[Any], with_images: bool, need_captions: bool) -> Iterator[Row | DeadLetter]:
    """Yield the samples of a tar: neighbours whose names are equal up to the first dot; those that lack something come last."""
    samples = _Samples(unit, with_images, need_captions)
    tar = None
    try:
        tar = TarReader(unpacked(stream))
        for member in tar:
            if member.kind == "folder" or is_hidden(member.name):
                continue
            key, extension = split_name(member.name)
            if problem := bad_member(member, key, extension):
                yield samples.refuse("bad_name", member.name, problem)
                continue
            if key != samples.key:
                yield from samples.end()
                samples.key = key
            samples.add(extension, tar)
    except BROKEN as error:
        if isinstance(error, OSError) and not isinstance(error, tarfile.TarError) and not is_broken(error):
            raise
        place = samples.key or "start"
        if tar is None or (tar.between and not samples.lacks()):
            yield from samples.end()
            yield samples.refuse("truncated", place, f"archive broken after this sample ({error})")
        else:
            yield samples.refuse("truncated", place, f"archive broken in this sample ({error})")
    else:
        yield from samples.end()
    yield from samples.incomplete()


class _Samples:
    """Puts members together to samples.

    A sample that lacks its text or its image may be one whose parts do not stand side by side, as in a tar of
    all images and then all texts. So what is said of it waits for the archive's end: one row, whatever comes.
    """

    def __init__(self, unit: Unit, with_images: bool, need_captions: bool) -> None:
        self._unit = unit
        self._with_images = with_images
        self._need_captions = need_captions
        self.key: str | None = None
        self._members: dict[str, bytes] = {}
        self._seen: dict[str, frozenset[str]] = {}
        self._kinds: dict[frozenset[str], frozenset[str]] = {}  # one object of each, as most samples have the same
        self._waiting: dict[str, Row | None] = {}
        """Samples that lack something, by key: None for one without a text, so that no image is held."""
        self._apart: set[str] = set()
        self._number = 0

    def add(self, extension: str, tar: TarReader) -> None:
        """Take a member of the sample in hand."""
        if extension in self._members:
            self._members[TWICE] = b""
        wanted = extension in TEXTS or (self._with_images and extension in EXTENSIONS)
        self._members[extension] = tar.read() if wanted else b""

    def refuse(self, reason: Reason, place: str, detail: str, raw: bytes = b"") -> DeadLetter:
        """Return the letter of a row of its own."""
        self._number += 1
        return make_letter(reason, self._unit, place, detail, raw)

    def lacks(self) -> bool:
        """Return whether the sample in hand lacks something that it needs."""
        return self.key is not None and self._lacking(self._members) is not None

    def end(self) -> Iterator[Row | DeadLetter]:
        """Yield the sample in hand, unless it lacks something."""
        if self.key is None:
            return
        key, members, self.key, self._members = self.key, self._members, None, {}
        kinds = frozenset(members)
        earlier = self._seen.get(key)
        self._seen[key] = self._kinds.setdefault(kinds, kinds) if earlier is None else earlier | kinds
        if TWICE in members or (earlier is not None and earlier & kinds):
            yield self.refuse("bad_name", key, "this name stands twice in the archive", _raw(members))
        elif earlier is not None:
            yield from self._part_apart(key, members)
        elif lacking := self._lacking(members):
            yield from self._incomplete(key, members, lacking)
        else:
            self._number += 1
            yield sample_of(self._unit, self._number - 1, key, members, self._with_images)

    def _lacking(self, members: dict[str, bytes]) -> Reason | None:
        if self._need_captions and TEXTS.isdisjoint(members):
            return "no_caption"
        return "no_image" if self._with_images and EXTENSIONS.keys().isdisjoint(members) else None

    def _part_apart(self, key: str, members: dict[str, bytes]) -> Iterator[DeadLetter]:
        """Deal with a part of a sample that ended earlier."""
        if key in self._waiting:
            self._apart.add(key)
        elif any((e in TEXTS and self._need_captions) or (e in EXTENSIONS and self._with_images) for e in members):
            yield self.refuse("bad_name", key, APART, _raw(members))

    def _incomplete(self, key: str, members: dict[str, bytes], lacking: Reason) -> Iterator[Row | DeadLetter]:
        """Deal with a sample without text or image: it waits, unless dots in its name tell what is wrong."""
        dotted = [e for e in members if "." in e and e.rpartition(".")[2] in READ]
        if not dotted:
            self._number += 1
            row = None if lacking == "no_caption" else sample_of(self._unit, self._number - 1, key, members, self._with_images)
            if isinstance(row, DeadLetter):
                yield row
            else:
                self._waiting[key] = row
        elif len({e.rpartition(".")[2] for e in dotted}) == len(dotted):
            found = ", ".join(f".{e}" for e in members)
            yield self.refuse(lacking, key, f"found {found}; a name's key ends at its first dot, so pack it again as KEY.jpg and KEY.txt")
        else:
            for stem in dict.fromkeys(f"{key}.{e.rpartition('.')[0]}" for e in dotted):
                yield self.refuse("bad_name", stem, f"a dot in its name: a key ends at the first, here {key!r}; pack it again without")

    def incomplete(self) -> Iterator[Row | DeadLetter]:
        """Yield the samples that wait."""
        for key, row in self._waiting.items():
            if key in self._apart:
                yield make_letter("bad_name", self._unit, key, APART, b"")
            else:
                yield row or no_caption(self._unit, key)


def _raw(members: dict[str, bytes]) -> bytes:
    return members.get("txt") or members.get("json") or b""


def split_name(name: str) -> tuple[str, str]:
    """Return a member's key and extension, parted at the first dot of its base name, as webdataset does.

    >>> split_name("a/shot v1.0.JPG")
    ('a/shot v1', '0.jpg')
    """
    if "//" in name:
        folder, base = os.path.split(name)
        name = os.path.join(folder, base)
    dot = name.find(".", name.rfind("/") + 1)
    return (name, "") if dot < 0 else (name[:dot], name[dot + 1 :].lower())


def bad_member(member: Member, key: str, extension: str) -> str:
    """Return why a member is not read, "" if it is."""
    if member.kind != "file":
        return "not a regular file"
    if key.startswith("/") or (".." in key and ".." in key.split("/")):
        return LEAVES
    if not member.name.isascii() and SURROGATE.search(member.name):
        return "name is not UTF-8"
    most = MAX_TEXT if extension in TEXTS else MAX_MEMBER
    if member.size > most:
        return f"{member.size} bytes, at most {most} are read"
    return ""


def sample_of(unit: Unit, number: int, key: str, members: dict[str, bytes], with_images: bool) -> Row | DeadLetter:
    """Return a sample of its members' contents by extension, or why it is refused."""
    try:
        fields = json_object(members["json"]) if "json" in members else {}
        captions = _captions_of(fields, members.get("txt"))
        extension = next((e for e in members if e in EXTENSIONS), "")
        image = members[extension] if extension and with_images else None
        source = fields.pop("source", None)
        source = source if isinstance(source, str) and source and not SURROGATE.search(source) else unit.name
        return Row(number, key, captions, image, IN_SHARDS.get(extension, extension), source, extra_json(fields) if fields else "{}")
    except Refused as refused:
        return make_letter(refused.reason, unit, key, refused.detail, _raw(members))


def _captions_of(fields: dict[str, Any], txt: bytes | None) -> list[str]:
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
