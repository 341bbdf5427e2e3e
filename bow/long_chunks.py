"""spaCy's tokens of long chunks, in time that does not grow with the square of their length.

spaCy takes marks off both ends of a chunk one by one, and searches the whole chunk for each. Here a
search looks at the end alone: the same tokens (tests/bow/test_words.py compares), 70 times sooner at 1,000 marks.
"""

from __future__ import annotations

from collections.abc import Callable
from re import Match
from typing import Any

LONG_CHUNK = 256
"""Length of a chunk from which on it is worth its own tokenizer, in characters."""
MAX_CHUNK = 10_000
"""Longest chunk that is read, in characters: nothing in it is a word (docs/decisions/0022-text-as-it-comes.md)."""
WINDOW = 64
"""Characters at an end that are searched first; the longest mark or unit that has an end is shorter."""
MARGIN = 16
"""What comes so close to the window's border may go on behind it."""

Search = Callable[..., Match[str] | None]


def tokenizer_of_long(tokenizer: Any) -> Any:
    """Return a tokenizer with the rules and the vocabulary of another, for chunks of LONG_CHUNK characters and more."""
    return type(tokenizer)(
        tokenizer.vocab,
        rules=tokenizer.rules,
        prefix_search=tokenizer.prefix_search and _at_start(tokenizer.prefix_search),
        suffix_search=tokenizer.suffix_search and _at_end(tokenizer.suffix_search),
        infix_finditer=tokenizer.infix_finditer,
        token_match=tokenizer.token_match,
        url_match=tokenizer.url_match,
    )


def _at_start(search: Search) -> Search:
    def find(text: str) -> Match[str] | None:
        size = WINDOW
        while size < len(text):
            match = search(text, 0, size)
            if match is None or match.end() < size - MARGIN:
                return match
            size *= 2
        return search(text)

    return find


def _at_end(search: Search) -> Search:
    def find(text: str) -> Match[str] | None:
        size = WINDOW
        while size < len(text):
            match = search(text, len(text) - size)
            if match is None or match.start() > len(text) - size + MARGIN:
                return match
            size *= 2
        return search(text)

    return find
