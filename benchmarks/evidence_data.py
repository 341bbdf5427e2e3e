"""What the lab learns from: photos of which a fifth keeps its captions, captions without photos, and labels that are changed on purpose.

Nothing here decides by chance: splits and shuffles are drawn from the seed and the key.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.draw import mix_all, number_of_key
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json, write_bytes, write_json
from fistful.bow.store.index import read_index
from fistful.errors import UsageError
from fistful.pipelines.engine.stage import Running

from .photos_data import Sample, is_held, read_samples, write_parts

RUNNING = Running(workers=1, progress=False)
SHARE = 5
"""One photo of so many keeps its captions."""
CAPTIONS_OF_PHOTOS = ("flickr30k", "multi30k")
"""Texts that describe the photos of Flickr8k among others: left out by identity, and in a control whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """Photos of which a fifth keeps its captions."""

    name: str
    sources: tuple[str, ...]


FLICKR = Pool("flickr8k", ("flickr8k",))
PHOTOS = Pool("photos", ("flickr8k", "coco", "corel5k"))


def keeps_captions(key: bytes, seed: int) -> bool:
    """Tell whether a photo is among the fifth that keeps its captions."""
    return int(hashlib.sha256(b"%d %s" % (seed, key)).hexdigest()[:8], 16) % SHARE == 0


def learn_samples(root: Path, pool: Pool) -> Iterator[Sample]:
    """Yield the captioned photos that models may learn from: all but those set aside."""
    for source in pool.sources:
        for sample in read_samples(root / f"photos/captioned/{source}-00000.tar.gz"):
            if not is_held(source, sample):
                yield sample


def cut_pool(root: Path, pool: Pool, folder: Path, seeds: Sequence[int]) -> None:
    """Write FOLDER/all, and for each seed FOLDER/SEED/fifth and FOLDER/SEED/hidden, in tars.

    Raises:
        UsageError: If the pictures are not there.
    """
    if not (root / "photos/captioned").is_dir():
        raise UsageError(f"{root}: has no photos/captioned; set FISTFUL_DATA to the folder that CONTRIBUTING.md describes")
    if not (folder / "cut.json").exists():
        samples = list(learn_samples(root, pool))
        write_parts(folder / "all", pool.name, samples)
        write_json(folder, "cut.json", {"photos": len(samples)})
    missing = [seed for seed in seeds if not (folder / str(seed) / "cut.json").exists()]
    samples = list(learn_samples(root, pool)) if missing else []
    for seed in missing:
        place = folder / str(seed)
        kept = [sample for sample in samples if keeps_captions(sample[""], seed)]
        hidden = [{"": sample[""], "jpg": sample["jpg"]} for sample in samples if not keeps_captions(sample[""], seed)]
        counts = {"fifth": write_parts(place / "fifth", pool.name, kept), "hidden": write_parts(place / "hidden", pool.name, hidden)}
        write_json(place, "cut.json", counts)


def cut_dev(root: Path, folder: Path) -> Path:
    """Write the photos that every figure is measured on, Flickr8k's development split, as tars with captions."""
    if not (folder / "cut.json").exists():
        samples = [sample for sample in read_samples(root / "photos/captioned/flickr8k-00000.tar.gz") if is_held("flickr8k", sample)]
        write_json(folder, "cut.json", {"photos": write_parts(folder, "dev", samples)})
    return folder


# Captions without photos


def write_texts(root: Path, folder: Path) -> dict[str, int]:
    """Write FOLDER/all and FOLDER/other, JSONL of captions: all texts, and those without CAPTIONS_OF_PHOTOS.

    Captions of Flickr8k's photos are left out of both, by the photo's number and wherever they stand word by word.

    Returns:
        How many captions of each.
    """
    if (folder / "texts.json").exists():
        return read_json(folder / "texts.json")
    known, ids = _flickr8k(root)
    lines: dict[str, list[bytes]] = {"all": [], "other": []}
    for name, photo, caption in _captions(root / "captions"):
        if photo in ids or _plain(caption) in known:
            continue
        line = json.dumps({"caption": caption}).encode() + b"\n"
        for kind in ("all", "other") if name not in CAPTIONS_OF_PHOTOS else ("all",):
            lines[kind].append(line)
    for kind, part in lines.items():
        write_bytes(folder / kind, "captions.jsonl", b"".join(part))
    counts = {kind: len(part) for kind, part in lines.items()}
    write_json(folder, "texts.json", counts)
    return counts


