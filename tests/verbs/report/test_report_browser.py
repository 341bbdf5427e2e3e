"""The report in a real browser, wide and narrow, with names that would like to do harm."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from fistful.verbs.report import ReportConfig, report
from fistful.verbs.report.page_text import shown
from tests.support.browser import Page, browser
from tests.support.report_folders import HOSTILE, make_all

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything, full of hostile names."""
    root = make_all(tmp_path_factory.mktemp("report"))
    return report(str(root), out=root / "page.html", config=ReportConfig(title=HOSTILE[0], truth=str(root / "truth.tsv")))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A running browser."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_whole_fits_the_window_and_runs_nothing(chromium: Page, page: Path, width: int, scheme: str) -> None:
    chromium.open(page, width, scheme)
    chromium.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert [url for url in chromium.requests if not url.startswith("data:")] == [page.as_uri()]
    assert chromium.dialogs == []
    assert chromium.ask("typeof hacked") == "undefined"
    assert chromium.ask("document.scripts.length") == 0
    assert chromium.ask("innerWidth") == width
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    assert chromium.ask(OUTSIDE) == []
    assert chromium.ask("document.images.length") > 10
    assert chromium.ask("[...document.images].filter(one => !(one.complete && one.naturalWidth > 0)).length") == 0
    text = chromium.ask("document.body.innerText")
    assert all(shown(name, 20).split("…")[0].strip() in text for name in HOSTILE)


OUTSIDE = """
[...document.querySelectorAll('main *, header *, footer *')]
  .filter(one => !one.closest('.table, svg, .spoken') && one.getBoundingClientRect().right > innerWidth + 0.5)
  .map(one => one.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_text_in_figures_can_be_read(chromium: Page, page: Path, width: int) -> None:
    chromium.open(page, width)
    sizes = chromium.ask(
        "[...document.querySelectorAll('svg text')].filter(one => one.checkVisibility())"
        ".map(one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a)"
    )
    assert len(sizes) > 50
    assert min(sizes) >= 9.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_take_the_colours_of_the_page(chromium: Page, page: Path, scheme: str) -> None:
    chromium.open(page, 1280, scheme)
    ink, text = (
        chromium.ask(f"getComputedStyle(document.querySelector('{one}')).{what}") for one, what in (("body", "color"), ("svg text", "fill"))
    )
    assert chromium.ask("document.querySelectorAll('svg [style*=\"#0\"]').length") == 0
    assert ink == {"light": "rgb(27, 28, 30)", "dark": "rgb(231, 229, 224)"}[scheme]
    assert text != "rgb(0, 0, 0)"


def test_every_picture_and_table_says_what_it_is(chromium: Page, page: Path) -> None:
    chromium.open(page, 1280)
    assert chromium.ask("[...document.images].filter(one => !one.alt.trim()).length") == 0
    assert chromium.ask("[...document.querySelectorAll('figure svg')].filter(one => !one.getAttribute('aria-label')).length") == 0
    assert chromium.ask("[...document.querySelectorAll('table')].filter(one => !one.caption).length") == 0
    assert chromium.ask("[...document.querySelectorAll('th')].filter(one => !one.scope).length") == 0
    headings = [int(tag[1]) for tag in chromium.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => one.tagName)")]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_these_tests_would_see_a_page_that_does_harm(chromium: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<body><script>hacked=1;alert(1)</script><img src=file:///nothing.png><div style='width:2000px'>x</div>")
    chromium.open(bad, 390)
    assert chromium.dialogs == ["1"]
    assert chromium.ask("typeof hacked") == "number"
    assert "file:///nothing.png" in chromium.requests
    assert chromium.ask("[...document.images].filter(one => !(one.complete && one.naturalWidth > 0)).length") == 1
    assert chromium.ask("document.documentElement.scrollWidth") > 390
    chromium.dialogs.clear()
