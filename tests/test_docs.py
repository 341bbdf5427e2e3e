"""The docs say what the code does."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from fistful.cli import VERBS
from tests.support.folders import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DOCS = REPOSITORY / "docs"
CODE = re.compile(r"`([a-z_]+/[a-z_/]+\.py)(?::([A-Za-z_.]+))?`")
"""A file of the code, and perhaps a function or a class in it, as docs/how-it-works.md names them."""


def test_the_reference_is_what_the_command_line_prints() -> None:
    made = runpy.run_path(str(REPOSITORY / "docs" / "make_reference.py"))["reference"]()
    assert made == (REPOSITORY / "docs" / "reference.md").read_text("utf-8"), "run: python docs/make_reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text("utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_verb_has_help_and_a_line_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert [verb for verb in VERBS if f"`{verb}`" not in readme and f"fistful {verb}" not in readme and f"make {verb}" not in readme] == []


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [page.name[:4] for page in (REPOSITORY / "docs" / "decisions").glob("*.md")]
    assert len(set(numbers)) == len(numbers)


def test_no_option_lacks_its_line_of_help() -> None:
    text = (REPOSITORY / "docs" / "reference.md").read_text("utf-8")
    bare = re.findall(r"│[ *]+(--[a-z-]+(?: --no-[a-z-]+)?(?: [A-Z]+)?) +│\n│ +│", text)
    assert bare == []


def _defined_in(path: Path) -> set[str]:
    """Return the functions and classes at the top of a module, and the methods of its classes as CLASS.METHOD."""
    top = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = [(node.name, inner) for node in top if isinstance(node, ast.ClassDef) for inner in node.body]
    return {node.name for node in top} | {f"{owner}.{inner.name}" for owner, inner in methods if isinstance(inner, ast.FunctionDef)}


def test_how_it_works_names_files_and_functions_that_are_there() -> None:
    named = CODE.findall((DOCS / "how-it-works.md").read_text("utf-8"))
    assert len(named) > 40
    assert [path for path, _ in named if not (REPOSITORY / path).exists()] == []
    assert [f"{path}:{name}" for path, name in named if name and name not in _defined_in(REPOSITORY / path)] == []


@pytest.mark.parametrize("index", ["docs/README.md", "docs/decisions/README.md"])
def test_the_index_lists_every_page(index: str) -> None:
    listed = {(REPOSITORY / index).parent / target for target in LINK.findall((REPOSITORY / index).read_text("utf-8"))}
    pages = (REPOSITORY / index).parent.glob("*.md") if "decisions" in index else [*DOCS.glob("*.md"), *(DOCS / "how-to").glob("*.md")]
    assert sorted({page.name for page in pages} - {path.name for path in listed} - {"README.md"}) == []


EXAMPLES = [
    path.relative_to(REPOSITORY)
    for room in ("bow", "eval", "fistful", "pipelines", "training")
    for path in sorted((REPOSITORY / room).rglob("*.py"))
    if ">>>" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_examples_give_what_they_say(path: Path) -> None:
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name if name.startswith("fistful") else f"fistful.{name}")
    assert doctest.testmod(module).failed == 0


def test_the_licences_page_lists_every_package_that_pip_is_asked_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=]", one)[0] for one in asked} - {"fistful"}
    rows = re.findall(r"^\| ([^|]+) \| (?:fistful|`[^|]+) \|", (DOCS / "third-party.md").read_text("utf-8"), re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} == names


def test_the_citation_names_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    citation = (REPOSITORY / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {version}\n" in citation
    assert "\nauthors:\n  - name: The fistful authors\n" in citation
