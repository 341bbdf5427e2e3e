"""Image bytes: a header is believed only so far, and nothing but a refusal comes of bad ones."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.images import MAX_PIXELS, ImageHeader, decode_image, jpeg_orientation, read_header
from tests.support.pictures import picture, png_header


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims a size."""
    data = bytearray(picture(format="JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_an_images_kind_and_size_are_read_from_its_header(format: str) -> None:
    data = picture((200, 30, 30), (12, 8), format)
    assert read_header(data) == ImageHeader(format, 12, 8)
    assert decode_image(data).size == (12, 8)
    assert all(abs(a - b) < 6 for a, b in zip(decode_image(data).getpixel((3, 3)), (200, 30, 30), strict=True))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1"])
def test_every_mode_becomes_rgb_and_transparency_white(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (4, 4), 0).save(buffer, format="PNG")
    image = decode_image(buffer.getvalue())
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == ((255, 255, 255) if mode in ("LA", "RGBA") else (0, 0, 0))


RAMP = np.tile(np.arange(0, 65536, 257, dtype=np.uint16), (3, 1))
"""Every grey that 8 bits can hold, in 16: 0 to 65535."""


@pytest.mark.parametrize("transparent", [None, 257 * 9])
def test_grey_of_16_bits_is_scaled_to_8(transparent: int | None) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "PNG", **({} if transparent is None else {"transparency": transparent}))
    expected = np.arange(256)
    if transparent is not None:
        expected[9] = 255  # transparency on white, as everywhere
    assert np.array_equal(np.asarray(decode_image(buffer.getvalue())), np.tile(expected[:, None], (3, 1, 3)))


def held(orientation: int, format: str, **more: object) -> bytes:
    """A picture of many colours whose EXIF says how it was held."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "the maker", orientation
    colours = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((48, 32)).save(buffer, format, exif=exif, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_exif_says(format: str, orientation: int) -> None:
    data = held(orientation, format, **({"lossless": True} if format == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(decode_image(data)), np.asarray(ImageOps.exif_transpose(image)))
    assert read_header(data) == ImageHeader(format, 48, 32)  # as stored


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=8), st.integers(0, 200))
def test_damaged_exif_turns_nothing_or_something_but_never_fails(damage: list[tuple[int, int]], length: int) -> None:
    broken = bytearray(held(6, "JPEG"))
    for place, value in damage:
        broken[place] = value
    assert jpeg_orientation(bytes(broken[:length])) in range(1, 9)


@pytest.mark.parametrize(
    "data", [png_header(65_000, 65_000), png_header(10_000, 9_000), jpeg_header(65_500, 65_500)], ids=["png", "mid png", "jpeg"]
)
def test_a_decompression_bomb_is_refused_by_its_header(data: bytes) -> None:
    for look in (read_header, decode_image):
        with pytest.raises(Refused) as error:
            look(data)
        assert error.value.reason == "huge_image"
        assert str(MAX_PIXELS) in error.value.detail


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "not a JPEG, PNG, WEBP image (UnidentifiedImageError; empty)"),
        (b"<html>404 Not Found</html>", "not a JPEG, PNG, WEBP image (UnidentifiedImageError; starts with b'<html>40')"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "not a JPEG, PNG, WEBP image (UnidentifiedImageError; starts with b'%!PS-Ado')",
        ),
        (b"GIF89a" + bytes(20), "not a JPEG, PNG, WEBP image (UnidentifiedImageError; starts with b'GIF89a\\x00\\x00')"),
    ],
)
def test_what_is_no_image_of_ours_is_refused(data: bytes, detail: str) -> None:
    with pytest.raises(Refused) as error:
        read_header(data)
    assert (error.value.reason, error.value.detail) == ("bad_image", detail)


def test_an_image_cut_off_in_the_middle_is_refused_when_it_is_decoded() -> None:
    for format in ("PNG", "JPEG", "WEBP"):
        data = picture(size=(300, 300), format=format)
        with pytest.raises(Refused) as error:
            decode_image(data[: len(data) * 2 // 3])
        assert error.value.reason == "bad_image"


WHOLE = [picture(format=format) for format in ("PNG", "JPEG", "WEBP")]


@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=6), st.integers(0, 800))
def test_damage_anywhere_gives_an_image_or_a_refusal(data: bytes, damage: list[tuple[int, int]], length: int) -> None:
    broken = bytearray(data)
    for place, value in damage:
        broken[place % len(broken)] = value
    for look in (read_header, decode_image):
        with contextlib.suppress(Refused):
            assert look(bytes(broken[:length])) is not None
