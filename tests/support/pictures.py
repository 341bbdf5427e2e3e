"""Plain pictures."""

from __future__ import annotations

import io


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (12, 8), format: str = "PNG") -> bytes:
    """A plain picture as bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=format)
    return buffer.getvalue()
