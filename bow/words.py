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
import itertools
import re
from array import array
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.errors import UsageError

from .long_chunks import MAX_CHUNK
from .phrases import Phrases, inline
from .ragged import Ragged
from .store.identity import check_numbers, semantic
from .tokens import ChunkTokenizer

Fault = Literal["not_alphabetic", "too_short", "stop_word", "denied", "too_long"]
"""Why a token is not a word."""

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo"})
"""Languages whose script puts no space between words; chunk by chunk analysis would be wrong."""

MAX_CHUNKS = 500_000
"""Chunks and words known before the tables start afresh: some 300 MB with what spaCy keeps."""
MAX_LETTERS = 20_000_000
"""Characters of new chunks and words before they start afresh too; as many chunks of usual length have a fifth of it."""

PLAIN = re.compile(r"([A-Za-z]+)(?:[,:;!?)\"]|(?<=[a-z])\.|['\u2019]s)?")
"""English chunks whose tokens are known without asking spaCy: letters, and perhaps one mark or 's behind them.
Unless chunk or letters are one of its exceptions, such as "gonna" and "Mr." (tests/bow/test_words.py compares)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WordOptions:
    """How captions become words."""

    language: str = semantic("en")
    """spaCy language whose blank tokenizer, stop words and letters are used."""
    stop_words: bool = semantic(False)
    """Keep stop words such as "the"."""
    alphabetic: bool = semantic(True)
    """Keep only words of letters alone; without it a letter or a digit is enough, as in "3d" and "e-mail"."""
    min_length: int = semantic(1)
    """Shortest word kept, in characters."""
    deny: str = semantic("")
    """File of words to drop, a word a line. What is in it counts, not its name: the text itself, with line breaks, does as well."""
    phrases: str = semantic("")
    """File of names of several words that become one word each, such as "great white shark"; imagenet1k takes ImageNet's."""

    def __post_init__(self) -> None:
        if self.language in UNSPACED:
            raise UsageError(f"--language {self.language}: its script has no spaces between words, which is not supported")
        if self.min_length < 1:
            raise UsageError(f"--min-length {self.min_length}: expected 1 or more")
        check_numbers(self)

    def inlined(self) -> WordOptions:
        """Return the same options with the content of files in their place.

        Raises:
            UsageError: If a file cannot be read.
        """
        return dataclasses.replace(self, deny=inline("deny", self.deny), phrases=inline("phrases", self.phrases))


AT_ONCE = 20_000
"""Captions analysed at a time: their arrays are small enough for memory to be used again instead of asked of the system."""


