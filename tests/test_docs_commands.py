"""Every command of README and docs runs, page by page and in order, as a reader types it.

What is shortened: inputs are the small ones of `tests/support/docs_world.py`, `train` takes its SHORT options, and word vectors
have two numbers, for there are few words.
What lies in s3://BUCKET lies in a store of this process; tests/pipelines/test_s3_out.py runs `docs/how-to/buckets.md` as it stands.
What does not run here is checked as far as one machine goes, each kind by its function of OTHERS: an engine's
command is read by our command line and its options by Beam's, torchrun's by our command line alone, `make demo` and
`make test` by make, `hf` by its help. Dask's cluster and Beam's job server run in `tests/pipelines/engine/test_engines.py`,
scripts that want other packages or a better model in the tests of SCRIPTS.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fistful.cli import run
from fistful.pipelines.engine.beam import Engine, beam_arguments
from tests.support.docs_world import LONG, SHORT, make_world
from tests.support.folders import REPOSITORY, environment
from tests.support.object_store import empty_bucket, put_all

pytestmark = pytest.mark.xdist_group("docs")  # one process makes the world once
BLOCK = re.compile(r"^```(console|bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")])
MADE_BEFORE = ("counts", "bags", "run")
"""Folders that a page may find, unless it makes them itself."""
NEEDS_WORDS = ("label-photos", "a-million-photos-a-tenth-captioned", "half-of-my-archive-has-keywords")
"""Pages whose models must have learnt something."""
SCRIPTS = {
    "export-to-onnx": "tests/training/model/test_onnx_how_to.py",
    "search-by-embeddings": "tests/pipelines/test_search_how_to.py",
    "share-on-the-hub": "tests/pipelines/test_cards.py",
    "texts-without-a-transformer": "tests/pipelines/test_student_how_to.py",
}
"""Pages whose scripts run, and whose output is looked at, in a test of their own."""
FOREIGN = {
    *("--array", "--signal", "--sort", "--output", "--no_amp", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"),
    *("--port", "--service_port", "--nworkers", "--nthreads", "--scheduler-file", "--torch-backend"),
    "--repo-type",
    *("--bucket", "--lifecycle-configuration"),
}
"""Options of Slurm, tar, CLIP_benchmark, torchrun, Beam's servers, Dask, uv, the hub and AWS."""


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text("utf-8"))


def commands(text: str) -> Iterator[list[str]]:
    """Yield what is typed behind each $, as the shell would cut it."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield shlex.split(line[2:], comments=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_world(root)
    return root


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the world, which we stand in."""
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_the_commands_of_a_page_run_in_their_order(page: Path, here: Path) -> None:
    put_all(here / "tars", f"{empty_bucket('BUCKET')}/tars")
    typed = [tokens for _, text in blocks(page) for tokens in commands(text)]
    for folder in MADE_BEFORE:
        if any(tokens[:1] == ["fistful"] and f"--out {folder} " in f"{' '.join(tokens)} " for tokens in typed):
            shutil.rmtree(here / folder)
    for language, text in blocks(page):
        if language == "console":
            for tokens in commands(text):
                assert tokens[0] in OTHERS, f"{page.name}: a command of a new kind; tests/test_docs_commands.py needs a function for it"
                OTHERS[tokens[0]](tokens, LONG if page.stem in NEEDS_WORDS else SHORT)
        elif language == "bash":
            slurm = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_CPUS_PER_TASK": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            subprocess.run(["bash", "-euc", text], env=environment(**slurm), check=True)
        elif page.stem in SCRIPTS:
            assert page.name in (REPOSITORY / SCRIPTS[page.stem]).read_text("utf-8"), SCRIPTS[page.stem]
        else:
            exec(compile(text, str(page), "exec"), {})


