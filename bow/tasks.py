"""Tasks about words, made from a lexicon: predicates, relations, and what is composed of them.

A *predicate* is true of its members: is{hypernym=animal}, is{pos=verb}, is{form=plural}. A *relation* sends a word to its right
answers: plural, hypernym. Composed are `A and B`, `A or B`, `A and not B` of predicates, and of relations `F of G` (F of what G
gives), `F or G`, `F and G`. The list is a function of (words, table, seed) alone.

After TaskBench500 (Li et al. 2022, arXiv 2112.03204): its functions over words, without those that need other sources.

>>> lexicon = make_lexicon(["dog", "dogs", "cat", "cats", "run"], read_relations())
>>> [str(task) for task in atoms(lexicon, seed=0, n=9, least=1)][:3]
['is{pos=verb}', 'is{form=plural}', 'is{hypernym=dog}']
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np

from .draw import mix_all
from .lexicon import Answers, Lexicon, hypernym_members, make_lexicon, random_relations, read_relations, word_relations
from .relations import POS

__all__ = ["Predicate", "Relation", "Task", "TextTask", "atoms", "composed", "make_lexicon", "read_relations"]

T = TypeVar("T")
Kind = Literal["predicate", "relation", "predicates composed", "relations composed", "bag of words", "word order"]
KINDS: tuple[Kind, ...] = ("predicate", "relation", "predicates composed", "relations composed", "bag of words", "word order")
"""In the order of every table."""

FORMS = ("plural", "past", "ing", "third", "comparative", "superlative")
N_ATOMS, N_COMPOSED = 60, 120
LEAST = 40
"""Members, and others, of a predicate, and words that a relation has answers for: fewer give too few to train and to test on."""
MOST_SHARE = 0.4
"""Of the words that may be members of a predicate: of a closure of hypernyms, "entity" would be true of nearly all."""
MOST_COMMON = 0.1
"""Of a relation's questions that one answer may be right for; a more common one is no right answer."""
MOST_ANSWERS = 50
"""Right answers of a question; one with more is left out, as it would be answered by chance."""
ALIKE = 0.9
"""Jaccard index above which two tasks are taken for one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Predicate:
    """What is true of some words."""

    name: str
    kind: Kind
    members: np.ndarray
    """(N,) bool."""

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True, slots=True)
class Relation:
    """What leads from words to words."""

    name: str
    kind: Kind
    answers: Answers

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True, slots=True)
class TextTask:
    """What is true of some texts of several words; `bow.sequences` makes the texts."""

    name: str
    kind: Kind
    rule: Literal["contains", "more", "first", "before", "swapped"]
    first: np.ndarray
    """(N,) bool: the words that count; of `swapped`, those that the relation asks."""
    second: np.ndarray
    """(N,) bool: the words that count against them, if the rule knows such."""
    answers: Answers
    """Of `swapped`; else empty."""

    def __str__(self) -> str:
        return self.name


Task = Predicate | Relation | TextTask


def atoms(lexicon: Lexicon, seed: int, n: int = N_ATOMS, least: int = LEAST) -> list[Task]:
    """Return atomic tasks: all relations that are large enough, then predicates up to n in all.

    Parts of speech and forms come first, hypernyms in an order of chance.
    """
    relations = _relations(word_relations(lexicon) | random_relations(len(lexicon.words), seed), least)
    hypernyms = hypernym_members(lexicon)
    order = shuffled([*hypernyms], seed, 1)
    candidates = [*_by("pos", [POS[reading.pos] for reading in lexicon.readings], POS.values())]
    candidates += _by(
        "form", [reading.form for reading in lexicon.readings], ["plural", "past", "ing", "third", "comparative", "superlative"]
    )
    candidates += [(f"is{{hypernym={name}}}", hypernyms[name]) for name in order]
    return [*distinct(candidates, "predicate", least, MOST_SHARE, n - len(relations)), *relations]


def composed(parts: Sequence[Task], seed: int, n: int = N_COMPOSED, least: int = LEAST) -> list[Task]:
    """Return tasks composed of atoms: a quarter of them of relations, where there are as many, and the others of predicates."""
    predicates = [task for task in parts if isinstance(task, Predicate)]
    relations = [task for task in parts if isinstance(task, Relation) and not task.name.startswith("chance")]
    of_relations = _composed_relations(relations, seed, n // 4, least)
    return [*composed_predicates(predicates, seed, n - len(of_relations), least, MOST_SHARE), *of_relations]


def composed_predicates(parts: Sequence[Predicate], seed: int, n: int, least: int, most_share: float) -> list[Predicate]:
    """Return up to n predicates composed of two, as many by each of and, or, and not."""
    pairs = shuffled([(a, b) for a, b in itertools.permutations(range(len(parts)), 2)], seed, 2)

    def made(joined: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray], ordered: bool) -> Iterator[tuple[str, np.ndarray]]:
        for a, b in pairs:
            if ordered or a < b:
                yield f"{parts[a]} {joined} {parts[b]}", function(parts[a].members, parts[b].members)

    ways = [("and", np.logical_and, False), ("or", np.logical_or, False), ("and not", lambda a, b: a & ~b, True)]
    found: list[Predicate] = []
    for i, way in enumerate(ways):
        wanted = (n - len(found)) // (len(ways) - i)
        found += distinct(made(*way), "predicates composed", least, most_share, wanted, [*parts, *found])
    return found


def _composed_relations(parts: Sequence[Relation], seed: int, n: int, least: int) -> list[Task]:
    chains = [(f"{f} of {g}", _chain(f.answers, g.answers)) for f, g in itertools.product(parts, parts)]
    pairs = [*itertools.combinations(parts, 2)]
    unions = [(f"{f} or {g}", _joined(f.answers, g.answers, set.union)) for f, g in pairs]
    both = [(f"{f} and {g}", _joined(f.answers, g.answers, set.intersection)) for f, g in pairs]
    found: list[Task] = []
    for i, way in enumerate((both, unions, chains)):  # of both there are the fewest
        wanted = (n - len(found)) // (3 - i)
        found += _relations(dict(shuffled(way, seed, 3 + i)), least, "relations composed", wanted, [*parts, *found])
    return found


def _chain(outer: Answers, inner: Answers) -> Answers:
    found = {i: {to for by in through for to in outer.get(by, ())} - {i} for i, through in inner.items()}
    return {i: right for i, right in found.items() if right}


def _joined(a: Answers, b: Answers, how: Callable[[set[int], set[int]], set[int]]) -> Answers:
    found = {i: how(a[i], b[i]) for i in a if i in b}
    return {i: right for i, right in found.items() if right}


def _by(name: str, of_words: Sequence[str], values: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    for value in values:
        yield f"is{{{name}={value}}}", np.array([one == value for one in of_words], bool)


def distinct(
    candidates: Iterable[tuple[str, np.ndarray]],
    kind: Kind,
    least: int,
    most_share: float,
    n: int,
    before: Sequence[Task] = (),
) -> list[Predicate]:
    """Return the first n predicates that are neither too small nor too large, nor nearly one that is there already or its contrary.

    Args:
        candidates: Names, and members (bool, N).
        kind: What they are called.
        least: Members, and others, at least.
        most_share: Members at most, of all words.
        n: How many are wanted.
        before: Tasks that are there already.
    """
    kept = [task.members for task in before if isinstance(task, Predicate)]
    found: list[Predicate] = []
    for name, members in candidates:
        if len(found) >= n:
            break
        size = int(members.sum())
        fits = least <= size <= most_share * len(members) and len(members) - size >= least
        if fits and not any(_jaccard(same, other) > ALIKE for other in kept for same in (members, ~members)):
            kept.append(members)
            found.append(Predicate(name, kind, members))
    return found


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / max(1, np.count_nonzero(a | b))


def _relations(
    candidates: dict[str, Answers], least: int, kind: Kind = "relation", n: int | None = None, before: Sequence[Task] = ()
) -> list[Task]:
    """Return the first n relations that have enough questions, without answers and questions that chance would get right."""
    kept = [_pairs(task.answers) for task in before if isinstance(task, Relation)]
    found: list[Task] = []
    for name, answers in candidates.items():
        if n is not None and len(found) >= n:
            break
        trimmed = _trimmed(answers)
        pairs = _pairs(trimmed)
        if len(trimmed) >= least and not any(len(pairs & other) > ALIKE * len(pairs | other) for other in kept):
            kept.append(pairs)
            found.append(Relation(name, kind, trimmed))
    return found


def _trimmed(answers: Answers) -> Answers:
    times: dict[int, int] = {}
    for right in answers.values():
        for one in right:
            times[one] = times.get(one, 0) + 1
    common = {one for one, n in times.items() if n > MOST_COMMON * len(answers)}
    left = {i: right - common for i, right in sorted(answers.items())}
    return {i: right for i, right in left.items() if 0 < len(right) <= MOST_ANSWERS}


def _pairs(answers: Answers) -> set[tuple[int, int]]:
    return {(i, to) for i, right in answers.items() for to in right}


def shuffled(things: Sequence[T], seed: int, which: int) -> list[T]:
    """Return things in an order of chance."""
    order = np.argsort(mix_all(0x5441534B, seed, which, np.arange(len(things))), kind="stable")
    return [things[i] for i in order.tolist()]
