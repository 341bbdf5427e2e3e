"""`fistful demo`: the whole way on drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fistful.bow.store import manifest
from fistful.bow.store.identity import semantic_values
from fistful.errors import DataError
from fistful.verbs.demo.way import DIFFERS, MODELS, DemoConfig, demo, demo_table, give_labels, precision_lines, reading, recipes


def result(model: str, dataset: str, top5: tuple[float, float, float]) -> dict[str, Any]:
    low, middle, high = top5
    one = {"acc1": 0.1, "acc1_low": 0.05, "acc1_high": 0.2, "acc5": middle, "acc5_low": low, "acc5_high": high}
    return {"model": model, "dataset": dataset, "metrics": {"n": 200, "n_classes": 100, "chance1": 0.01, "chance5": 0.05, **one}}


def test_the_table_has_a_row_a_model_and_set_with_intervals_and_chance() -> None:
    results = [result("captions", name, (0.2, 0.25, 0.3)) for name in ("unseen", "seen")]
    head, rule, first, gap, second, *_ = demo_table(results).splitlines()
    assert head.split() == ["learnt", "from", "test", "images", "classes", "top-1", "[95", "%]", "chance", "top-5", "[95", "%]", "chance"]
    assert first.split("  ")[0] == second.split("  ")[0] == "captions"
    assert first.endswith("25.0% [20.0%, 30.0%]    5.0%")
    assert (set(rule), gap) == ({"-"}, "")


def test_overlapping_intervals_are_not_worded_as_a_ranking() -> None:
    alike = [result("captions", "seen", (0.2, 0.25, 0.3)), result("bags", "seen", (0.28, 0.33, 0.4))]
    apart = [result("captions", "seen", (0.2, 0.25, 0.3)), result("bags", "seen", (0.31, 0.33, 0.4))]
    assert reading(alike)[-1] == "On seen, the top-5 intervals of all models overlap: one seed of this size does not rank them."
    assert reading(apart)[-1] == "On seen, top-5 intervals do not overlap for bags over captions. It is one seed: a hint, no ranking."


def test_models_differ_in_their_text_alone_and_the_fifth_says_in_what_else(tmp_path: Path) -> None:
    found = {name: semantic_values(config) for name, config in recipes(tmp_path, DemoConfig()).items()}
    assert list(found) == list(MODELS)
    differ = {name: {option for option, value in own.items() if value != found["balanced"][option]} for name, own in found.items()}
    assert differ["captions"] == differ["bags"] == {"text"}
    assert differ["random"] == {"rule", "kept"}
    assert differ["pseudo"] == {"text_tower", "word_vectors"}
    assert DIFFERS in reading([])


def test_pseudo_words_stand_beside_two_baselines() -> None:
    found = {"images": 1000, "hidden": 1200, "labels": 0.5, "most_frequent_words": 0.4, "nearest_caption": 0.75}
    assert precision_lines(found).splitlines() == [
        "Pseudo-labels of 1,000 drawings against their hidden names; share of right words:",
        "  pseudo-words of the model                50.0%",
        "  as many of the most frequent words       40.0%",
        "  the words of the nearest named drawing   75.0%",
    ]


def test_a_model_of_too_few_steps_to_label_says_how_many_to_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Path:
        raise DataError("calibration: no word is right often enough; a smaller --min-precision helps")

    monkeypatch.setattr("fistful.pipelines.pseudo.label.label", refuse)
    with pytest.raises(DataError) as error:
        give_labels(tmp_path, tmp_path / "bags", DemoConfig(steps=20))
    assert str(error.value) == (
        "after 20 steps the model knows too little to label with (calibration: no word is right often enough); "
        "give more steps, such as 400, and another --out"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_seed_gives_the_same_table_and_the_same_page(tmp_path: Path) -> None:
    said: list[list[str]] = [[], []]  # 60 steps: a labeller of 25 knows nothing, and is refused
    folders = [demo(tmp_path / str(i), DemoConfig(steps=60), said[i].append) for i in range(2)]
    assert said[0][-1].replace(str(folders[0]), "") == said[1][-1].replace(str(folders[1]), "")
    assert (folders[0] / "report.html").read_bytes() == (folders[1] / "report.html").read_bytes()
    for name in ("counts", "bags", "pseudo", "results", *(f"runs/{model}" for model in MODELS)):
        assert manifest.verify(folders[0] / name) == []
