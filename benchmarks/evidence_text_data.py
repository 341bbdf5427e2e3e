"""What students of a sentence encoder learn from, and the labelled texts that they are asked about.

Every text is named by the photo that it is of. Texts of evaluation photos are in the captions file too, so that the teacher embeds
all at once, and `held-out.txt` has these photos' names for `fistful distill --exclude`.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fistful.bow.store.files import read_json, write_bytes, write_json
from fistful.errors import UsageError

from .photos_data import read_samples

CAPTIONS, HELD_OUT = "captions.jsonl", "held-out.txt"
FLICKR_CAPTIONS = 2
"""Captions of each of Flickr30k's photos, the first ones of five: the teacher needs minutes for them."""
TEST_OF = {"coco": 6, "fashion": 4}
"""One text of so many is for evaluation."""
ENOUGH = 60
"""Products that a label of the shop's must have."""
SHOP = ("type", "colour", "subcategory", "usage", "category", "gender", "season")


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """Labelled texts."""

    name: str
    photos: list[str]
    texts: list[str]
    labels: list[str]
    """Names."""
    marks_NC: np.ndarray
    """bool: which text has which."""
    is_test: np.ndarray
    """bool (N)."""

    @property
    def several(self) -> bool:
        """Whether a text may have several labels."""
        return self.name == "coco"


def write_captions(root: Path, out: Path) -> dict[str, int]:
    """Write OUT/captions.jsonl and OUT/held-out.txt; return how many captions of each source, and how many photos are held out.

    Args:
        root: FISTFUL_DATA.
        out: Folder.

    Raises:
        UsageError: If the captions are not there.
    """
    if not (root / "captions").is_dir():
        raise UsageError(f"{root}: has no captions; set FISTFUL_DATA to the folder that CONTRIBUTING.md describes")
    if (out / "cut.json").exists():
        return read_json(out / "cut.json")
    rows = list(_captions(root))
    dev = {sample[""].decode() for sample, about in _samples(root, "flickr8k") if about["split"] == "dev"}
    held = sorted({name.partition("_")[0] for name in dev} | {photo for photo, text in rows if is_held(photo, text)})
    lines = (json.dumps({"photo": photo, "caption": text}) for photo, text in rows)
    write_bytes(out, CAPTIONS, "".join(line + "\n" for line in lines).encode())
    write_bytes(out, HELD_OUT, "".join(f"{photo}\n" for photo in held).encode())
    of_source = Counter(photo.partition("-")[0] if "-" in photo else "flickr30k" for photo, _ in rows)
    write_json(out, "cut.json", {**of_source, "held_out_photos": len(held)})
    return read_json(out / "cut.json")


def is_held(photo: str, text: str) -> bool:
    """Tell whether a labelled text is for evaluation: of the shop's, whose titles come again, by the title."""
    source = photo.partition("-")[0]
    if source not in TEST_OF:
        return False
    drawn_by = photo if source == "coco" else " ".join(text.lower().split())
    return int(hashlib.sha256(drawn_by.encode()).hexdigest()[:8], 16) % TEST_OF[source] == 0


def read_tasks(root: Path) -> list[Task]:
    """Return the labelled texts: COCO's 18 labels, and what the shop says of its products, labels of ENOUGH alone."""
    coco = [(photo, text, labels.split()) for photo, labels, text in _coco_labels(root)]
    shop = [(*_product(sample, about), about["attributes"]) for sample, about in _samples(root, "fashion")]
    of_shop = [
        _task(name, [(photo, text, [str(about[name])]) for photo, text, about in shop if about.get(name) not in (None, "", "NA")])
        for name in SHOP
    ]
    return [_task("coco", coco), *of_shop]


def read_captions_of_photos(root: Path, n: int) -> tuple[list[str], list[str]]:
    """Return the first and the second caption of some of Flickr30k's photos."""
    found: tuple[list[str], list[str]] = [], []
    for row in _rows(root / "captions/flickr30k.token.gz"):
        number = int(row[0].partition("#")[2])
        if number < 2:
            found[number].append(_plain(row[1]))
        if len(found[1]) == n:
            break
    return found


def _task(name: str, rows: list[tuple[str, str, list[str]]]) -> Task:
    met = Counter(label for *_, labels in rows for label in labels)
    names = sorted(label for label, n in met.items() if n >= ENOUGH)
    place = {label: i for i, label in enumerate(names)}
    kept = [(photo, text, [place[label] for label in labels if label in place]) for photo, text, labels in rows]
    kept = [row for row in kept if row[2]]
    marks_NC = np.zeros((len(kept), len(names)), bool)
    for row, (_, _, places) in zip(marks_NC, kept, strict=True):
        row[places] = True
    is_test = np.array([is_held(photo, text) for photo, text, _ in kept])
    return Task(name, [row[0] for row in kept], [row[1] for row in kept], names, marks_NC, is_test)


def _captions(root: Path) -> Iterator[tuple[str, str]]:
    """Yield photo and caption, on one line."""
    for photo, _, text in _coco_labels(root):
        yield photo, text
    for sample, about in _samples(root, "fashion"):
        yield _product(sample, about)
    for row in _rows(root / "captions/coco-val2017.tsv.gz")[1:]:
        yield f"cocoval-{row[0]}", _plain(row[1])
    for row in _rows(root / "captions/flickr30k.token.gz"):
        photo, _, number = row[0].partition("#")
        if int(number) < FLICKR_CAPTIONS:
            yield photo.partition(".")[0], _plain(row[1])
    for i, row in enumerate(_rows(root / "captions/cc3m-val.tsv.gz")):
        yield f"cc3m-{i}", _plain(row[0])


def _coco_labels(root: Path) -> Iterator[tuple[str, str, str]]:
    with io.TextIOWrapper(gzip.open(root / "captions/coco-comp5329.csv.gz"), "utf-8", newline="") as file:
        for row in list(csv.reader(file))[1:]:
            yield f"coco-{row[0].partition('.')[0]}", row[1], _plain(row[2])


def _samples(root: Path, source: str) -> Iterator[tuple[dict[str, bytes], dict]]:
    for sample in read_samples(root / f"photos/captioned/{source}-00000.tar.gz"):
        yield sample, json.loads(sample["json"])


def _product(sample: dict[str, bytes], about: dict) -> tuple[str, str]:
    return f"fashion-{sample[''].decode()}", _plain(about["captions"][0])


def _rows(path: Path) -> list[list[str]]:
    with io.TextIOWrapper(gzip.open(path), "utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _plain(text: str) -> str:
    return " ".join(text.split())
