"""spaCy's tokens of chunks: of many at a time, as text, without what spaCy works out about each token.

>>> tokenizer = ChunkTokenizer("en")
>>> list(tokenizer.split(["dog.", "can't"]))
[('dog.', ['dog', '.']), ("can't", ['ca', "n't"])]
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np

from fistful.errors import UsageError

from .affix_search import infix_finditer, prefix_search, suffix_search
from .long_chunks import LONG_CHUNK, MAX_CHUNK, tokenizer_of_long

BETWEEN = "\v"
"""Stands between chunks. It is white space that no rule of spaCy's has in it, so that no rule reaches from chunk to chunk;
blanks would not do: spaCy looks for ":)" among tokens, where ":" and ")" of two chunks are in each other's way."""
AT_ONCE = 50_000
"""Characters tokenized at a time: if each is a token, spaCy takes some 20 MB for them."""


def import_spacy() -> Any:
    """Import spaCy without torch, which its neural parts would load where it is installed: 470 MB and 1.3 s a process."""
    blocked = "spacy" not in sys.modules and "torch" not in sys.modules
    if blocked:
        sys.modules["torch"] = cast(Any, None)  # Python's own way to say that there is no such package
    try:
        import spacy
    finally:
        if blocked:
            del sys.modules["torch"]
    return spacy


@functools.cache  # it makes a tokenizer, which takes as long as a small job
def check_language(language: str) -> None:
    """Check that spaCy can tokenize a language.

    Raises:
        UsageError: If it cannot.
    """
    if language == "en":  # it can: importing it to see is for those who tokenize, and workers would wait for it
        return
    try:
        ChunkTokenizer(language)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--language {language}: spaCy has no such language, or needs another package ({reason})") from None


class ChunkTokenizer:
    """The tokenizer of spaCy's blank pipeline of a language, of which only the texts of tokens are asked.

    Its vocabulary has none of what spaCy keeps about words, such as their shape, which would take half of its time.

    Raises:
        ImportError: If spaCy has no such language.
        UsageError: If it takes more than white space and rules to find the words of the language.
    """

    def __init__(self, language: str) -> None:
        spacy = import_spacy()
        kind = spacy.util.get_lang_class(language)
        if kind.default_config["nlp"]["tokenizer"] != {"@tokenizers": "spacy.Tokenizer.v1"}:
            raise UsageError(f"--language {language}: spaCy's tokenizer for it does not go chunk by chunk, which is not supported")
        rules = kind.Defaults
        self.stop_words = frozenset(rules.stop_words)
        self.exceptions = frozenset(rules.tokenizer_exceptions)
        """Chunks that spaCy's rules have tokens for."""
        self._tokenize = spacy.tokenizer.Tokenizer(  # what spacy.language.create_tokenizer does
            spacy.vocab.Vocab(),
            rules=rules.tokenizer_exceptions,
            prefix_search=prefix_search(tuple(rules.prefixes or ())),
            suffix_search=suffix_search(tuple(rules.suffixes or ())),
            infix_finditer=infix_finditer(tuple(rules.infixes or ())),
            token_match=rules.token_match,
            url_match=rules.url_match,
        )
        self._language = language
        self._tokenize_long: Any = None

    def split(self, chunks: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield each chunk with its tokens, none for one of more than MAX_CHUNK characters.

        Args:
            chunks: Texts without white space, none empty.
        """
        waiting: list[str] = []
        size = 0
        for chunk in chunks:
            is_long = len(chunk) >= LONG_CHUNK
            if waiting and (is_long or size > AT_ONCE):
                yield from self._split_short(waiting)
                waiting, size = [], 0
            if is_long:
                yield chunk, self._split_long(chunk)
            else:
                waiting.append(chunk)
                size += len(chunk)
        yield from self._split_short(waiting)

    def _split_short(self, chunks: list[str]) -> Iterator[tuple[str, list[str]]]:
        from spacy.attrs import IDX, LENGTH

        text = BETWEEN.join(chunks)
        starts, lengths = self._tokenize(text).to_array([IDX, LENGTH]).T.astype(np.int64)
        tokens = [text[start:end] for start, end in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]
        chunk_ends = np.cumsum(np.fromiter(map(len, chunks), np.int64, len(chunks)) + 1) - 1
        first = 0
        for chunk, end in zip(chunks, np.searchsorted(starts, chunk_ends).tolist(), strict=True):
            yield chunk, tokens[first:end]
            first = end + 1  # behind the token that BETWEEN is

    def _split_long(self, chunk: str) -> list[str]:
        if len(chunk) > MAX_CHUNK:
            return []
        if self._tokenize_long is None:
            self._tokenize_long = tokenizer_of_long(import_spacy().blank(self._language).tokenizer)
        return [token.text for token in self._tokenize_long(chunk)]
