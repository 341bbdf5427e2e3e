"""Image bytes, looked at with suspicion: the header first, pixels only when it is harmless."""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING, NamedTuple

from fistful.bow.store.dead_letters import Refused

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 89_478_485
"""Largest image decoded: Pillow's own limit, past which it warns of a decompression bomb."""

FORMATS = ("JPEG", "PNG", "WEBP")
"""What Pillow may open. By default it opens more, EPS (a program) among them."""

EXTENSIONS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "jfif": "JPEG", "jpe": "JPEG"}
"""File name extensions that are taken as images."""

IN_SHARDS = {"jfif": "jpg", "jpe": "jpg"}
"""What images are called in shards where other readers do not know their extension."""


class Header(NamedTuple):
    """What an image says of itself."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """Read an image's kind and size without decoding it.

    Raises:
        Refused: bad_image or huge_image.
    """
    header = _jpeg_header(data) if data[:2] == b"\xff\xd8" else _other_header(data)
    if header.width * header.height > MAX_PIXELS:
        raise Refused("huge_image", f"{header.width} x {header.height} pixels, at most {MAX_PIXELS} are decoded")
    return header


def _jpeg_header(data: bytes) -> Header:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise Refused("bad_image", f"JPEG: {error}") from None
    return Header("JPEG", int(width), int(height))


def _other_header(data: bytes) -> Header:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return Header(str(image.format), *image.size)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("huge_image", f"more than {MAX_PIXELS} pixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error) as error:
        kind = "empty" if not data else f"starts with {data[:8]!r}"
        raise Refused("bad_image", f"not a {', '.join(FORMATS)} image ({type(error).__name__}; {kind})") from None


def decode_image(data: bytes) -> Image.Image:
    """Decode an image to RGB, transparency on white.

    Raises:
        Refused: bad_image (also for one cut off in the middle) or huge_image.
    """
    from PIL import Image

    header = read_header(data)
    try:
        if header.format == "JPEG":
            import simplejpeg

            return Image.fromarray(simplejpeg.decode_jpeg(data, colorspace="RGB"))
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise Refused("bad_image", f"{header.format}: {error}") from None
