"""How things are listed and counted in what is said to people."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
