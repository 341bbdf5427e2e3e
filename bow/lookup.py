"""Looking words up: how frequent they are, how likely they are kept, and why they are not there."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Literal

from .vocabulary import Vocabulary
from .words import Analyzer, Fault

Status = Literal["known", "dropped", "too_rare", "beyond_max", "never_seen"] | Fault
"""known: in the vocabulary; dropped: there, but never kept; too_rare, beyond_max: counted, but not of the
vocabulary; the others: never counted."""

N_NEAREST = 3


@dataclasses.dataclass(frozen=True, slots=True)
class WordFact:
    """What is known of a word."""

    asked: str
    """As the user wrote it."""
    word: str
    """As captions are read: a token in lower case."""
    status: Status
    tf: int
    """How often it was counted; 0 if never."""
    df: int
    """In how many samples."""
    rank: int | None
    """Place in the vocabulary, from 1."""
    keep: float | None
    """How likely it is kept; for the rule budget its weight in the draw, for whole samples how likely it keeps its sample."""
    nearest: tuple[str, ...] = ()
    """Known words that are spelt alike, where this one was never seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lookup:
    """Where words are looked up: all that was counted, and the vocabulary chosen from it."""

    counted: Vocabulary
    chosen: Vocabulary
    min_count: int
    counted_ids: dict[str, int]
    chosen_ids: dict[str, int]

    def fact(self, asked: str, word: str, fault: Fault | None) -> WordFact:
        """Return what is known of a token."""
        place, row = self.chosen_ids.get(word), self.counted_ids.get(word)
        tf, df = (int(self.counted.tf[row]), int(self.counted.df[row])) if row is not None else (0, 0)
        if place is not None:
            keep = float(self.chosen.keep[place])
            dropped = keep == 0 and self.chosen.balance.by_word
            return WordFact(asked, word, "dropped" if dropped else "known", tf, df, place + 1, keep)
        if row is not None:
            return WordFact(asked, word, "too_rare" if df < self.min_count else "beyond_max", tf, df, None, None)
        nearest = difflib.get_close_matches(word, self.chosen.words, N_NEAREST, 0.75) if fault is None else []
        return WordFact(asked, word, fault or "never_seen", 0, 0, None, None, tuple(nearest))


def make_lookup(counted: Vocabulary, chosen: Vocabulary, min_count: int) -> Lookup:
    """Return where to look words up.

    Args:
        counted: Every word that is known of.
        chosen: The vocabulary: some of them, with their keep probabilities.
        min_count: What `chosen` was asked to have at least, as df.
    """
    return Lookup(counted, chosen, min_count, counted.ids(), chosen.ids())


def look_up(words: Sequence[str], lookup: Lookup, analyzer: Analyzer) -> list[WordFact]:
    """Look words up as captions are read: in lower case, and a text of several words one by one."""
    return [lookup.fact(asked, word, fault) for asked in words for word, fault in analyzer.explain(asked) or [(asked, "not_alphabetic")]]
