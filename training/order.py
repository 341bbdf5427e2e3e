"""The order of the data: a pure function of (seed, epoch, place), so that any step can be computed.

Samples and pseudo-labelled samples are two streams. A stream repeats its members epoch by epoch,
each epoch in another order; a batch takes the next members of each.

>>> stream = Stream(members=np.array([10, 20, 30]), weights=((3, 1.0),), seed=0, salt=0)
>>> rows, epochs = stream.take(np.arange(6))
>>> sorted(rows[:3].tolist()), epochs.tolist()
([10, 20, 30], [0, 0, 0, 1, 1, 1])
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fistful.bow.draw import mix_all

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


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """Members that are repeated for ever, each as often an epoch as its folder weighs."""

    members: np.ndarray
    """Row numbers, the folders one after the other."""
    weights: tuple[tuple[int, float], ...]
    """For each folder how many members are its own, and how often an epoch shows each."""
    seed: int
    salt: int
    """Tells the streams of a run apart."""

    def per_epoch(self) -> int:
        """Return how many samples an epoch shows."""
        return sum(self._slots())

    def _slots(self) -> list[int]:
        return [round(n * weight) for n, weight in self.weights]

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, int64, and the epochs, int64, at these places of the endless stream."""
        size = self.per_epoch()
        epochs, rows = places // size, np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            slots = permute(places[here] % size, size, self.seed, self.salt, int(epoch))
            rows[here] = self.members[self._member_of(slots, int(epoch))]
        return rows, epochs

    def _member_of(self, slots: np.ndarray, epoch: int) -> np.ndarray:
        """A folder of n members at weight 2.5 has 2.5 n slots: all twice, and half of them, other ones each epoch, once more."""
        result = np.empty(len(slots), np.int64)
        first_slot = first_member = 0
        for folder, ((n, _), n_slots) in enumerate(zip(self.weights, self._slots(), strict=True)):
            here = (slots >= first_slot) & (slots < first_slot + n_slots)
            place = slots[here] - first_slot
            rest = place >= n_slots // n * n if n else np.zeros(0, bool)
            place[~rest] %= max(n, 1)
            place[rest] = permute(place[rest] % n, n, self.seed, self.salt, epoch, folder + 1)
            result[here] = first_member + place
            first_slot, first_member = first_slot + n_slots, first_member + n
        return result


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

    def pseudo_before(self, step: int) -> int:
        """Return how many pseudo-labelled samples the steps before this one took: the share, rounded down at every step."""
        n_real, n_pseudo = self.real.per_epoch(), self.pseudo.per_epoch()
        share = 1.0 if not n_real else min(self.pseudo_share, n_pseudo / (n_real + n_pseudo))
        return int(step * self.batch_size * share)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and the epochs of the batch of this step, counted from 0."""
        start, stop = self.pseudo_before(step), self.pseudo_before(step + 1)
        first_real = step * self.batch_size - start
        parts = [self.pseudo.take(np.arange(start, stop))] if stop > start else []
        if stop - start < self.batch_size:
            parts.append(self.real.take(np.arange(first_real, first_real + self.batch_size - (stop - start))))
        rows, epochs = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(epochs)
