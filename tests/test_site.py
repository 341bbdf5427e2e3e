"""`make docs`: a site of all pages, strictly built, that loads nothing from elsewhere and fits a phone."""

from __future__ import annotations

import html.parser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import browser
from tests.support.folders import REPOSITORY

pytestmark = pytest.mark.xdist_group("browser")
SITED = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "docs"),
    *("benchmarks/results", "training/recipes.py"),
]
"""What the pages are, and what they link to."""


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-c", "docs", ".", str(out)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


def copy_pages(to: Path) -> Path:
    """Copy the pages, so that a test may break them."""
    for name in SITED:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, target)
    return to


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, out)
    assert (done.returncode, done.stderr) == (0, "")
    return out


class Loads(html.parser.HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        wanted = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}.get(tag, "")
        fetched = tag != "link" or "stylesheet" in (named.get("rel") or "") or "icon" in (named.get("rel") or "")
        self.found += [value for name, value in attrs if name == wanted and value and fetched]


def test_every_page_is_on_it_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in [*(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("*.md")]:
        assert (site / page.relative_to(REPOSITORY).with_suffix(".html")).exists()
    loaded = {address for page in site.rglob("*.html") for address in Loads(page).found}
    assert [address for address in loaded if address.startswith(("http:", "https:", "//"))] == []
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert "@import" not in styles
    assert "url(http" not in styles


def test_every_how_to_and_decision_is_in_the_navigation(site: Path) -> None:
    front = (site / "docs" / "README.html").read_text("utf-8")
    for page in [*(REPOSITORY / "docs/how-to").glob("*.md"), *(REPOSITORY / "docs/decisions").glob("0*.md")]:
        name = page.relative_to(REPOSITORY / "docs").with_suffix(".html").as_posix()
        assert f'<a class="reference internal" href="{name}">' in front, name


def test_what_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    source = copy_pages(tmp_path / "source")
    with open(source / "docs/glossary.md", "a", encoding="utf-8") as file:
        file.write("\n[no page](gone.md), [no heading](how-it-works.md#gone)\n")
    (source / "docs/homeless.md").write_text("# A page that no section takes in\n")
    done = build(source, tmp_path / "out")
    assert done.returncode == 1
    for said in ("cross-reference target not found: 'gone.md'", "local id not found in doc", "document isn't included in any toctree"):
        assert said in done.stderr


WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"


@pytest.mark.browser
def test_no_page_scrolls_sideways_on_a_phone_or_asks_for_anything_from_elsewhere(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as page:
        for width in (390, 1280):
            for path in sorted(site.rglob("*.html")):
                if path != site / "index.html":  # it leads on at once
                    page.open(path, width)
                    assert page.ask(WIDEST) <= width, path.name
                    assert [address for address in page.requests if not address.startswith(("file:", "data:"))] == []
