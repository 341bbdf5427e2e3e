"""Word vectors: of how many words there are some, and which words they take for alike."""

from __future__ import annotations

import dataclasses

import numpy as np

from fistful.bow.vocabulary import Vocabulary
from fistful.bow.word_vectors import VECTORS

from .inputs import DataFolder, Material
from .page_text import number, percent

MAX_FOLDERS = 4
ASKED, NEAREST = 12, 6
"""Frequent words that are shown, and words that stand beside each."""
AMONG = 20_000
"""Words that are looked among, the most frequent: of rarer ones a few captions decide."""


@dataclasses.dataclass(frozen=True, slots=True)
class VectorWords:
    """The word vectors of a folder."""

    name: str
    facts: tuple[tuple[str, str], ...]
    alike: tuple[tuple[str, tuple[str, ...]], ...]
    """Frequent words, and of each those whose vectors are nearest to its own."""


def vectors_of(material: Material) -> tuple[VectorWords, ...]:
    """Build the section, a part a folder."""
    return tuple(_part(data, data.vocabulary) for data in material.vectors[:MAX_FOLDERS] if data.vocabulary is not None)


def _part(data: DataFolder, vocabulary: Vocabulary) -> VectorWords:
    stats = data.stats
    facts = [("words of the vocabulary", number(len(vocabulary)))]
    if "words_with_vector" in stats:
        share = percent(stats["words_with_vector"] / max(1, stats["words"]))
        facts.append(("of them with a vector", f"{number(stats['words_with_vector'])} ({share}\u00a0%)"))
    facts.append(("numbers of a vector", number(data.options().get("dim", 0))))
    names = {"captions": "captions", "pairs": "different pairs of words in them"}
    facts += [(text, number(stats[name])) for name, text in names.items() if name in stats]
    path = data.path / VECTORS
    return VectorWords(data.name, tuple(facts), nearest_words(np.load(path, mmap_mode="r"), vocabulary.words) if path.is_file() else ())


def nearest_words(vectors_VD: np.ndarray, words: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the most frequent words that have a vector, each with the words nearest to it by cosine, nearest first."""
    rows_MD = np.asarray(vectors_VD[:AMONG])
    known = np.flatnonzero(rows_MD.any(axis=1))
    cosines = np.round(rows_MD[known[:ASKED]] @ rows_MD[known].T, 5)
    cosines[np.arange(len(cosines)), np.arange(len(cosines))] = -2  # itself
    best = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEAREST, len(known) - 1)]
    return tuple((words[known[i]], tuple(words[known[j]] for j in row)) for i, row in enumerate(best.tolist()))