class Analyzer:
    """Turns captions into numbers of words, growing its tables as it meets new ones."""

    def __init__(self, options: WordOptions) -> None:
        self._options = options.inlined()
        self._unwanted: dict[str, Fault] = {}
        self.n_analysed = 0
        """Chunks that were not known yet when they were met."""
        self.forget()

    def is_full(self) -> bool:
        """Return whether it is time to forget: the tables have grown to their largest size."""
        return len(self.words) > MAX_CHUNKS or self._word_letters > MAX_LETTERS

    def forget(self) -> None:
        """Start afresh: words get new numbers."""
        self._ids: dict[str, int] = {}
        self.words: list[str] = []
        self._word_letters = 0
        self._forget_chunks()

    def _forget_chunks(self) -> None:
        self._tokenizer = ChunkTokenizer(self._options.language)  # its own tables grow as well
        self._exceptions = self._tokenizer.exceptions
        self._unwanted.update(dict.fromkeys(self._options.deny.splitlines(), "denied"))
        if not self._options.stop_words:
            self._unwanted.update(dict.fromkeys(self._tokenizer.stop_words, "stop_word"))
        self._rows: dict[str, int] = {}
        self._letters = 0
        self._starts = array("q", [0])
        self._flat = array("i")
        plain = self._options.language == "en" and self._options.alphabetic and not self._options.phrases
        self._plain = PLAIN.fullmatch if plain else None
        self._phrases = None  # their own names are looked up without them
        self._phrases = PhraseWords(self) if self._options.phrases else None

    def analyse(self, captions: pa.StringArray) -> Ragged:
        """Return the words of each caption as numbers into `words`, in the order of the text.

        Args:
            captions: n captions without nulls.

        Returns:
            n rows of int32; a word twice in a caption is there twice.
        """
        parts = [self._analyse(captions.slice(start, AT_ONCE)) for start in range(0, len(captions), AT_ONCE)]
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths() for part in parts)])
        return Ragged(np.cumsum(lengths), np.concatenate([np.zeros(0, np.int32), *(part.values for part in parts)]))

    def _analyse(self, captions: pa.StringArray) -> Ragged:
        chunks = pc.ascii_split_whitespace(captions)  # chunks with other white space are cut where they are looked up
        encoded = chunks.flatten().dictionary_encode()
        rows = self._look_up(encoded.dictionary.to_pylist())[encoded.indices.to_numpy(zero_copy_only=False)]
        starts, flat = np.array(self._starts), np.array(self._flat, dtype=np.int32)
        first = starts[rows]
        n_words = starts[rows + 1] - first
        ends = np.concatenate([[0], np.cumsum(n_words)])
        positions = np.repeat(first - ends[:-1], n_words) + np.arange(ends[-1])
        chunk_offsets = chunks.offsets.to_numpy()
        found = Ragged(ends[chunk_offsets - chunk_offsets[0]], flat[positions])
        return self._phrases.join(found) if self._phrases else found

    def _look_up(self, chunks: list[str]) -> np.ndarray:
        if len(self._rows) > MAX_CHUNKS or self._letters > MAX_LETTERS:
            self._forget_chunks()
        rows = np.fromiter(map(self._rows.get, chunks, itertools.repeat(-1)), np.int64, len(chunks))
        places = np.flatnonzero(rows < 0)
        new = [chunks[place] for place in places.tolist()]
        self.n_analysed += len(new)
        self._letters += sum(map(len, new))
        first = len(self._starts) - 1
        self._add(new)
        self._rows.update(zip(new, itertools.count(first)))
        rows[places] = np.arange(first, first + len(new))
        return rows

    def _add(self, chunks: list[str]) -> None:
        flat, starts = self._flat, self._starts
        known = [self._word_of_chunk(chunk) for chunk in chunks]
        asked = (part for chunk, word in zip(chunks, known, strict=True) if word is None for part in chunk.split())
        explained = self._explain(asked)
        for chunk, word in zip(chunks, known, strict=True):
            if word is None:
                for found in itertools.islice(explained, len(chunk.split())):
                    flat.extend(self._numbers_of(found))
            elif word:
                flat.append(self.number(word))
            starts.append(len(flat))

    def _numbers_of(self, tokens: list[tuple[str, Fault | None]]) -> list[int]:
        if self._phrases:  # what is too long still parts what stands before and behind it
            return [self._phrases.number_token("" if fault == "too_long" else text, not fault) for text, fault in tokens]
        return [self.number(text) for text, fault in tokens if not fault]

    def _word_of_chunk(self, chunk: str) -> str | None:
        """Return the one word of a chunk, "" if it has none; None where spaCy is to be asked."""
        if self._plain and len(chunk) <= MAX_CHUNK and (match := self._plain(chunk)):
            letters = match[1]
            if chunk not in self._exceptions and letters not in self._exceptions:
                word = letters.lower()
                return "" if word in self._unwanted or len(word) < self._options.min_length else word
        if self._options.alphabetic and not self._phrases and not any(map(str.isalpha, chunk)):
            return ""  # the half of all chunks that are new in the long run: prices, sizes, years
        return None

    def _explain_token(self, token: str) -> tuple[str, Fault | None]:
        word = token.lower()
        if not (token.isalpha() or (not self._options.alphabetic and any(map(str.isalnum, token)))):
            return word, "not_alphabetic"
        return word, "too_short" if len(token) < self._options.min_length else self._unwanted.get(word)

    def _explain(self, chunks: Iterable[str]) -> Iterator[list[tuple[str, Fault | None]]]:
        """Yield the tokens of each chunk as `explain` does, without phrases."""
        for chunk, tokens in self._tokenizer.split(chunks):
            yield [(chunk.lower(), "too_long")] if len(chunk) > MAX_CHUNK else [self._explain_token(token) for token in tokens]

    def tokens(self, text: str) -> list[str]:
        """Return all tokens of a text in lower case."""
        return [token for token, _ in self.explain(text)]

    def explain(self, text: str) -> list[tuple[str, Fault | None]]:
        """Return each token of a text, in lower case, and why it is no word; None where it is one. A phrase is one token."""
        found = list(itertools.chain.from_iterable(self._explain(text.split())))
        return self._phrases.explain(found) if self._phrases else found

    def number(self, word: str) -> int:
        """Return the number of a word, a new one for a new word."""
        number = self._ids.setdefault(word, len(self.words))
        if number == len(self.words):
            self.words.append(word)
            self._word_letters += len(word)
        return number

    @property
    def options(self) -> WordOptions:
        """The options, with the content of files in them."""
        return self._options


