"""The text of a sample, as the text tower reads it: token ids or word ids."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.draw import draw_share, mix_all
from fistful.bow.pseudo import draw_sizes_anew, draw_words
from fistful.bow.ragged import Ragged
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import Analyzer, WordOptions, first_appearances

from ..model.tokens import shorten
from ..train_config import TrainConfig
from .samples import TrainingSamples

CAPTION_SALT = 2
"""Tells the choice of a caption from other draws of the same sample."""
KNOWN_TEXTS = 200_000
"""Captions whose tokens are remembered: some 100 MB."""
LEAST_CONTEXT, MOST_CONTEXT, CONTEXT_STEP = 16, 77, 8
"""Text positions that are chosen from: the least hold the sentences of prompts, the most are CLIP's (Radford et al. 2021, section 2.4)."""
WHOLE = 0.99
"""Share of the texts that the chosen positions hold whole."""
LOOKED_AT = 10_000
"""Texts whose length is looked at: 1 % of them is then known to 0.1 points, and as many captions take a second or two."""


def bags_of(
    config: TrainConfig,
    samples: TrainingSamples,
    vocabulary: Vocabulary,
    rows: np.ndarray,
    epochs: np.ndarray,
    of_captions: Ragged | None = None,
) -> Ragged:
    """Return the bags that these samples have in these epochs: full, or thinned for balanced text.

    A label that is a distribution becomes another bag each epoch, unless --pseudo fixed keeps the one that was written.

    Args:
        config: Which text.
        samples: All samples.
        vocabulary: With the rule's keep probabilities.
        rows: n samples.
        epochs: Their n epochs.
        of_captions: With --captions one, each caption's bag (`caption_bags`).
    """
    bags = samples.bags.pick(rows) if of_captions is None else _of_one_caption(config, samples, rows, epochs, of_captions)
    drawn, here = _drawn(config, samples, rows, epochs)
    bags = _replaced(bags, here, drawn)[0]
    if config.text.text != "balanced" or not len(rows):
        return bags
    places = [np.flatnonzero(epochs == epoch) for epoch in np.unique(epochs)]  # a few: one, or one a showing of the epoch
    thinned = [vocabulary.thin(bags.pick(here), samples.number[rows[here]], config.run.seed, int(epochs[here[0]]))[0] for here in places]
    return Ragged.stack(thinned).pick(np.argsort(np.concatenate(places)))


def targets_of(config: TrainConfig, samples: TrainingSamples, rows: np.ndarray) -> tuple[Ragged, np.ndarray]:
    """Return the words that a word loss learns of these samples, and how much each weighs within its sample, float32.

    Whole bags, whatever the text tower reads (the loss weighs words by idf already), each word 1, or what it is sure of with
    --confidence; of a label that is a distribution, unless --pseudo fixed, the distribution itself, each word its share.
    """
    bags = samples.bags.pick(rows)
    weights = samples.certainty[samples.bags.places(rows)] if config.loss.confidence else np.ones(len(bags.values), np.float32)
    here = _with_distribution(config, samples, rows)
    joined, places = _replaced(bags, here, samples.likely.pick(rows[here]))
    return joined, np.concatenate([weights, samples.likely_shares[samples.likely.places(rows[here])]])[places]


def _with_distribution(config: TrainConfig, samples: TrainingSamples, rows: np.ndarray) -> np.ndarray:
    """Return which places of the rows hold a label that is learnt as the distribution that it is."""
    lengths = samples.likely.offsets[rows + 1] - samples.likely.offsets[rows]
    return np.flatnonzero(lengths) if config.data.pseudo == "drawn" else np.zeros(0, np.int64)


def _drawn(config: TrainConfig, samples: TrainingSamples, rows: np.ndarray, epochs: np.ndarray) -> tuple[Ragged, np.ndarray]:
    """Return the bags that are drawn in these epochs, and the places of the rows that have one."""
    here, seed = _with_distribution(config, samples, rows), config.run.seed
    numbers = samples.number[rows[here]]
    sizes = draw_sizes_anew(samples.sizes, numbers, seed, epochs[here])
    shares = samples.likely_shares[samples.likely.places(rows[here])]
    return draw_words(samples.likely.pick(rows[here]), shares, sizes, numbers, seed, epochs[here]), here


def _replaced(bags: Ragged, here: np.ndarray, others: Ragged) -> tuple[Ragged, np.ndarray]:
    """Return the bags with others at some places, and where each word stood in the bags and then the others."""
    joined, order = Ragged.stack([bags, others]), np.arange(len(bags))
    order[here] = len(bags) + np.arange(len(here))
    return joined.pick(order), joined.places(order)


def caption_bags(samples: TrainingSamples) -> Ragged:
    """Return the bag of each caption of each sample, one after the other, and after them the samples' own bags."""
    offsets = samples.captions.offsets.to_numpy()
    analyzer = Analyzer(WordOptions(**samples.word_options))
    words = analyzer.analyse(samples.captions.values.slice(offsets[0], offsets[-1] - offsets[0]))
    ids = samples.vocabulary.ids()
    id_of = np.array([ids.get(word, -1) for word in analyzer.words] or [-1], np.int64)
    known = Ragged(words.offsets, id_of[words.values])
    bags = first_appearances(known.take(known.values >= 0))
    return Ragged.stack([bags, samples.bags])


