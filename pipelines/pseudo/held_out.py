"""Captioned pictures that labels are measured on: held out, and without near copies of what the model or the neighbours know.

Near copies are looked for by small pictures (bow/near_copies.py), whatever the model; why: docs/decisions/0031-near-copies.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.contents import index_contents, index_thumbnails
from fistful.bow.draw import held_out, mix_all, number_of_key
from fistful.bow.near_copies import IS, MAY_BE, agreement, coarse
from fistful.bow.store.files import write_bytes
from fistful.bow.store.identity import sha256_hex
from fistful.bow.store.index import read_index
from fistful.bow.store.manifest import check_sizes
from fistful.errors import DataError
from fistful.training.neighbours import nearest

MEASURED = 5_000
"""Held-out images that are measured on, at most: with 512 candidates each they fill every curve, and take a gigabyte of memory."""
MIN_HELD_OUT = 30
"""Different held-out pictures below which nothing is measured."""
AT_ONCE = 16_384
"""Pictures looked at in one go: 16 MB of small ones."""
LIKELIEST, PAIRS_AT_ONCE = 8, 256
"""Pictures that each is compared with in detail, at most, and pairs in one go: 20 MB."""
NAMES = "logs/near-copies.txt"
"""KEYs of captioned pictures, not held out, that nearly equal held-out ones: what train --exclude takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOut:
    """What becomes of each of the N samples of a data folder."""

    measured_N: np.ndarray
    """Whether labels are measured on it, bool."""
    voters_N: np.ndarray
    """Whether its picture may vote, bool."""
    pictures_N: np.ndarray
    """The same number for copies and near copies among those measured on, int64."""
    left_out: int
    """Held-out images that are not measured on, since the model learnt from a near copy."""
    mute: int
    """Images that are not held out and do not vote, since they nearly equal held-out ones."""

    def stats(self) -> dict[str, Any]:
        """Return what stands in stats.json."""
        _, n = np.unique(self.pictures_N[self.measured_N], return_counts=True)
        alike = {"images": int(n[n > 1].sum()), "pictures": int((n > 1).sum())}
        return {"held_out_near_copies": {**alike, "learnt_from": self.left_out, "kept_from_voting": self.mute}}


def check_held_out(n: int, more: str = "") -> None:
    """Check that there are enough different held-out captioned pictures to measure anything.

    Args:
        n: How many.
        more: Why they are so few, where that is known, and what helps.

    Raises:
        DataError: If not.
    """
    if n < MIN_HELD_OUT:
        helps = more or "more captioned images help, or for a model of fistful train a larger --holdout there"
        raise DataError(f"calibration: {n} held-out captioned images, expected {MIN_HELD_OUT} or more; {helps}")


def held_pictures(like: Path, fraction: float) -> np.ndarray:
    """Return which samples of a data folder have a picture that is held out, bool, in the order of its index.

    Raises:
        DataError: If they are too few different pictures to measure anything.
    """
    return _held_pictures(like, read_index(like), fraction)[0]


