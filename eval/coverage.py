"""Which classes a vocabulary can speak of, and how often their words occur in its captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fistful.bow.store.config import sha256_hex
from fistful.bow.store.manifest import CONFIG, read_config
from fistful.bow.vocabulary import FILE, read_vocabulary
from fistful.bow.words import WordOptions
from fistful.errors import UsageError
from fistful.eval.names import ClassName
from fistful.eval.prompts import class_words


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """A vocabulary as evaluation sees it."""

    df: dict[str, int]
    """In how many samples each word occurs."""
    options: WordOptions
    """How names become words: as the captions did."""
    fingerprint: str

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
    path = Path(folder)
    if not (path / FILE).is_file():
        raise UsageError(f"--vocabulary {folder}: has no {FILE}; expected a folder that fistful count or bags wrote")
    vocabulary = read_vocabulary(path)
    digest = sha256_hex((path / FILE).read_bytes())
    return Coverage(dict(zip(vocabulary.words, vocabulary.df.tolist(), strict=True)), _word_options(path), digest)


def _word_options(folder: Path) -> WordOptions:
    """Return the word options that the folder's captions were analysed with; the defaults where it does not say."""
    if not (folder / CONFIG).is_file():
        return WordOptions()
    values = read_config(folder)["config"]
    names = [field.name for field in dataclasses.fields(WordOptions)]
    return WordOptions(**{name: values[name] for name in names if name in values})
