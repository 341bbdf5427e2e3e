"""Texts of several words, and what is true of them: of the bag alone, or only of the order.

Of a task of order each bag is there in both orders, with opposite labels, one after the other; so whoever sees but the bag is
right on half of the texts, whatever was learnt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from .draw import mix_all
from .tasks import LEAST, Predicate, Relation, Task, TextTask, shuffled

N_SEQUENCES = 20
SHORTEST, LONGEST = 2, 8
"""Words of a text."""
ORDERS = {"first", "before", "swapped"}
ONE_WAY = ("hypernym", "parent", "plural", "past", "ing", "third", "base")
"""Relations whose pairs say by their order which word is the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Texts:
    """Texts with labels; of a task of order, rows 2 i and 2 i + 1 have the same bag."""

    texts: list[str]
    labels: np.ndarray
    """(n,) +1 where the task is true of the text, else -1."""


def sequences(parts: Sequence[Task], seed: int, n: int = N_SEQUENCES, least: int = LEAST) -> list[Task]:
    """Return tasks about texts, a fifth by each rule, made of atomic predicates and relations.

    Args:
        parts: Atoms.
        seed: Which predicates are taken.
        n: Tasks in all.
        least: Members of either predicate that the other has not, and pairs of words.
    """
    predicates = shuffled([task for task in parts if isinstance(task, Predicate)], seed, 11)
    if not predicates:
        return []
    pairs = [(a, b) for a in predicates for b in predicates if a is not b and not (a.members & b.members).any()]
    pairs, share = shuffled(pairs, seed, 12), n // 5
    none = np.zeros(len(predicates[0].members), bool)
    found: list[Task] = [TextTask(f"contains {p}", "bag of words", "contains", p.members, none, {}) for p in predicates[:share]]
    found += [TextTask(f"more {p} than {q}", "bag of words", "more", p.members, q.members, {}) for p, q in pairs[:share]]
    found += [
        TextTask(f"the first word {p}", "word order", "first", p.members, none, {}) for p in (predicates[share:] or predicates)[:share]
    ]
    found += [TextTask(f"{p} before {q}", "word order", "before", p.members, q.members, {}) for p, q in pairs[share : 2 * share]]
    return [*found, *_swaps(parts, len(none), least)[: n - len(found)]]


def _swaps(parts: Sequence[Task], n_words: int, least: int) -> list[Task]:
    found: list[Task] = []
    for task in parts:
        if isinstance(task, Relation) and task.name in ONE_WAY:
            answers = {i: {to for to in right if i not in task.answers.get(to, ())} for i, right in task.answers.items()}
            asked = np.zeros(n_words, bool)
            asked[[i for i, right in answers.items() if right]] = True
            if asked.sum() >= least:
                found.append(TextTask(f"a word, then its {task}", "word order", "swapped", asked, asked, answers))
    return found


