"""The page: all sections put into one file that loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from fistful.bow.store.files import check_above, write_own_file

from ...errors import UsageError
from ...terminal import show
from .classes import classes_of
from .comparison import comparison_of, readings
from .curves import curves_of, unfinished
from .differences import differing_of
from .figures import N_COLOURS
from .gates import gates_of
from .inputs import Material
from .page_text import brief, number, percent, shown
from .provenance import provenance_of
from .pseudo_labels import labels_of
from .quizzes import quizzes_of
from .report_config import ReportConfig
from .sample_pictures import samples_of
from .scores import headline, scores_of, title_of
from .vector_figures import vectors_of
from .word_figures import words_of

TEMPLATE = "page.html.jinja"
FIRST = 6
"""Pictures of a kind that are in sight at once: two rows of a wide window. More are folded away."""


def page_of(material: Material, config: ReportConfig) -> str:
    """Return the page as HTML."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    comparison = comparison_of(material, config)
    environment.filters |= {"shown": shown, "brief": brief, "percent": percent, "number": number}
    page = environment.get_template(TEMPLATE).render(
        title=config.title or title_of(material),
        date=config.date,
        headline=headline(material, config.top, readings(comparison)),
        scores=scores_of(material, config.top, comparison.keys if comparison else ()),
        differing=differing_of(material),
        comparison=comparison,
        quizzes=quizzes_of(material),
        curves=curves_of(material),
        gates=gates_of(material),
        words=words_of(material),
        vectors=vectors_of(material),
        samples=samples_of(material, config.samples, config.seed),
        labels=labels_of(material, config),
        classes=classes_of(material, config.top),
        made=provenance_of(material),
        unfinished=unfinished((*material.data, *material.labels, *material.vectors, *material.runs, *material.results, *material.quizzes)),
        version=version("fistful"),
        n_colours=N_COLOURS,
        n_first=FIRST,
    )
    return show(page)


def write_page(out: str | Path, make: Callable[[], str]) -> Path:
    """Make a page and write it, whole or not at all.

    Raises:
        UsageError: If the path cannot be a page; found before any work is done.
    """
    path = Path(out)
    if "://" in str(out) or path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: expected a local file that ends in .html")
    if path.is_dir():
        raise UsageError(f"--out {out}: is a folder, expected a file that ends in .html")
    check_above(out)
    page = make()
    write_own_file(path, page, "backslashreplace")
    return path
