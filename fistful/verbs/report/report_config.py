"""The options of `report`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from fistful.bow.store.identity import check_numbers, semantic

from ...errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """What the page shows. Its bytes depend on the folders and on these options alone."""

    title: str | None = semantic(None)
    """Heading of the page; without one it counts models and test sets."""
    date: str | None = semantic(None)
    """A date to print, as it is given; without one the same input gives the same page on every day."""
    truth: str | None = semantic(None)
    """TSV (key, name) of what pseudo-labelled images really show, to measure their words."""
    precision: str | None = semantic(None)
    """JSON object of shares of right words, by the name of a way to label: shown beside the labels' own share."""
    images: str | None = semantic(None)
    """Folder of the tars that were labelled, to show the pictures that got no word."""
    sets: tuple[str, ...] = semantic(())
    """Evaluation sets, as evaluate takes them, to show pictures that only one of two models names right."""
    top: Literal[1, 5] = semantic(1)
    """Figures and findings by class are about top-1 or top-5; the table has both."""
    samples: int = semantic(12)
    """Pictures shown of each kind."""
    seed: int = semantic(0)
    """Decides which samples are shown."""

    def __post_init__(self) -> None:
        if self.top not in (1, 5):
            raise UsageError(f"--top {self.top}: expected 1 or 5")
        if not 0 <= self.samples <= 100:
            raise UsageError(f"--samples {self.samples}: expected 0 to 100; pictures are part of the page")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: expected 0 or more")
        check_numbers(self)