def run_fistful(tokens: list[str], instead: dict[str, str]) -> None:
    """Run our own command, shortened; where it names an engine, read it only."""
    if "--engine" in tokens:
        return read_engine(tokens)
    tokens = [token.replace("s3://", "memory://") for token in tokens]
    if tokens[1] == "train":
        tokens = [*without(tokens, instead), *(text for option in instead.items() for text in option)]
        if {"--recipe", "--init"} & {*tokens}:  # they name the model
            tokens = without(tokens, {"--model": ""})
    if tokens[1] == "vectors":
        tokens = [*tokens, "--dim", "2"]
    if tokens[1] not in ("words", "verify", "report", "doctor"):
        tokens = [*tokens, "--no-progress"]
    assert run(tokens[1:]) == 0, shlex.join(tokens)
    return None


def without(tokens: list[str], options: dict[str, str]) -> list[str]:
    """Leave out these options and their values."""
    return [token for before, token in zip(["", *tokens], tokens, strict=False) if token not in options and before not in options]


def read_engine(tokens: list[str]) -> None:
    """Let our command line read the command, and Beam's the options for it."""
    assert run([*tokens[1:], "--print-config"]) == 0, shlex.join(tokens)
    options = tuple(value for option, value in itertools.pairwise(tokens) if option == "--beam-option")
    beam_arguments(Engine(tokens[tokens.index("--engine") + 1], options))


def read_torchrun(tokens: list[str], instead: dict[str, str]) -> None:
    start = tokens.index("fistful.training") + 1
    assert run(["train", *tokens[start:], "--print-config"]) == 0, shlex.join(tokens)


def read_make(tokens: list[str], instead: dict[str, str]) -> None:
    subprocess.run(["make", "-n", "-C", str(REPOSITORY), *tokens[1:]], check=True, capture_output=True)


def read_pip(tokens: list[str], instead: dict[str, str]) -> None:
    """Check that the extras asked for are ours."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked = [extra for token in tokens for extra in re.findall(r"^(?:\.|fistful)\[(.*)\]$", token)]
    assert {extra for names in asked for extra in names.split(",")} <= {*extras}


def read_python(tokens: list[str], instead: dict[str, str]) -> None:
    assert tokens[1] == "-m"
    assert importlib.util.find_spec(tokens[2]), tokens


def read_dask(tokens: list[str], instead: dict[str, str]) -> None:
    command = [sys.executable, "-m", f"distributed.cli.dask_{tokens[1]}", "--help"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [token for token in tokens if token.startswith("--") and token not in said] == []


def read_hf(tokens: list[str], instead: dict[str, str]) -> None:
    """Check that the hub's own program has the command and its options, and that what it shall upload lies there."""
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", tokens[1], "--help"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [token for token in tokens if token.startswith("--") and token not in said] == []
    assert Path(tokens[3]).is_dir(), tokens


OTHERS: dict[str, Callable[[list[str], dict[str, str]], None]] = {
    "fistful": run_fistful,
    "torchrun": read_torchrun,
    "make": read_make,
    "pip": read_pip,
    "uv": read_pip,
    "python": read_python,
    "dask": read_dask,
    "hf": read_hf,
    "export": lambda tokens, instead: None,
}


def test_the_calls_of_the_readme_run(here: Path) -> None:
    import fistful

    calls = re.findall(r"`(fistful\.\w+\(.*?\))`", (REPOSITORY / "README.md").read_text("utf-8"))
    assert len(calls) == 2
    shutil.rmtree(here / "counts")
    (here / "bags").rename(here / "data")
    shutil.rmtree(here / "run")
    for call in calls:
        eval(call.replace("steps=500", "steps=2, warmup=1, batch_size=16"), {"fistful": fistful})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_option_that_a_page_names_is_one(page: Path) -> None:
    option = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]+")
    known = {*option.findall((REPOSITORY / "docs/reference.md").read_text("utf-8"))} | FOREIGN
    assert {*option.findall(page.read_text("utf-8"))} - known == set()
