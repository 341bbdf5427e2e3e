"""The options of `evaluate`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from fistful.bow.store.identity import check_numbers, execution, semantic
from fistful.errors import UsageError
from fistful.pipelines.read.source_options import AUTO
from fistful.training.device import Device

from .sets.set_options import SetOptions
from .tasks.prompts import check_prompts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """How models are evaluated."""

    prompts: tuple[str, ...] = semantic(("name", "openai80"))
    """Prompt sets, side by side: name, bag, openai80, simple7, set (the data set's own), or a file of templates with {c}."""
    names: tuple[str, ...] = semantic(())
    """Tables (TSV: folder, name) of class names: one for all data sets, or one for each; "" for none."""
    split: str = semantic("")
    """Take only the pictures of this split, of sets whose table or JSON document says it (train, val, test)."""
    caption: str = semantic(AUTO)
    """Tables: name of the caption column, or its number, from 1; several with commas between; auto: as count finds it."""
    image: str = semantic(AUTO)
    """Tables: name or number of the column that names a picture's file, or holds its bytes; auto: as count finds it."""
    label: str = semantic(AUTO)
    """Tables: name of the label column, or its number where --image is one; auto: label, class, category and the like."""
    delimiter: str = semantic(AUTO)
    """CSV: what parts its columns: comma, tab, semicolon, bar, or a character; auto: as its first line says."""
    synonyms: bool = semantic(False)
    """Average the prompts over a class's other names too (column `words` of its table)."""
    vocabulary: str | None = semantic(None)
    """Folder with a vocabulary: classes whose words it holds are reported beside all classes, and its frequencies sort words."""
    probe: tuple[str, ...] = semantic(())
    """Labelled sets of the same classes, one for each data set: a k-nearest-neighbour probe; `itself` leaves each
    image out of its own, "" asks for none."""
    trained_on: tuple[str, ...] = semantic(())
    """Data folders of the training: evaluation images that are near-duplicates of theirs are counted."""
    half: Literal["all", "dev", "test"] = semantic("all")
    """Which half of each set, by hash of the image: search on dev, claim on test."""
    rerank: int = semantic(0)
    """Captioned sets: nearest answers of each query that the matching head of a model of train --match-weight puts in order once more,
    a pass each; 0: none."""
    max_bad_fraction: float = execution(0.1)
    """Largest share of refused images; past it the evaluation fails. Less than count allows: a score is of a chosen set, and
    without a part of it another score."""
    images_root: str = execution("")
    """Folder that names of pictures in tables and JSON documents start from; without it their own folder, or one beside it."""
    device: Device = semantic("auto")
    """Where to compute; auto: a GPU if there is one. A function of your own decides by itself."""
    batch_size: int = execution(256)
    """Images a batch."""
    cache: str | None = execution(None)
    """Folder in which classifiers are kept by hash, so that an equal one is not built again; none without it."""
    progress: bool = execution(True)
    """Show a progress bar."""

    def __post_init__(self) -> None:
        check_prompts(self.prompts)
        if self.half not in ("all", "dev", "test"):
            raise UsageError(f"--half {self.half}: expected all, dev or test")
        if not 0 <= self.max_bad_fraction <= 1:
            raise UsageError(f"--max-bad-fraction {self.max_bad_fraction}: expected 0 to 1")
        if self.rerank < 0:
            raise UsageError(f"--rerank {self.rerank}: expected 0 or more")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size}: expected 1 or more")
        self.set_options()
        check_numbers(self)

    def set_options(self) -> SetOptions:
        """Return where the pictures, captions and labels of sets stand.

        Raises:
            UsageError: If the options for tables are at fault.
        """
        return SetOptions(
            caption=self.caption,
            image=self.image,
            label=self.label,
            delimiter=self.delimiter,
            split=self.split,
            images_root=self.images_root,
        )
