"""Samples of webdataset tars, whatever is in them: the one reader, for data jobs, training, sets, doctor and report.

A sample is neighbours whose names are equal up to the first dot; what cannot be used is a refusal with its reason.

>>> from fistful.bow.store.shard import tar_bytes
>>> tar = io.BufferedReader(io.BytesIO(tar_bytes({"../b.txt": b"blue cat", "a.txt": b"red dog", "a.jpg": b"?"})))
>>> for found in read_tar_samples(tar, lambda sample: (sample.key, sample.picture, sample.contents), contents=TEXTS):
...     print(found)
TarRefusal(reason='bad_name', place='../b.txt', detail='name leaves its folder', raw=b'')
('a', 'jpg', {'txt': b'red dog'})
"""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from .dead_letters import Reason, Refused
from .images import EXTENSIONS, MAX_MEMBER
from .kinds import is_hidden
from .plain_text import MAX_TEXT, SURROGATE
from .untar import Member, TarReader, unpacked

BROKEN = (tarfile.TarError, EOFError, zlib.error, ValueError, OSError)
"""What reading a broken archive raises; an OSError with a number is the disk's."""

TEXTS = frozenset({"txt", "json"})
PICTURES = frozenset(EXTENSIONS)

APART = "its parts do not stand side by side in the archive; pack it again sorted: tar --sort=name -cf NEW.tar FOLDER"
LEAVES = "name leaves its folder"
NO_FILE = "not a regular file"
TWICE = "this name stands twice in the archive"

T = TypeVar("T")


class TarSample(NamedTuple):
    """Neighbours in a tar that share a key."""

    number: int
    """Which of the archive's samples and refusals it is, from 0."""
    key: str
    """What their names have in common: folder, and base name up to its first dot."""
    members: dict[str, Member]
    """By extension, in lower case, in the order of the archive."""
    contents: dict[str, bytes]
    """Of those members whose content was asked for."""

    @property
    def picture(self) -> str:
        """The extension of the picture, the first if there are several; "" without one."""
        return next((extension for extension in self.members if extension in PICTURES), "")


class TarRefusal(NamedTuple):
    """What of a tar cannot be used."""

    reason: Reason
    place: str
    """A sample's key, or a member's name."""
    detail: str
    raw: bytes = b""


def read_tar_samples(
    stream: io.BufferedReader[Any],
    make: Callable[[TarSample], T],
    *,
    needs: Mapping[Reason, frozenset[str]] | None = None,
    contents: Collection[str] = (),
    watch: Callable[[Member], None] | None = None,
) -> Iterator[T | TarRefusal]:
    """Yield what is made of each sample of a tar, packed or not, and what is refused.

    Args:
        stream: At the tar's start.
        make: Called once for each sample; where it raises Refused, that is what is yielded.
        needs: Extensions of which a sample must have one, by the reason to refuse it otherwise. What is made of a sample
            that lacks something comes last: if its other parts turn up elsewhere in the archive, a refusal takes its place.
        contents: Extensions of members whose content is read.
        watch: Called with each member that is no folder, before anything is passed over or refused.
    """
    samples = _Samples(make, needs or {}, contents)
    tar = None
    try:
        tar = TarReader(unpacked(stream))
        for member in _visible_files(tar, watch):
            key, extension = split_name(member.name)
            if problem := _problem(member, key, extension):
                yield samples.refuse("bad_name", member.name, problem)
                continue
            if key != samples.key:
                yield from samples.end()
                samples.key = key
            samples.add(extension, member, tar)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
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


def _visible_files(tar: TarReader, watch: Callable[[Member], None] | None) -> Iterator[Member]:
    """Yield the members that are neither folders nor hidden."""
    for member in tar:
        if member.kind == "folder":
            continue
        if watch:
            watch(member)
        if not is_hidden(member.name):
            yield member


