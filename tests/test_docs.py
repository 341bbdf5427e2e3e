"""The docs say what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from fistful.cli import VERBS
from tests.support.folders import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


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
