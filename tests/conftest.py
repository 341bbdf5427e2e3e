"""Fixtures: where the real data is, and small inputs that tests build themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from fistful.bow.store.shard import tar_bytes
from tests.support.folders import leave_out
from tests.support.parsing import parse_in_one_thread
from tests.support.pictures import picture
from tests.support.squares import make_captioned, make_squares

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of tests on two cores: more threads wait for each other, spinning
parse_in_one_thread()
settings.register_profile("fistful", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("fistful")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data: FISTFUL_DATA, or ../shared/data beside the repository."""
    root = Path(os.environ.get("FISTFUL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / "captions").is_dir():
        leave_out(f"the real data is not there: {root} has no captions/; FISTFUL_DATA names the folder that CONTRIBUTING.md describes")
    return root


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


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Class folders: 4 images each of red, green, blue; one of the blue ones is painted red."""
    return make_squares(tmp_path / "squares")


@pytest.fixture
def colours() -> Callable[..., str]:
    """Return a function that writes the spec of the colour model."""
    return lambda **arguments: f"tests.support.colours:ColourEncoder {json.dumps(arguments)}"


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """A data folder of coloured squares whose captions name the colour, written by the real jobs."""
    return make_captioned(tmp_path)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process run the tests of a file that share what is made once for the file: it would be made once a process."""
    for item in items:
        shared = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined] # pytest has no public name for it
        if item.get_closest_marker("xdist_group") is None and any(made[-1].scope == "module" for made in shared):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with captions, photos, and counts of the captions."""
    monkeypatch.chdir(tmp_path)
    Path("a.tsv").write_text("caption\tid\nred dog\t1\nred cat\t2\nred dog\t3\n")
    Path("rest").mkdir()
    Path("rest/notes.txt").write_text("mine")
    return tmp_path
