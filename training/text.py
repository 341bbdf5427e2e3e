"""The text of a sample, as the text tower reads it: token ids or word ids."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.draw import draw_share, mix_all
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import Analyzer, Ragged, WordOptions, first_appearances
from fistful.training.config import TrainConfig
from fistful.training.data import Samples
from fistful.training.tokens import shorten

CAPTION_SALT = 2
"""Tells the choice of a caption from other draws of the same sample."""
KNOWN_TEXTS = 200_000
"""Captions whose tokens are remembered: some 100 MB."""


def bags_of(
    config: TrainConfig, samples: Samples, vocabulary: Vocabulary, rows: np.ndarray, epochs: np.ndarray, of_captions: Ragged | None = None
) -> Ragged:
    """Return the bags that these samples have in these epochs: full, or thinned for balanced text.

    Args:
        config: Which text.
        samples: All samples.
        vocabulary: With the rule's keep probabilities.
        rows: n samples.
        epochs: Their n epochs.
        of_captions: With --captions one, each caption's bag (`caption_bags`).
    """
    bags = samples.bags.pick(rows) if of_captions is None else _of_one_caption(config, samples, rows, epochs, of_captions)
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


def caption_bags(samples: Samples) -> Ragged:
    """Return the bag of each caption of each sample, one after the other, and after them the samples' own bags."""
    offsets = samples.captions.offsets.to_numpy()
    analyzer = Analyzer(WordOptions(**samples.word_options))
    words = analyzer.analyse(samples.captions.values.slice(offsets[0], offsets[-1] - offsets[0]))
    ids = samples.vocabulary.ids()
    id_of = np.array([ids.get(word, -1) for word in analyzer.words] or [-1], np.int64)
    known = Ragged(words.offsets, id_of[words.values])
    bags = first_appearances(known.take(known.values >= 0))
    return Ragged(
        np.concatenate([bags.offsets, bags.offsets[-1] + samples.bags.offsets[1:]]), np.concatenate([bags.values, samples.bags.values])
    )


def _of_one_caption(config: TrainConfig, samples: Samples, rows: np.ndarray, epochs: np.ndarray, of_captions: Ragged) -> Ragged:
    """Pseudo-labelled samples have no captions, and keep their bag."""
    first = samples.captions.offsets.to_numpy()[rows].astype(np.int64) - samples.captions.offsets[0].as_py()
    chosen, lengths = chosen_captions(samples, rows, epochs, config.seed)
    return of_captions.pick(np.where(lengths > 0, first + chosen, len(of_captions) - len(samples) + rows))


def chosen_captions(samples: Samples, rows: np.ndarray, epochs: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of its captions each sample has in its epoch (0 where it has none), and how many it has."""
    offsets = samples.captions.offsets.to_numpy().astype(np.int64)
    lengths = offsets[rows + 1] - offsets[rows]
    draws = mix_all(mix_all(seed, CAPTION_SALT) ^ mix_all(samples.number[rows], epochs))
    return (draws % np.maximum(lengths, 1).astype(np.uint64)).astype(np.int64), lengths


def captions_of(samples: Samples, rows: np.ndarray, epochs: np.ndarray, seed: int) -> list[str]:
    """Return one caption a sample, another one each epoch where it has several; "" where it has none."""
    chosen, lengths = chosen_captions(samples, rows, epochs, seed)
    texts = [""] * len(rows)
    some = np.flatnonzero(lengths)
    places = samples.captions.offsets.to_numpy()[rows[some]] + chosen[some]
    for place, text in zip(some, samples.captions.values.take(pa.array(places)).to_pylist(), strict=True):
        texts[place] = text
    return texts


def intact_rows(config: TrainConfig, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Return which samples keep their caption as text: the same ones each epoch, and as fistful bags draws them."""
    has_caption = np.diff(samples.captions.offsets.to_numpy())[rows] > 0
    return draw_share(samples.number[rows], config.intact, config.seed) & has_caption


@dataclasses.dataclass(slots=True)
class CaptionTokens:
    """Captions as token ids, remembered."""

    tokenizer: Any
    context_length: int
    known: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __call__(self, captions: list[str]) -> np.ndarray:
        """Return int64 (n, context_length), as open_clip's tokenizer gives them."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self.known]
        fresh = (
            dict(zip(new, self.tokenizer([shorten(text) for text in new], context_length=self.context_length).numpy(), strict=True))
            if new
            else {}
        )
        rows = [fresh[caption] if caption in fresh else self.known[caption] for caption in captions]
        if len(self.known) < KNOWN_TEXTS:
            self.known |= {caption: tokens.copy() for caption, tokens in fresh.items()}
        return np.stack(rows)


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
            for word in bag.tolist():
                more = self._tokens_of(word)
                if len(line) + len(more) >= self.context_length:
                    break
                line += more
            line.append(self.tokenizer.eot_token_id)
            tokens[row, : len(line)] = line
        return tokens

    def _tokens_of(self, word: int) -> list[int]:
        if word not in self.known:
            self.known[word] = self.tokenizer.encode(shorten(self.words[word]))[: self.context_length - 2]
        return self.known[word]