class PhraseWords:
    """Joins the tokens of phrases, before any token is left out: "bird of prey" has a stop word in it.

    Tokens have numbers of their own: each stands for a text in lower case and whether it would be a word.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._tokens: dict[tuple[str, bool], int] = {}
        self._texts: dict[str, int] = {}
        self._text_of = array("i")
        self._word_of = array("i")
        names = {tuple(analyzer.tokens(name)): name for name in analyzer.options.phrases.splitlines()}
        denied = set(analyzer.options.deny.splitlines())
        # a phrase that is denied still takes its tokens with it
        self._names = [(tokens, "" if name in denied else name) for tokens, name in names.items() if len(tokens) > 1]
        numbers = {tuple(map(self._number_text, tokens)): place for place, (tokens, _) in enumerate(self._names)}
        self._phrases = Phrases(numbers)

    def number_token(self, text: str, is_word: bool) -> int:
        """Return the number of a token."""
        number = self._tokens.setdefault((text, is_word), len(self._tokens))
        if number == len(self._text_of):
            self._text_of.append(self._number_text(text))
            self._word_of.append(self._analyzer.number(text) if is_word else -1)
        return number

    def _number_text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def explain(self, tokens: list[tuple[str, Fault | None]]) -> list[tuple[str, Fault | None]]:
        """Return tokens with each phrase as one of them."""
        texts = np.array([self._number_text(text) for text, _ in tokens], np.int32)
        for place, length, phrase in reversed(self._phrases.find(np.array([0, len(tokens)]), texts)):
            name = self._names[phrase][1]
            tokens[place : place + length] = [(name, None) if name else (" ".join(self._names[phrase][0]), "denied")]
        return tokens

    def join(self, tokens: Ragged) -> Ragged:
        """Return words for tokens: a phrase as one, other tokens if they are words."""
        values = np.array(self._word_of, np.int32)[tokens.values]
        for place, length, phrase in self._phrases.find(tokens.offsets, np.array(self._text_of, np.int32)[tokens.values]):
            name = self._names[phrase][1]
            values[place] = self._analyzer.number(name) if name else -1
            values[place + 1 : place + length] = -1
        return Ragged(tokens.offsets, values).take(values >= 0)


LONG = 64
"""Words of a row from which on sorting is faster than looking back word by word."""


def first_appearances(words: Ragged) -> Ragged:
    """Return each row as a set in the order of first appearance: a bag.

    >>> first_appearances(Ragged(np.array([0, 3, 5]), np.array([7, 2, 7, 7, 1]))).values.tolist()
    [7, 2, 7, 1]
    """
    n = len(words.values)
    if not n:
        return words
    longest = int(words.lengths().max())
    pairs = words.rows() * (int(words.values.max()) + 1) + words.values
    if longest > LONG:
        _, first = np.unique(pairs, return_index=True)
        keep = np.zeros(n, dtype=bool)
        keep[first] = True
    else:
        keep = np.ones(n, dtype=bool)
        for back in range(1, longest):
            keep[back:] &= pairs[back:] != pairs[:-back]
    return words if keep.all() else words.take(keep)
