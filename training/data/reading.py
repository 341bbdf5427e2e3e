"""Data folders, and tars that are not ours, read into samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow import vocabulary as vocabularies
from fistful.bow.draw import sample_number
from fistful.bow.ragged import Ragged
from fistful.bow.store.files import hash_file, is_url
from fistful.bow.store.folders import folder_at, in_store
from fistful.bow.store.index import INDEX_SCHEMA, read_index, read_likely
from fistful.bow.store.manifest import CONFIG, fingerprint, read_config
from fistful.bow.store.plain_text import read_lines
from fistful.bow.store.tables import join_tables
from fistful.errors import DataError, UsageError

from .samples import RunWords, Source, TrainingSamples


def parse_folder(text: str) -> tuple[Path, float]:
    """Split FOLDER*WEIGHT; a glob keeps its stars.

    >>> parse_folder("bags*2")
    (PosixPath('bags'), 2.0)

    Raises:
        UsageError: If the weight is none, or a URL is not a folder's in an object store.
    """
    name, star, weight = text.rpartition("*")
    if not star or weight.endswith(".tar") or (not is_url(text) and Path(text).exists()):
        return folder_at(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UsageError(f"{text}: weight is {weight!r}, expected a number above 0, as in {name}*2")
    return folder_at(name), value


def read_samples(data: tuple[str, ...], exclude: str = "", needs_words: bool = True, cache: Path | None = None) -> TrainingSamples:
    """Read the index of each data folder, and of tars that are not ours.

    Args:
        data: FOLDER, on disk or in an object store; TAR, a folder of tars, a glob or brace list of them; each may end in *WEIGHT.
        exclude: A file of KEYs or source keys, a line each, of samples that training leaves out.
        needs_words: Whether anything reads words; captions alone need no vocabulary.
        cache: Folder for the index of foreign tars.

    Raises:
        UsageError: If a folder is missing, not finished or of another kind, none is given, or no sample has a picture.
        DataError: If folders have different vocabularies.
    """
    from . import foreign

    if not data:
        raise UsageError("train: found no data folder, expected DATA... as fistful bags writes them")
    sources, given = [], [parse_folder(text) for text in data]
    for path, n in Counter(path.absolute() for path, _ in given).items():
        if n > 1:
            raise UsageError(f"{path}: given twice; {path.name}*2 shows its samples twice an epoch")
    for path, weight in given:
        tars = None if in_store(path) else foreign.find_tars(path)
        sources.append(_read_folder(path, weight) if tars is None else foreign.read_tars(path, weight, tars, cache))
    own = [source.path for source in sources if source.shards is None]
    if own:
        words = RunWords(_same_vocabulary(own), vocabularies.read_vocabulary(own[0]), _word_options(own), own[0])
    else:
        words = foreign.count_words(sources, cache, needs_words)
    if needs_words:
        sources = [source if source.shards is None else foreign.with_words(source, words) for source in sources]
    return _joined(sources, words, exclude)


def _read_folder(path: Path, weight: float) -> Source:
    if in_store(path) and path.exists() and not (path / CONFIG).exists():
        raise UsageError(
            f"{path}: of a bucket, train reads folders that fistful bags or label wrote (found no {CONFIG}); fistful bags makes one of tars"
        )
    digest = fingerprint(path)
    table, likely = read_index(path), read_likely(path)
    has_image = pc.greater(table["image_size"], 0)
    if likely is not None:
        words, shares = likely
        rows = np.flatnonzero(has_image.to_numpy())
        shown = words.pick(rows)
        likely = Ragged(shown.offsets, shown.values.astype(np.uint32)), shares[words.places(rows)]
        if not ((shares > 0) & (shares <= 1)).all():
            raise DataError(f"{path}: a share in its index is not above 0 and at most 1; fistful verify {path} tells what changed")
    return Source(path, weight, digest, table.filter(has_image), None, likely)


def _joined(sources: list[Source], words: RunWords, exclude: str) -> TrainingSamples:
    table = join_tables([source.index for source in sources], INDEX_SCHEMA)
    folders = [source.path for source in sources]
    if not table.num_rows:
        raise UsageError(
            f"{folders[0]}: no sample has a picture, and training needs some; "
            "fistful bags copies them from tars, folders of images, and tables that name them"
        )
    unit, row = _parse_keys(table["key"])
    bags = _ragged(_chunk(table["words"]), len(words.vocabulary), folders)
    likely, likely_shares = _likely(sources, len(words.vocabulary))
    sizes, pseudo = bags.lengths(), table["pseudo"].to_numpy()
    left_out, misses = _left_out(table, exclude)
    return TrainingSamples(
        folders=folders,
        weights=[source.weight for source in sources],
        fingerprints=[source.fingerprint for source in sources],
        vocabulary=words.vocabulary,
        vocabulary_sha256=words.sha256,
        word_options=words.options,
        vocabulary_folder=words.folder,
        has_rule=any(source.shards is None for source in sources),
        keys=_chunk(table["key"]),
        captions=_chunk(table["captions"]),
        bags=bags,
        folder=np.repeat(np.arange(len(folders), dtype=np.int32), [source.index.num_rows for source in sources]),
        unit=unit,
        number=np.asarray(sample_number(0, row) | (unit.astype(np.uint64) << np.uint64(32))),
        pseudo=pseudo,
        offset=table["image_offset"].to_numpy(),
        size=table["image_size"].to_numpy(),
        certainty=_certainty(_chunk(table["scores"]), bags),
        likely=likely,
        likely_shares=likely_shares,
        sizes=np.sort(_some(sizes[~pseudo], sizes)),
        left_out=left_out,
        misses=misses,
        shards={(f, u): path for f, source in enumerate(sources) for u, path in enumerate(source.shards or [])},
    )


def _certainty(scores: pa.LargeListArray, bags: Ragged) -> np.ndarray:
    """Return a number a word: its score, or 1 where the sample has none."""
    offsets = scores.offsets.to_numpy().astype(np.int64)
    scored = np.diff(offsets) == bags.lengths()
    certainty = np.ones(len(bags.values), np.float32)
    certainty[np.repeat(scored, bags.lengths())] = (
        Ragged(offsets - offsets[0], scores.values.to_numpy()[offsets[0] : offsets[-1]]).pick(np.flatnonzero(scored)).values
    )
    return certainty


def _likely(sources: list[Source], n_words: int) -> tuple[Ragged, np.ndarray]:
    """Return the distributions of all samples, and their shares; rows without words where there are none."""
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.float32)
    found = [source.likely or (Ragged(np.zeros(source.index.num_rows + 1, np.int64), nothing[0]), nothing[1]) for source in sources]
    for source, (words, _) in zip(sources, found, strict=True):
        _check_ids(words.values, n_words, source.path)
    return Ragged.stack([words for words, _ in found]), np.concatenate([shares for _, shares in found])


def _some(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the sizes that are above 0, of the others if there are none."""
    return next((few for some in (sizes, others) if len(few := some[some > 0])), np.ones(1, np.int64))


