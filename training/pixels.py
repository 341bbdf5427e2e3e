"""Pictures as uint8 arrays of one size, equal to what open_clip's evaluation transform gives."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fistful.bow.draw import mix_all

CROP_MARGIN = 5 / 4
"""With crops, pictures are kept at this many times the model's size, and windows are cut from them."""
CROP_SALT = 3


def fit(image: Image.Image, size: int) -> np.ndarray:
    """Return uint8 (size, size, 3): the shorter side resized (bicubic), the centre cut out.

    Equal to torchvision's Resize and CenterCrop (tests/training/test_pixels.py compares the bytes).
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != size:
        new_long = int(size * long / short)
        image = image.resize((size, new_long) if width <= height else (new_long, size), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def kept_size(size: int, augment: str) -> int:
    """Return the side at which pictures are kept before a batch is cut from them."""
    return round(size * CROP_MARGIN) if augment == "crop" else size


def random_window(picture: np.ndarray, size: int, seed: int, number: int, epoch: int) -> np.ndarray:
    """Return a random square window, at least `size` wide, resized to (size, size, 3).

    Args:
        picture: uint8 (S, S, 3) with S >= size.
        size: Side of the result.
        seed: The run's seed.
        number: The sample's number.
        epoch: The epoch.
    """
    draw = int(mix_all(seed, CROP_SALT, number, epoch))
    room = picture.shape[0] - size
    side = size + (draw & 0xFFFF) % (room + 1)
    free = picture.shape[0] - side + 1
    top, left = (draw >> 16 & 0xFFFFFF) % free, (draw >> 40) % free
    window = picture[top : top + side, left : left + side]
    if side == size:
        return window
    return np.asarray(Image.fromarray(window).resize((size, size), Image.Resampling.BILINEAR))


def centre(picture: np.ndarray, size: int) -> np.ndarray:
    """Return the middle (size, size, 3) of a picture, which training with crops keeps larger."""
    start = (picture.shape[0] - size) // 2
    return picture[start : start + size, start : start + size]
