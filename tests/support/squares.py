"""Small evaluation sets of coloured squares, as class folders and with captions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fistful.bow.store.shard import tar_bytes

SQUARES = {"red": (220, 30, 20), "green": (10, 200, 40), "blue": (20, 40, 230)}


def square(colour: tuple[int, int, int], seed: int = 0, kind: str = "PNG") -> bytes:
    """Return the bytes of a noisy square of a colour."""
    noise = np.random.default_rng(seed).integers(-10, 10, (16, 16, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def make_squares(root: Path) -> Path:
    """Write class folders: 4 images each of red, green, blue; one of the blue ones is painted red."""
    for name, colour in SQUARES.items():
        (root / name).mkdir(parents=True)
        for i in range(4):
            (root / name / f"{i}.png").write_bytes(square(SQUARES["red"] if (name, i) == ("blue", 0) else colour, i))
    return root


def make_captioned(folder: Path) -> Path:
    """Write a data folder of coloured squares whose captions name the colour, by the real jobs."""
    from fistful.pipelines.bags import bags
    from fistful.pipelines.count import count

    files = {}
    for i in range(12):
        name = list(SQUARES)[i % 3]
        files[f"{i:03d}.png"] = square(SQUARES[name], i)
        files[f"{i:03d}.txt"] = f"a {name} square".encode()
    files["011.png"] = files["011.png"][:60] + b"x" * 40
    (folder / "photos.tar").write_bytes(tar_bytes(files))
    counts = count(str(folder / "photos.tar"), out=folder / "counts")
    return bags(str(folder / "photos.tar"), counts=str(counts), out=folder / "photos-bags")
