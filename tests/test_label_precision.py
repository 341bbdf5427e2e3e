"""What labels are worth beside hidden captions: `python -m benchmarks.label_precision`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.label_precision import Judged, figures, judge, together, wide_enough
from fistful.bow.pseudo import Candidates
from fistful.bow.ragged import Ragged
from fistful.errors import UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import count
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label
from tests.pipelines.pseudo.test_label import QUIET, labeller, write_tars


def lists(*rows: list[int]) -> Ragged:
    return Ragged(np.cumsum([0, *map(len, rows)]), np.array([word for row in rows for word in row], np.int64))


def test_the_likeliest_words_are_counted_beside_as_many_copied_ones() -> None:
    likely = Candidates(lists([1, 2, 3], [4, 5], []), np.array([0.9, 0.5, 0.1, 0.8, 0.2]))
    found = figures(Judged(likely, likely, copied=lists([1, 9], [5], [7]), truth=lists([1, 2], [4, 6], [7]), photos=np.array([5, 8, 2])))
    nearest = found["nearest"]
    assert (nearest["words"], nearest["precision"], nearest["labels"], nearest["difference"]) == (4, 0.5, 0.75, 0.25)
    assert (found["pictures"], found["photos"], found["labelled"], found["given"]) == (3, 3, 2, [])
    assert nearest["low"] < 0 < nearest["high"]


def test_words_are_put_together_until_there_are_enough() -> None:
    assert wide_enough(np.repeat([0.15, 0.25, 0.35, 0.95], [2_000, 1_999, 1, 2_000])) == [(0.0, 0.2), (0.2, 0.9), (0.9, 1.0)]
    assert wide_enough(np.full(1_999, 0.5)) == []
    assert wide_enough(np.full(2_000, 1.0)) == [(0.0, 1.0)]


def test_labels_of_a_folder_stand_beside_the_captions_that_were_hidden(tmp_path: Path) -> None:
    captioned, hidden = write_tars(tmp_path / "captioned", 600, named=True), write_tars(tmp_path / "hidden", 60, named=True)
    counts = count(captioned, out=tmp_path / "counts")
    like, truth = (
        bags(of, counts=counts, out=tmp_path / f"{Path(of).name}-bags", config=BagsConfig(running=QUIET)) for of in (captioned, hidden)
    )
    folder = label(
        hidden, model=labeller(like), like=like, out=tmp_path / "labels", config=LabelConfig(label=LabelOptions(by="mean"), running=QUIET)
    )
    part = judge(folder, truth, [truth, like])
    assert (len(part.photos), len(part.truth), len(part.copied), len(part.given.words)) == (60, 60, 60, 60)
    found = figures(part)
    assert found["nearest"]["labels"] > 0.9
    twice = figures(together([part, part]))
    assert (twice["pictures"], twice["photos"], twice["nearest"]["labels"]) == (120, 60, found["nearest"]["labels"])
    with pytest.raises(UsageError, match="was labelled like none of the finished folders"):
        judge(folder, truth, [truth])
