"""The photos as `make photos` uses them: cut into parts, with some captioned pictures set aside.

Set aside, for retrieval and tagging: Flickr8k's development photos, and a tenth of the Corel and the shop's
pictures by the hash of their key. The other sources are too small, or have one caption for many pictures.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from fistful.bow.store.files import read_json, write_bytes, write_json
from fistful.bow.store.shard import tar_bytes
from fistful.errors import UsageError

HELD = ("corel5k", "fashion", "flickr8k")
PART = 2_500
"""Samples in a tar: enough tars for two workers."""
SMALL = 120
"""Pictures of each source in the small form."""
SMALL_A_CLASS = 3
"""Pictures of each class of an evaluation set in the small form."""
SETS = ("tiny-imagenet/val", "cifar10/test")
CUT = "cut.json"

Sample = dict[str, bytes]
"""A sample's files by extension, its key under ""."""


def cut_photos(root: Path, folder: Path, small: bool) -> dict[str, Any]:
    """Write FOLDER/captioned, held/SOURCE and uncaptioned in tars, and in the small form eval too.

    Args:
        root: FISTFUL_DATA.
        folder: Where to write.
        small: Take few pictures of each source.

    Returns:
        How many pictures went where.

    Raises:
        UsageError: If the pictures are not there, or the folder holds the other form.
    """
    if not (root / "photos/captioned").is_dir():
        raise UsageError(f"{root}: has no photos/captioned; set FISTFUL_DATA to the folder that CONTRIBUTING.md describes")
    if (folder / CUT).exists():
        found = read_json(folder / CUT)
        if found["small"] != small:
            raise UsageError(f"{folder}: holds the {'small' if found['small'] else 'full'} form; choose another --out")
        return found
    counts: dict[str, Any] = {"small": small, "captioned": {}, "held": {}}
    for path in sorted((root / "photos/captioned").glob("*.tar.gz")):
        source = path.name.partition("-")[0]
        samples = list(islice(read_samples(path), SMALL if small else None))
        held = [sample for sample in samples if is_held(source, sample)]
        kept = [sample for sample in samples if not is_held(source, sample)]
        counts["captioned"][source] = write_parts(folder / "captioned", source, kept)
        if held:
            counts["held"][source] = write_parts(folder / "held" / source, source, held)
    uncaptioned = read_samples(root / "photos/uncaptioned/00000.tar.gz")
    counts["uncaptioned"] = write_parts(folder / "uncaptioned", "photos", islice(uncaptioned, 3 * SMALL if small else None))
    if small:
        for name in SETS:
            _cut_set(root / "eval", folder / "eval", name)
    write_json(folder, CUT, counts)
    return counts


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a webdataset tar: neighbours with the same key."""
    sample: Sample = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            content = tar.extractfile(member)
            if content is None:
                continue
            if sample and sample[""] != key.encode():
                yield sample
                sample = {}
            sample |= {"": key.encode(), kind: content.read()}
    if sample:
        yield sample


def is_held(source: str, sample: Sample) -> bool:
    """Tell whether a sample is set aside."""
    if source == "flickr8k":
        return json.loads(sample["json"])["split"] == "dev"
    return source in HELD and int(hashlib.sha256(sample[""]).hexdigest()[:8], 16) % 10 == 0


def write_parts(folder: Path, name: str, samples: Iterable[Sample]) -> int:
    """Write samples into tars of PART, and return how many there were."""
    rest, total = iter(samples), 0
    while part := list(islice(rest, PART)):
        files = {f"{sample[''].decode()}.{kind}": data for sample in part for kind, data in sample.items() if kind}
        write_bytes(folder, f"{name}-{total // PART:05d}.tar", tar_bytes(files))
        total += len(part)
    return total


def eval_sets(root: Path, folder: Path, small: bool) -> dict[str, str]:
    """Return where the evaluation sets lie, by the first part of their name."""
    place, ending = (folder / "eval", ".tar") if small else (root / "eval", ".tar.gz")
    return {name.partition("/")[0]: str(place / f"{name}{ending}") for name in SETS}


def _cut_set(source: Path, folder: Path, name: str) -> None:
    taken: dict[str, int] = {}
    files = {}
    with tarfile.open(source / f"{name}.tar.gz") as tar:
        for member in tar:
            label, content = member.name.split("/")[-2], tar.extractfile(member)
            if content is None or taken.get(label, 0) == SMALL_A_CLASS:
                continue
            taken[label] = taken.get(label, 0) + 1
            files[member.name] = content.read()
    place = folder / name
    write_bytes(place.parent, f"{place.name}.tar", tar_bytes(files))
    shutil.copyfile(source / name.partition("/")[0] / "classes.tsv", place.parent / "classes.tsv")
