"""Pictures as uint8 arrays of one size: as open_clip's evaluation transform gives them, or cut anew each epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

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


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """How a picture becomes a square one, in open_clip's words."""

    size: int
    """Side of the result."""
    resize_mode: str = "shortest"
    """shortest: resized by its shorter side, the centre cut out; longest: by its longer side, padded; squash: to the square."""
    interpolation: str = "bicubic"
    """bilinear, or else bicubic."""
    fill_color: int = 0
    """longest: what it is padded with."""

    def kept(self, augment: str) -> Fit:
        """Return how pictures are kept before a batch is cut from them."""
        return dataclasses.replace(self, size=round(self.size * CROP_MARGIN)) if augment == "crop" else self


def fit_of(preprocess: Mapping[str, Any], size: int) -> Fit:
    """Return the part of a preprocess_cfg that says how pictures become square."""
    return Fit(size, preprocess["resize_mode"], preprocess["interpolation"], preprocess.get("fill_color", 0))


def fit(picture: np.ndarray | Image.Image, how: Fit) -> np.ndarray:
    """Return uint8 (size, size, 3), as open_clip's evaluation makes it (tests/training/test_resize_and_crop.py compares the bytes)."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    size, (width, height) = how.size, image.size
    new = _new_size(width, height, how)
    if new != (width, height):
        image = image.resize(new, Image.Resampling.BILINEAR if how.interpolation == "bilinear" else Image.Resampling.BICUBIC)
    if how.resize_mode == "longest":
        square = Image.new("RGB", (size, size), (how.fill_color,) * 3)
        square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        return np.asarray(square)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _new_size(width: int, height: int, how: Fit) -> tuple[int, int]:
    size = how.size
    if how.resize_mode == "squash":
        return size, size
    if how.resize_mode == "longest":
        longest = max(width / size, height / size)
        return max(1, round(width / longest)), max(1, round(height / longest))
    long = int(size * max(width, height) / min(width, height))
    return (size, long) if width <= height else (long, size)


def crop_draws(seed: int, numbers: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Return what decides the crops of n samples in their epochs: uint64 (n, TRIES, 4)."""
    state = mix_all(seed, CROP_SALT, numbers, epochs)
    return mix64(state[:, None], np.arange(4 * TRIES, dtype=np.uint64)).reshape(-1, TRIES, 4)


def random_window(picture: np.ndarray, how: Fit, draws: np.ndarray) -> np.ndarray:
    """Return a random square window, at least as wide as the result, resized to (size, size, 3).

    Args:
        picture: uint8 (S, S, 3) with S >= size.
        how: Size and interpolation of the result.
        draws: A sample's part of `crop_draws`.
    """
    draw = int(draws[0, 0])
    room = picture.shape[0] - how.size
    side = how.size + (draw & 0xFFFF) % (room + 1)
    free = picture.shape[0] - side + 1
    top, left = (draw >> 16 & 0xFFFFFF) % free, (draw >> 40) % free
    return resize(picture[top : top + side, left : left + side], how)


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


def resized_box(picture: np.ndarray, how: Fit, box: tuple[int, int, int, int]) -> np.ndarray:
    """Cut a box (left, top, width, height) out of a picture and resize it to (size, size, 3)."""
    left, top, width, height = box
    return resize(picture[top : top + height, left : left + width], how)


def resize(window: np.ndarray, how: Fit) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (size, size, 3), with antialiasing.

    By torch, which is seven times as fast as Pillow and differs from it by 1 of 255 in a few pixels of a thousand.
    """
    import torch

    if window.shape[:2] == (how.size, how.size):
        return window
    kinds = torch.ops.aten  # what torch.nn.functional.interpolate calls
    kind = kinds._upsample_bilinear2d_aa if how.interpolation == "bilinear" else kinds._upsample_bicubic2d_aa
    planes = torch.from_numpy(np.require(window, requirements="W")).permute(2, 0, 1)[None]
    return kind(planes, [how.size, how.size], False)[0].permute(1, 2, 0).numpy()
