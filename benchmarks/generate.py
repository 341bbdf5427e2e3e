"""Captions and pictures of any number, like real ones.

Chunks follow the frequencies of real captions, and new ones keep coming at the rate that was
measured on them: without that tail a table of chunks would look better than it is.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow.store.files import atomic_file
from fistful.bow.store.shard import add_file, end_tar

CLEAN = {"flickr30k.token.gz": 1, "coco-val2017.tsv.gz": -1, "coco-comp5329.csv.gz": -1, "cc3m-val.tsv.gz": 0}
"""Files of clean captions, and which column to take."""
WEB = {"laion-alttext.csv.gz": 1}

NEW_CLEAN = 0.15
"""New chunks a caption."""

AT_ONCE = 100_000
LETTERS = "etaoinsrhldcumfpgwyb"


def real_captions(folder: Path, files: dict[str, int]) -> list[str]:
    """Return the captions of some files, each once, in their order."""
    found: dict[str, None] = {}
    for name, column in files.items():
        with io.TextIOWrapper(gzip.open(folder / name), "utf-8", newline="") as file:  # pyright: ignore[reportArgumentType]
            rows = csv.reader(file) if ".csv" in name else (line.rstrip("\r\n").split("\t") for line in file)
            found.update((row[column].strip(), None) for row in rows if row and row[column].strip())
    return list(found)


def generate(captions: list[str], n: int, new_per_caption: float, seed: int) -> Iterator[pa.StringArray]:
    """Yield n captions whose chunks follow those of some real ones, with new chunks at a rate."""
    rng = np.random.default_rng(seed)
    counts = Counter(chunk for caption in captions for chunk in caption.split())
    known = pa.array(list(counts), pa.string())
    share = np.cumsum(np.fromiter(counts.values(), float, len(counts))) / sum(counts.values())
    lengths = np.array([len(caption.split()) for caption in captions])
    n_new = 0
    for start in range(0, n, AT_ONCE):
        size = np.maximum(1, rng.choice(lengths, min(AT_ONCE, n - start)))
        ends = np.concatenate([[0], np.cumsum(size)])
        places = np.searchsorted(share, rng.random(ends[-1]))
        fresh = np.unique(rng.integers(0, ends[-1], round(new_per_caption * len(size))))
        new = [new_chunk(n_new + i, web=new_per_caption > 1) for i in range(len(fresh))]
        n_new += len(fresh)
        places[fresh] = len(known) + np.arange(len(fresh))
        chunks = pa.concat_arrays([known, pa.array(new, pa.string())]).take(pa.array(places))
        yield pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), chunks), " ")


def new_chunk(number: int, web: bool) -> str:
    """Return a chunk that was never there before: on the web four of five are plain words, the others have digits or hyphens."""
    word, rest = "q", number
    while rest:
        rest, letter = divmod(rest, len(LETTERS))
        word += LETTERS[letter]
    if not web:
        return word if number % 20 else f"{word}-made"
    kind = number % 20
    return f"{number}" if kind == 0 else f"{word}-{number % 97}" if kind in (1, 2) else f"({word}" if kind == 3 else word.title()


def write_tsv(path: Path, captions: Iterator[pa.StringArray]) -> Path:
    """Write captions as a TSV without header: caption, number. Nothing is done if the file is there."""
    if path.exists():
        return path
    number = 0
    with atomic_file(path.parent, path.name) as file:
        for part in captions:
            numbers = pa.array(range(number, number + len(part))).cast(pa.string())
            number += len(part)
            lines = pc.binary_join_element_wise(part, numbers, "\t").to_pylist()
            file.write(("\n".join(lines) + "\n").encode())
    return path


def write_tar(path: Path, captions: list[str], side: int, quality: int = 80, *, whole: bool = False) -> Path:
    """Write a webdataset tar of JPEGs of about one size, no two the same, each with its caption.

    What tells them apart stands in the middle of each, so that some cannot be decoded; with `whole`, in a comment.
    """
    if path.exists():
        return path
    rng = np.random.default_rng(side)
    pictures = [_picture(rng, side, quality) for _ in range(50)]
    with atomic_file(path.parent, path.name) as tar:
        for i, caption in enumerate(captions):
            data = pictures[i % len(pictures)]
            middle = len(data) // 2
            apart = data[:2] + b"\xff\xfe\x00\x0a%08d" % i + data[2:] if whole else data[:middle] + b"%08d" % i + data[middle + 8 :]
            add_file(tar, f"{i:08d}.jpg", apart)
            add_file(tar, f"{i:08d}.json", b'{"url":"https://example.org/%d.jpg","width":%d}' % (i, side))
            add_file(tar, f"{i:08d}.txt", caption.encode())
        end_tar(tar)
    return path


def _picture(rng: np.random.Generator, side: int, quality: int) -> bytes:
    from PIL import Image

    small = Image.fromarray(rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(smooth + rng.integers(-20, 20, (side, side, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_table(tar: Path, folder: Path) -> Path:
    """Write what a tar holds as pictures in a folder and a table that names them, once; return the table."""
    table = folder / "table.csv"
    if table.exists():
        return table
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    with tarfile.open(tar) as archive:
        for member in archive:
            stem, _, extension = member.name.partition(".")
            data = archive.extractfile(member)
            assert data is not None
            if extension == "jpg":
                (folder / "images" / member.name).write_bytes(data.read())
            elif extension == "txt":
                rows.append([f"images/{stem}.jpg", data.read().decode().strip()])
    with open(folder / "table.new", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image_path", "caption"], *rows])
    return (folder / "table.new").rename(table)
