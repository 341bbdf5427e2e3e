"""Which classes a vocabulary can speak of, and how often their words occur in its captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fistful.bow.store.files import read_json
from fistful.bow.store.folders import folder_at
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.store.manifest import CONFIG, read_config
from fistful.bow.store.model_folder import OWN_FILE
from fistful.bow.vocabulary import FILE, read_vocabulary
from fistful.bow.words import WordOptions
from fistful.errors import UsageError

from ..sets.class_names import ClassName
from .prompts import class_words

Cover = Literal["all", "some", "none"]
Source = Literal["pictures", "text", "neither"]


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """A vocabulary as evaluation sees it."""

    df: dict[str, int]
    """In how many samples each word occurs."""
    options: WordOptions
    """How names become words: as the captions did."""
    fingerprint: str
    """Of both."""

    def of_classes(self, classes: Sequence[ClassName]) -> tuple[np.ndarray, np.ndarray]:
        """Return which classes have all words of their name in the vocabulary, and the df of the rarest.

        Returns:
            (C,) bool, false also for a name without words; (C,) int64, 0 where not covered.
        """
        rarest = [
            min((self.df.get(word, 0) for word in words), default=0) for words in class_words([c.name for c in classes], self.options)
        ]
        df = np.array(rarest, dtype=np.int64)
        return df > 0, df


def read_coverage(folder: str) -> Coverage:
    """Read the vocabulary of a data folder, or of a model's.

    Raises:
        UsageError: If the folder has none.
    """
    path = folder_at(folder)
    if not (path / FILE).is_file():
        raise UsageError(f"--vocabulary {folder}: has no {FILE}; expected a folder that fistful count or bags wrote")
    vocabulary = read_vocabulary(path)
    options = read_word_options(path)
    digest = sha256_hex(canonical_json([sha256_hex((path / FILE).read_bytes()), dataclasses.asdict(options)]))
    return Coverage(dict(zip(vocabulary.words, vocabulary.df.tolist(), strict=True)), options, digest)


def read_word_options(folder: Path) -> WordOptions:
    """Return how the captions of a data folder, or of a model's data, became words; the defaults where it does not say."""
    if (folder / OWN_FILE).is_file():
        values = read_json(folder / OWN_FILE)["lineage"]["word_options"]
    elif (folder / CONFIG).is_file():
        config = read_config(folder)
        inputs = config["inputs"]
        values = inputs["word_options"] if isinstance(inputs, dict) and "word_options" in inputs else config["config"]
    else:
        return WordOptions()
    names = [field.name for field in dataclasses.fields(WordOptions)]
    return WordOptions(**{name: values[name] for name in names if name in values})


@dataclasses.dataclass(frozen=True, slots=True)
class ClassCover:
    """What a vocabulary can say of a class."""

    folder: str
    name: str
    words: tuple[str, ...]
    """The name's words, each once; () for a name without one."""
    missing: tuple[str, ...]
    """Those that the vocabulary lacks."""
    dropped: tuple[str, ...]
    """Those that balancing never keeps, or that have no word vector."""
    shared: tuple[str, ...]
    """Names (and folders) of other classes whose names have the same words: no vocabulary tells them apart."""
    twins: tuple[str, ...]
    """The same of classes of which the same words are learnt, `shared` included: this vocabulary cannot tell them apart."""
    pictures: int | None = None
    """How many pictures have the rarest of its words in their bags; None where nobody asked."""

    @property
    def cover(self) -> Cover:
        """Whether all, some or none of its words are learnt."""
        lost = len(self.missing) + len(self.dropped)
        return "none" if lost == len(self.words) else "some" if lost else "all"

    @property
    def source(self) -> Source | None:
        """What all of its words can be learnt from: bags of pictures, or else the vocabulary's text; None where nobody asked."""
        if self.pictures is None:
            return None
        return "pictures" if self.pictures else "text" if self.cover == "all" else "neither"


def cover_classes(
    classes: Sequence[ClassName], keep: Mapping[str, float], options: WordOptions, pictured: Mapping[str, int] | None = None
) -> list[ClassCover]:
    """Say which classes a vocabulary covers, and which it cannot tell apart.

    Args:
        classes: Their names as prompts would say them.
        keep: How likely each word of the vocabulary is kept.
        options: How names become words.
        pictured: How many pictures have each word in their bags; None to leave that open.
    """
    bags = class_words([entry.name for entry in classes], options)
    whole, learnt = _same(bags), _same([[word for word in words if keep.get(word, 0.0) > 0] for words in bags])
    said = [f"{entry.name} ({entry.folder})" for entry in classes]
    return [
        ClassCover(
            entry.folder,
            entry.name,
            tuple(words),
            missing=tuple(word for word in words if word not in keep),
            dropped=tuple(word for word in words if keep.get(word) == 0.0),
            shared=tuple(said[i] for i in whole[number]),
            twins=tuple(said[i] for i in learnt[number]),
            pictures=None if pictured is None else min((pictured.get(word, 0) for word in words), default=0),
        )
        for number, (entry, words) in enumerate(zip(classes, bags, strict=True))
    ]


def _same(bags: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return for each bag which others have the same words; none for an empty one."""
    groups: dict[frozenset[str], list[int]] = {}
    for number, words in enumerate(bags):
        groups.setdefault(frozenset(words), []).append(number)
    return [[i for i in groups[frozenset(words)] if i != number] if words else [] for number, words in enumerate(bags)]
