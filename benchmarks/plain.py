"""What a user would write instead: plain loops with spaCy, tarfile and webdataset, doing the same work with the same filters."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fistful.bow.tokens import import_spacy
from fistful.bow.vocabulary import Vocabulary


def words_of(nlp: Any, captions: list[str]) -> list[list[str]]:
    """Return the words of captions by nlp.pipe."""
    return [[t.lower_ for t in doc if t.is_alpha and not t.is_stop] for doc in nlp.pipe(captions)]


def tsv_captions(path: Path) -> Iterator[str]:
    """Yield the captions of a TSV."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            caption = line.rstrip("\r\n").split("\t")[0].strip()
            if caption:
                yield caption


def count(path: Path) -> dict[str, tuple[int, int]]:
    """Return tf and df of each word of a TSV's captions."""
    nlp = import_spacy().blank("en")
    tf: Counter[str] = Counter()
    df: Counter[str] = Counter()
    for doc in nlp.pipe(tsv_captions(path)):
        words = [t.lower_ for t in doc if t.is_alpha and not t.is_stop]
        tf.update(words)
        df.update(set(words))
    return {word: (tf[word], df[word]) for word in tf}


class Balancer:
    """Draws as we draw, from random numbers made before: so that samples are equal, and a draw costs no more than random().

    Args:
        vocabulary: Words with keep probabilities.
        draws: 32 bits for each word of each bag, in order.
    """

    def __init__(self, vocabulary: Vocabulary, draws: list[int]) -> None:
        self._keep = dict(zip(vocabulary.words, vocabulary.keep_u32.tolist(), strict=True))
        self._ids = vocabulary.ids()
        self._draws = iter(draws)

    def bags(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Return the bag of some words, and what balancing leaves of it."""
        bag = [word for word in dict.fromkeys(words) if word in self._keep]
        kept = [word for word, u in zip(bag, self._draws, strict=False) if u < self._keep[word] or self._keep[word] == 0xFFFFFFFF]
        return bag, kept or [max(bag, key=lambda word: (self._keep[word], self._ids[word]))] if bag else []


def bags_of_text(source: Path, out: Path, balancer: Any) -> None:
    """Write a TSV's captions as a shard of balanced bags."""
    nlp = import_spacy().blank("en")
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, doc in enumerate(nlp.pipe(tsv_captions(source))):
            bag, kept = balancer.bags([t.lower_ for t in doc if t.is_alpha and not t.is_stop])
            if not bag:
                continue
            key = f"00000_{number:07d}"
            _add(tar, f"{key}.json", _json(bag, doc.text, source.name, f"row {number + 1}", "{}"))
            _add(tar, f"{key}.txt", " ".join(kept).encode())


def bags_of_images(source: Path, out: Path, balancer: Any) -> None:
    """Write a tar's images and captions as a shard of balanced bags, with webdataset."""
    import simplejpeg
    import webdataset as wds

    nlp = import_spacy().blank("en")
    with open(out, "wb") as file:
        writer = wds.TarWriter(file, mtime=0)
        for number, sample in enumerate(wds.WebDataset(str(source), shardshuffle=False, empty_check=False)):
            height, width, _, _ = simplejpeg.decode_jpeg_header(sample["jpg"])
            doc = nlp(sample["txt"].decode().strip())
            bag, kept = balancer.bags([t.lower_ for t in doc if t.is_alpha and not t.is_stop])
            if not bag or height * width > 89_478_485:
                continue
            extra = json.dumps(json.loads(sample["json"]), sort_keys=True, separators=(",", ":"))
            fields = _json(bag, doc.text, source.name, sample["__key__"], extra)
            writer.write({"__key__": f"00000_{number:07d}", "jpg": sample["jpg"], "json": fields, "txt": " ".join(kept).encode()})
        writer.close()


def bags_of_table(source: Path, out: Path, balancer: Any) -> None:
    """Write the pictures that a CSV names, and its captions, as a shard of balanced bags, with csv, open and tarfile."""
    import simplejpeg

    nlp = import_spacy().blank("en")
    with open(source, newline="", encoding="utf-8") as file, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, row in enumerate(csv.DictReader(file)):
            doc = nlp(row["caption"].strip())
            bag, kept = balancer.bags([t.lower_ for t in doc if t.is_alpha and not t.is_stop])
            data = (source.parent / row["image_path"]).read_bytes()
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            if not bag or height * width > 89_478_485:
                continue
            key = f"00000_{number:07d}"
            _add(tar, f"{key}.jpg", data)
            _add(tar, f"{key}.json", _json(bag, doc.text, source.name, row["image_path"].removesuffix(".jpg"), "{}"))
            _add(tar, f"{key}.txt", " ".join(kept).encode())


def _json(bag: list[str], caption: str, source: str, key: str, extra: str) -> bytes:
    fields = {"bag": bag, "caption": caption, "captions": [caption], "extra": extra, "pseudo": False, "scores": [1.0] * len(bag)}
    return json.dumps({**fields, "source": source, "source_key": key}, sort_keys=True, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def members(path: Path) -> dict[str, bytes]:
    """Return what a tar holds."""
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # pyright: ignore[reportOptionalMemberAccess]
