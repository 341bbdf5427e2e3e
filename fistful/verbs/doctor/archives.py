"""What `fistful doctor` says of tars of samples: every archive is walked, some images are decoded.

fistful itself reads all of this without harm and keeps a dead letter for each refused row
(fistful.bow.store.tar_samples); here it is said beforehand, and what other readers would make of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fistful.bow.store.dead_letters import Reason, Refused
from fistful.bow.store.images import EXTENSIONS, decode_image
from fistful.bow.store.kinds import is_hidden
from fistful.bow.store.plain_text import printable
from fistful.bow.store.tar_samples import (
    APART,
    LEAVES,
    NO_FILE,
    PICTURES,
    TEXTS,
    TWICE,
    TarRefusal,
    TarSample,
    read_tar_samples,
    split_name,
)
from fistful.bow.store.untar import Member
from fistful.pipelines.read.tars import row_of
from fistful.pipelines.read.units import Unit

from ...wording import counted, some
from .finding import Finding, Noted

LABELS = frozenset({"cls"})
NEEDS: dict[Reason, frozenset[str]] = {"no_caption": TEXTS | LABELS, "no_image": PICTURES}
PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt"})
"""What webdataset's .decode() would unpickle, which runs whatever program is in it."""
FIRST_IMAGES, EVERY_IMAGE = 32, 32
"""Decoded: the first images of each tar, then one in so many."""
NOWHERE = Unit(0, "tar", "", "", 0, 0)
MAX_KEYS = 5_000_000
"""Keys compared between tars: some 400 MB; those of later tars are compared with these."""
NUMBERED = re.compile(r"(.*?)(\d+)(\.tar|\.tar\.gz|\.tgz)\Z")


@dataclasses.dataclass(slots=True)
class Tally:
    """What stands in one tar, or in several. Names are TAR/NAME."""

    n_samples: int = 0
    n_images: int = 0
    n_texts: int = 0
    n_labels: int = 0
    n_decoded: int = 0
    broken: Noted = dataclasses.field(default_factory=Noted)
    empty: Noted = dataclasses.field(default_factory=Noted)
    textless: Noted = dataclasses.field(default_factory=Noted)
    """Samples with an image and neither text nor label."""
    imageless: Noted = dataclasses.field(default_factory=Noted)
    blank: Noted = dataclasses.field(default_factory=Noted)
    """Texts without a letter, of 0 bytes."""
    twice: Noted = dataclasses.field(default_factory=Noted)
    """Keys that stand twice in one tar."""
    apart: Noted = dataclasses.field(default_factory=Noted)
    """Samples whose parts do not stand side by side."""
    hidden: Noted = dataclasses.field(default_factory=Noted)
    refused: Noted = dataclasses.field(default_factory=Noted)
    """Samples and members that count refuses for what is in them, with the reason."""
    across: Noted = dataclasses.field(default_factory=Noted)
    """Keys that an earlier tar has too."""
    dotted: Noted = dataclasses.field(default_factory=Noted)
    """Images and texts whose key has a dot, so that readers cut it there."""
    zipped: Noted = dataclasses.field(default_factory=Noted)
    pickles: Noted = dataclasses.field(default_factory=Noted)
    outside: Noted = dataclasses.field(default_factory=Noted)
    """Links, devices, and names that leave their folder."""
    unreadable: Noted = dataclasses.field(default_factory=Noted)
    foreign: Counter[str] = dataclasses.field(default_factory=Counter)
    in_folders: int = 0
    """Images that lie in a folder of the archive."""
    samples_of: dict[str, int] = dataclasses.field(default_factory=dict)
    """Samples of each tar that could be read to its end."""


def walk_tars(paths: Iterable[Path], done: Callable[[int], None] = lambda _n: None) -> Tally:
    """Walk tars one after the other.

    Args:
        paths: Tars, gzipped or not.
        done: Called with the number of tars walked.
    """
    tally, seen = Tally(), set[int]()
    for n, path in enumerate(paths, start=1):
        here = set[int]()
        for key in _walk_tar(path, tally):
            here.add(hash(key))
            if hash(key) in seen:
                tally.across.add(f"{path.name}/{key}")
        if len(seen) < MAX_KEYS:
            seen |= here
        done(n)
    return tally


def _walk_tar(path: Path, tally: Tally) -> Iterator[str]:
    """Yield the keys of a tar's samples, and note what stands in it."""
    n_samples, n_refused, is_whole = tally.n_samples, 0, True
    images = itertools.count(1)
    try:
        with path.open("rb") as file:
            for found in read_tar_samples(
                file,
                lambda sample: _look_at(sample, path.name, images, tally),
                needs=NEEDS,
                contents=TEXTS | PICTURES,
                watch=lambda member: _note_member(printable(f"{path.name}/{member.name}"), member, tally),
            ):
                if isinstance(found, TarRefusal):
                    n_refused += 1
                    is_whole &= found.reason != "truncated"
                    _note_refusal(printable(f"{path.name}/{found.place}"), found, tally)
                else:
                    _note_sample(f"{path.name}/{found.key}", found, tally)
                    yield found.key
    except OSError as error:
        is_whole = False
        tally.broken.add(f"{path.name} ({error})")
    if is_whole:
        tally.samples_of[path.name] = tally.n_samples - n_samples
        if tally.n_samples == n_samples and not n_refused:
            tally.empty.add(path.name)


