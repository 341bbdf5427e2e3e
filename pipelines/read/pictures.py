"""Pictures in files of their own: those of a folder, with texts beside, and those that a listing names."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import stat
from collections.abc import Callable, Iterator

from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.files import is_url, joined, open_input
from fistful.bow.store.images import IN_SHARDS, MAX_MEMBER
from fistful.bow.store.plain_text import MAX_TEXT, SURROGATE, BadText, decode, lines_of
from fistful.errors import UsageError

from .alike import alike
from .find_files import BESIDE, path_of
from .jsonl import json_object
from .listings import is_elsewhere, lies_in, place_of, read_listing
from .rows import Row, make_letter
from .source_options import SourceOptions
from .table_head import is_web
from .tars import captions_of
from .units import Unit

UNREADABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors that say that one file cannot be read, rather than that the disk fails."""


def read_folder(unit: Unit, content: dict[str, str], with_images: bool) -> Iterator[Row | DeadLetter]:
    """Yield the pictures of a folder, with the texts beside them; of a unit that is to have no pictures, these alone."""
    digest = hashlib.sha256()
    for number, name in enumerate(unit.files):
        address = joined(unit.path, name)
        asked = address[len(path_of(address)) :]  # of a web server
        stem, extension = os.path.splitext(name.removesuffix(asked))
        text = b""
        try:
            if SURROGATE.search(name):
                raise Refused("bad_name", "name is not UTF-8")
            image = read_picture(address) if unit.has_pictures else None
            end, text = _text_beside(unit.path, stem, asked)
            digest.update((image or b"") + text)
            captions = _captions(end, text)
            yield Row(number, stem, captions, image if with_images else None, in_shards(extension), os.path.dirname(name))
        except Refused as refused:
            yield make_letter(refused.reason, unit, name, refused.detail, text)
        except BadText as error:
            yield make_letter("bad_caption", unit, name, str(error), text)
    content[f"{unit.name} and {len(unit.files) - 1} more"] = digest.hexdigest()


def read_listed(unit: Unit, options: SourceOptions, content: dict[str, str], with_images: bool) -> Iterator[Row | DeadLetter]:
    """Yield the pictures that a listing names, unit.start to unit.stop; where none are to be read, their captions alone."""
    listing = read_listing(unit.path, unit.name, unit.kind, options)
    if not unit.start:
        yield from listing.letters
    digest = hashlib.sha256()
    real_folder: Callable[[str], str] = functools.lru_cache(maxsize=1024)(lambda folder: os.path.realpath(folder))
    for i in range(unit.start, unit.stop):
        name, captions = listing.names[i].as_py(), listing.captions_of(i)
        digest.update("\0".join([name, *captions]).encode())
        try:
            image = None
            if unit.root is not None and unit.has_pictures:
                image = read_picture(address_of(name, unit.root, unit.path, real_folder))
                digest.update(image)
            extra = listing.extra[i] if listing.extra else "{}"
            stem, extension = os.path.splitext(name)
            yield Row(i - unit.start, stem, captions, image if with_images else None, in_shards(extension), unit.name, extra)
        except Refused as refused:
            yield make_letter(refused.reason, unit, name, refused.detail, "\n".join(captions).encode())
    content[f"{unit.name}[pictures {unit.start}:{unit.stop}]"] = digest.hexdigest()


def address_of(name: str, root: str, table: str, real_folder: Callable[[str], str] = os.path.realpath) -> str:
    """Return where a named picture lies.

    Args:
        name: As a listing has it, made plain.
        root: The folder that names start from, and may not leave.
        table: What names it: names that begin with ".." start from its folder.
        real_folder: Finds out where a folder really lies.

    Raises:
        Refused: no_image or bad_name, where it lies on the web, or outside of the folder.
    """
    if is_web(name):
        raise Refused("no_image", "lies on the web, which is not fetched here; img2dataset fetches such lists")
    if is_elsewhere(name) or is_url(root):
        return place_of(name, root, table)
    address = place_of(name, root, table)
    if not lies_in(address, root):
        raise Refused("bad_name", "leads out of the folder that names start from; --images-root names another")
    folder, real_root = real_folder(os.path.dirname(address)), real_folder(root)
    if not lies_in(folder, real_root):
        raise Refused("bad_name", "leads out of the folder that names start from, by a linked folder; --images-root names another")
    if os.path.islink(address) and not lies_in(os.path.realpath(address), real_root):
        raise Refused("bad_name", "a link that leads out of the folder that names start from; --images-root names another")
    return address


def files_of(unit: Unit, options: SourceOptions) -> Iterator[str]:
    """Yield the files that a unit of a folder, or of a listing, is read from, those in stores left out."""
    if unit.root is None:
        for name in unit.files:
            if unit.has_pictures:
                yield joined(unit.path, name)
            yield from texts_beside(unit.path, os.path.splitext(name)[0])
        yield from sorted({os.path.join(unit.path, os.path.dirname(name)) for name in unit.files})  # a text that is gone
        return
    if not unit.has_pictures:
        return
    listing = read_listing(unit.path, unit.name, unit.kind, options)
    for i in range(unit.start, unit.stop):
        with contextlib.suppress(Refused):
            yield address_of(listing.names[i].as_py(), unit.root, unit.path)


def texts_beside(folder: str, stem: str) -> Iterator[str]:
    """Yield where the text of a folder's picture may lie: beside it, or in a folder `captions` beside or above its own."""
    for end in BESIDE:
        yield joined(folder, stem + end)
    inside, _, base = stem.rpartition("/")
    yield joined(folder, os.path.join(os.path.dirname(inside), "captions", f"{base}.txt"))
    if inside:
        yield joined(folder, f"captions/{stem}.txt")


def in_shards(extension: str) -> str:
    """Return what a picture with an extension of its own is called in shards."""
    extension = extension[1:].lower()
    return IN_SHARDS.get(extension, extension)


def _text_beside(folder: str, stem: str, asked: str) -> tuple[str, bytes]:
    for place in texts_beside(folder, stem):
        found = _read_file(place + asked, MAX_TEXT)
        if found is not None:
            return place, found
    return "", b""


def _captions(place: str, text: bytes) -> list[str]:
    if place.endswith(".json"):
        return captions_of(json_object(text), None)
    return [line.strip() for line in lines_of(decode(text))]


def read_picture(address: str) -> bytes:
    """Return a picture's bytes.

    Raises:
        Refused: no_image, if there is no such file, or it may not be read.
    """
    image = _read_file(address, MAX_MEMBER)
    if image is None and os.path.isdir(address):
        raise Refused("no_image", "a folder, expected a picture")
    if image is None and os.path.islink(address):
        raise Refused("no_image", "a link that leads nowhere")
    if image is None:
        near = "" if is_url(address) else alike(address)
        raise Refused("no_image", f"no such file; its name {near}" if near else "no such file")
    return image


def _read_file(path: str, most: int) -> bytes | None:
    """Return what a file holds, or None if there is none, or it is no ordinary file."""
    try:
        if is_url(path):
            with open_input(path) as file:
                data = file.read(most + 1)
        else:
            about = os.stat(path)
            if not stat.S_ISREG(about.st_mode):
                return None
            with open(path, "rb", buffering=0) as file:  # asked for `most` bytes it would first make room for them
                data = file.read() if about.st_size <= most else None
    except (UsageError, FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        raise Refused("no_image" if most == MAX_MEMBER else "no_caption", f"{os.path.basename(path)}: {error.strerror}") from None
    if data is None or len(data) > most:
        raise Refused("bad_name", f"{os.path.basename(path)} has more than the {most} bytes that are read")
    return data
