"""The words that a quiz is about: how each is read, which stand together, and how they are related.

>>> lexicon = make_lexicon(["dog", "dogs", "puppy", "animal", "qwerty"], read_relations())
>>> lexicon.words, [reading.form for reading in lexicon.readings], lexicon.groups.tolist()
(['dog', 'dogs', 'puppy', 'animal'], ['base', 'plural', 'base', 'base'], [0, 0, 2, 3])
>>> word_relations(lexicon)["hypernym"]
{0: {3}, 2: {0, 3}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .draw import mix_all
from .relations import Reading, Relations, read_relations

__all__ = ["Answers", "Lexicon", "make_lexicon", "read_relations", "word_relations"]

Answers = dict[int, set[int]]
"""Of each word that is asked, the words that are right answers, itself left out."""

N_RANDOM = 2
"""Relations of chance: nothing of them can be known of a word that was not trained on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lexicon:
    """N words that the relation table knows."""

    words: list[str]
    """The most frequent first."""
    readings: list[Reading]
    groups: np.ndarray
    """(N,) int64: words of one group share a lemma or a synset, and stay on one side of every split."""
    relations: Relations

    def ids(self) -> dict[str, int]:
        """Return the number of each word."""
        return {word: i for i, word in enumerate(self.words)}


def make_lexicon(words: Iterable[str], relations: Relations, most: int | None = None) -> Lexicon:
    """Return the words that the table knows, at most so many, in the order given."""
    found = []
    for word in words:
        if most is not None and len(found) == most:
            break
        reading = relations.read(word)
        if reading is not None:
            found.append((word, reading))
    known, readings = [word for word, _ in found], [reading for _, reading in found]
    marks = [(("lemma", reading.lemma), ("lemma", word), ("synset", reading.synset)) for word, reading in found]
    return Lexicon(known, readings, group_by(marks), relations)


def group_by(marks: Sequence[Sequence[object]]) -> np.ndarray:
    """Return groups of things that are linked by marks in common, each called by its first member: (N,) int64.

    >>> group_by([("a",), ("b",), ("a", "c"), ("c",)]).tolist()
    [0, 1, 0, 0]
    """
    group = list(range(len(marks)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = i = group[group[i]]
        return i

    holder: dict[object, int] = {}
    for i, of_one in enumerate(marks):
        for mark in of_one:
            a, b = sorted((root(holder.setdefault(mark, i)), root(i)))
            group[b] = a
    return np.array([root(i) for i in range(len(group))], np.int64)


def hypernym_members(lexicon: Lexicon) -> dict[str, np.ndarray]:
    """Return the words (bool, N) that each synset stands above, or is the first sense of, by the synset's name."""
    members: dict[int, list[int]] = {}
    for i, reading in enumerate(lexicon.readings):
        for synset in (reading.synset, *lexicon.relations.all_above(reading.synset)):
            members.setdefault(synset, []).append(i)
    found: dict[str, np.ndarray] = {}
    for synset in sorted(members):
        mask = np.zeros(len(lexicon.words), bool)
        mask[members[synset]] = True
        pos = lexicon.relations.pos[synset]
        found[lexicon.relations.name(synset) + ("" if pos == "n" else f" ({pos})")] = mask
    return found


def word_relations(lexicon: Lexicon) -> dict[str, Answers]:
    """Return what each relation makes of each word that has an answer in the lexicon.

    Of WordNet's own relations words in their base form are asked, in the way they are read; an answer is right if the synset has it
    in any sense. Inflections go from a base form to its form, `base` goes back.
    """
    readings, id_of = lexicon.readings, lexicon.ids()
    base = [i for i, reading in enumerate(readings) if reading.form == "base"]
    found = {name: _asked(base, lambda i, of=of: of(readings[i]), id_of) for name, of in _of_synsets(lexicon).items()}
    inflected: dict[str, Answers] = {}
    back: Answers = {}
    for i, reading in enumerate(readings):
        origin = id_of.get(reading.lemma)
        if reading.form != "base" and origin is not None and readings[origin].pos == reading.pos:
            inflected.setdefault(reading.form, {}).setdefault(origin, set()).add(i)
            back[i] = {origin}
    return found | {name: inflected[name] for name in sorted(inflected)} | {"base": back}


def _asked(asked: Iterable[int], answers: Callable[[int], Iterable[str]], id_of: dict[str, int]) -> Answers:
    found = {i: {id_of[lemma] for lemma in answers(i) if lemma in id_of} - {i} for i in asked}
    return {i: right for i, right in found.items() if right}


def _of_synsets(lexicon: Lexicon) -> dict[str, Callable[[Reading], set[str]]]:
    """Return, for each relation of synsets, the lemmas that answer a reading."""
    table = lexicon.relations
    below: dict[int, list[int]] = {}
    for synset, parents in enumerate(table.above):
        for parent in parents:
            below.setdefault(parent, []).append(synset)

    def all_below(synset: int) -> set[int]:
        found: set[int] = set()
        waiting = [*below.get(synset, ())]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += below.get(one, ())
        return found

    def lemmas(synsets: Iterable[int], but: int = -1) -> set[str]:
        return {lemma for synset in synsets if synset != but for lemma in table.lemmas[synset]}

    return {
        "synonym": lambda r: lemmas([r.synset]),
        "antonym": lambda r: {b for a, b in table.opposites[r.synset] if a == r.lemma},
        "parent": lambda r: lemmas(table.above[r.synset]),
        "hypernym": lambda r: lemmas(table.all_above(r.synset)),
        "child": lambda r: lemmas(below.get(r.synset, ())),
        "hyponym": lambda r: lemmas(all_below(r.synset)),
        "sister": lambda r: lemmas((s for parent in table.above[r.synset] for s in below[parent]), r.synset),
        "entailment": lambda r: lemmas(table.entailed[r.synset]),
    }


def random_relations(n: int, seed: int) -> dict[str, Answers]:
    """Return relations that send each of n words to one that chance chose."""
    found = {}
    for number in range(N_RANDOM):
        order = np.argsort(mix_all(0x52414E44, seed, number, np.arange(n)), kind="stable")
        found[f"chance{number + 1}"] = {i: {int(to)} for i, to in enumerate(order.tolist()) if i != to}
    return found
