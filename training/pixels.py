"""Pictures as uint8 arrays of one size: as open_clip's evaluation transform gives them, or cut anew each epoch."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from fistful.bow.draw import mix64, mix_all
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.images import decode_image, jpeg_orientation, read_header, turned

CROP_MARGIN = 5 / 4
"""With crops, pictures are kept at this many times the model's size, and windows are cut from them."""
CROP_SALT = 3
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
    if data[:2] != b"\xff\xd8":
        return np.asarray(decode_image(data))
    import simplejpeg

    read_header(data)
    try:  # as decode_image does, without the way over Pillow
        picture = simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=min_side, min_width=min_side)
    except ValueError as error:
        raise Refused("bad_image", f"JPEG: {error}") from None
    return turned(picture, jpeg_orientation(data))


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


def crop_draws(seed: int, numbers: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Return what decides the crops of n samples in their epochs: uint64 (n, TRIES, 4)."""
    state = mix_all(seed, CROP_SALT, numbers, epochs)
    return mix64(state[:, None], np.arange(4 * TRIES, dtype=np.uint64)).reshape(-1, TRIES, 4)


def random_window(picture: np.ndarray, size: int, draws: np.ndarray) -> np.ndarray:
    """Return a random square window, at least `size` wide, resized to (size, size, 3).

    Args:
        picture: uint8 (S, S, 3) with S >= size.
        size: Side of the result.
        draws: A sample's part of `crop_draws`.
    """
    draw = int(draws[0, 0])
    room = picture.shape[0] - size
    side = size + (draw & 0xFFFF) % (room + 1)
    free = picture.shape[0] - side + 1
    top, left = (draw >> 16 & 0xFFFFFF) % free, (draw >> 40) % free
    return resize(picture[top : top + side, left : left + side], size)


def random_box(width: int, height: int, draws: np.ndarray) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a random box, distributed as torchvision's RandomResizedCrop draws it.

    Args:
        width: Of the picture.
        height: Of the picture.
        draws: A sample's part of `crop_draws`.
    """
    for numbers in draws:  # the first fits nearly always
        area, ratio, x, y = ((number >> 11) / 2.0**53 for number in numbers.tolist())
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
    resized = torch.ops.aten._upsample_bicubic2d_aa(planes, [size, size], False)  # what torch.nn.functional.interpolate calls
    return resized[0].permute(1, 2, 0).numpy()
