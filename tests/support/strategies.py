"""Strategies that several tests share: text of every sort, bags, counts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from fistful.bow.ragged import Ragged

WHITE = [chr(i) for i in range(0x110000) if chr(i).isspace()]
"""Every white space that Python, and so spaCy, knows."""

WORDS = [
    "dog",
    "dogs",
    "The",
    "a",
    "can't",
    "U.S.A.",
    "e-mail",
    "don’t",
    "naïve",
    "cafe\u0301",
    "ﬁsh",
    "straße",
    "İstanbul",
    "ǅ",
    "犬",
    "собака",
    "कुत्ता",
]
ODD = [
    "",
    ":-)",
    "http://a.b/c?d=e",
    "#tag",
    "@you",
    "$5.99",
    "3rd",
    "10km",
    "\0",
    "\x1b[31m",
    "\u200b",
    "\ufeff",
    "\u202e",
    "👩🏽‍🚀",
    "🇨🇭",
    "--",
    "...",
    '"',
    "''",
    "(a)b",
]


def captions() -> st.SearchStrategy[str]:
    """Captions: words, oddities and any characters, with white space of every sort between."""
    pieces = st.one_of(st.sampled_from(WORDS), st.sampled_from(ODD), st.sampled_from(WHITE), st.text(max_size=8), st.just(" "))
    return st.lists(pieces, max_size=12).map("".join)


def ragged(n_words: int, max_rows: int = 12) -> st.SearchStrategy[Ragged]:
    """Bags: rows of distinct word ids below n_words, in any order."""
    row = st.lists(st.integers(0, n_words - 1), max_size=n_words, unique=True)
    return st.lists(row, max_size=max_rows).map(make_ragged)


def make_ragged(rows: list[list[int]]) -> Ragged:
    """Rows as a Ragged."""
    offsets = np.cumsum([0] + [len(row) for row in rows])
    return Ragged(offsets, np.array([word for row in rows for word in row], np.int64))


def rows_of(bags: Ragged) -> list[list[int]]:
    """A Ragged as rows."""
    return [row.tolist() for row in bags]


def document_frequencies() -> st.SearchStrategy[np.ndarray]:
    """Document frequencies, falling, as a vocabulary has them."""
    counts = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=30)
    return counts.map(lambda values: np.array(sorted(values, reverse=True), np.int64))