class _Samples(Generic[T]):
    """Puts members together to samples.

    A sample that lacks something may be one whose parts do not stand side by side, as in a tar of all images
    and then all texts. So what is said of it waits for the archive's end: one row, whatever comes.
    """

    def __init__(self, make: Callable[[TarSample], T], needs: Mapping[Reason, frozenset[str]], contents: Collection[str]) -> None:
        self._make = make
        self._needs = needs
        self._wanted = contents
        self.key: str | None = None
        self._members: dict[str, Member] = {}
        self._contents: dict[str, bytes] = {}
        self._has_double = False
        self._seen: dict[str, frozenset[str]] = {}
        self._kinds: dict[frozenset[str], frozenset[str]] = {}  # one object of each, as most samples have the same
        self._waiting: dict[str, T] = {}
        """What was made of samples that lack something, by key."""
        self._apart: set[str] = set()
        self._number = 0

    def add(self, extension: str, member: Member, tar: TarReader) -> None:
        """Take a member of the sample in hand."""
        self._has_double |= extension in self._members
        self._members[extension] = member
        if extension in self._wanted:
            self._contents[extension] = tar.read()

    def refuse(self, reason: Reason, place: str, detail: str, raw: bytes = b"") -> TarRefusal:
        """Return a refusal with a number of its own."""
        self._number += 1
        return TarRefusal(reason, place, detail, raw)

    def lacks(self) -> bool:
        """Return whether the sample in hand lacks something that it needs."""
        return self.key is not None and self._lacking(self._members) is not None

    def end(self) -> Iterator[T | TarRefusal]:
        """Yield what is made of the sample in hand, unless it lacks something."""
        if self.key is None:
            return
        sample, has_double = TarSample(self._number, self.key, self._members, self._contents), self._has_double
        self.key, self._members, self._contents, self._has_double = None, {}, {}, False
        kinds = frozenset(sample.members)
        earlier = self._seen.get(sample.key)
        self._seen[sample.key] = self._kinds.setdefault(kinds, kinds) if earlier is None else earlier | kinds
        if has_double or (earlier is not None and earlier & kinds):
            yield self.refuse("bad_name", sample.key, TWICE, raw_text(sample))
        elif earlier is not None:
            yield from self._part_apart(sample)
        elif lacking := self._lacking(sample.members):
            yield from self._incomplete(sample, lacking)
        else:
            yield self._made(sample)

    def _lacking(self, members: dict[str, Member]) -> Reason | None:
        return next((reason for reason, kinds in self._needs.items() if kinds.isdisjoint(members)), None)

    def _made(self, sample: TarSample) -> T | TarRefusal:
        self._number += 1
        try:
            return self._make(sample)
        except Refused as refused:
            return TarRefusal(refused.reason, sample.key, refused.detail, raw_text(sample))

    def _part_apart(self, sample: TarSample) -> Iterator[TarRefusal]:
        """Deal with a part of a sample that ended earlier."""
        if sample.key in self._waiting:
            self._apart.add(sample.key)
        elif not all(kinds.isdisjoint(sample.members) for kinds in self._needs.values()):
            yield self.refuse("bad_name", sample.key, APART, raw_text(sample))

    def _incomplete(self, sample: TarSample, lacking: Reason) -> Iterator[TarRefusal]:
        """Deal with a sample that lacks something: it waits, unless dots in its name tell what is wrong."""
        dotted = [e for e in sample.members if "." in e and e.rpartition(".")[2] in TEXTS | PICTURES]
        if not dotted:
            found = self._made(sample)
            if isinstance(found, TarRefusal):
                yield found
            else:
                self._waiting[sample.key] = found
        elif len({e.rpartition(".")[2] for e in dotted}) == len(dotted):
            found = ", ".join(f".{e}" for e in sample.members)
            detail = f"found {found}; a name's key ends at its first dot, so pack it again as KEY.jpg and KEY.txt"
            yield self.refuse(lacking, sample.key, detail)
        else:
            detail = f"a dot in its name: a key ends at the first, here {sample.key!r}; pack it again without"
            for stem in dict.fromkeys(f"{sample.key}.{e.rpartition('.')[0]}" for e in dotted):
                yield self.refuse("bad_name", stem, detail)

    def incomplete(self) -> Iterator[T | TarRefusal]:
        """Yield what was made of the samples that wait."""
        for key, made in self._waiting.items():
            yield TarRefusal("bad_name", key, APART) if key in self._apart else made


def raw_text(sample: TarSample) -> bytes:
    """Return what is kept of a refused sample."""
    return sample.contents.get("txt") or sample.contents.get("json") or b""


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


def _problem(member: Member, key: str, extension: str) -> str:
    """Return why a member is not read, "" if it is."""
    if member.kind != "file":
        return NO_FILE
    if key.startswith("/") or (".." in key and ".." in key.split("/")):
        return LEAVES
    if not member.name.isascii() and SURROGATE.search(member.name):
        return "name is not UTF-8"
    most = MAX_TEXT if extension in TEXTS else MAX_MEMBER
    if member.size > most:
        return f"{member.size} bytes, at most {most} are read"
    return ""
