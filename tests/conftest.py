"""Fixtures: where the real data is, and small inputs that tests build themselves."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from fistful.bow.store.shard import tar_bytes
from tests.folders import leave_out

settings.register_profile("fistful", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("fistful")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data: FISTFUL_DATA, or ../shared/data beside the repository."""
    root = Path(os.environ.get("FISTFUL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / "captions").is_dir():
        leave_out(f"the real data is not there: {root} has no captions/; FISTFUL_DATA names the folder that CONTRIBUTING.md describes")
    return root


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (12, 8), format: str = "PNG") -> bytes:
    """A plain picture as bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=format)
    return buffer.getvalue()


@pytest.fixture
def captioned_tar(tmp_path: Path) -> Callable[..., Path]:
    """Make a webdataset tar of pictures with these captions: captioned_tar("a.tar", ["a red dog", ...])."""

    def make(name: str, captions: list[str]) -> Path:
        files = {}
        for i, caption in enumerate(captions):
            files[f"{i:04d}.png"] = picture((i * 37 % 256, i * 91 % 256, i * 53 % 256))
            files[f"{i:04d}.txt"] = caption.encode()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tar_bytes(files))
        return path

    return make
