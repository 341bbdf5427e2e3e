"""N-grams of captions as numbers of 64 bits, and the table that gives the frequent ones a row each.

An n-gram is n words that follow each other, in lower case; stop words and numbers are words too ("two dogs", "not a cat").
Its number is a hash: of each word's text 64 bits of BLAKE2b, folded one after the other by `draw.mix64`. Among a hundred
million n-grams two have one number with a chance of 1 in 3,700 (the square of their number / 2**65).

>>> reader = NgramReader("en", 2)
>>> keys = reader.keys(pa.array(["A dog.", "the dog", ""]))
>>> keys.lengths().tolist(), reader.texts_at(keys, np.arange(6))
([3, 3, 0], ['a', 'a dog', 'dog', 'the', 'the dog', 'dog'])
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .draw import mix64
from .ragged import Ragged
from .sorted_counts import Counts
from .store.tables import ROW_GROUP, read_groups, read_table, table_file, write_table
from .words import Analyzer, WordOptions

MOST_WORDS = 1_000
"""Words of a text that are read, the first ones: beyond all contexts of text towers, and a bound for hostile texts."""
MOST_NGRAMS = 8
"""Longest n-gram: there are about as many n-grams of each length, and of those of 5 words almost none comes again."""

COUNTS_SCHEMA = pa.schema([("key", pa.uint64()), ("n", pa.int64())])
TABLE_SCHEMA = pa.schema([("ngram", pa.string()), ("key", pa.uint64()), ("n", pa.int64())])
FILE = "ngrams.parquet"
"""The n-grams that have a row of their own: text, number, and how often they were counted; most frequent first."""


class NgramReader:
    """Turns texts into numbers of their n-grams.

    Args:
        language: spaCy language whose blank tokenizer finds the words.
        longest: Words of the longest n-grams.
    """

    def __init__(self, language: str, longest: int) -> None:
        self.longest = longest
        self._analyzer = Analyzer(WordOptions(language=language, stop_words=True, alphabetic=False))
        self._hashes = array("Q")
        self._rows = Ragged(np.zeros(1, np.int64), np.zeros(0, np.int32))

    def keys(self, texts: pa.StringArray) -> Ragged:
        """Return the n-grams of each text as uint64, by the place where they begin, shorter ones first.

        Args:
            texts: n texts without nulls.

        Returns:
            n rows; an n-gram twice in a text is there twice.
        """
        if self._analyzer.is_full():
            self._analyzer.forget()
            self._hashes = array("Q")
        self._rows, _ = cut_rows(self._analyzer.analyse(texts))
        self._hashes.extend(map(hash_word, self._analyzer.words[len(self._hashes) :]))
        words = np.frombuffer(self._hashes, np.uint64)[self._rows.values] if len(self._rows.values) else np.zeros(0, np.uint64)
        return ngrams_of(Ragged(self._rows.offsets, words), self.longest)

    @property
    def options(self) -> WordOptions:
        """How texts become words."""
        return self._analyzer.options

    def n_cut(self, texts: pa.StringArray) -> int:
        """Return how many texts have more words than are read."""
        return cut_rows(self._analyzer.analyse(texts))[1]

    def texts_at(self, keys: Ragged, places: np.ndarray) -> list[str]:
        """Return the n-grams at some places of `keys.values`, written out; `keys` is what was last asked for."""
        starts = _starts_of(self._rows, self.longest)[:-1]  # of each word's n-grams
        words = np.searchsorted(starts, places, side="right") - 1
        assert len(keys) == len(self._rows)
        named, rows = self._analyzer.words, self._rows.values
        return [
            " ".join(named[i] for i in rows[word : word + n])
            for word, n in zip(words.tolist(), (places - starts[words] + 1).tolist(), strict=True)
        ]


def hash_word(word: str) -> int:
    """Return 64 bits that stand for a word, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def cut_rows(words: Ragged) -> tuple[Ragged, int]:
    """Return rows of MOST_WORDS values at most, and how many were longer."""
    n_longer = int((words.lengths() > MOST_WORDS).sum())
    if not n_longer:
        return words, 0
    places = np.arange(len(words.values)) - np.repeat(words.offsets[:-1], words.lengths())
    return words.take(places < MOST_WORDS), n_longer


def _starts_of(words: Ragged, longest: int) -> np.ndarray:
    """Return where the n-grams of each word begin, int64, and after the last where they end."""
    left = np.repeat(words.offsets[1:], words.lengths()) - np.arange(len(words.values))
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.minimum(left, longest))])


def ngrams_of(words: Ragged, longest: int) -> Ragged:
    """Return the n-grams of rows of words, by the word with which they begin, shorter ones first.

    Args:
        words: Rows of hashes of words, uint64.
        longest: Words of the longest n-grams, 1 or more.

    Returns:
        As many rows of uint64.
    """
    starts, n_words = _starts_of(words, longest), len(words.values)
    out = np.empty(starts[-1], np.uint64)
    ends = np.repeat(words.offsets[1:], words.lengths())
    places = np.arange(n_words)
    keys = mix64(np.uint64(0), words.values) if n_words else words.values
    for n in range(longest):
        out[starts[places] + n] = keys
        going = places + n + 1 < ends[places]
        if not going.any():
            break
        places = places[going]
        keys = mix64(keys[going], words.values[places + n + 1])
    return Ragged(starts[words.offsets], out)