def _of_one_caption(config: TrainConfig, samples: TrainingSamples, rows: np.ndarray, epochs: np.ndarray, of_captions: Ragged) -> Ragged:
    """Pseudo-labelled samples have no captions, and keep their bag."""
    first = samples.captions.offsets.to_numpy()[rows].astype(np.int64) - samples.captions.offsets[0].as_py()
    chosen, lengths = chosen_captions(samples, rows, epochs, config.run.seed)
    return of_captions.pick(np.where(lengths > 0, first + chosen, len(of_captions) - len(samples) + rows))


def chosen_captions(samples: TrainingSamples, rows: np.ndarray, epochs: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of its captions each sample has in its epoch (0 where it has none), and how many it has."""
    offsets = samples.captions.offsets.to_numpy().astype(np.int64)
    lengths = offsets[rows + 1] - offsets[rows]
    draws = mix_all(mix_all(seed, CAPTION_SALT) ^ mix_all(samples.number[rows], epochs))
    return (draws % np.maximum(lengths, 1).astype(np.uint64)).astype(np.int64), lengths


def captions_of(samples: TrainingSamples, rows: np.ndarray, epochs: np.ndarray, seed: int) -> list[str]:
    """Return one caption a sample, another one each epoch where it has several; "" where it has none."""
    chosen, lengths = chosen_captions(samples, rows, epochs, seed)
    texts = [""] * len(rows)
    some = np.flatnonzero(lengths)
    places = samples.captions.offsets.to_numpy()[rows[some]] + chosen[some]
    for place, text in zip(some, samples.captions.values.take(pa.array(places)).to_pylist(), strict=True):
        texts[place] = text
    return texts


def intact_rows(config: TrainConfig, samples: TrainingSamples, rows: np.ndarray) -> np.ndarray:
    """Return which samples keep their caption as text: the same ones each epoch, and as fistful bags draws them."""
    has_caption = np.diff(samples.captions.offsets.to_numpy())[rows] > 0
    return draw_share(samples.number[rows], config.text.intact, config.run.seed) & has_caption


def reads_caption(config: TrainConfig, samples: TrainingSamples, rows: np.ndarray) -> np.ndarray:
    """Return for which samples the text tower reads a caption; of the others, including all without one, it reads the bag."""
    if config.text.text == "caption":
        return np.diff(samples.captions.offsets.to_numpy())[rows] > 0
    return intact_rows(config, samples, rows) if config.text.intact else np.zeros(len(rows), bool)


@dataclasses.dataclass(frozen=True, slots=True)
class TextLengths:
    """How long the texts of a run are: of all of its samples, or of LOOKED_AT spread evenly over them, as the first epoch draws them."""

    tokens: np.ndarray
    """int64: tokens of each text, start and end among them."""

    def fitting(self, most: int = MOST_CONTEXT) -> int:
        """Return the smallest multiple of 8 positions, 16 to 77 (or `most`), that holds 99 of 100 texts whole.

        >>> TextLengths(np.array([4, 9, 21])).fitting()
        24
        """
        wanted = int(np.quantile(self.tokens, WHOLE, method="inverted_cdf")) if len(self.tokens) else 0
        return min(max(LEAST_CONTEXT, -(-wanted // CONTEXT_STEP) * CONTEXT_STEP), most)

    def cut_at(self, context_length: int) -> dict[str, int]:
        """Return how many texts are looked at, how many of them are cut, and their tokens, all and those that are cut off."""
        over = np.maximum(self.tokens - context_length, 0)
        counts = {"texts": len(self.tokens), "texts_cut": (over > 0).sum(), "tokens": self.tokens.sum(), "tokens_cut": over.sum()}
        return {"context_length": context_length, **{name: int(n) for name, n in counts.items()}}


def measure_texts(
    config: TrainConfig, samples: TrainingSamples, vocabulary: Vocabulary, tokenizer: Any, members: np.ndarray
) -> TextLengths:
    """Count the tokens of the texts that the transformer reads.

    Args:
        config: Which texts.
        samples: All samples.
        vocabulary: With the rule's keep probabilities.
        tokenizer: open_clip's.
        members: The samples that are learnt from.
    """
    rows = np.sort(members)
    if len(rows) > LOOKED_AT:
        rows = rows[np.linspace(0, len(rows) - 1, LOOKED_AT, dtype=np.int64)]
    captioned, tokens = reads_caption(config, samples, rows), np.full(len(rows), 2, np.int64)
    some, epochs = rows[captioned], np.zeros(len(rows), np.int64)
    texts = captions_of(samples, some, epochs[captioned], config.run.seed)
    tokens[captioned] += np.array([len(tokenizer.encode(shorten(text))) for text in texts], np.int64)
    of_captions = caption_bags(samples) if config.text.captions == "one" else None
    bags = bags_of(config, samples, vocabulary, rows[~captioned], epochs[~captioned], of_captions)
    words, places = np.unique(bags.values, return_inverse=True)
    of_word = np.array([len(tokenizer.encode(shorten(vocabulary.words[word]))) for word in words.tolist()], np.int64)
    ends = np.concatenate([[0], np.cumsum(of_word[places])])
    tokens[~captioned] += ends[bags.offsets[1:]] - ends[bags.offsets[:-1]]
    return TextLengths(tokens)


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
