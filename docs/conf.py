"""Sphinx's settings for `make docs`: a site of the markdown pages as they lie here, which loads nothing from elsewhere.

The pages link to each other as files, so the repository's root is the source folder, and they read the same in it
and on the site. A page that no section takes in, and a link that leads nowhere, end the build.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

SECTIONS = {
    "Tutorial": ["docs/tutorial"],
    "How-to": ["docs/how-to/*"],
    "Reference": ["docs/reference", "docs/promises", "docs/glossary", "benchmarks/results/README", "docs/third-party"],
    "Explanation": ["docs/how-it-works", "docs/footguns", "docs/decisions/README"],
    "Project": ["README", "CONTRIBUTING", "SECURITY", "CHANGELOG"],
}
"""The navigation. A new how-to or decision is taken in by its place."""

project = "fistful"
author = "The fistful authors"
project_copyright = f"{author}, Apache-2.0"
root_doc = "docs/README"
include_patterns = ["*.md", "docs/**.md", "benchmarks/results/*.md"]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "benchmarks")]

extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
pygments_style, pygments_dark_style = "friendly", "monokai"

html_theme = "furo"
html_title = "fistful"
html_css_files = ["site.css"]
html_static_path = ["site.css"]
html_extra_path = ["index.html"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False


def add_navigation(_app: Any, page: str, text: list[str]) -> None:
    """Give the first page the tables of contents that stand beside every page, and the decisions theirs."""
    if page == root_doc:
        text[0] += "".join(contents(pages, caption) for caption, pages in SECTIONS.items())
    if page == "docs/decisions/README":
        text[0] += contents(["docs/decisions/0*"])


def contents(pages: list[str], caption: str = "") -> str:
    """Return a hidden table of contents, as MyST writes it."""
    named = [f":caption: {caption}"] if caption else []
    return "\n".join(["", "```{toctree}", ":hidden:", ":glob:", *named, "", *(f"/{page}" for page in pages), "```", ""])


def setup(app: Any) -> None:
    """Connect; Sphinx calls it."""
    app.connect("source-read", add_navigation)
