"""A built wheel installs `fistful` and nothing else at the top level."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.support.folders import REPOSITORY

ROOMS = ("bow", "pipelines", "training", "eval")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist that was built from a copy of the repository, and the wheel that was built from the sdist."""
    base = tmp_path_factory.mktemp("built")
    copy = base / "copy"
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "site", "*.egg-info", "__pycache__", "demo-out*", "photos-out*")
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(base), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return base


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    """Names of the files in the wheel."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_sdist_holds_the_package_and_none_of_the_tests(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [PurePosixPath(name).relative_to(path.name.removesuffix(".tar.gz")).as_posix() for name in archive.getnames()]
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"fistful", "fistful.egg-info"}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "fistful/bow/words.py"} <= {*names}


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


@pytest.mark.parametrize("ending", ["tar.gz", "whl"])
def test_the_relation_table_and_its_licence_are_in_it(built: Path, ending: str) -> None:
    (path,) = built.glob(f"*.{ending}")
    if ending == "whl":
        names = zipfile.ZipFile(path).namelist()
    else:
        with tarfile.open(path) as archive:
            names = [name.partition("/")[2] for name in archive.getnames()]
    assert {f"fistful/bow/wordnet/{name}" for name in ("synsets.tsv.gz", "exceptions.tsv.gz", "LICENSE")} <= {*names}


NO_LINKS = (
    "fistful/{} is no folder: these sources have no symbolic links, and what is built from them would lack {}; "
    "on a file system that has them: git clone -c core.symlinks=true, or unpack with tar or unzip"
)


def copy_without_links(to: Path, rooms: tuple[str, ...]) -> Path:
    """Copy what a build needs; of these rooms there is a file that says where the link would lead."""
    (to / "fistful").mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, to)
    for room in ROOMS:
        link = to / "fistful" / room
        link.write_text(f"../{room}") if room in rooms else link.symlink_to(REPOSITORY / room)
    return to


@pytest.mark.parametrize("rooms", [("bow",), ROOMS])
def test_sources_without_symbolic_links_build_nothing(tmp_path: Path, rooms: tuple[str, ...]) -> None:
    source = copy_without_links(tmp_path / "source", rooms)
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=source, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, NO_LINKS.format("bow", ", ".join(rooms)) + "\n")


@pytest.mark.parametrize("how", [["install", "--target", "there"], ["install", "--target", "there", "--editable"], ["wheel"]])
def test_pip_shows_the_reason(tmp_path: Path, how: list[str]) -> None:
    source = copy_without_links(tmp_path / "source", ROOMS)
    command = [sys.executable, "-m", "pip", *how, str(source), "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert NO_LINKS.format("bow", ", ".join(ROOMS)) in [line.strip() for line in f"{done.stdout}{done.stderr}".splitlines()]


def test_a_zip_that_python_unpacks_has_no_links(tmp_path: Path) -> None:
    """Why there is a check: `python -m zipfile -e` makes files of links."""
    info = zipfile.ZipInfo("bow")
    info.external_attr = 0o120777 << 16  # a symbolic link, as zip stores it
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "../bow")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", "a.zip", "out"], cwd=tmp_path, check=True)
    assert not (tmp_path / "out" / "bow").is_symlink()


def test_every_public_name_is_where_the_package_says() -> None:
    import fistful

    assert [name for name in fistful._WHERE if not hasattr(fistful, name)] == []
    with pytest.raises(AttributeError, match=r"^module 'fistful' has no attribute 'nothing'$"):
        fistful.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


WITHOUT_TORCH = """
import sys
for name in ("torch", "open_clip", "timm", "faiss", "sklearn", "scipy", "webdataset", "matplotlib", "emoji"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError, as where it is not installed
from fistful.cli import run
sys.exit(max(run(command.split()) for command in sys.argv[1:]))
"""


def test_the_data_jobs_need_no_torch_and_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a red dog\na blue cat\n")

    def call(*commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *commands], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = call(
        "count a.tsv --caption 1 --out counts",
        "bags a.tsv --caption 1 --counts counts --out bags --min-count 1",
        "verify counts bags",
        "words counts dog",
    )
    assert done.returncode == 0, done.stderr
    done = call("demo --out demo")
    assert (done.returncode, done.stderr) == (2, "fistful: the package emoji is missing; pip install 'fistful[demo]' brings it\n")
