"""Near copies: the same photo resized, saved anew, or cut by a few pixels. Small grey pictures tell, whatever model there is.

Two steps, for many pictures are compared: grey pictures of 8 x 8 say which may be copies (`coarse`); of these, fine
ones of 16 x 16, without what is smooth in them, say whether one is the other or a cut of it (`agreement`). Why not
the model's embeddings, and which copies are found: docs/decisions/0031-near-copies.md.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

SIDE, COARSE, FINE = 32, 8, 16
"""Sides of what is kept of a picture, and of what is compared."""
MAY_BE, IS = 0.9, 0.93
"""Cosines of coarse and of fine pictures from which on one may be a copy, and is."""
CUTS = (0.0, 0.02, 0.04, 0.06, 0.08)
"""Shares of width and height that a copy may lack."""
SMOOTH = 2.0
"""Width of the blur that is taken off, in pixels of FINE."""
FLAT = 2.0
"""Grey levels, of 256, by which a picture's pixels vary at least on average: of flatter ones nothing can be told."""


def thumbnail(image: Image.Image) -> np.ndarray:
    """Return what is kept of a picture: grey, uint8 (SIDE, SIDE)."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def coarse(grey_NSS: np.ndarray) -> np.ndarray:
    """Return what is compared of many pictures: float32 (n, COARSE * COARSE), rows of length 1; of 0 for flat ones."""
    n, step = len(grey_NSS), SIDE // COARSE
    return _unit(grey_NSS.reshape(n, COARSE, step, COARSE, step).mean(axis=(2, 4), dtype=np.float64).reshape(n, -1)).astype(np.float32)


def agreement(first_NSS: np.ndarray, second_NSS: np.ndarray) -> np.ndarray:
    """Return how much pairs of pictures are alike, one whole and the other cut: cosines, float64 (n,), 0 where one is flat.

    Args:
        first_NSS: `thumbnail`s.
        second_NSS: Those that they are compared with, row by row.
    """
    cuts = _cuts()
    first, second = (_fine(grey_NSS, cuts[:1])[:, 0] for grey_NSS in (first_NSS, second_NSS))
    of_second = np.einsum("nf,ncf->nc", first, _fine(second_NSS, cuts)).max(axis=1)
    of_first = np.einsum("nf,ncf->nc", second, _fine(first_NSS, cuts)).max(axis=1)
    return np.round(np.maximum(of_first, of_second), 4)  # whatever the order of sums


def _fine(grey_NSS: np.ndarray, cuts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return what pictures show beyond smooth shades, in each cut: (n, cuts, FINE * FINE), rows of length 1 or 0."""
    blur = _blur()
    grey, found = grey_NSS.astype(np.float64), np.zeros((len(grey_NSS), len(cuts), FINE * FINE))
    for i, (down, across) in enumerate(cuts):
        small = down @ grey @ across.T
        found[:, i] = _unit((small - blur @ small @ blur.T).reshape(len(grey), -1))
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows less their mean, of length 1; of 0 where they vary by less than FLAT on average."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length >= FLAT * rows.shape[1] ** 0.5, rows / np.maximum(length, 1e-9), 0.0)


@functools.cache
def _cuts() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what makes the whole, and each cut at a corner, an edge or all around, a picture of FINE: two (FINE, SIDE) for each."""
    found = []
    for lacks in CUTS:
        parts = [_shrink(start * lacks * SIDE, (1 - lacks) * SIDE) for start in ((0.0, 0.5, 1.0) if lacks else (0.0,))]
        found += [(down, across) for down in parts for across in parts]
    return found


def _shrink(start: float, length: float) -> np.ndarray:
    """Return the mean over equal pieces of a stretch of pixels as a matrix (FINE, SIDE)."""
    edges, pixels = start + np.linspace(0, length, FINE + 1), np.arange(SIDE)
    overlap = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)
    return overlap / overlap.sum(axis=1, keepdims=True)


@functools.cache
def _blur() -> np.ndarray:
    """Return a Gaussian blur as a matrix (FINE, FINE); beyond the edge the picture goes on as at the edge."""
    seen = np.arange(-FINE, 2 * FINE)
    weight = np.exp(-0.5 * ((np.arange(FINE)[:, None] - seen) / SMOOTH) ** 2)
    blur = np.zeros((FINE, FINE))
    np.add.at(blur.T, np.clip(seen, 0, FINE - 1), (weight / weight.sum(axis=1, keepdims=True)).T)
    return blur
