"""Figures as SVG that takes its colours from the page, so that they are right in light and in dark.

Each figure is drawn in its true size, in pixels: once for a wide window and once for a phone, where a
shrunken one could not be read. Names in figures are data: matplotlib's mathematics is off, and what it
writes is escaped.
"""

from __future__ import annotations

import dataclasses
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from .page_text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, ACCENT = "#0a0001", "#0a0002", "#0a0003", "#0a0004"
N_COLOURS = 8
"""Colours of the palette; further models have the same ones with other markers."""
MARKERS = "os^DvPX*"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))

WIDE, NARROW, HALF = 860, 340, 400
"""Widths in pixels: the page's column, a phone, and half a column."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent"} | {f"#0b000{i}": f"--c{i}" for i in range(N_COLOURS)}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fistful",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1,
    "axes.labelsize": 12,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
}

Paint = Callable[["Axes"], None]
"""Draws into the axes of a figure."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A drawn figure."""

    wide: Markup
    narrow: Markup | None
    """For a phone; None where the wide one fits."""
    title: str
    unit: str
    """What the vertical axis measures; "" where the horizontal one says it."""


def colour(place: int) -> str:
    """Return the colour of the model at this place."""
    return f"#0b000{place % N_COLOURS}"


def marker(place: int) -> str:
    """Return the marker of the model at this place."""
    return MARKERS[(place + place // N_COLOURS) % len(MARKERS)]


def dash(place: int) -> Any:
    """Return the line style of the model at this place."""
    return DASHES[place // N_COLOURS % len(DASHES)]


def draw(paint: Paint, *, title: str, alt: str, height: int, unit: str = "", width: int = WIDE, left: int = 44, right: int = 16) -> Figure:
    """Draw a figure.

    Args:
        paint: Draws into the axes.
        title: What stands above it.
        alt: What it shows, for those who do not see it.
        height: In pixels.
        unit: What the vertical axis measures.
        width: In pixels; more than a phone's width makes a second figure for phones.
        left: Pixels beside the axes, for their labels.
        right: Pixels on the other side.
    """
    narrow = _svg(paint, NARROW, height, min(left, 120), min(right, 90), alt) if width > HALF else None
    return Figure(_svg(paint, width, height, left, right, alt), narrow, shown(title), unit)


def _svg(paint: Paint, width: int, height: int, left: int, right: int, alt: str) -> Markup:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has its own fonts
        canvas = Canvas(figsize=(width / 72, height / 72), dpi=72)
        axes = canvas.add_axes((left / width, 40 / height, (width - left - right) / width, (height - 52) / height))
        paint(axes)
        sink = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas.savefig(sink, format="svg", transparent=True, metadata=metadata)
    return _for_page(sink.getvalue(), alt)


def _for_page(svg: str, alt: str) -> Markup:
    """Make an SVG file part of a page: no header, no style sheet of its own, our colours, the page's font."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>", "", body, count=2, flags=re.S)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'style="([^"]*)"', lambda found: f'style="{_style(found.group(1))}"', body)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    assert box is not None
    head = f'<svg role="img" aria-label="{escape(alt)}" viewBox="{box.group(1).join(("0 0 ", " "))}{box.group(2)}" '
    head += f'width="{box.group(1)}" height="{box.group(2)}">'
    return Markup(head + re.sub(r"\n\s*", "\n", body[body.index(">") + 1 :]))  # noqa: S704 - matplotlib escaped the names in it


def _style(style: str) -> str:
    style = re.sub(r"\s*font-family: [^;]*;?", "", style)
    return re.sub(r"#0[ab]000\d", lambda found: f"var({_VARIABLES[found.group()]})", style)


def plain_ticks(axis: Any) -> None:
    """Write an axis of powers of ten as plain numbers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_formatter(NullFormatter())


def few_ticks(axis: Any, low: float, high: float) -> None:
    """Give a logarithmic axis marks that a reader can count by: 1, 2, 5 where it spans little, powers of ten elsewhere."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 60 * low else (1.0,), numticks=12))
    plain_ticks(axis)


def _plain(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart: as near to where they belong as a gap between them allows.

    >>> spread([1.0, 1.0, 5.0], 1.0, 0.0, 10.0)
    [1.0, 2.0, 5.0]
    """
    order = np.argsort(wanted, kind="stable")
    places = np.array(wanted, dtype=float)
    floor = low
    for i in order:
        places[i] = max(places[i], floor)
        floor = places[i] + gap
    ceiling = high
    for i in order[::-1]:
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places.tolist()


def label(name: str, limit: float = 18) -> str:
    """Return a name short enough for a figure: about as wide as so many letters."""
    text = shown(name, 100)
    widths = np.cumsum([1.7 if letter in "mwMW@%" or unicodedata.east_asian_width(letter) in "WF" else 1.0 for letter in text])
    return text if not len(text) or widths[-1] <= limit else text[: int(np.searchsorted(widths, limit - 1.5))] + "…"
