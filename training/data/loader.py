"""Batches, made ahead of their use: pictures, or a frozen tower's features, and text drawn anew."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from fistful.bow.ragged import Ragged
from fistful.bow.vocabulary import Vocabulary

from .. import pixels
from ..distributed import Ranks
from ..pixels import Fit
from ..train_config import TrainConfig
from .features import Features
from .order import Order
from .pictures import Pictures
from .samples import TrainingSamples
from .texts import BagTokens, CaptionTokens, bags_of, caption_bags, captions_of, reads_caption

AHEAD = 3
"""Batches made ahead: enough to bridge one slow picture, few enough to stop at once."""

Text = tuple[torch.Tensor, ...]
"""(tokens,) int64 (B, L), or for the words tower (words (P), offsets (B)); () without a text tower."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from: this rank's share. B samples, P (sample, word) pairs."""

    step: int
    rows: np.ndarray
    images: torch.Tensor
    """uint8 (B, H, W, 3), or float16 (B, F) of a frozen tower."""
    text: Text
    bag_rows: torch.Tensor
    """int64 (P): which sample has which word; empty without a word head."""
    bag_words: torch.Tensor
    bag_weights: torch.Tensor
    weights: torch.Tensor
    """float32 (B): how much each sample counts."""

    def parts(self, n_parts: int) -> Iterator[tuple[torch.Tensor, Text]]:
        """Yield pictures and text of some samples at a time."""
        for start, stop in self.edges(n_parts):
            yield self.images[start:stop], text_part(self.text, start, stop)

    def edges(self, n_parts: int) -> list[tuple[int, int]]:
        """Return where the parts start and stop."""
        cuts = np.linspace(0, len(self.rows), n_parts + 1).astype(int).tolist()
        return [(start, stop) for start, stop in itertools.pairwise(cuts) if stop > start]


def text_part(text: Text, start: int, stop: int) -> Text:
    """Return the text of some samples."""
    if len(text) < 2:
        return tuple(part[start:stop] for part in text)
    words, offsets = text
    ends = torch.cat([offsets, torch.tensor([len(words)])])
    return words[ends[start] : ends[stop]], offsets[start:stop] - offsets[start]


class Loader:
    """Makes the batch of any step."""

    def __init__(
        self,
        config: TrainConfig,
        samples: TrainingSamples,
        order: Order,
        how: Fit,
        vocabulary: Vocabulary,
        tokenizer: Any,
        ranks: Ranks = Ranks(),
    ) -> None:
        self._config, self._samples, self.order, self.size = config, samples, order, how.size
        self._vocabulary, self._ranks = vocabulary, ranks
        self._bag_tokens = BagTokens(tokenizer, samples.vocabulary.words, config.model.context_length)
        self._caption_tokens = CaptionTokens(tokenizer, config.model.context_length)
        self._of_captions = caption_bags(samples) if config.text.captions == "one" else None
        self.pictures = Pictures(config, samples, order, how)
        self.features: Features | None = None
        """What takes the place of pictures where the image tower is frozen."""
        self.waited_s = 0.0
        """Time that `batches` made its caller wait."""

    def batches(self, first: int, steps: int) -> Iterator[Batch]:
        """Yield the batches of the steps from `first` on, made ahead in threads."""
        with ThreadPoolExecutor(self._config.run.decoders) as decoders, ThreadPoolExecutor(1) as maker:
            queue: deque[Future[Batch]] = deque()
            try:
                for step in range(first, steps):
                    while len(queue) < AHEAD and step + len(queue) < steps:
                        queue.append(maker.submit(self.make, step + len(queue), decoders))
                    start = time.perf_counter()
                    batch = queue.popleft().result()
                    self.waited_s += time.perf_counter() - start
                    yield batch
            finally:
                for future in queue:
                    future.cancel()

    def make(self, step: int, decoders: ThreadPoolExecutor) -> Batch:
        """Make this rank's share of the batch of a step."""
        rows, epochs = (part[self._ranks.rank :: self._ranks.size] for part in self.order.batch(step))
        rows, images = self._images(rows, epochs, decoders)
        samples, weighted = self._samples, self._config.loss.confidence
        # the head learns whole bags, whatever the text tower reads: its loss weighs words by idf already
        targeted = rows if self._config.has_head else rows[:0]
        targets = samples.bags.pick(targeted)
        certainty = samples.certainty[samples.bags.places(targeted)] if weighted else np.ones(len(targets.values), np.float32)
        return Batch(
            step=step,
            rows=rows,
            images=images,
            text=self._text(rows, epochs) if self._config.has_text else (),
            bag_rows=torch.from_numpy(targets.rows()),
            bag_words=torch.from_numpy(targets.values),
            bag_weights=torch.from_numpy(certainty),
            weights=torch.from_numpy(samples.weight_of(rows)) if weighted else torch.ones(len(rows)),
        )

    def _images(self, rows: np.ndarray, epochs: np.ndarray, decoders: ThreadPoolExecutor) -> tuple[np.ndarray, torch.Tensor]:
        if self.features is not None:
            rows, found = self.features.take(rows)
            return rows, torch.from_numpy(found)
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        used = rows.copy()
        crops = self._config.data.augment != "none"
        draws = pixels.crop_draws(self._config.run.seed, self._samples.number[rows], epochs) if crops else None

        def fill(places: range) -> None:
            for place in places:
                used[place], images[place] = self.pictures.get(int(rows[place]), None if draws is None else draws[place])

        n = self._config.run.decoders
        list(decoders.map(fill, [range(i, len(rows), n) for i in range(n)]))
        return used, torch.from_numpy(images)

    def _text(self, rows: np.ndarray, epochs: np.ndarray) -> Text:
        config, samples = self._config, self._samples
        captioned = reads_caption(config, samples, rows)
        bags: Ragged = bags_of(config, samples, self._vocabulary, rows[~captioned], epochs[~captioned], self._of_captions)
        if config.model.text_tower == "words":
            return torch.from_numpy(bags.values), torch.from_numpy(bags.offsets[:-1].copy())
        tokens = np.empty((len(rows), config.model.context_length), np.int64)
        tokens[~captioned] = self._bag_tokens(bags)
        if captioned.any():
            tokens[captioned] = self._caption_tokens(captions_of(samples, rows[captioned], epochs[captioned], config.run.seed))
        return (torch.from_numpy(tokens),)
