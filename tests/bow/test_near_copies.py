"""Near copies are told by small pictures, whatever else is known of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from benchmarks.photos_data import read_samples
from fistful.bow.near_copies import IS, MAY_BE, SIDE, agreement, coarse, thumbnail
from fistful.bow.store.images import decode_image


def saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved anew": lambda i: saved(i, 75),
    "two pixels cut from two sides": lambda i: saved(i.crop((2, 2, i.width, i.height)), 90),
    "two pixels cut all around": lambda i: i.crop((2, 2, i.width - 2, i.height - 2)),
    "smaller and brighter": lambda i: saved(ImageEnhance.Brightness(i.resize((i.width * 3 // 5, i.height * 3 // 5))).enhance(1.15), 60),
    "grey": lambda i: saved(i.convert("L"), 30),
}


@pytest.fixture(scope="module")
def photos(data_root: Path) -> list[Image.Image]:
    """Eight hundred photos of some 80 pixels."""
    samples = read_samples(data_root / "photos/captioned/flickr8k-00000.tar.gz")
    return [decode_image(sample["jpg"]) for sample in islice(samples, 800)]


def are_copies(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ((coarse(first) * coarse(second)).sum(axis=1) >= MAY_BE) & (agreement(first, second) >= IS)


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_photos_are_found(photos: list[Image.Image], change: str) -> None:
    grey, changed = (np.stack([thumbnail(image) for image in some]) for some in (photos, map(CHANGES[change], photos)))
    assert are_copies(grey, changed).mean() >= 0.95


def test_other_photos_are_none(photos: list[Image.Image]) -> None:
    grey = np.stack([thumbnail(image) for image in photos])
    first, second = np.nonzero(np.triu(coarse(grey) @ coarse(grey).T >= MAY_BE, 1))
    assert len(first) > 5
    assert (agreement(grey[first], grey[second]) < IS).all()


def test_of_flat_pictures_nothing_is_told() -> None:
    grey = np.stack([np.full((SIDE, SIDE), 200, np.uint8), np.full((SIDE, SIDE), 201, np.uint8)])
    assert not coarse(grey).any()
    assert agreement(grey[:1], grey[1:]).tolist() == [0.0]
