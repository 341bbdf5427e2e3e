"""The lab's pure parts: who keeps captions, which texts are left out, labels changed on purpose, figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence_data import as_labels, keeps_captions, write_texts
from benchmarks.evidence_figures import figures_of
from benchmarks.photos_data import read_samples
from fistful.bow.ragged import Ragged


def test_a_fifth_of_the_photos_keeps_its_captions_and_another_one_for_each_seed() -> None:
    keys = [b"%d" % i for i in range(5_000)]
    kept = [{key for key in keys if keeps_captions(key, seed)} for seed in (0, 1)]
    assert [900 < len(part) < 1_100 for part in kept] == [True, True]
    assert len(kept[0] & kept[1]) < 300


@pytest.mark.slow
def test_captions_of_the_photos_that_are_measured_on_are_in_no_text(tmp_path: Path, data_root: Path) -> None:
    counts = write_texts(data_root, tmp_path)
    texts = [json.loads(line)["caption"] for line in (tmp_path / "all" / "captions.jsonl").read_text().splitlines()]
    measured = {
        caption
        for sample in read_samples(data_root / "photos/captioned/flickr8k-00000.tar.gz")
        for caption in json.loads(sample["json"])["captions"]
    }
    assert counts["other"] < counts["all"] == len(texts)
    assert not measured & set(texts)


def test_bags_become_labels_without_distributions() -> None:
    columns = as_labels(Ragged(np.array([0, 2, 2]), np.array([5, 1])))
    assert {name: column.to_pylist() for name, column in columns.items()} == {"words": [[5, 1], []], "scores": [[1.0, 1.0], []]}


def test_shares_of_the_gap_and_differences_are_paired_by_seed() -> None:
    def arm(*values: float) -> dict[int, dict[str, dict[str, float]]]:
        return {seed: {"cosine": {"ap_macro": value}} for seed, value in enumerate(values)}

    found = figures_of({"fifth": arm(0.1, 0.2), "all": arm(0.2, 0.4), "drawn": arm(0.15, 0.32)})
    assert found["shares_of_the_gap"]["fifth to all"]["drawn"]["mean"] == pytest.approx(0.55)
    assert found["differences"]["drawn - fifth"] is not None
    difference = found["differences"]["drawn - fifth"]["cosine macro"]
    assert (difference["mean"], difference["seeds"]) == (pytest.approx(8.5), 2)
    assert difference["low"] < 8.5 < difference["high"]
    assert found["means"]["fifth"]["cosine tail"] is None
