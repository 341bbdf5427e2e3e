"""Words for quizzes: what the relation table was tagged with most, with inflected forms, as captions would have them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from fistful.bow.balance import Balance
from fistful.bow.relations import RULES, read_relations
from fistful.bow.store.identity import sha256_hex
from fistful.bow.vocabulary import Limits, choose_words, count_table, write_vocabulary
from fistful.eval.quiz.ask import N_RANDOM, random_vectors


def common_words(n: int) -> list[str]:
    """Return n words of the table, each lemma followed by forms of it that the table reads back."""
    table = read_relations()
    found: dict[str, None] = {}
    for lemma, pos in sorted(table.first, key=lambda key: (-table.first[key][1], key)):
        found[lemma] = None
        for ending, of_lemma in RULES[pos]:
            if lemma.endswith(of_lemma):
                form = lemma.removesuffix(of_lemma) + ending
                reading = table.read(form)
                if reading and (reading.lemma, reading.pos) == (lemma, pos):
                    found[form] = None
        if len(found) >= n:
            break
    return [*found][:n]


class WordEncoder:
    """A text tower that knows what stands above each word, and, if it is told to, which word comes first."""

    image_size = 8

    def __init__(self, name: str = "bags", ordered: bool = False, knows: bool = True, context_length: int | None = None) -> None:
        self.name = name
        self.fingerprint = sha256_hex(f"{name} {ordered} {knows}".encode())
        self.context_length = context_length
        self._ordered, self._knows = ordered, knows
        self.n_asked = 0

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((8, 8)))

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), N_RANDOM), np.float32)

    def n_cut(self, texts: list[str]) -> int:
        return 0 if self.context_length is None else sum(len(text.split()) > self.context_length for text in texts)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        self.n_asked += len(texts)
        out = np.zeros((len(texts), N_RANDOM), np.float32)
        for i, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                out[i] += self._vector(word) * (2 if self._ordered and place == 0 else 1)
            out[i] /= np.linalg.norm(out[i])
        return out

    @functools.cache  # noqa: B019 - an encoder lives as long as its test
    def _vector(self, word: str) -> np.ndarray:
        found, table = random_vectors([word])[0], read_relations()
        reading = table.read(word)
        above = [f"{name}:" for name in (reading.pos, reading.form)] if reading else []
        above += [table.name(one) for one in table.all_above(reading.synset)] if reading else []
        return found + random_vectors(above).sum(axis=0) if self._knows and above else found


def make_vocabulary(folder: Path, words: list[str], df: int = 9) -> Path:
    """Write a vocabulary of words that so many samples have."""
    counts = np.full(len(words), df)
    folder.mkdir(parents=True)
    write_vocabulary(folder, choose_words(count_table(words, counts, counts), 10 * df, Limits(min_count=1), Balance()))
    return folder
