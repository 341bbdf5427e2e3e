"""From captions to words: spaCy's blank tokenizer, remembered chunk by chunk.

A *chunk* is what stands between two white spaces. spaCy's tokenizer works chunk by chunk too, so
each distinct chunk is analysed once and everything else is table look-up on whole Arrow batches.

>>> import pyarrow as pa
>>> analyzer = Analyzer(WordOptions())
>>> ids = analyzer.analyse(pa.array(["A dog chases the dog.", ""]))
>>> [[analyzer.words[i] for i in row] for row in ids]
[['dog', 'chases', 'dog'], []]
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow.store.config import semantic
from fistful.errors import UsageError

if TYPE_CHECKING:
    from spacy.tokens import Token

Fault = Literal["not_alphabetic", "too_short", "stop_word"]
"""Why a token is not a word."""

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo"})
"""Languages whose script puts no space between words; chunk by chunk analysis would be wrong."""

MAX_CHUNKS = 1_000_000
"""Chunks remembered before the table starts afresh: some 200 MB."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WordOptions:
    """How captions become words."""

    language: str = semantic("en")
    """spaCy language whose blank tokenizer, stop words and letters are used."""
    stop_words: bool = semantic(False)
    """Keep stop words such as "the"."""
    min_length: int = semantic(1)
    """Shortest word kept, in characters."""

    def __post_init__(self) -> None:
        if self.language in UNSPACED:
            raise UsageError(f"--language {self.language}: its script has no spaces between words, which is not supported")
        if self.min_length < 1:
            raise UsageError(f"--min-length {self.min_length}: expected 1 or more")


def check_language(language: str) -> None:
    """Check that spaCy can tokenize a language.

    Raises:
        UsageError: If it cannot.
    """
    import spacy

    try:
        spacy.blank(language)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--language {language}: spaCy has no such language, or needs another package ({reason})") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different length: row i is values[offsets[i]:offsets[i + 1]]."""

    offsets: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.values[start:stop]

    def lengths(self) -> np.ndarray:
        """Return the length of each row, int64."""
        return np.diff(self.offsets)

    def rows(self) -> np.ndarray:
        """Return the row number of each value, int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())

    def take(self, keep: np.ndarray) -> Ragged:
        """Return the same rows with only the values where the boolean mask is true."""
        kept_before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        return Ragged(kept_before[self.offsets], self.values[keep])

    def pick(self, rows: np.ndarray) -> Ragged:
        """Return some of the rows, in the order asked for."""
        ends = np.concatenate([[0], np.cumsum(self.lengths()[rows])])
        return Ragged(ends, self.values[self.places(rows)])

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return where the values of some rows stand, row after row."""
        lengths = self.lengths()[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        return np.repeat(self.offsets[rows] - ends[:-1], lengths) + np.arange(ends[-1])

    def join_rows(self, groups: np.ndarray) -> Ragged:
        """Return longer rows: group i holds the rows groups[i] to groups[i + 1]."""
        return Ragged(self.offsets[groups], self.values)


class Analyzer:
    """Turns captions into numbers of words, growing its table of words as it meets them."""

    def __init__(self, options: WordOptions) -> None:
        import spacy

        self._nlp = spacy.blank(options.language)
        self._options = options
        self._ids: dict[str, int] = {}
        self.words: list[str] = []
        self._forget_chunks()

    def _forget_chunks(self) -> None:
        self._rows: dict[str, int] = {}
        self._starts = array("q", [0])
        self._flat = array("i")

    def analyse(self, captions: pa.StringArray) -> Ragged:
        """Return the words of each caption as numbers into `words`, in the order of the text.

        Args:
            captions: n captions without nulls.

        Returns:
            n rows of int32; a word twice in a caption is there twice.
        """
        chunks = pc.utf8_split_whitespace(captions)
        encoded = chunks.flatten().dictionary_encode()
        rows = self._look_up(encoded.dictionary.to_pylist())[encoded.indices.to_numpy(zero_copy_only=False)]
        starts, flat = np.array(self._starts), np.array(self._flat, dtype=np.int32)
        n_words = starts[rows + 1] - starts[rows]
        ends = np.concatenate([[0], np.cumsum(n_words)])
        positions = np.repeat(starts[rows] - ends[:-1], n_words) + np.arange(ends[-1])
        chunk_offsets = chunks.offsets.to_numpy()
        return Ragged(ends[chunk_offsets - chunk_offsets[0]], flat[positions])

    def _look_up(self, chunks: list[str]) -> np.ndarray:
        if len(self._rows) > MAX_CHUNKS:
            self._forget_chunks()
        for chunk in chunks:
            if chunk not in self._rows:
                self._flat.extend(self._number(word) for word in self._words_of(chunk))
                self._rows[chunk] = len(self._starts) - 1
                self._starts.append(len(self._flat))
        return np.fromiter((self._rows[chunk] for chunk in chunks), dtype=np.int64, count=len(chunks))

    def _words_of(self, chunk: str) -> list[str]:
        return [token.lower_ for token in self._nlp.make_doc(chunk) if not self._fault(token)]

    def _fault(self, token: Token) -> Fault | None:
        if not token.is_alpha:
            return "not_alphabetic"
        if len(token) < self._options.min_length:
            return "too_short"
        return "stop_word" if token.is_stop and not self._options.stop_words else None

    def explain(self, text: str) -> list[tuple[str, Fault | None]]:
        """Return each token of a text, in lower case, and why it is no word; None where it is one."""
        return [(token.lower_, self._fault(token)) for chunk in text.split() for token in self._nlp.make_doc(chunk)]

    def _number(self, word: str) -> int:
        number = self._ids.setdefault(word, len(self.words))
        if number == len(self.words):
            self.words.append(word)
        return number


def first_appearances(words: Ragged) -> Ragged:
    """Return each row as a set in the order of first appearance: a bag.

    >>> first_appearances(Ragged(np.array([0, 3, 5]), np.array([7, 2, 7, 7, 1]))).values.tolist()
    [7, 2, 7, 1]
    """
    if not len(words.values):
        return words
    width = int(words.values.max()) + 1
    _, first = np.unique(words.rows() * width + words.values, return_index=True)
    keep = np.zeros(len(words.values), dtype=bool)
    keep[first] = True
    return words.take(keep)