def _flickr8k(root: Path) -> tuple[set[str], set[str]]:
    """Return the captions of Flickr8k's photos as compared, and their photos' numbers."""
    known, ids = set(), set()
    for sample in read_samples(root / "photos/captioned/flickr8k-00000.tar.gz"):
        known |= {_plain(caption) for caption in json.loads(sample["json"])["captions"]}
        ids.add(sample[""].decode().partition("_")[0])
    return known, ids


def _plain(caption: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", caption.lower()))


def _captions(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield source, the photo's number ("" where there is none) and caption."""
    for line in _lines(folder / "flickr30k.token.gz"):
        photo, _, caption = line.rstrip("\n").partition("\t")
        yield "flickr30k", photo.partition(".")[0], caption
    for row in list(csv.reader(_lines(folder / "multi30k-en-de-fr-cs.tsv.gz"), delimiter="\t", quoting=csv.QUOTE_NONE))[1:]:
        yield "multi30k", row[0].partition(".")[0], row[1]
    for row in list(csv.reader(_lines(folder / "coco-val2017.tsv.gz"), delimiter="\t", quoting=csv.QUOTE_NONE))[1:]:
        yield "coco", "", row[1]
    for row in csv.reader(_lines(folder / "cc3m-val.tsv.gz"), delimiter="\t", quoting=csv.QUOTE_NONE):
        yield "cc3m", "", row[0]
    for name, column in (("coco-comp5329", 2), ("laion-alttext", 1)):
        for row in list(csv.reader(_lines(folder / f"{name}.csv.gz")))[1:]:
            yield name, "", row[column]


def _lines(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline="")


# Labels that are changed on purpose

LABELS = ("words", "scores", "likely", "likely_shares")
"""Columns of a labelled folder's index that say what a picture's words are."""


def with_labels(labelled: Path, out: Path, kind: str, columns: dict[str, pa.Array]) -> Path:
    """Write a labelled folder again with other labels; shards are linked, not copied.

    Args:
        labelled: What fistful label wrote.
        out: Folder to write.
        kind: What was done to the labels; part of what names the folder.
        columns: New LABELS, a row a sample in the order of the index; those that are not given are left out.
    """
    if (out / manifest.MANIFEST).exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    config = manifest.read_config(labelled)
    manifest.claim(out, "label", {**config["config"], "changed": kind}, config["inputs"])
    written_anew = ("index", manifest.STAGES, manifest.LOGS, manifest.MANIFEST, manifest.CONFIG)
    for path in sorted(p for p in labelled.rglob("*") if p.is_file() and p.relative_to(labelled).parts[0] not in written_anew):
        name = path.relative_to(labelled)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, out / name)
    (out / "index").mkdir()
    start = 0
    for path in sorted((labelled / "index").glob("*.parquet"), key=lambda p: int(p.stem)):
        table = pq.read_table(path)
        new = {name: column.slice(start, table.num_rows) for name, column in columns.items()}
        start += table.num_rows
        kept = {name: new.get(name, table[name]) for name in table.column_names if name in new or name not in LABELS}
        pq.write_table(pa.table(kept), out / "index" / path.name)
    manifest.finish(out, {}, {})
    return out


def label_columns(labelled: Path) -> dict[str, pa.Array]:
    """Return the LABELS of a folder, a row a sample in the order of the index."""
    paths = sorted((labelled / "index").glob("*.parquet"), key=lambda p: int(p.stem))
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    return {name: table[name].combine_chunks() for name in LABELS if name in table.column_names}


def as_labels(bags: Ragged) -> dict[str, pa.Array]:
    """Return bags as LABELS without distributions."""
    offsets = pa.array(bags.offsets, pa.int32())
    words = pa.ListArray.from_arrays(offsets, pa.array(bags.values, pa.uint32()))
    return {"words": words, "scores": pa.ListArray.from_arrays(offsets, pa.array(np.ones(len(bags.values)), pa.float32()))}


def bags_in(folder: Path) -> Ragged:
    """Return the bags of a data folder in the order of its index."""
    return Ragged.of_lists(read_index(folder)["words"].combine_chunks())


def shuffled(labelled: Path, seed: int) -> np.ndarray:
    """Return an order in which no sample has its own labels: sorted by a draw of the key, and moved on by one."""
    numbers = np.array([number_of_key(key) for key in read_index(labelled)["key"].to_pylist()], np.uint64)
    order = np.argsort(mix_all(seed, 0x504C4143, numbers), kind="stable")
    moved = np.empty(len(order), np.int64)
    moved[order] = np.roll(order, 1)
    return moved
