"""The order of the data: a pure function of (seed, epoch, place), so that any step can be computed.

Samples and pseudo-labelled samples are two streams. A stream repeats its members epoch by epoch,
each epoch in another order; a batch takes the next members of each. What a folder shows several times an
epoch lies in as many parts of it.

>>> stream = Stream(members=np.array([10, 20, 30]), weights=((3, 1.0),), seed=0, salt=0)
>>> rows, draws = stream.take(np.arange(6))
>>> sorted(rows[:3].tolist()), draws.tolist()
([10, 20, 30], [0, 0, 0, 1, 1, 1])
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from fistful.bow.draw import mix_all

WINDOW = 16_384
"""Samples that are shuffled together where shards are read one after another: some hundred batches, and 2 GB of pictures of 100 kB."""
WINDOWS, SHARDS = 0x77, 0x73
"""Tell these permutations apart."""
ROUNDS = 10
"""Rounds of the Feistel network. Four are enough in theory for large sizes (Luby and Rackoff 1988); small ones need more."""


def permute(places: np.ndarray, size: int, *key: int) -> np.ndarray:
    """Return where a keyed permutation of 0..size-1 sends each place, without holding the permutation.

    A Feistel network permutes the 2**(2h) numbers that just hold `size`; what lands outside walks on
    until it is inside (at most four times as many numbers as places, so a few walks).

    Args:
        places: int64 below size.
        size: How many things are permuted.
        key: Numbers that choose the permutation.
    """
    half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = [mix_all(*key, r) for r in range(ROUNDS)]
    result = places.astype(np.uint64)
    outside = np.ones(len(result), dtype=bool)
    while outside.any():
        left, right = result[outside] >> half, result[outside] & mask
        for k in keys:
            left, right = right, left ^ (mix_all(int(k) & 0xFFFFFFFF, right) & mask)
        result[outside] = (left << half) | right
        outside = result >= np.uint64(size)
    return result.astype(np.int64)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Members that are repeated for ever, each as often an epoch as its folder weighs."""

    members: np.ndarray
    """Row numbers, the folders one after the other."""
    weights: tuple[tuple[int, float], ...]
    """For each folder how many members are its own, and how often an epoch shows each."""
    seed: int
    salt: int
    """Tells the streams of a run apart."""
    shards: tuple[np.ndarray, ...] = ()
    """int64: how many members each shard has, folder by folder, where they are to be read one after another; () where any may come next."""

    def per_epoch(self) -> int:
        """Return how many samples an epoch shows."""
        return sum(self.slots())

    def slots(self) -> list[int]:
        """Return how many samples of each folder an epoch shows."""
        return [round(n * weight) for n, weight in self.weights]

    def showings(self) -> list[int]:
        """Return how often at most an epoch shows a member of each folder."""
        return [-(-n_slots // n) if n else 0 for (n, _), n_slots in zip(self.weights, self.slots(), strict=True)]

    def edges(self) -> np.ndarray:
        """Return where the parts of an epoch start and end for each folder, int64 (folders, parts + 1).

        As many parts as the most often shown samples have showings, each with its share of every folder: no part
        shows a sample twice.
        """
        n_parts = max([1, *self.showings()])
        return np.arange(n_parts + 1) * np.array(self.slots(), np.int64)[:, None] // n_parts

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, int64, and the draws, int64, at these places of the endless stream.

        A draw's number is how often the sample was shown before, if no folder weighs more than 1 the epoch's: what is
        drawn with it (words, caption, crop) is another one each time.
        """
        size, edges = self.per_epoch(), self.edges()
        ends, several = edges.sum(axis=0), edges.shape[1] > 2
        epochs, rows, draws = places // size, np.empty(len(places), np.int64), np.empty(len(places), np.int64)
        parts = np.searchsorted(ends, places % size, side="right") - 1
        for epoch, part in np.unique(np.stack([epochs, parts], axis=1), axis=0).tolist():
            here = (epochs == epoch) & (parts == part)
            inside = places[here] % size - ends[part]
            if self.shards:
                members, showings, folders = _in_shards(self, inside, epoch, part)
            else:
                key = (self.seed, self.salt, epoch, *([part] if several else []))
                slots = permute(inside, int(ends[part + 1] - ends[part]), *key)
                members, showings, folders = self._member_of(slots, edges[:, part : part + 2], epoch, several)
            rows[here], draws[here] = self.members[members], epoch * np.maximum(self.showings(), 1)[folders] + showings
        return rows, draws

    def _member_of(self, slots: np.ndarray, edges: np.ndarray, epoch: int, several: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return member, its showing of this epoch, and folder of each slot of a part.

        A folder of n members at weight 2.5 has 2.5 n slots an epoch: it goes round its members, in an order of the
        epoch's own, two and a half times.
        """
        ends = np.cumsum(edges[:, 1] - edges[:, 0])
        folders = np.searchsorted(ends, slots, side="right")
        turns = slots - ends[folders] + edges[folders, 1]
        members, showings, first = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64), 0
        for folder, ((n, _), n_slots) in enumerate(zip(self.weights, self.slots(), strict=True)):
            here = folders == folder
            if here.any():
                showings[here], place = np.divmod(turns[here], n)
                in_order = n_slots == n and not several  # all of them once, and the slots are shuffled already
                members[here] = first + (place if in_order else permute(place, n, self.seed, self.salt, epoch, folder + 1))
            first += n
        return members, showings, folders


@dataclasses.dataclass(frozen=True, slots=True)
class _Pieces:
    """Runs of neighbouring members, each in one shard, in the order in which a part of an epoch reads them."""

    ends: np.ndarray
    """int64: where each piece ends, counted from the part's start."""
    members: np.ndarray
    """Its first member."""
    turns: np.ndarray
    """Which turn of its folder that is."""
    folders: np.ndarray


def _in_shards(stream: Stream, places: np.ndarray, epoch: int, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return member, its showing of this epoch, and folder at each place of a part that is read shard by shard.

    The pieces of all folders lie in an order of the epoch's own; of what then comes one after the other, a window at a time is shuffled.
    """
    pieces, slots = _pieces(stream, epoch, part), np.empty_like(places)
    for window in np.unique(places // WINDOW).tolist():
        here, start = places // WINDOW == window, window * WINDOW
        size = min(WINDOW, int(pieces.ends[-1]) - start)
        slots[here] = start + permute(places[here] - start, size, stream.seed, stream.salt, epoch, part, WINDOWS, window)
    found = np.searchsorted(pieces.ends, slots, side="right")
    further = slots - np.concatenate([[0], pieces.ends])[found]
    folders, counts = pieces.folders[found], np.array([n for n, _ in stream.weights], np.int64)
    return pieces.members[found] + further, (pieces.turns[found] + further) // np.maximum(counts, 1)[folders], folders


@functools.lru_cache(maxsize=8)
def _pieces(stream: Stream, epoch: int, part: int) -> _Pieces:
    edges, found, first = stream.edges()[:, part : part + 2], [], 0
    for folder, (sizes, (start, stop)) in enumerate(zip(stream.shards, edges.tolist(), strict=True)):
        n, n_shards = int(sizes.sum()), len(sizes)
        if stop > start:
            order = permute(np.arange(n_shards), n_shards, stream.seed, stream.salt, epoch, SHARDS, folder + 1)
            before = np.cumsum(sizes[order]) - sizes[order]
            rounds = np.arange(start // n, -(-stop // n))[:, None] * n
            turns = (rounds + before).ravel()  # where each shard's turn comes, in each round of the folder
            begins, stops = np.clip(turns, start, stop), np.clip(turns + np.tile(sizes[order], len(rounds)), start, stop)
            members = first + np.tile((np.cumsum(sizes) - sizes)[order], len(rounds)) + begins - turns
            found.append(np.stack([stops - begins, members, begins, np.full(len(turns), folder)])[:, stops > begins])
        first += n
    lengths, members, turns, folders = np.concatenate(found, axis=1)
    order = permute(np.arange(len(lengths)), len(lengths), stream.seed, stream.salt, epoch, part, SHARDS, 0)
    return _Pieces(np.cumsum(lengths[order]), members[order], turns[order], folders[order])


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Which rows make up each batch."""

    real: Stream
    pseudo: Stream
    batch_size: int
    pseudo_share: float
    """Largest share of pseudo-labelled samples; a smaller part of the data has a smaller share."""

    def per_epoch(self) -> int:
        """Return how many samples an epoch shows, real and pseudo-labelled."""
        return self.real.per_epoch() + self.pseudo.per_epoch()

    @property
    def most_pseudo(self) -> int:
        """The most pseudo-labelled samples of a batch: its share of the batch, rounded down."""
        return self.batch_size if not self.real.per_epoch() else int(self.batch_size * self.pseudo_share + 1e-9)

    def pseudo_before(self, step: int) -> int:
        """Return how many pseudo-labelled samples the steps before this one took: their share of the data, or the most that may be."""
        n_real, n_pseudo = self.real.per_epoch(), self.pseudo.per_epoch()
        return min(step * self.most_pseudo, step * self.batch_size * n_pseudo // (n_real + n_pseudo))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and the draws of the batch of this step, counted from 0."""
        start, stop = self.pseudo_before(step), self.pseudo_before(step + 1)
        first_real = step * self.batch_size - start
        parts = [self.pseudo.take(np.arange(start, stop))] if stop > start else []
        if stop - start < self.batch_size:
            parts.append(self.real.take(np.arange(first_real, first_real + self.batch_size - (stop - start))))
        rows, draws = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(draws)
