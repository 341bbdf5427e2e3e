"""Word vectors that the words tower starts from: rows of what fistful vectors wrote, one for each word of the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fistful.bow.store import manifest
from fistful.bow.store.files import is_url
from fistful.bow.store.identity import sha256_hex
from fistful.bow.vocabulary import FILE as VOCABULARY
from fistful.bow.vocabulary import read_vocabulary
from fistful.errors import DataError, UsageError

FILE = "vectors.npy"


@dataclasses.dataclass(frozen=True, slots=True)
class WordVectors:
    """A vector for each word of a vocabulary."""

    vectors_VE: np.ndarray
    """float32 (V, E), rows of length 1, or 0 for words without a vector."""

    @property
    def n_found(self) -> int:
        """How many words have a vector."""
        return int(self.vectors_VE.any(axis=1).sum())

    def fingerprint(self) -> str:
        """Return SHA-256 over the vectors, in the order of the vocabulary."""
        return sha256_hex(f"{self.vectors_VE.shape} ".encode() + self.vectors_VE.tobytes())


def read_word_vectors(name: str, words: list[str]) -> WordVectors:
    """Read the vectors of these words from the folder that --word-vectors names.

    Raises:
        UsageError: If it is no such folder, not finished, or has a vector for none of the words.
        DataError: If its files have changed, do not fit each other, or are broken.
    """
    if is_url(name):
        raise UsageError(f"--word-vectors {name}: is read from the disk; copy the folder there first")
    folder, option = Path(name), f"--word-vectors {name}"
    _check(folder, option)
    theirs = read_vocabulary(folder).words
    try:
        stored: np.ndarray = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{folder / FILE}: not a readable array ({str(error).splitlines()[0]}); make it again with fistful vectors"
        ) from None
    if stored.ndim != 2 or stored.dtype != np.float32 or len(stored) != len(theirs):
        found = f"{stored.dtype} {stored.shape}"
        raise DataError(f"{folder / FILE}: holds {found}, expected float32 ({len(theirs)}, d), a row for each word of {VOCABULARY}")
    place = {word: row for row, word in enumerate(theirs)}
    rows = np.array([place.get(word, -1) for word in words], np.int64)
    vectors_VE = np.zeros((len(words), stored.shape[1]), np.float32)
    vectors_VE[rows >= 0] = stored[rows[rows >= 0]]
    lengths = np.linalg.norm(vectors_VE, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise DataError(f"{folder / FILE}: holds what is no number; make it again with fistful vectors")
    found = WordVectors(np.divide(vectors_VE, lengths, out=vectors_VE, where=lengths > 0))
    if not found.n_found:
        raise UsageError(f"{option}: has a vector for none of the {len(words):,} words of the vocabulary; are they of the same language?")
    return found


def _check(folder: Path, option: str) -> None:
    """Check that a folder is what fistful vectors wrote, to its end, and that it has not changed since.

    Raises:
        UsageError: If it is not, or not finished.
        DataError: If it has changed.
    """
    missing = [file for file in (FILE, VOCABULARY) if not (folder / file).is_file()]
    if missing and not (folder / manifest.CONFIG).is_file():
        raise UsageError(f"{option}: has no {' and no '.join(missing)}; expected a folder that fistful vectors wrote")
    manifest.fingerprint(folder)
    if (verb := manifest.read_config(folder)["verb"]) != "vectors":
        raise UsageError(f"{option}: was written by fistful {verb}, expected a folder that fistful vectors wrote")
    for file in (FILE, VOCABULARY):
        manifest.check_file(folder, file)
