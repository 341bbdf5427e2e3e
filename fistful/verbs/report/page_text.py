r"""Words for people: hostile text made visible, and figures in one spelling.

>>> shown("a\u202eb"), percent(0.0267), signed(-0.0001), listing(["a", "b", "c"])
('a⟨U+202E⟩b', '2.7', '0.0', 'a, b and c')
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

LIMIT = 240
"""Characters shown of one text: whoever needs the rest has the file."""

_SPACES = re.compile(r"[\t\n\r\f\v\u0085\u2028\u2029]+")
_UNSEEN = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MARKS = 3
"""Combining marks kept on a letter: more of them climb into the lines above."""

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def shown(value: Any, limit: int = LIMIT) -> str:
    """Return a text as it may stand on a page: no control or direction characters, and not too long."""
    text = str(value)
    cut = text[:limit]
    cut = _UNSEEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", _SPACES.sub(" ", cut))
    more = len(text) - limit
    return _few_marks(cut) + (f"… ({more:,} characters more)" if more > 0 else "")


def brief(value: Any, limit: int = 40) -> str:
    """Return a name as it may stand in a sentence or in a column: cut where it is long, without saying by how much."""
    text = str(value)
    return shown(text if len(text) <= limit else text[: limit - 1], limit) + ("…" if len(text) > limit else "")


def _few_marks(text: str) -> str:
    if text.isascii():
        return text
    kept, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= _MARKS:
            kept.append(letter)
    return "".join(kept)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in percent, without the sign; a dash where there is none."""
    return "–" if share is None or share != share else f"{100 * share:.{digits}f}"


def signed(share: float, digits: int = 1) -> str:
    """Return a difference in percentage points, with a real minus, and zero without a sign."""
    text = f"{100 * share:+.{digits}f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def number(value: float | None) -> str:
    """Return a count or a figure, with thousands set apart."""
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.3g}"


def spelled(n: int) -> str:
    """Return a small number as a word.

    >>> spelled(5), spelled(40)
    ('five', '40')
    """
    return _NUMBERS[n] if n < len(_NUMBERS) else f"{n:,}"


def listing(names: Sequence[str], limit: int = 8, letters: int = 40) -> str:
    """Return names as a list in a sentence; the rest of a long one is counted."""
    names = [brief(name, letters) for name in names]
    if len(names) > limit:
        names = [*names[: limit - 1], f"{len(names) - limit + 1} more"]
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else ""