class Looked(NamedTuple):
    """What is to be said of a sample, its pixels let go."""

    key: str
    has_image: bool
    has_text: bool
    has_label: bool
    refused: str
    """Why count refuses what is in it, "" if it does not."""
    is_blank: bool


def _look_at(sample: TarSample, tar: str, images: Iterator[int], tally: Tally) -> Looked:
    """Read a sample as count does, and decode some images."""
    tally.n_samples += 1
    if sample.picture and ((n := next(images)) <= FIRST_IMAGES or n % EVERY_IMAGE == 0):
        look_at_image(f"{tar}/{sample.members[sample.picture].name}", sample.contents[sample.picture], tally)
    has_text = not TEXTS.isdisjoint(sample.members)
    refused, is_blank = "", False
    try:
        is_blank = has_text and not any(row_of(NOWHERE, sample, with_images=False).captions)
    except Refused as error:
        refused = f"{error.reason}: {error.detail}"
    return Looked(sample.key, bool(sample.picture), has_text, not LABELS.isdisjoint(sample.members), refused, is_blank)


def look_at_image(name: str, data: bytes, tally: Tally) -> None:
    """Decode an image, and note it where that fails."""
    tally.n_decoded += 1
    try:
        decode_image(data)
    except Refused as refused:
        tally.unreadable.add(f"{name} ({refused.reason}: {refused.detail})")


def _note_member(name: str, member: Member, tally: Tally) -> None:
    if is_hidden(member.name):
        tally.hidden.add(name)
        return
    extension = split_name(member.name)[1]
    last = extension.rpartition(".")[2]
    if extension in PICTURES:
        tally.in_folders += "/" in member.name
    elif last in ("gz", "zst", "bz2", "xz"):
        tally.zipped.add(name)
    elif last != extension and last in (*EXTENSIONS, *TEXTS):
        tally.dotted.add(name)
    elif last in PICKLES:
        tally.pickles.add(name)
    elif extension not in TEXTS | LABELS:
        tally.foreign["." + extension if extension else "without ending"] += 1


def _note_refusal(name: str, refusal: TarRefusal, tally: Tally) -> None:
    if refusal.detail == APART:
        tally.apart.add(name)
    elif refusal.detail == TWICE:
        tally.twice.add(name)
    elif refusal.detail in (LEAVES, NO_FILE):
        tally.outside.add(name)
    elif refusal.reason == "truncated":
        tally.broken.add(f"{name} ({refusal.detail.removeprefix('archive ')})")
    else:
        tally.refused.add(f"{name} ({refusal.reason}: {refusal.detail})")


def _note_sample(name: str, sample: Looked, tally: Tally) -> None:
    tally.n_images += sample.has_image
    tally.n_texts += sample.has_text
    tally.n_labels += sample.has_label
    if sample.has_image and not sample.has_text and not sample.has_label:
        tally.textless.add(name)
    if not sample.has_image and (sample.has_text or sample.has_label):
        tally.imageless.add(name)
    if sample.refused:
        tally.refused.add(f"{name} ({sample.refused})")
    if sample.is_blank:
        tally.blank.add(name)


def judge_tars(tally: Tally, n_tars: int) -> list[Finding]:
    """Say what was found in tars, whoever wrote them."""
    found = [
        Finding(
            "ok",
            f"{counted(n_tars, 'tar')} walked: {counted(tally.n_samples, 'sample')}, {counted(tally.n_images, 'image')}, "
            f"{tally.n_texts:,} with text; {counted(tally.n_decoded, 'image')} decoded to try",
        )
    ]
    if tally.broken:
        means = "what comes after the break is lost; fistful reads up to it, other readers stop with an error"
        found.append(Finding("problem", f"{counted(tally.broken.n, 'broken archive')}, {tally.broken}", means, "fetch or pack them again"))
    if tally.empty:
        means = "no sample in it, which other trainers wait for or divide by"
        found.append(Finding("warning", f"{counted(tally.empty.n, 'empty tar')}, {tally.empty}", means, "delete them"))
    if tally.n_samples and not tally.n_texts and not tally.n_labels and tally.in_folders:
        means = "webdataset tars have KEY.jpg, KEY.txt, KEY.json side by side"
        command = "fistful evaluate RUN --data FILE (if the folders are classes)"
        found.append(Finding("note", "no webdataset: images in folders, without text or labels", means, command))
    elif tally.n_images and not tally.n_texts and not tally.n_labels:
        found.append(
            Finding("note", "images without captions", "nothing to count", "fistful label FOLDER --model RUN --like DATA --out PSEUDO")
        )
    return found + _judge_pairs(tally) + _judge_names(tally)


