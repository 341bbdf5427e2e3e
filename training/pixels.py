"""Pictures as uint8 arrays of one size: as open_clip's evaluation transform gives them, or cut anew each epoch."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from fistful.bow.draw import mix64, mix_all
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.images import decode_image, read_header

CROP_MARGIN = 5 / 4
"""With crops, pictures are kept at this many times the model's size, and windows are cut from them."""
CROP_SALT, RESIZED_SALT = 3, 5
SCALE, RATIO, TRIES = (0.9, 1.0), (3 / 4, 4 / 3), 10
"""open_clip's random resized crop: share of the area, width to height, and torchvision's number of tries."""


def decode(data: bytes, min_side: int = 0) -> np.ndarray:
    """Decode a picture to uint8 (H, W, 3).

    Args:
        data: A JPEG, PNG or WebP file.
        min_side: JPEGs may be decoded at the smallest eighth of their size whose sides are no shorter; 0: in full.

    Raises:
        Refused: bad_image or huge_image.
    """
    if not min_side or data[:2] != b"\xff\xd8":
        return np.asarray(decode_image(data))
    import simplejpeg

    read_header(data)
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=min_side, min_width=min_side)
    except ValueError as error:
        raise Refused("bad_image", f"JPEG: {error}") from None


def fit(picture: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """Return uint8 (size, size, 3): the shorter side resized (bicubic), the centre cut out.

    Equal to torchvision's Resize and CenterCrop (tests/training/test_pixels.py compares the bytes).
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
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
    return resize(picture[top : top + side, left : left + side], size)


def random_box(width: int, height: int, seed: int, number: int, epoch: int) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a random box, distributed as torchvision's RandomResizedCrop draws it.

    Its draws are a pure function of seed, sample and epoch.
    """
    state = mix_all(seed, RESIZED_SALT, number, epoch)
    draws = mix64(state, np.arange(4 * TRIES, dtype=np.uint64)).reshape(TRIES, 4)
    uniform = (draws >> np.uint64(11)).astype(np.float64) / 2.0**53
    for area, ratio, x, y in uniform.tolist():
        target = width * height * (SCALE[0] + (SCALE[1] - SCALE[0]) * area)
        aspect = math.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(x * (width - w + 1)), int(y * (height - h + 1)), w, h
    w, h = width, height  # the largest middle box of an allowed shape
    if width / height < RATIO[0]:
        h = round(w / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(h * RATIO[1])
    return (width - w) // 2, (height - h) // 2, w, h


def resized_box(picture: np.ndarray, size: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Cut a box (left, top, width, height) out of a picture and resize it to (size, size, 3)."""
    left, top, width, height = box
    return resize(picture[top : top + height, left : left + width], size)


def resize(window: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (size, size, 3), bicubic with antialiasing.

    By torch, which is seven times as fast as Pillow and differs from it by 1 of 255 in a few pixels of a thousand.
    """
    import torch

    if window.shape[:2] == (size, size):
        return window
    planes = torch.from_numpy(np.require(window, requirements="W")).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, (size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()
