"""Batches, made ahead of their use: pictures decoded once where they fit in memory, text drawn anew."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from fistful.bow.draw import mix_all
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.images import decode_image
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import Ragged
from fistful.errors import DataError
from fistful.training import pixels
from fistful.training.config import TrainConfig
from fistful.training.data import Samples, ShardReader
from fistful.training.order import Order
from fistful.training.text import BagTokens, bags_of, captions_of

CACHE_BYTES = 1 << 30
"""Pictures are kept in memory if all of them fit in this: 87,000 at 64 px."""
AHEAD = 3
"""Batches made ahead: enough to bridge one slow picture, few enough to stop at once."""
DECODERS = 2
"""Threads that decode; simplejpeg and Pillow leave the interpreter free meanwhile."""
ATTEMPTS = 16
"""Samples tried in place of a broken one. 16 in a row are broken only where most of the data is."""
REPLACE_SALT = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from. B samples, P (sample, word) pairs."""

    step: int
    rows: np.ndarray
    images: torch.Tensor
    """uint8 (B, H, W, 3)."""
    text: tuple[torch.Tensor, ...]
    """(tokens,) int64 (B, L), or for the words tower (words (P), offsets (B)); () without a text tower."""
    bag_rows: torch.Tensor
    """int64 (P): which sample has which word; empty without a word head."""
    bag_words: torch.Tensor


class Pictures:
    """Pictures by row, decoded when first asked for; broken ones replaced by other rows and counted."""

    def __init__(self, samples: Samples, order: Order, size: int, seed: int) -> None:
        self._samples, self._order, self._size, self._seed = samples, order, size, seed
        self.reader = ShardReader(samples)
        n_bytes = len(samples) * size * size * 3
        self._kept = np.empty((len(samples), size, size, 3), np.uint8) if n_bytes <= CACHE_BYTES else None
        self._known = np.zeros(len(samples), dtype=bool)
        self.broken: dict[int, str] = {}
        """Why a row could not be used."""

    def get(self, row: int) -> tuple[int, np.ndarray]:
        """Return the row, or the one in its place, and its picture (S, S, 3).

        Raises:
            DataError: If as many rows in its place are broken too.
        """
        place, members = row, (self._order.pseudo if self._samples.pseudo[row] else self._order.real).members
        for attempt in range(ATTEMPTS):
            picture = self._decode(row)
            if picture is not None:
                return row, picture
            row = int(members[int(mix_all(self._seed, REPLACE_SALT, place, attempt) % np.uint64(len(members)))])
        raise DataError(
            f"{self._samples.name(place)}: this picture and {ATTEMPTS - 1} in its place cannot be decoded "
            f"({self.broken[place]}); fistful verify {self._samples.folders[self._samples.folder[place]]} tells what changed"
        )

    def _decode(self, row: int) -> np.ndarray | None:
        if row in self.broken:
            return None
        if self._kept is not None and self._known[row]:
            return self._kept[row]
        try:
            picture = pixels.fit(decode_image(self.reader.read(row)), self._size)
        except Refused as refused:
            self.broken[row] = f"{refused.reason}: {refused.detail}"
            return None
        if self._kept is not None:
            self._kept[row] = picture
            self._known[row] = True
        return picture


class Loader:
    """Makes the batch of any step."""

    def __init__(self, config: TrainConfig, samples: Samples, order: Order, size: int, vocabulary: Vocabulary, tokenizer: Any) -> None:
        self._config, self._samples, self.order, self.size = config, samples, order, size
        self._vocabulary, self._tokenizer = vocabulary, tokenizer
        self._bag_tokens = BagTokens(tokenizer, samples.vocabulary.words, config.context_length)
        self.pictures = Pictures(samples, order, pixels.kept_size(size, config.augment), config.seed)
        self.waited_s = 0.0
        """Time that `batches` made its caller wait."""

    def batches(self, first: int, steps: int) -> Iterator[Batch]:
        """Yield the batches of the steps from `first` on, made ahead in threads."""
        with ThreadPoolExecutor(1) as maker, ThreadPoolExecutor(DECODERS) as decoders, contextlib.closing(self.pictures.reader):
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
        """Make the batch of a step."""
        rows, epochs = self.order.batch(step)
        found = list(decoders.map(self.pictures.get, rows.tolist()))
        rows = np.fromiter((row for row, _ in found), np.int64, len(found))
        images = np.stack([self._window(picture, row, int(epoch)) for (row, picture), epoch in zip(found, epochs, strict=True)])
        bags = bags_of(self._config, self._samples, self._vocabulary, rows, epochs)
        # the head learns whole bags, whatever the text tower reads: its loss weighs words by idf already
        targets = self._samples.bags.pick(rows if self._config.has_head else rows[:0])
        return Batch(
            step=step,
            rows=rows,
            images=torch.from_numpy(images),
            text=self._text(rows, epochs, bags),
            bag_rows=torch.from_numpy(targets.rows()),
            bag_words=torch.from_numpy(targets.values),
        )

    def _window(self, picture: np.ndarray, row: int, epoch: int) -> np.ndarray:
        if self._config.augment == "none":
            return picture
        return pixels.random_window(picture, self.size, self._config.seed, int(self._samples.number[row]), epoch)

    def _text(self, rows: np.ndarray, epochs: np.ndarray, bags: Ragged) -> tuple[torch.Tensor, ...]:
        config = self._config
        if not config.has_text:
            return ()
        if config.text_tower == "words":
            return torch.from_numpy(bags.values), torch.from_numpy(bags.offsets[:-1].copy())
        if config.text == "caption":
            return (self._tokenizer(captions_of(self._samples, rows, epochs, config.seed), context_length=config.context_length),)
        return (torch.from_numpy(self._bag_tokens(bags)),)
