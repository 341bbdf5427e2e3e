r"""How things are listed, counted and set out in what is said to people.

>>> print("\n".join(table([["model", "images"], ["rn50", "10,000"]], left=[0], rule=True)))
model  images
-------------
rn50   10,000
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from .terminal import show_in_line


def some(names: Sequence[object], limit: int = 3, n: int | None = None) -> str:
    """Return the first few names, and how many more there are.

    Args:
        names: What is listed; where there are too many to keep, the first of them.
        limit: Names shown.
        n: How many there are in all, where `names` are only the first.

    >>> some(["a", "b", "c", "d", "e"]), some(["a", "b"], n=1_002)
    ('a, b, c and 2 more', 'a, b and 1,000 more')
    """
    more = (len(names) if n is None else n) - min(limit, len(names))
    return ", ".join(map(str, names[:limit])) + (f" and {more:,} more" if more > 0 else "")


def counted(n: int, one: str, several: str = "") -> str:
    """Return a number with its noun.

    >>> counted(1, "class", "classes"), counted(2_000, "image")
    ('1 class', '2,000 images')
    """
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def table(rows: Sequence[Sequence[str]], left: Container[int], rule: bool = False) -> list[str]:
    """Return rows as lines of a table for a terminal; what cells hold cannot order the terminal about.

    Args:
        rows: Cells, as many in each row.
        left: Columns that stand left; the others stand right.
        rule: Draw a line below the first row.
    """
    shown = [[show_in_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in shown
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]] if rule else lines