# Counts and the table


def write_counts(folder: Path, name: str, blocks: Iterable[Counts]) -> dict[str, Any]:
    """Write FOLDER/NAME atomically from a stream, and return its size and hash."""
    with table_file(folder, name, COUNTS_SCHEMA, ROW_GROUP) as file:
        for keys, n in blocks:
            file.add(pa.table({"key": keys, "n": n}, schema=COUNTS_SCHEMA))
    return file.record()


def read_counts(path: Path) -> Iterator[Counts]:
    """Yield the counts of a file block by block.

    Raises:
        UsageError: If it is missing.
        DataError: If it is none of ours.
    """
    for group in read_groups(path, COUNTS_SCHEMA):
        if group.num_rows:
            yield group["key"].to_numpy(), group["n"].to_numpy()


@dataclasses.dataclass(frozen=True, slots=True)
class NgramTable:
    """Which row an n-gram has: the frequent ones their own, from 0; the others share those behind."""

    keys: np.ndarray
    """uint64 (T): n-grams with a row of their own, most frequent first, of equals the smaller number."""
    n: np.ndarray
    """int64 (T): how often each was counted."""
    n_hashed: int
    """Rows that all other n-grams share; 0: they have none."""

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return len(self.keys) + self.n_hashed

    def finder(self) -> RowFinder:
        """Return what finds rows."""
        order = np.argsort(self.keys)
        return RowFinder(self.keys[order], order, self.n_hashed)


@dataclasses.dataclass(frozen=True, slots=True)
class RowFinder:
    """A table's n-grams by rising number, and where they stand in it."""

    sorted_keys: np.ndarray
    order: np.ndarray
    n_hashed: int

    def rows(self, keys: Ragged) -> Ragged:
        """Return the rows of n-grams, int64; where nothing is hashed, those without a row are left out."""
        places = np.minimum(np.searchsorted(self.sorted_keys, keys.values), len(self.sorted_keys) - 1)
        known = self.sorted_keys[places] == keys.values
        rows = self.order[places]
        if not self.n_hashed:
            return Ragged(keys.offsets, rows).take(known)
        others = np.flatnonzero(~known)
        rows[others] = len(self.order) + (keys.values[others] % np.uint64(self.n_hashed)).astype(np.int64)
        return Ragged(keys.offsets, rows)


def choose_table(blocks: Iterable[Counts], size: int, n_hashed: int) -> tuple[NgramTable, dict[str, int]]:
    """Return the table of the most frequent n-grams, and what was counted: different n-grams, occurrences, and how many must share.

    Args:
        blocks: All counts, rising; held is no more than the table and a block.
        size: Most rows of its own.
        n_hashed: Rows for all others.
    """
    kept: Counts = (np.zeros(0, np.uint64), np.zeros(0, np.int64))
    of_row, n_different, n_all = np.zeros(n_hashed, np.int64), 0, 0
    for keys, n in blocks:
        n_different, n_all = n_different + len(keys), n_all + int(n.sum())
        of_row += _per_row(keys, n_hashed)
        if len(kept[0]) >= size:
            keys, n = keys[n >= kept[1][-1]], n[n >= kept[1][-1]]
        kept = _most_frequent((np.concatenate([kept[0], keys]), np.concatenate([kept[1], n])), size)
    of_row -= _per_row(kept[0], n_hashed)
    about = {"ngrams": n_different, "ngrams_counted": n_all, "table": len(kept[0]), "ngrams_in_table_counted": int(kept[1].sum())}
    about |= {"hashed": n_hashed, "hashed_used": int((of_row > 0).sum()), "hashed_colliding": int(of_row[of_row > 1].sum())}
    return NgramTable(*kept, n_hashed), about


def _per_row(keys: np.ndarray, n_hashed: int) -> np.ndarray:
    return np.bincount((keys % np.uint64(n_hashed)).astype(np.int64), minlength=n_hashed) if n_hashed else np.zeros(0, np.int64)


def _most_frequent(counts: Counts, size: int) -> Counts:
    order = np.lexsort((counts[0], -counts[1]))[:size]
    return counts[0][order], counts[1][order]


def write_ngrams(folder: Path, name: str, table: NgramTable, texts: list[str]) -> dict[str, Any]:
    """Write FOLDER/NAME with the n-grams that have a row of their own; return its size and hash."""
    return write_table(folder, name, pa.table({"ngram": texts, "key": table.keys, "n": table.n}, schema=TABLE_SCHEMA))


def read_ngrams(path: Path, n_hashed: int) -> NgramTable:
    """Read what `write_ngrams` wrote.

    Raises:
        UsageError: If it is missing.
        DataError: If it is none of ours.
    """
    table = read_table(path, TABLE_SCHEMA)
    return NgramTable(table["key"].to_numpy(), table["n"].to_numpy(), n_hashed)