def _held_pictures(like: Path, index: pa.Table, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    contents = index_contents(like, index)
    held = held_out(contents, fraction) & (index["image_size"].to_numpy() > 0)
    check_held_out(len(np.unique(contents[held])))
    return held, contents


def hold_out(like: Path, fraction: float, learnt: tuple[str, ...], seed: int, out: Path) -> HeldOut:
    """Choose what labels are measured on, and which pictures may vote: none is a near copy of one of the others.

    Args:
        like: A data folder.
        fraction: Share of its pictures that is held out.
        learnt: For each model that learnt from the rest, the SHA-256 of what its --exclude named; empty for other models.
        seed: The run's seed.
        out: Where `NAMES` is written, if there are any.

    Raises:
        DataError: If too few different pictures are left to measure anything, or a shard is missing or cut short.
    """
    check_sizes(like, "shards")  # what is missing would be measured on, and vote, as if it had never been there
    index = read_index(like)
    held, contents = _held_pictures(like, index, fraction)
    samples = np.array([number_of_key(key) for key in index["key"].to_pylist()], np.uint64)
    asked = _drawn(held, samples, seed)
    others = np.flatnonzero((index["image_size"].to_numpy() > 0) & ~held)
    (first, asked_as), (rest, rest_as) = (_different(contents, rows) for rows in (asked, others))
    near_asked, near_rest, pairs = _near(like, index, first, rest)
    near_asked, near_rest = near_asked[asked_as], near_rest[rest_as]
    names = sorted(index["key"].take(pa.array(others[near_rest])).to_pylist())
    if names:
        write_bytes(out, NAMES, "".join(f"{name}\n" for name in names).encode())
    knew = near_rest.any() and any(excluded != sha256_hex("\n".join(names).encode()) for excluded in learnt)
    pictures_N = np.zeros(len(held), np.int64)
    pictures_N[asked] = _groups(len(first), pairs)[asked_as]
    measured, voters = (np.zeros(len(held), bool) for _ in range(2))
    measured[asked[~near_asked] if knew else asked] = True
    voters[others if knew else others[~near_rest]] = True
    found = HeldOut(measured, voters, pictures_N, int(near_asked.sum()) if knew else 0, 0 if knew else int(near_rest.sum()))
    check_held_out(len(np.unique(pictures_N[measured])), _why_few(found, out))
    return found


def _why_few(found: HeldOut, out: Path) -> str:
    if not found.left_out:
        return ""
    return (
        f"{found.left_out:,} more are near copies (the same photo saved anew, or cut) of images that the model learnt from; "
        f"a model trained with --exclude {out / NAMES} did not learn from these"
    )


def _drawn(held: np.ndarray, samples: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows of held-out images that are measured on: MEASURED of them, drawn, or all there are."""
    rows = np.flatnonzero(held)
    order = np.argsort(mix_all(seed, 0x41534944, samples[rows]), kind="stable")
    return np.sort(rows[order[:MEASURED]])


def _different(contents: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a row of each different picture, and for each of the rows which of these it is."""
    _, first, number = np.unique(contents[rows], return_index=True, return_inverse=True)
    return rows[first], number


def _near(like: Path, index: pa.Table, asked: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which of `asked` have a near copy among the others, which of the others are one, and pairs of `asked`, (p, 2).

    All that is held in memory are the small pictures of `asked`, and AT_ONCE of the others.
    """
    grey = index_thumbnails(like, index, asked)
    coarse_MD = coarse(grey)
    among = near_pairs(grey, coarse_MD, grey, LIKELIEST + 1)
    near_asked, near_others = np.zeros(len(asked), bool), np.zeros(len(others), bool)
    order = np.argsort(others)  # as they lie on the disk
    for start in range(0, len(others), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        pairs = near_pairs(grey, coarse_MD, index_thumbnails(like, index, others[rows]), LIKELIEST)
        near_others[rows[pairs[:, 0]]] = True
        near_asked[pairs[:, 1]] = True
    return near_asked, near_others, among[among[:, 0] != among[:, 1]]


def near_pairs(grey_MSS: np.ndarray, coarse_MD: np.ndarray, asked_NSS: np.ndarray, k: int) -> np.ndarray:
    """Return near copies among pictures, int64 (p, 2): the number of a picture asked, and of a copy of it.

    Args:
        grey_MSS: Small pictures that are looked among.
        coarse_MD: What `coarse` makes of them.
        asked_NSS: Small pictures that are looked for.
        k: How many of the likeliest are compared in detail.
    """
    rows, cosines = nearest(coarse_MD, coarse(asked_NSS), k)
    asked, place = np.nonzero((rows >= 0) & (np.round(cosines, 5) >= MAY_BE))
    pairs = np.stack([asked, rows[asked, place]], axis=1)
    parts = (pairs[start : start + PAIRS_AT_ONCE] for start in range(0, len(pairs), PAIRS_AT_ONCE))
    are = [agreement(asked_NSS[part[:, 0]], grey_MSS[part[:, 1]]) >= IS for part in parts]
    return pairs[np.concatenate(are)] if are else pairs


def _groups(n: int, pairs: np.ndarray) -> np.ndarray:
    """Return a number for each of n pictures, the same for those that pairs lead to from one another."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    return connected_components(coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n)), directed=False)[1].astype(np.int64)


def joined(first_N: np.ndarray, second_N: np.ndarray) -> np.ndarray:
    """Return groups of things that have a number in common: in the one numbering or in the other.

    >>> joined(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    first, second = (np.unique(numbers, return_inverse=True)[1] for numbers in (first_N, second_N))
    n = int(first.max(initial=-1)) + 1
    together = np.stack([first, n + second], axis=1)
    return np.unique(_groups(n + int(second.max(initial=-1)) + 1, together)[first], return_inverse=True)[1]