def make_texts(task: TextTask, words: Sequence[str], side: np.ndarray, n: int, seed: int) -> Texts:
    """Return up to n texts of the words of one side of a split: an even number, as many of each label.

    Args:
        task: What is true of half of them.
        words: The lexicon's N words.
        side: (N,) bool, the words that may be used.
        n: Texts at most.
        seed: Of the draws.
    """
    decks = [np.flatnonzero(side & members) for members in (task.first, task.second, ~task.first & ~task.second)]
    decks = [deck[np.argsort(mix_all(0x5345, seed, i, deck), kind="stable")] for i, deck in enumerate(decks)]
    if task.rule == "swapped":
        pairs = _swapped(task, decks[0], side)
    else:
        pairs = {"contains": _contains, "more": _more, "first": _first, "before": _before}[task.rule](decks, seed, TRIES * n)
    found: dict[tuple[int, ...], int] = {}
    for true, false in pairs:
        if len(found) + 2 > n:
            break
        if true not in found and false not in found:
            found |= {true: 1, false: -1}
    texts = [" ".join(words[i] for i in row) for row in found]
    return Texts(texts, np.array([*found.values()], np.int64))


Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""A text of which the task is true, and one of which it is not."""
TRIES = 4
"""Times as many texts are drawn as are wanted, for some come out twice."""


def _drawn(seed: int, i: int, *salts: int) -> int:
    return int(mix_all(0x44524157, seed, i, *salts))


def _deal(deck: np.ndarray, seed: int, i: int, n: int, salt: int) -> list[int]:
    """Return n cards of a deck, all different, from a place of chance on."""
    start = _drawn(seed, i, salt) % len(deck)
    return [int(deck[(start + j) % len(deck)]) for j in range(n)]


def _length(seed: int, i: int) -> int:
    return SHORTEST + _drawn(seed, i, 1) % (LONGEST - SHORTEST + 1)


def _contains(decks: list[np.ndarray], seed: int, n: int) -> Iterator[Pair]:
    counted, _, others = decks
    if len(counted) == 0 or len(others) < LONGEST:
        return
    for i in range(n):
        length = _length(seed, i)
        text = [*_deal(counted, seed, i, 1, 2), *_deal(others, seed, i, length - 1, 3)]
        yield _mixed(text, seed, i, 4), _mixed(_deal(others, seed, i, length, 5), seed, i, 6)


def _more(decks: list[np.ndarray], seed: int, n: int) -> Iterator[Pair]:
    counted, against, others = decks
    if min(map(len, decks)) < LONGEST:
        return
    for i in range(n):
        length = _length(seed, i)
        more = 1 + _drawn(seed, i, 2) % length
        fewer = _drawn(seed, i, 3) % min(more, length - more + 1)
        rest = length - more - fewer
        sides = ((counted, against), (against, counted))
        made = [
            _mixed(
                [*_deal(many, seed, i, more, 4 + k), *_deal(few, seed, i, fewer, 6 + k), *_deal(others, seed, i, rest, 8 + k)], seed, i, 9
            )
            for k, (many, few) in enumerate(sides)
        ]
        yield made[0], made[1]


def _first(decks: list[np.ndarray], seed: int, n: int) -> Iterator[Pair]:
    counted, _, others = decks
    if min(len(counted), len(others)) < LONGEST:
        return
    for i in range(n):
        length = _length(seed, i)
        n_counted = 1 + _drawn(seed, i, 2) % (length - 1)
        one, *more = _deal(counted, seed, i, n_counted, 3)
        other, *rest = _deal(others, seed, i, length - n_counted, 4)
        yield _swap((one, *_mixed([other, *more, *rest], seed, i, 5)), 0, other)


def _before(decks: list[np.ndarray], seed: int, n: int) -> Iterator[Pair]:
    counted, against, others = decks
    if min(len(counted), len(against)) == 0 or len(others) < LONGEST:
        return
    for i in range(n):
        (a,), (b,) = _deal(counted, seed, i, 1, 2), _deal(against, seed, i, 1, 3)
        text = _mixed([a, b, *_deal(others, seed, i, _length(seed, i) - 2, 4)], seed, i, 5)
        pair = _swap(text, text.index(a), b)
        yield pair if text.index(a) < text.index(b) else (pair[1], pair[0])


def _swapped(task: TextTask, asked: np.ndarray, side: np.ndarray) -> Iterator[Pair]:
    allowed = {*np.flatnonzero(side).tolist()}
    for i in asked.tolist():
        for answer in sorted(task.answers[i] & allowed):
            yield (i, answer), (answer, i)


def _mixed(text: list[int], seed: int, i: int, salt: int) -> tuple[int, ...]:
    order = np.argsort(mix_all(0x4D495845, seed, i, salt, np.arange(len(text))), kind="stable")
    return tuple(text[j] for j in order.tolist())


def _swap(text: tuple[int, ...], place: int, other: int) -> Pair:
    """Return a text, and the same with the word at a place and another one exchanged."""
    back = [*text]
    there = back.index(other)
    back[place], back[there] = back[there], back[place]
    return text, tuple(back)
