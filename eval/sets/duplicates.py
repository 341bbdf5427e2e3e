"""Evaluation images that the model may have seen in training: near-duplicates by a perceptual hash.

The hash keeps the signs of the coarsest 8 x 8 waves of a 32 x 32 grey picture (pHash), so it stays nearly the same
under resizing, recompression and changes of brightness. Why not the package imagehash: docs/decisions/0014-near-duplicates.md.

>>> int(popcount(np.array([0b1011], np.uint64))[0])
3
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.folders import folder_at
from fistful.bow.store.images import decode_image
from fistful.bow.store.index import read_index

from .shard_pictures import image_bytes

MAX_DISTANCE = 6
"""Bits of 64 in which near-duplicates may differ. Of 3,000 photographs resized, brightened and saved
at quality 60, 99.5 % are found (97.7 % with 4 bits); of 1,500 unrelated ones none among 1,500 (`benchmarks.near_duplicates`)."""

FLAT_BITS = 8
"""Pictures with fewer bits set, or unset, than this are (nearly) plain: their hash says nothing."""

_BITS_OF_BYTE = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


SIDE, WAVES = 32, 8
_COSINES = 2 * np.cos(np.pi * np.outer(np.arange(WAVES), 2 * np.arange(SIDE) + 1) / (2 * SIDE))
"""(8, 32) the first rows of the discrete cosine transform."""


def phash(image: Image.Image) -> int:
    """Return the 64-bit perceptual hash of a picture: which coarse waves are stronger than their median.

    Source:
        Zauner 2010, section 3.2.1, without its filter before; the bits of imagehash.phash.
    """
    grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    waves = np.round(_COSINES @ grey @ _COSINES.T, 3)  # of a plain picture the others are 0, and not what rounding leaves
    return int.from_bytes(np.packbits(waves > np.median(waves)).tobytes(), "big")


def popcount(values: np.ndarray) -> np.ndarray:
    """Return how many bits of each uint64 are set, uint8."""
    return _BITS_OF_BYTE[values[..., None].view(np.uint8)].sum(axis=-1, dtype=np.uint8)


def near(hashes: np.ndarray, known: np.ndarray, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Return which hashes are within a distance of a known one; plain pictures never are.

    Bits in blocks: two hashes that differ in at most `max_distance` bits agree in at least one of
    max_distance + 1 blocks of bits, so only known hashes that share a block are compared.

    Args:
        hashes: (n,) uint64.
        known: (m,) uint64.
        max_distance: In bits.

    Returns:
        (n,) bool.
    """
    telling = (popcount(hashes) >= FLAT_BITS) & (popcount(hashes) <= 64 - FLAT_BITS)
    found = np.zeros(len(hashes), dtype=bool)
    edges = np.linspace(0, 64, max_distance + 2).astype(int)
    for low, high in itertools.pairwise(edges):
        mask = np.uint64(((1 << int(high - low)) - 1) << int(low))
        order = np.argsort(known & mask, kind="stable")
        blocks = (known & mask)[order]
        first, last = np.searchsorted(blocks, hashes & mask, "left"), np.searchsorted(blocks, hashes & mask, "right")
        for i in np.flatnonzero(telling & ~found & (last > first)):
            found[i] = (popcount(known[order[first[i] : last[i]]] ^ hashes[i]) <= max_distance).any()
    return found


def training_hashes(folders: Iterable[str | Path]) -> np.ndarray:
    """Hash the images of data folders that `fistful bags` or `label` wrote: uint64, each once."""
    return np.unique(np.fromiter((phash(image) for folder in folders for image in _images(folder_at(folder))), dtype=np.uint64))


def _images(folder: Path) -> Iterator[Image.Image]:
    index = read_index(folder).select(["key", "image_offset", "image_size"]).to_pydict()
    for key, offset, size in zip(index["key"], index["image_offset"], index["image_size"], strict=True):
        if size:
            try:
                yield decode_image(image_bytes(folder, key, offset, size))
            except Refused:
                continue  # training replaces it by another: the model has not seen it
