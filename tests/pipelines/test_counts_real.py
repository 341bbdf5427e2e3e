"""Counts of real captions equal a brute-force count with spaCy's own pipeline over whole captions.

A sample of each file here; every line of every file under `slow`.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import spacy

from fistful.bow.vocabulary import read_vocabulary
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions

FILES = {
    "flickr30k.token.gz": ("tsv", "2"),
    "coco-val2017.tsv.gz": ("tsv", "caption"),
    "coco-comp5329.csv.gz": ("csv", "Caption"),
    "cc3m-val.tsv.gz": ("tsv", "1"),
    "laion-alttext.csv.gz": ("csv", "caption"),
    "multi30k-en-de-fr-cs.tsv.gz": ("tsv", "en"),
}
"""Each file with its format and the column of its English caption."""

N_SAMPLE = 1_500


def read_rows(path: Path, kind: str) -> list[list[str]]:
    with io.TextIOWrapper(gzip.open(path), "utf-8", newline="" if kind == "csv" else "\n") as file:  # pyright: ignore[reportArgumentType]
        return [*csv.reader(file)] if kind == "csv" else [line.rstrip("\r\n").split("\t") for line in file]


def brute_force(captions: list[str]) -> dict[str, tuple[int, int]]:
    """Return tf and df of each word by spaCy's blank English pipeline over whole captions."""
    tf: Counter[str] = Counter()
    df: Counter[str] = Counter()
    for doc in spacy.blank("en").pipe(captions, batch_size=1_000):
        words = [token.lower_ for token in doc if token.is_alpha and not token.is_stop]
        tf.update(words)
        df.update(set(words))
    return {word: (tf[word], df[word]) for word in tf}


def check(path: Path, kind: str, column: str, out: Path) -> tuple[int, int]:
    """Compare a file's counts with brute force; return how many captions and words were compared."""
    rows = read_rows(path, kind)
    place = int(column) - 1 if column.isdigit() else rows[0].index(column)
    captions = [row[place].strip() for row in (rows if column.isdigit() else rows[1:])]
    config = CountConfig(
        plan=PlanOptions(input_format=kind),  # pyright: ignore[reportArgumentType]
        source=SourceOptions(caption=column),
        running=Running(progress=False),
    )
    vocabulary = read_vocabulary(count(str(path), out=out, config=config))

    found = {word: (tf, df) for word, tf, df in zip(vocabulary.words, vocabulary.tf.tolist(), vocabulary.df.tolist(), strict=True)}
    expected = brute_force([caption for caption in captions if caption])
    assert {word: (found.get(word), expected.get(word)) for word in {*found, *expected} if found.get(word) != expected.get(word)} == {}
    return len(captions), sum(tf for tf, _ in expected.values())


@pytest.mark.parametrize("name", FILES)
def test_counts_of_a_sample_equal_spacys(data_root: Path, tmp_path: Path, name: str) -> None:
    kind, column = FILES[name]
    sample = tmp_path / name
    with gzip.open(data_root / "captions" / name) as file:
        sample.write_bytes(gzip.compress(b"".join(islice(file, N_SAMPLE)), compresslevel=1))
    n_captions, n_words = check(sample, kind, column, tmp_path / "out")
    assert n_captions > N_SAMPLE // 2
    assert n_words > n_captions


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_counts_of_every_caption_equal_spacys(data_root: Path, tmp_path: Path, name: str) -> None:
    n_captions, n_words = check(data_root / "captions" / name, *FILES[name], tmp_path / "out")
    print(f"{name}: {n_captions:,} captions, {n_words:,} words, none differs")
