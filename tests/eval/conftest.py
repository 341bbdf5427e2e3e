"""Small evaluation sets of coloured squares."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SQUARES = {"red": (220, 30, 20), "green": (10, 200, 40), "blue": (20, 40, 230)}


def square(colour: tuple[int, int, int], seed: int = 0, kind: str = "PNG") -> bytes:
    """Return the bytes of a noisy square of a colour."""
    noise = np.random.default_rng(seed).integers(-10, 10, (16, 16, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Class folders: 4 images each of red, green, blue; one of the blue ones is painted red."""
    root = tmp_path / "squares"
    for name, colour in SQUARES.items():
        (root / name).mkdir(parents=True)
        for i in range(4):
            (root / name / f"{i}.png").write_bytes(square(SQUARES["red"] if (name, i) == ("blue", 0) else colour, i))
    return root


@pytest.fixture
def colours() -> Callable[..., str]:
    """Return a function that writes the spec of the colour model."""

    def spec(**arguments: object) -> str:
        import json

        return f"tests.eval.colours:ColourEncoder {json.dumps(arguments)}"

    return spec
