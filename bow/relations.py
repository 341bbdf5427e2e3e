"""Which words are kinds, opposites and forms of which: WordNet's relations, for the words of a vocabulary.

The table (bow/wordnet/) was derived from WordNet 3.1 by benchmarks/make_wordnet.py, which says what it holds; its licence lies
beside it. A word is read in one way: as the lemma and part of speech that was tagged most often in Princeton's texts, in its
first sense.

>>> table = read_relations()
>>> table.read("geese"), table.read("skating")
(Reading(lemma='goose', pos='n', form='plural', synset=3385), Reading(lemma='skating', pos='n', form='base', synset=1141))
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
from collections.abc import Iterator
from pathlib import Path

from .store.identity import sha256_hex

FOLDER = Path(__file__).parent / "wordnet"
POS = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}

RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "n": (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
"""Endings of inflected words and of their lemmas. Source: WordNet's manual, morphy(7WN)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """How a word is read."""

    lemma: str
    pos: str
    """n, v, a or r."""
    form: str
    """base; plural of nouns; past, ing or third (person) of verbs; comparative or superlative of adjectives."""
    synset: int
    """The lemma's first sense: a row of the table."""


@dataclasses.dataclass(frozen=True, slots=True)
class Relations:
    """The table. S rows, a synset each."""

    pos: tuple[str, ...]
    lemmas: tuple[tuple[str, ...], ...]
    """Of each synset, whichever sense of theirs it is; the first names it, and may be of several words, joined by _."""
    senses: tuple[tuple[int, ...], ...]
    """Which sense of each lemma the synset is, from 1."""
    above: tuple[tuple[int, ...], ...]
    """The synsets that stand one step above."""
    entailed: tuple[tuple[int, ...], ...]
    opposites: tuple[tuple[tuple[str, str], ...], ...]
    """Pairs (lemma of this synset, its opposite)."""
    first: dict[tuple[str, str], tuple[int, int]]
    """(lemma, part of speech) -> its first synset, and how often it was tagged in all its senses."""
    exceptions: dict[str, tuple[tuple[str, str], ...]]
    """Inflected word -> (lemma, part of speech) of those that follow no rule."""
    fingerprint: str

    def name(self, synset: int) -> str:
        """Return what a synset is called: its first lemma, and which sense of it where not the first."""
        sense = self.senses[synset][0]
        return self.lemmas[synset][0].replace("_", " ") + (f":{sense}" if sense > 1 else "")

    def read(self, word: str) -> Reading | None:
        """Return how a word in lower case is read; None if the table does not know it."""
        found = [(-self.first[lemma, pos][1], form != "base", "nvar".index(pos), lemma, form) for lemma, pos, form in self._ways(word)]
        if not found:
            return None
        _, _, place, lemma, form = min(found)
        pos = "nvar"[place]
        return Reading(lemma, pos, form, self.first[lemma, pos][0])

    def _ways(self, word: str) -> Iterator[tuple[str, str, str]]:
        """Yield each lemma that a word may be a form of, its part of speech, and which form."""
        for pos in POS:
            if (word, pos) in self.first:
                yield word, pos, "base"
            for ending, of_lemma in RULES[pos]:
                lemma = word.removesuffix(ending) + of_lemma
                if word.endswith(ending) and (lemma, pos) in self.first and not (pos == "n" and word.endswith("ss")):
                    yield lemma, pos, _form(word, pos)
        for lemma, pos in self.exceptions.get(word, ()):
            yield lemma, pos, _form(word, pos)

    def all_above(self, synset: int) -> frozenset[int]:
        """Return all synsets above one, itself left out."""
        return _closure(self.above, synset)


def _form(word: str, pos: str) -> str:
    if pos == "n":
        return "plural"
    if pos == "v":
        return "ing" if word.endswith("ing") else "third" if word.endswith("s") and word != "was" else "past"
    return "superlative" if word.endswith("st") else "comparative"


def _closure(steps: tuple[tuple[int, ...], ...], start: int) -> frozenset[int]:
    found: set[int] = set()
    waiting = [*steps[start]]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += steps[one]
    return frozenset(found)


@functools.cache
def read_relations() -> Relations:
    """Read the table that comes with the package: some 29,000 synsets, in half a second."""
    parts = [gzip.decompress((FOLDER / name).read_bytes()) for name in ("synsets.tsv.gz", "exceptions.tsv.gz")]
    rows, forms = ([line.split("\t") for line in part.decode("ascii").splitlines()[1:]] for part in parts)
    cells = [[cell.split(":") for cell in row[2].split()] for row in rows]
    first = {
        (lemma, row[1]): (number, int(more[1]))
        for number, (row, found) in enumerate(zip(rows, cells, strict=True))
        for lemma, *more in found
        if len(more) == 2
    }
    exceptions: dict[str, list[tuple[str, str]]] = {}
    for pos, word, lemma in forms:
        exceptions.setdefault(word, []).append((lemma, pos))

    def numbers(column: int) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(int, row[column].split())) for row in rows)

    return Relations(
        pos=tuple(row[1] for row in rows),
        lemmas=tuple(tuple(cell[0] for cell in found) for found in cells),
        senses=tuple(tuple(int(cell[1]) for cell in found) for found in cells),
        above=numbers(3),
        entailed=numbers(5),
        opposites=tuple(tuple((a, b) for a, _, b in (pair.partition(">") for pair in row[4].split())) for row in rows),
        first=first,
        exceptions={word: tuple(found) for word, found in exceptions.items()},
        fingerprint=sha256_hex(b"".join(parts)),
    )
