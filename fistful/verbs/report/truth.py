"""What pseudo-labelled pictures really show, and how many of their words are right by it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fistful.bow import metrics
from fistful.bow.balance import effective_words
from fistful.bow.store.files import read_json
from fistful.bow.store.plain_text import read_lines
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import WordOptions
from fistful.eval.tasks.prompts import class_words

from ...errors import DataError


@dataclasses.dataclass(frozen=True, slots=True)
class LabelPrecision:
    """Shares of right words, by way of labelling."""

    name: str
    share: float
    low: float | None = None
    high: float | None = None
    effective: float | None = None
    """Effective number of different words given."""


def read_truth(path: str) -> dict[str, str]:
    """Read a table of true names.

    Raises:
        UsageError: If it is missing, or not UTF-8.
        DataError: If it has other columns.
    """
    lines = read_lines(path, f"--truth {path}", "a TSV with the columns key and name")
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    if not {"key", "name"} <= set(reader.fieldnames or ()):
        raise DataError(f"--truth {path}: columns are {list(reader.fieldnames or ())}, expected key and name, separated by a tab")
    return {row["key"]: row["name"] or "" for row in reader}


def read_precision(path: str) -> list[LabelPrecision]:
    """Read shares of right words by name; other entries, such as counts, are left alone.

    Raises:
        UsageError: If it is missing.
        DataError: If it is not a JSON object.
    """
    found = read_json(Path(path))
    if not isinstance(found, dict):
        raise DataError(f"--precision {path}: found a {type(found).__name__}, expected an object of shares by name")
    return [LabelPrecision(name.replace("_", " "), value) for name, value in found.items() if isinstance(value, float) and 0 <= value <= 1]


def true_words(names: Sequence[str], vocabulary: Vocabulary, options: WordOptions) -> list[set[int]]:
    """Return the words of the vocabulary that each name has."""
    ids = vocabulary.ids()
    return [{ids[word] for word in words if word in ids} for words in class_words(list(names), options)]


def precision(right: np.ndarray, given: np.ndarray, words: np.ndarray, name: str) -> LabelPrecision:
    """Return the share of right words among those given, and its interval over pictures.

    Args:
        right: (N,) right words of each picture.
        given: (N,) how many words it got.
        words: All words given, one after the other.
        name: The way of labelling.
    """
    total = int(given.sum())
    if not total:
        return LabelPrecision(name, float("nan"))
    times = np.bincount(words)
    effective = round(effective_words(times, np.ones(len(times))))
    return LabelPrecision(name, float(right.sum()) / total, *metrics.ratio_interval(right, given), effective=effective)


def most_frequent(given: Sequence[int], truth: Sequence[set[int]]) -> np.ndarray:
    """Return how many words would be right if each picture got as many of the most frequent words (ids go by falling df)."""
    return np.array([sum(word < n for word in words) for n, words in zip(given, truth, strict=True)], np.int64)
