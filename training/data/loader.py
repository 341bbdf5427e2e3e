"""Batches, made ahead of their use: pictures, or a frozen tower's features, and text drawn anew."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from fistful.bow.ragged import Ragged
from fistful.bow.vocabulary import Vocabulary

from .. import resize_and_crop
from ..distributed import Ranks
from ..resize_and_crop import Fit
from ..train_config import TrainConfig
from .features import Features
from .order import Order
from .pictures import Pictures
from .readings import Reader, Readings
from .samples import Shard, TrainingSamples, expect_shards
from .shard_cache import fetched_ahead, room_of, shown_shards
from .texts import BagTokens, CaptionTokens, bags_of, caption_bags, captions_of, reads_caption, targets_of

AHEAD = 3
"""Batches made ahead: enough to bridge one slow picture, few enough to stop at once."""
EXPECTED = 4_096
"""Shards remembered as told of; telling twice does no harm."""

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
    text_starts: np.ndarray
    """int64 (B + 1): where each sample's words start in the words tower's text, here too, so that nobody asks the device; else empty."""
    numbers: torch.Tensor
    """`rows` as a tensor, which tells samples apart."""
    bag_rows: torch.Tensor
    """int64 (P): which sample has which word; empty without a word loss."""
    bag_words: torch.Tensor
    bag_weights: torch.Tensor
    bag_starts: np.ndarray
    """int64 (B + 1): where each sample's words start, here too."""
    weights: torch.Tensor
    """float32 (B): how much each sample counts."""
    readings: Readings | None = None
    """What the head reads that finds hidden words; None without one."""

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """Return the batch with its tensors somewhere else."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        tensors = {name: move(value) for name, value in values if isinstance(value, torch.Tensor)}
        readings = None if self.readings is None else self.readings.moved(move)
        return dataclasses.replace(self, text=tuple(move(part) for part in self.text), readings=readings, **tensors)

    def parts(self, n_parts: int) -> Iterator[tuple[torch.Tensor, Text]]:
        """Yield pictures and text of some samples at a time."""
        for start, stop in self.edges(n_parts):
            yield self.images[start:stop], text_part(self.text, self.text_starts, start, stop)

    def edges(self, n_parts: int) -> list[tuple[int, int]]:
        """Return where the parts start and stop."""
        cuts = np.linspace(0, len(self.rows), n_parts + 1).astype(int).tolist()
        return [(start, stop) for start, stop in itertools.pairwise(cuts) if stop > start]


def text_part(text: Text, starts: np.ndarray, start: int, stop: int) -> Text:
    """Return the text of some samples."""
    if len(text) < 2:
        return tuple(part[start:stop] for part in text)
    words, offsets = text
    first, last = int(starts[start]), int(starts[stop])
    return words[first:last], offsets[start:stop] - first


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
        self._reader = Reader(config, samples, tokenizer) if config.has_fusion else None
        self._of_captions = caption_bags(samples) if config.text.captions == "one" else None
        self.pictures = Pictures(config, samples, order, how)
        self.features: Features | None = None
        """What takes the place of pictures where the image tower is frozen."""
        self._expected: set[tuple[int, int, int]] = set()
        self.waited_s = 0.0
        """Time that `batches` made its caller wait."""

    def batches(self, first: int, steps: int) -> Iterator[Batch]:
        """Yield the batches of the steps from `first` on, made ahead in threads."""
        stored = {} if self.features is not None else shown_shards(self._samples, self.order)
        ahead = fetched_ahead(stored, room_of(self._config), self._shards_of, range(first, steps))
        with ThreadPoolExecutor(self._config.run.decoders) as decoders, ThreadPoolExecutor(1) as maker, ahead as wait_for:
            queue: deque[Future[Batch]] = deque()
            try:
                for step in range(first, steps):
                    while len(queue) < AHEAD and step + len(queue) < steps:
                        queue.append(maker.submit(self._ready, step + len(queue), decoders, wait_for))
                    start = time.perf_counter()
                    batch = queue.popleft().result()
                    self.waited_s += time.perf_counter() - start
                    yield batch
            finally:
                for future in queue:
                    future.cancel()

    def _ready(self, step: int, decoders: ThreadPoolExecutor, wait_for: Callable[[int], None]) -> Batch:
        """Make a batch when its shards are there, for a GPU in pinned memory, from which it copies by itself."""
        wait_for(step)
        batch = self.make(step, decoders)
        return batch.moved(torch.Tensor.pin_memory) if self._config.run.device == "cuda" else batch

    def make(self, step: int, decoders: ThreadPoolExecutor) -> Batch:
        """Make this rank's share of the batch of a step."""
        rows, epochs = self._share(step)
        self._expect(rows, epochs)
        rows, images = self._images(rows, epochs, decoders)
        samples, weighted = self._samples, self._config.loss.confidence
        targets, target_weights = targets_of(self._config, samples, rows if self._config.has_word_loss else rows[:0])
        text, text_starts = self._text(rows, epochs) if self._config.has_text else ((), np.zeros(0, np.int64))
        return Batch(
            step=step,
            rows=rows,
            images=images,
            text=text,
            text_starts=text_starts,
            numbers=torch.from_numpy(rows),
            bag_rows=torch.from_numpy(targets.rows()),
            bag_words=torch.from_numpy(targets.values),
            bag_weights=torch.from_numpy(target_weights),
            bag_starts=targets.offsets,
            weights=torch.from_numpy(samples.weight_of(rows)) if weighted else torch.ones(len(rows)),
            readings=self._reader(step, (rows, epochs), text, (targets, target_weights)) if self._reader else None,
        )

    def _share(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and draws of this rank's share of a batch."""
        rows, draws = self.order.batch(step)
        return rows[self._ranks.rank :: self._ranks.size], draws[self._ranks.rank :: self._ranks.size]

    def _shards_of(self, step: int) -> set[Shard]:
        rows, _ = self._share(step)
        return {*zip(self._samples.folder[rows].tolist(), self._samples.unit[rows].tolist(), strict=True)}

    def _expect(self, rows: np.ndarray, epochs: np.ndarray) -> None:
        """Have the shards read that this batch is the first to need in its epoch, where they are read one after another."""
        if self._config.data.order != "shards" or self.features is not None:
            return
        samples = self._samples
        needed = {*zip(samples.folder[rows].tolist(), samples.unit[rows].tolist(), epochs.tolist(), strict=True)}
        expect_shards(samples, {shard[:2] for shard in needed - self._expected})
        self._expected = needed if len(self._expected) > EXPECTED else self._expected | needed

    def _images(self, rows: np.ndarray, epochs: np.ndarray, decoders: ThreadPoolExecutor) -> tuple[np.ndarray, torch.Tensor]:
        if self.features is not None:
            rows, found = self.features.take(rows)
            return rows, torch.from_numpy(found)
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        used = rows.copy()
        crops = self._config.data.augment != "none"
        draws = resize_and_crop.crop_draws(self._config.run.seed, self._samples.number[rows], epochs) if crops else None

        def fill(places: range) -> None:
            for place in places:
                used[place], images[place] = self.pictures.get(int(rows[place]), None if draws is None else draws[place])

        n = self._config.run.decoders
        list(decoders.map(fill, [range(i, len(rows), n) for i in range(n)]))
        return used, torch.from_numpy(images)

    def _text(self, rows: np.ndarray, epochs: np.ndarray) -> tuple[Text, np.ndarray]:
        config, samples = self._config, self._samples
        captioned = reads_caption(config, samples, rows)
        bags: Ragged = bags_of(config, samples, self._vocabulary, rows[~captioned], epochs[~captioned], self._of_captions)
        if config.model.text_tower == "words":
            return (torch.from_numpy(bags.values), torch.from_numpy(bags.offsets[:-1].copy())), bags.offsets
        tokens = np.empty((len(rows), config.model.context_length), np.int64)
        tokens[~captioned] = self._bag_tokens(bags)
        if captioned.any():
            tokens[captioned] = self._caption_tokens(captions_of(samples, rows[captioned], epochs[captioned], config.run.seed))
        return (torch.from_numpy(tokens),), np.zeros(0, np.int64)
