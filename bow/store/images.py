"""Image bytes, looked at with suspicion: the header first, pixels only when it is harmless."""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .dead_letters import Refused

if TYPE_CHECKING:
    from PIL import Image

MAX_MEMBER = 1 << 28
"""Largest image file read into memory, in bytes."""
MAX_PIXELS = 89_478_485
"""Largest image decoded: Pillow's own limit, past which it warns of a decompression bomb."""

FORMATS = ("JPEG", "PNG", "WEBP")
"""What Pillow may open. By default it opens more, EPS (a program) among them."""

EXTENSIONS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "jfif": "JPEG", "jpe": "JPEG"}
"""File name extensions that are taken as images."""

IN_SHARDS = {"jfif": "jpg", "jpe": "jpg"}
"""What images are called in shards where other readers do not know their extension."""


ORIENTATION = 0x0112
"""EXIF's tag of how a picture was held."""


class ImageHeader(NamedTuple):
    """What an image says of itself."""

    format: str
    width: int
    """As stored; a picture that EXIF says was held upright is turned only when it is decoded."""
    height: int


def read_header(data: bytes) -> ImageHeader:
    """Read an image's kind and size without decoding it.

    Raises:
        Refused: bad_image or huge_image.
    """
    header = _jpeg_header(data) if data[:2] == b"\xff\xd8" else _other_header(data)
    if header.width * header.height > MAX_PIXELS:
        raise Refused("huge_image", f"{header.width} x {header.height} pixels, at most {MAX_PIXELS} are decoded")
    return header


def _jpeg_header(data: bytes) -> ImageHeader:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise Refused("bad_image", f"JPEG: {error}") from None
    return ImageHeader("JPEG", int(width), int(height))


def _other_header(data: bytes) -> ImageHeader:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return ImageHeader(str(image.format), *image.size)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("huge_image", f"more than {MAX_PIXELS} pixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error) as error:
        kind = "empty" if not data else f"starts with {data[:8]!r}"
        raise Refused("bad_image", f"not a {', '.join(FORMATS)} image ({type(error).__name__}; {kind})") from None


def decode_image(data: bytes, min_side: int = 0) -> Image.Image:
    """Decode an image to RGB as one sees it: turned as EXIF says, 16 bits scaled to 8, transparency on white.

    Args:
        data: A JPEG, PNG or WebP file.
        min_side: JPEGs may be decoded at the smallest eighth of their size whose sides are no shorter; 0: in full.

    Raises:
        Refused: bad_image (also for one cut off in the middle) or huge_image.
    """
    from PIL import Image

    header = read_header(data)
    try:
        if header.format == "JPEG":
            import simplejpeg

            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=min_side, min_width=min_side)
            return Image.fromarray(turned(pixels, jpeg_orientation(data)))
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()  # a PNG may have its EXIF after its pixels
            orientation = _orientation(image.info.get("exif", b""))
            rgb = _rgb(image)
            return rgb if orientation == 1 else Image.fromarray(turned(np.asarray(rgb), orientation))
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise Refused("bad_image", f"{header.format}: {error}") from None


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # grey of 16 bits, of which Pillow would make white whatever is above 255
        grey = np.asarray(image)
        seen = np.where(grey == image.info.get("transparency", -1), 255, grey >> 8).astype(np.uint8)
        return Image.fromarray(seen).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture as one sees it.

    Args:
        picture: As stored: uint8 (H, W, 3).
        orientation: EXIF's number, 1 to 8.

    Source:
        EXIF 2.3, tag 0x0112: where the first row and the first column of what is stored belong.
    """
    if orientation == 1:
        return picture
    items = np.ascontiguousarray(picture).view("V3")[..., 0]  # a pixel is moved as one: twice as fast
    if orientation >= 5:
        items = items.T
    if orientation in (3, 4, 7, 8):
        items = items[::-1]
    if orientation in (2, 3, 6, 7):
        items = items[:, ::-1]
    return np.ascontiguousarray(items)[..., None].view(np.uint8)


def jpeg_orientation(data: bytes) -> int:
    """Return EXIF's orientation of a JPEG, 1 where it says none (3 µs without EXIF)."""
    at, end = 2, len(data) - 4
    while at < end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0xDA:  # the picture itself
            break
        size = data[at + 2] << 8 | data[at + 3]
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return _orientation(data[at + 4 : at + 2 + size])
        at += 2 + size
    return 1


def _orientation(exif: bytes) -> int:
    """Return the orientation of a block of EXIF, 1 where it says none that there is."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}L", tiff, 4)
        (n,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * n, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHLH", tiff, entry)
            if tag == ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:  # cut off, or damaged: what it says of itself is not worth the picture
        pass
    return 1
