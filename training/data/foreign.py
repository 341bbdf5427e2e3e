"""Webdataset tars that are not ours: indexed once, so that training reads them as it reads its own.

The index lies in a cache beside the run, under a name made of the tars' names, sizes and times. What names their content
to runs and caches is made of the index: keys, captions, places and sizes, and some bytes of each picture.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow import vocabulary as vocabularies
from fistful.bow.balance import Balance
from fistful.bow.draw import sample_key
from fistful.bow.ragged import Ragged
from fistful.bow.store.files import hash_file, parse_json
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.store.index import INDEX_SCHEMA
from fistful.bow.store.kinds import is_hidden
from fistful.bow.store.manifest import CONFIG
from fistful.bow.store.plain_text import MARK
from fistful.bow.store.tables import join_tables, read_table, write_table
from fistful.bow.store.tar_samples import TEXTS, TarRefusal, TarSample, read_tar_samples
from fistful.bow.store.untar import Member, is_packed
from fistful.bow.vocabulary import Limits, choose_words, count_table, write_vocabulary
from fistful.bow.words import Analyzer, WordOptions, first_appearances
from fistful.errors import DataError, UsageError

from .samples import RunWords, Source

MIDDLE = 32
"""Bytes from the middle of each picture, where there is no header that many have in common, that tell it from others of its size."""


def find_tars(path: Path) -> list[Path] | None:
    """Return the tars that a glob, a brace list, a file or a folder names; None for a data folder of ours.

    Raises:
        UsageError: If there are none, or they are compressed.
    """
    if (path / CONFIG).exists() or (path.is_dir() and not _tars(path)):
        return None
    import braceexpand

    if path.is_dir():
        names = sorted(map(str, _tars(path)))
    else:
        names = [name for part in braceexpand.braceexpand(str(path)) for name in (sorted(glob.glob(part)) or [part])]
    if not path.exists() and not any(name.endswith((".tar", ".gz", ".zst")) for name in names):
        return None  # said where data folders are read
    if packed := [name for name in names if not name.endswith(".tar")]:
        raise _packed(packed[0])
    if lost := [name for name in names if not Path(name).is_file()]:
        raise UsageError(f"{lost[0]}: no such file; expected a data folder, or webdataset tars")
    return [Path(name) for name in names]


def _tars(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.tar") if not is_hidden(path.name)]


def read_tars(path: Path, weight: float, tars: list[Path], cache: Path | None) -> Source:
    """Index tars, or find their index in the cache."""
    stats = [os.stat(tar) for tar in tars]
    exactly = [[str(tar.absolute()), stat.st_size, stat.st_mtime_ns] for tar, stat in zip(tars, stats, strict=True)]
    file = f"{sha256_hex(canonical_json(exactly))[:16]}.parquet"
    if cache is not None and (cache / file).exists():
        index = join_tables([read_table(cache / file, INDEX_SCHEMA)], INDEX_SCHEMA)
    else:
        index = join_tables([index_tar(tar, unit) for unit, tar in enumerate(tars)], INDEX_SCHEMA)
        if cache is not None:
            write_table(cache, file, index)
    return Source(path, weight, _fingerprint(tars, index), index, tars)


def _fingerprint(tars: list[Path], index: pa.Table) -> str:
    """Name the content of tars: without reading all of it, so that nothing but a change of pixels to the very size escapes it."""
    digest = hashlib.sha256(canonical_json([tar.name for tar in tars]))
    for batch in index.select(["key", "source_key", "captions", "image_offset", "image_size", "extra"]).to_batches(max_chunksize=10_000):
        digest.update(json.dumps(batch.to_pydict()).encode())  # some 200,000 rows a second
    return digest.hexdigest()


def index_tar(tar: Path, unit: int) -> pa.Table:
    """Return the index of a tar's samples that have a picture; words are left empty.

    Raises:
        UsageError: If it is compressed.
        DataError: If the archive is broken, or all of it is refused.
    """
    rows: list[tuple[Any, ...]] = []
    extra: list[str] = []
    refused = None
    with open(tar, "rb") as file:
        if is_packed(file):
            raise _packed(tar)
        for sample in read_tar_samples(file, _pictured, contents=TEXTS):
            if isinstance(sample, TarRefusal):
                if sample.reason == "truncated":
                    raise DataError(f"{tar} sample {sample.place}: {sample.detail}; fistful bags takes what is whole")
                refused = refused or sample
            elif sample is not None:
                source_key, image, captions = sample
                rows.append((sample_key(unit, len(rows)), source_key, captions, [], [], False, image.name, image.offset, image.size))
                middle = os.pread(file.fileno(), MIDDLE, image.offset + image.size // 2)
                extra.append(json.dumps({"middle": middle.hex()}))
    if refused and not rows:
        raise DataError(f"{tar} sample {refused.place}: {refused.detail}; no other sample has a picture")
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(9)]
    columns += [[0] * len(rows), [0] * len(rows), [tar.stem] * len(rows), extra]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)], schema=INDEX_SCHEMA)


def _packed(name: str | Path) -> UsageError:
    return UsageError(f"{name}: pictures are read from the middle of plain .tar files; unpack it, or use fistful bags")


def _pictured(sample: TarSample) -> tuple[str, Member, list[str]] | None:
    """Return key, picture and captions of a sample, None without a picture."""
    return (sample.key, sample.members[sample.picture], _captions(sample.contents)) if sample.picture else None


def _captions(texts: dict[str, bytes]) -> list[str]:
    """Return the captions of a sample: those of its JSON if it has them, else its text."""
    try:
        about = parse_json(texts.get("json", b"{}"))
    except ValueError:
        about = {}
    several = about.get("captions") if isinstance(about, dict) else None
    if isinstance(several, list) and several and all(isinstance(caption, str) for caption in several):
        return several
    text = texts.get("txt", b"").removeprefix(MARK).decode("utf-8", "replace").strip()
    return [text] if text else []


def count_words(sources: list[Source], cache: Path | None, needed: bool) -> RunWords:
    """Count the words of captions as fistful count does, and return the vocabulary of those frequent enough, unbalanced."""
    options = WordOptions()
    if not needed:
        empty = choose_words(count_table([], np.zeros(0, int), np.zeros(0, int)), 1, Limits(), Balance())
        return RunWords("", empty, dataclasses.asdict(options), Path())
    analyzer = Analyzer(options)
    found = [_sample_words(analyzer, source) for source in sources]
    tf, df = (
        np.bincount(np.concatenate([part.values for part in parts]), minlength=len(analyzer.words))
        for parts in (found, map(first_appearances, found))
    )
    n_samples = sum(source.index.num_rows for source in sources)
    vocabulary = choose_words(count_table(analyzer.words, tf, df), n_samples, Limits(), Balance())
    if not len(vocabulary):
        raise DataError(f"{sources[0].path}: no word occurs in {Limits().min_count} captions; is there text beside the pictures?")
    if cache is None:
        return RunWords("", vocabulary, dataclasses.asdict(options), Path())
    folder = cache / sha256_hex(canonical_json([source.fingerprint for source in sources]))[:16]
    write_vocabulary(folder, vocabulary)
    return RunWords(hash_file(folder / vocabularies.FILE)["sha256"], vocabulary, dataclasses.asdict(options), folder)


def with_words(source: Source, words: RunWords) -> Source:
    """Return the source with each sample's bag in ids of the vocabulary."""
    analyzer = Analyzer(WordOptions(**words.options))
    found = first_appearances(_sample_words(analyzer, source))
    ids = words.vocabulary.ids()
    id_of = np.array([ids.get(word, -1) for word in analyzer.words] or [-1], np.int64)
    bags = Ragged(found.offsets, id_of[found.values])
    bags = bags.take(bags.values >= 0)
    column = pa.LargeListArray.from_arrays(pa.array(bags.offsets, pa.int64()), pa.array(bags.values, pa.uint32()))
    place = INDEX_SCHEMA.names.index("words")
    return dataclasses.replace(source, index=source.index.set_column(place, "words", column))


def _sample_words(analyzer: Analyzer, source: Source) -> Ragged:
    captions = source.index["captions"].combine_chunks()
    offsets = captions.offsets.to_numpy().astype(np.int64)
    words = analyzer.analyse(captions.values.slice(offsets[0], offsets[-1] - offsets[0]))
    return words.join_rows(offsets - offsets[0])
