"""Rows of webdataset and img2dataset tars, whatever is in them."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.text import BadText, decode
from fistful.bow.store.untar import Member, TarReader
from fistful.pipelines.jsonl import json_object
from fistful.pipelines.lines import is_broken
from fistful.pipelines.rows import MAX_MEMBER, MAX_TEXT, SURROGATE, Row, extra_json, make_letter
from fistful.pipelines.units import Unit

BROKEN = (tarfile.TarError, EOFError, zlib.error, ValueError, OSError)
"""What reading a broken archive raises; an OSError with a number is the disk's."""

TWICE = "/twice"
"""Marks a sample with a name that stands twice; no extension has a slash."""


def read_tar(unit: Unit, stream: IO[bytes], with_images: bool) -> Iterator[Row | DeadLetter]:
    """Yield the samples of a tar: neighbours whose names are equal up to the first dot."""
    number, key, members = 0, None, {}
    seen: set[str] = set()
    tar = TarReader(stream)
    try:
        for member in tar:
            if member.kind == "folder":
                continue
            name_key, extension = _split_name(member.name)
            if problem := _bad_member(member, name_key, extension):
                yield make_letter("bad_name", unit, member.name, problem, b"")
                number += 1
                continue
            if name_key != key:
                if key is not None:
                    yield _sample(unit, number, key, members, with_images)
                    number += 1
                key, members = name_key, {TWICE: b""} if name_key in seen else {}
                seen.add(key)
            if extension in members:
                members[TWICE] = b""
            wanted = extension in ("txt", "json") or (with_images and extension in EXTENSIONS)
            members[extension] = tar.read() if wanted else b""
    except BROKEN as error:
        if isinstance(error, OSError) and not isinstance(error, tarfile.TarError) and not is_broken(error):
            raise
        yield make_letter("truncated", unit, key or "start", f"archive broken after this sample ({error})", b"")
        return
    if key is not None:
        yield _sample(unit, number, key, members, with_images)


def _split_name(name: str) -> tuple[str, str]:
    if "//" in name:
        folder, base = os.path.split(name)
        name = os.path.join(folder, base)
    dot = name.find(".", name.rfind("/") + 1)
    return (name, "") if dot < 0 else (name[:dot], name[dot + 1 :].lower())


def _bad_member(member: Member, key: str, extension: str) -> str:
    if member.kind != "file":
        return "not a regular file"
    if key.startswith("/") or (".." in key and ".." in key.split("/")):
        return "name leaves its folder"
    if not member.name.isascii() and SURROGATE.search(member.name):
        return "name is not UTF-8"
    most = MAX_TEXT if extension in ("txt", "json") else MAX_MEMBER
    if member.size > most:
        return f"{member.size} bytes, at most {most} are read"
    return ""


def _sample(unit: Unit, number: int, key: str, members: dict[str, bytes], with_images: bool) -> Row | DeadLetter:
    try:
        if TWICE in members:
            raise Refused("bad_name", "this name stands twice in the archive")
        fields = json_object(members["json"]) if "json" in members else {}
        captions = _captions_of(fields, members.get("txt"))
        extension = next((e for e in members if e in EXTENSIONS), "")
        image = members[extension] if extension and with_images else None
        source = fields.pop("source", None)
        source = source if isinstance(source, str) and source and not SURROGATE.search(source) else unit.name
        return Row(number, key, captions, image, extension, source, extra_json(fields) if fields else "{}")
    except Refused as refused:
        return make_letter(refused.reason, unit, key, refused.detail, members.get("txt") or members.get("json") or b"")


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