def _left_out(table: pa.Table, exclude: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Return which samples --exclude names, and how many of its lines name none, of how many."""
    wanted = pa.array(read_keys(exclude) if exclude else [], table["key"].type)
    found = pc.or_(pc.is_in(table["key"], value_set=wanted), pc.is_in(table["source_key"], value_set=wanted))
    hits = pc.or_(pc.is_in(wanted, value_set=table["key"]), pc.is_in(wanted, value_set=table["source_key"]))
    if len(wanted) and not pc.any(hits).as_py():
        raise DataError(
            f"--exclude {exclude}: none of its {len(wanted)} lines is a KEY or source key of the data, such as {table['key'][0]}"
        )
    return found.to_numpy(), (len(wanted) - (pc.sum(hits).as_py() or 0), len(wanted))


def read_keys(path: str) -> list[str]:
    """Return the lines of a text file without empty ones.

    Raises:
        UsageError: If it cannot be read.
    """
    lines = read_lines(path, f"--exclude {path}", "a text file, a KEY a line")
    return [line for line in map(str.strip, lines) if line]


def _same_vocabulary(folders: list[Path]) -> str:
    for folder in folders:
        if not (folder / vocabularies.FILE).exists():
            raise UsageError(f"{folder}: has no {vocabularies.FILE}; expected a folder that fistful bags wrote")
    hashes = [hash_file(folder / vocabularies.FILE)["sha256"] for folder in folders]
    for folder, found in zip(folders, hashes, strict=True):
        if found != hashes[0]:
            raise DataError(f"{folder}: has another vocabulary than {folders[0]}; make both with the same --counts (fistful label: --like)")
    return hashes[0]


def _word_options(folders: list[Path]) -> dict[str, Any]:
    """Return the options of the first folder that has them (a labelled one may have none of its own)."""
    for folder in folders:
        inputs = read_config(folder)["inputs"]
        if isinstance(inputs, dict) and "word_options" in inputs:
            return dict(inputs["word_options"])
    raise UsageError(f"{folders[0]}: its config.json does not say how captions became words; expected a folder that fistful bags wrote")


def _chunk(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _parse_keys(keys: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    parts = pc.split_pattern(keys, "_").combine_chunks().flatten()
    numbers = pc.cast(parts, pa.int64()).to_numpy(zero_copy_only=False).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def _ragged(lists: pa.LargeListArray, n_words: int, folders: list[Path]) -> Ragged:
    found = Ragged.of_lists(lists)
    _check_ids(found.values, n_words, folders[0])
    return found


def _check_ids(words: np.ndarray, n_words: int, folder: Path) -> None:
    if len(words) and words.max() >= n_words:
        raise DataError(f"{folder}: word id {words.max()} in an index, the vocabulary has {n_words} words; the folder is damaged")
