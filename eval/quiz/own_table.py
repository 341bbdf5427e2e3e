"""Words of one's own with their properties: a TSV in, predicates out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fistful.bow.lexicon import group_by, read_relations
from fistful.bow.store.plain_text import read_lines
from fistful.bow.tasks import N_COMPOSED, Task, composed_predicates, distinct
from fistful.errors import DataError, UsageError
from fistful.wording import counted, some

WORD = "word"
"""The column that has the words."""
SEVERAL = "|"
"""Parts the values of a cell."""
LEAST = 32
"""Words that have a value, and that have it not: fewer do not give every split 16 examples to learn from and some to ask."""


@dataclasses.dataclass(frozen=True, slots=True)
class OwnTable:
    """N words and what is said of them."""

    words: list[str]
    columns: dict[str, list[frozenset[str]]]
    """Property -> the values of each word."""


def read_own_table(path: str) -> OwnTable:
    """Read a TSV whose first row names its columns: `word`, and properties; several values of a cell are parted by |.

    Raises:
        UsageError: If it cannot be read, is no TSV, or has no such columns.
        DataError: If a row has more cells than the first, no word, or a word that was there before.
    """
    expected = f"a TSV with the columns {WORD} and at least one property"
    lines = read_lines(path, f"--tasks {path}", f"wordnet, or {expected}")
    rows = [(number, [cell.strip() for cell in line.split("\t")]) for number, line in enumerate(lines, start=1) if line.strip()]
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    if len(header) < 2:
        raise UsageError(f"--tasks {path}: its first row has no tab, so it is no TSV; expected {expected}, parted by tabs")
    if header.count(WORD) != 1 or len(set(header)) < len(header) or "" in header:
        raise UsageError(f"--tasks {path}: its first row has the columns {', '.join(map(repr, header))}; expected {expected}")
    place, found, seen = header.index(WORD), dict[str, list[frozenset[str]]](), set[str]()  # vectors are those of lower case, mostly
    for number, cells in rows[1:]:
        if len(cells) > len(header):
            raise DataError(f"{path} row {number}: found {len(cells)} cells, expected {len(header)} as in the first row")
        cells += [""] * (len(header) - len(cells))
        if not cells[place]:
            raise DataError(f"{path} row {number}: has no word; expected one in the column {WORD}")
        if cells[place].lower() in seen:
            raise DataError(f"{path} row {number}: the word {cells[place]!r} is there twice; several values are parted by {SEVERAL}")
        seen.add(cells[place].lower())
        found[cells[place]] = [frozenset(value.strip() for value in cell.split(SEVERAL) if value.strip()) for cell in cells]
    columns = {name: [values[i] for values in found.values()] for i, name in enumerate(header) if i != place}
    return OwnTable([*found], columns)


def without_unknown(table: OwnTable, is_known: Callable[[list[str]], Sequence[bool]], path: str) -> tuple[OwnTable, list[str]]:
    """Leave out the words that a vocabulary does not know, and say how many.

    Raises:
        UsageError: If it knows none.
    """
    known = is_known(table.words)
    lost = [word for word, there in zip(table.words, known, strict=True) if not there]
    if not lost:
        return table, []
    kept = [i for i, there in enumerate(known) if there]
    if not kept:
        raise UsageError(
            f"--tasks {path}: none of its {counted(len(lost), 'word')} is in the vocabulary, {some([repr(word) for word in lost])}; "
            "give --vocabulary FOLDER of captions that have them"
        )
    smaller = OwnTable([table.words[i] for i in kept], {name: [of[i] for i in kept] for name, of in table.columns.items()})
    n = counted(len(lost), "word is", "words are")
    return smaller, [f"{path}: {n} not in the vocabulary and left out: {some([repr(word) for word in lost])}"]


def table_tasks(table: OwnTable, path: str, seed: int, lost: Sequence[str] = ()) -> tuple[list[Task], np.ndarray]:
    """Return the tasks of a table, and the group of each of its words.

    A word is grouped with those that share its lemma or synset, where WordNet's table knows it.

    Args:
        table: The words.
        path: Of the file, for errors.
        seed: Which predicates are composed.
        lost: What `without_unknown` said, for errors.

    Raises:
        UsageError: If no value has enough words.
    """
    candidates = [
        (f"is{{{name}={value}}}", np.array([value in values for values in of_words], bool))
        for name, of_words in table.columns.items()
        for value in sorted(frozenset().union(*of_words))
    ]
    parts = distinct(candidates, "predicate", LEAST, 1.0, len(candidates))
    if not parts:
        most = max(candidates, key=lambda one: min(one[1].sum(), (~one[1]).sum()), default=None)
        found = f"the nearest is {most[0]} with {most[1].sum()} of {len(most[1])}" if most else "it has none"
        raise UsageError(
            f"--tasks {path}: no value of a property is had by {LEAST} of its words and lacked by {LEAST} ({found}); "
            f"{'; '.join([*(line.removeprefix(f'{path}: ') for line in lost), 'add words, or join values'])}"
        )
    return [*parts, *composed_predicates(parts, seed, N_COMPOSED, LEAST, 1.0)], group_by([_marks(word) for word in table.words])


def _marks(word: str) -> tuple[object, ...]:
    reading = read_relations().read(word.lower())
    own = ("lemma", word.lower())
    return (own, ("lemma", reading.lemma), ("synset", reading.synset)) if reading else (own,)
