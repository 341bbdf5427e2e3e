"""A finding of `fistful doctor`, and findings as plain text."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Literal

from ...terminal import show_in_line
from ...wording import counted, some

Level = Literal["ok", "note", "warning", "problem"]
"""ok: as it should be; note: worth knowing; warning: something will be lost or slow; problem: something will not work."""

ORDER: tuple[Level, ...] = ("ok", "problem", "warning", "note")
"""Of a part of the report: first what it is, then what is wrong with it, the worst first."""
WIDTH = 110
INDENT = " " * 11


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    text: str
    """What was found, where."""
    means: str = ""
    """What it means; "" where that is plain."""
    command: str = ""
    """What to type, or to do; "" where there is nothing to do."""
    about: str = ""
    """Part of the report: machine, installation, or the folder."""


@dataclasses.dataclass(slots=True)
class Noted:
    """Things of a kind: how many, and the first few; memory does not grow with them."""

    n: int = 0
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str) -> None:
        """Note one more."""
        self.n += 1
        if len(self.first) < 3:
            self.first.append(name)

    def __bool__(self) -> bool:
        return self.n > 0

    def __str__(self) -> str:
        return some(self.first, n=self.n)


def findings_text(findings: Sequence[Finding]) -> str:
    """Return findings as lines for a terminal, part by part, with a summary."""
    lines: list[str] = []
    for about in dict.fromkeys(finding.about for finding in findings):
        part = sorted((f for f in findings if f.about == about), key=lambda f: ORDER.index(f.level))
        lines += [about, *(line for finding in part for line in _lines(finding)), ""]
    counts = [counted(sum(f.level == level for f in findings), level) for level in ("problem", "warning", "note")]
    return "\n".join([*lines, ", ".join(counts)])


def _lines(finding: Finding) -> list[str]:
    said = f"{finding.text}: {finding.means}" if finding.means else finding.text
    body = textwrap.wrap(said, WIDTH - len(INDENT), break_long_words=False, break_on_hyphens=False)
    first, *rest = body or [""]
    lines = [f"  {finding.level:<9}{first}", *(INDENT + line for line in rest)]
    return [*lines, f"{INDENT}-> {show_in_line(finding.command)}"] if finding.command else lines