def _judge_pairs(tally: Tally) -> list[Finding]:
    found = []
    if tally.textless and (tally.n_texts or tally.n_labels):
        said = f"{counted(tally.textless.n, 'image')} without text, {tally.textless}"
        found.append(
            Finding(
                "warning",
                said,
                "refused by count and bags (no_caption)",
                "--max-bad-fraction allows more; fistful label writes bags for them",
            )
        )
    if tally.imageless:
        level, command = ("warning", "--max-bad-fraction allows more") if tally.n_images else ("note", "fistful bags --images none")
        said = f"{counted(tally.imageless.n, 'text')} without an image, {tally.imageless}"
        found.append(Finding(level, said, "refused by bags (no_image)", command))
    if tally.blank:
        said = f"{counted(tally.blank.n, 'empty text')}, {tally.blank}"
        found.append(Finding("warning", said, "refused by count and bags (no_caption)", "--max-bad-fraction allows more"))
    if tally.unreadable:
        said = f"{tally.unreadable.n:,} of {tally.n_decoded:,} images tried cannot be read, {tally.unreadable}"
        means = "bags refuses those with a bad header; train replaces the others, and says so"
        found.append(Finding("warning", said, means, "fistful bags ... (dead_letters/ names each)"))
    return found


def _judge_names(tally: Tally) -> list[Finding]:
    found = []
    if tally.twice:
        means = "fistful refuses them (bad_name); webdataset stops with ValueError, or splits the sample in two"
        found.append(Finding("problem", f"{counted(tally.twice.n, 'name')} twice in a tar, {tally.twice}", means, "pack the tar again"))
    if tally.apart:
        means = "fistful refuses them (bad_name), as does every reader that goes through a tar from its start"
        command = "tar --sort=name -cf NEW.tar FOLDER (of what is inside)"
        said = f"{counted(tally.apart.n, 'sample')} whose parts do not stand side by side, {tally.apart}"
        found.append(Finding("problem", said, means, command))
    if tally.refused:
        said = f"{counted(tally.refused.n, 'sample')} that count and bags refuse, {tally.refused}"
        found.append(Finding("warning", said, "", "--max-bad-fraction allows more"))
    if tally.hidden:
        means = "passed over, as by webdataset: macOS packs a double ._NAME beside each NAME"
        found.append(Finding("note", f"{counted(tally.hidden.n, 'hidden file')} inside, {tally.hidden}", means))
    if tally.across:
        means = "fistful gives each sample a KEY of its own; but the same images twice would count twice"
        said = f"{counted(tally.across.n, 'key')} that an earlier tar has too, {tally.across}"
        found.append(Finding("note", said, means, "compare the images"))
    if tally.dotted:
        means = "readers end a key at its first dot, so that these are no images and texts to them"
        said = f"{counted(tally.dotted.n, 'file')} with a dot in the key, {tally.dotted}"
        found.append(Finding("problem", said, means, "pack again with names without dots, or unpack: folders of images may have them"))
    if tally.zipped:
        means = "not read by fistful; webdataset unpacks them, however large they grow"
        found.append(
            Finding("warning", f"{counted(tally.zipped.n, 'compressed file')} inside, {tally.zipped}", means, "pack again unzipped")
        )
    if tally.pickles:
        means = "never opened by fistful; webdataset's .decode() and open_clip_train run the program inside"
        found.append(Finding("warning", f"{counted(tally.pickles.n, 'pickle')} inside, {tally.pickles}", means, "delete them"))
    if tally.outside:
        means = "refused (bad_name): nothing is ever written where they point"
        said = f"{counted(tally.outside.n, 'link or name', 'links or names')} that lead out of the archive, {tally.outside}"
        found.append(Finding("warning", said, means, "pack the tar again"))
    if tally.foreign:
        kinds = some([f"{n:,} {kind}" for kind, n in tally.foreign.most_common()], 5)
        found.append(Finding("note", f"files that are not read: {kinds}"))
    return found


def judge_numbers(names: Iterable[str]) -> list[Finding]:
    """Say which shard numbers are missing between the first and the last."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if match := NUMBERED.match(os.path.basename(name)):
            groups.setdefault((match[1], match[3]), []).append(match[2])
    missing: list[str] = []
    for (before, after), digits in groups.items():
        numbers = sorted(map(int, digits))
        width = len(digits[0]) if len({len(d) for d in digits}) == 1 else 0
        gaps = sorted(set(range(numbers[0], numbers[-1])) - set(numbers)) if numbers[-1] - numbers[0] < 1_000_000 else []
        missing += [f"{before}{n:0{width}d}{after}" for n in gaps]
    if not missing:
        return []
    means = "a braced list such as {00000..00099}.tar would stop at it; fistful takes the tars that are there"
    return [
        Finding(
            "warning",
            f"{counted(len(missing), 'number')} missing between the tars, {some(missing)}",
            means,
            "fetch them, or give the folder instead of a list",
        )
    ]
