"""The options of `quiz`."""

from __future__ import annotations

import dataclasses

from fistful.bow.store.identity import check_numbers, execution, semantic
from fistful.errors import UsageError
from fistful.training.device import Device

WORDNET = "wordnet"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QuizConfig:
    """How models are quizzed."""

    vocabulary: str | None = semantic(None)
    """Folder of fistful count or bags, or a run's, whose words are asked about; without it the first model's own vocabulary."""
    tasks: str = semantic(WORDNET)
    """wordnet: tasks from its relations; or a TSV of your own words and their properties, with a column `word`."""
    seed: int = semantic(0)
    """Which tasks are made, and how words are split."""
    device: Device = semantic("auto")
    """Where to compute vectors; auto: a GPU if there is one. A function of your own decides by itself."""
    progress: bool = execution(True)
    """Show a progress bar."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: expected 0 or more")
        check_numbers(self)
