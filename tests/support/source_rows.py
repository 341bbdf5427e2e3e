"""Rows and captions of a source, whatever its format."""

from __future__ import annotations

from pathlib import Path

from fistful.bow.store.dead_letters import DeadLetter
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.rows import Row
from fistful.pipelines.read.sources import SourceOptions, open_unit


def read(path: Path, options: SourceOptions = SourceOptions(), plan: PlanOptions = PlanOptions()) -> tuple[list[Row], list[DeadLetter]]:
    rows: list[Row] = []
    letters: list[DeadLetter] = []
    for unit in plan_units((str(path),), plan, None, options)[0]:
        with open_unit(unit, options, with_images=True) as (batches, _):
            for batch in batches:
                assert batch.n_read == len(batch.rows) + len(batch.letters)
                rows += batch.rows
                letters += batch.letters
    return rows, letters


def captions(path: Path, options: SourceOptions = SourceOptions(), plan: PlanOptions = PlanOptions()) -> list[str]:
    rows, letters = read(path, options, plan)
    assert letters == []
    return [caption for row in rows for caption in row.captions]
