"""The text of a sample, as the text tower reads it: token ids or word ids."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from fistful.bow.draw import mix_all
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import Ragged
from fistful.training.config import TrainConfig
from fistful.training.data import Samples

CAPTION_SALT = 2
"""Tells the choice of a caption from other draws of the same sample."""


def bags_of(config: TrainConfig, samples: Samples, vocabulary: Vocabulary, rows: np.ndarray, epochs: np.ndarray) -> Ragged:
    """Return the bags that these samples have in these epochs: full, or thinned for balanced text."""
    bags = samples.bags.pick(rows)
    if config.text != "balanced":
        return bags
    values, lengths = [], []
    edges = np.concatenate([[0], np.flatnonzero(np.diff(epochs)) + 1, [len(epochs)]])
    for start, stop in itertools.pairwise(edges):  # one or two epochs a stream
        part = Ragged(bags.offsets[start : stop + 1] - bags.offsets[start], bags.values[bags.offsets[start] : bags.offsets[stop]])
        drawn, _ = vocabulary.thin(part, samples.number[rows[start:stop]], config.seed, int(epochs[start]))
        values.append(drawn.values)
        lengths.append(drawn.lengths())
    return Ragged(np.concatenate([[0], np.cumsum(np.concatenate(lengths))]), np.concatenate(values))


def captions_of(samples: Samples, rows: np.ndarray, epochs: np.ndarray, seed: int) -> list[str]:
    """Return one caption a sample, another one each epoch where it has several."""
    draws = mix_all(seed, CAPTION_SALT) ^ mix_all(samples.number[rows], epochs)
    result = []
    for row, draw in zip(rows, mix_all(draws), strict=True):
        captions = samples.captions[int(row)].as_py() or [""]
        result.append(captions[int(draw) % len(captions)])
    return result


@dataclasses.dataclass(slots=True)
class BagTokens:
    """Bags as token ids, each word's tokens remembered."""

    tokenizer: Any
    words: list[str]
    context_length: int
    known: dict[int, list[int]] = dataclasses.field(default_factory=dict)

    def __call__(self, bags: Ragged) -> np.ndarray:
        """Return int64 (n, context_length): start, the words' tokens as far as whole words fit, end, zeros."""
        tokens = np.zeros((len(bags), self.context_length), np.int64)
        for row, bag in enumerate(bags):  # some 5 us a word; 2 % of a step of the tiny models
            line = [self.tokenizer.sot_token_id]
            for word in bag:
                more = self._tokens_of(int(word))
                if len(line) + len(more) >= self.context_length:
                    break
                line += more
            line.append(self.tokenizer.eot_token_id)
            tokens[row, : len(line)] = line
        return tokens

    def _tokens_of(self, word: int) -> list[int]:
        if word not in self.known:
            self.known[word] = self.tokenizer.encode(self.words[word])[: self.context_length - 2]
        return self.known[word]
