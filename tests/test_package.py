"""A built wheel installs `fistful` and nothing else at the top level."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.support.folders import REPOSITORY

ROOMS = ("bow", "pipelines", "training", "eval")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel that was built from a copy of the repository."""
    base = tmp_path_factory.mktemp("wheel")
    copy = base / "copy"
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "demo-out*", "tests", "benchmarks", "docs")
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(base), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = base.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_only_fistful_stands_at_the_top_level(wheel: list[str]) -> None:
    top = {PurePosixPath(name).parts[0] for name in wheel}
    assert sorted(name.partition("-")[0] for name in top) == ["fistful", "fistful"]
    assert [name for name in top if not name.endswith(".dist-info")] == ["fistful"]


def test_every_module_of_every_room_is_in_it(wheel: list[str]) -> None:
    for room in ROOMS:
        expected = {f"fistful/{path.relative_to(REPOSITORY).as_posix()}" for path in (REPOSITORY / room).rglob("*.py")}
        assert expected <= {*wheel}
    assert {f"fistful/{path.name}" for path in (REPOSITORY / "fistful").glob("*.py")} <= {*wheel}
    assert "fistful/py.typed" in wheel


def test_a_checkout_without_symbolic_links_builds_nothing(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "setup.py", tmp_path)
    (tmp_path / "fistful").mkdir()
    for room in ROOMS[1:]:
        (tmp_path / "fistful" / room).symlink_to(REPOSITORY / room)
    (tmp_path / "fistful" / "bow").write_text("../bow")  # what git writes where it makes no link
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "fistful/bow is no folder: this checkout has no symbolic links, and what is built from it would lack bow; "
        "take a file system that has them, and: git clone -c core.symlinks=true\n",
    )


def test_every_public_name_is_where_the_package_says() -> None:
    import fistful

    assert [name for name in fistful._WHERE if not hasattr(fistful, name)] == []
    with pytest.raises(AttributeError, match=r"^module 'fistful' has no attribute 'nothing'$"):
        fistful.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


WITHOUT_TORCH = """
import sys
for name in ("torch", "open_clip", "timm", "faiss", "sklearn", "scipy", "webdataset", "safetensors", "matplotlib", "emoji"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError, as where it is not installed
from fistful.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_the_data_jobs_need_no_torch_and_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a red dog\na blue cat\n")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    for command in (
        ["count", "a.tsv", "--caption", "1", "--out", "counts"],
        ["bags", "a.tsv", "--caption", "1", "--counts", "counts", "--out", "bags", "--min-count", "1"],
        ["verify", "counts", "bags"],
        ["words", "counts", "dog"],
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    done = call("demo", "--out", "demo")
    assert (done.returncode, done.stderr) == (2, "fistful: the package emoji is missing; pip install 'fistful[demo]' brings it\n")
