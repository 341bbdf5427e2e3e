"""What is left to students of a sentence encoder: whose texts are held out, how they are dealt, and what is made of scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence_text_data import CAPTIONS, HELD_OUT, Task, is_held, read_tasks, write_captions
from benchmarks.evidence_text_figures import MEAN, figures_of
from benchmarks.evidence_text_students import CHOOSING, LABELLED, draw, exchange, score_linear, score_tfidf
from fistful.errors import UsageError


def labelled(n: int, *, several: bool) -> Task:
    """Texts whose words say their labels."""
    names = ["cat", "dog", "sun"]
    marks = np.eye(3, dtype=bool)[np.arange(n) % 3]
    if several:
        marks[:, 2] |= np.arange(n) % 2 == 0
    texts = [" ".join(name for name, has in zip(names, row, strict=True) if has) for row in marks]
    photos = [f"coco-{i}" for i in range(n)]
    return Task("coco" if several else "colour", photos, texts, names, marks, np.arange(n) % 7 == 0)


def test_texts_are_held_out_by_photo_and_titles_that_come_again_all_or_none() -> None:
    held = [is_held(f"coco-{i}", "a dog") for i in range(6_000)]
    assert 850 < sum(held) < 1_150
    titles = [is_held(f"fashion-{i}", "Red  Shirt" if i % 2 else "red shirt") for i in range(20)]
    assert len(set(titles)) == 1
    assert not any(is_held(f"{photo}", "a dog") for photo in ("cc3m-1", "cocoval-139", "1000092795"))


def test_a_draw_keeps_the_texts_for_evaluation_apart() -> None:
    task = labelled(6_000, several=False)
    first, second = draw(task, 0), draw(task, 1)
    assert np.array_equal(first.test, np.arange(0, 6_000, 7))
    assert np.array_equal(first.test, second.test)
    for dealt in (first, second):
        assert (len(dealt.learn), len(dealt.choose)) == (LABELLED - CHOOSING, CHOOSING)
        assert len({*dealt.learn.tolist(), *dealt.choose.tolist()} & set(dealt.test.tolist())) == 0
    assert len(set(first.learn.tolist()) - set(second.learn.tolist())) > 0


def test_two_words_are_exchanged_and_no_other_thing() -> None:
    text = "a dog bites the tall man"
    assert {exchange(text, seed) for seed in range(20)} == {"a dog tall the bites man"}
    assert exchange("a cat sat", 0) == "a cat sat"
    assert exchange("", 0) == ""


def test_scores_are_accuracy_or_micro_f1() -> None:
    one, two = draw(labelled(600, several=False), 0), draw(labelled(600, several=True), 0)
    places = np.array([0, 1, 2])
    assert one.score(np.array([[2.0, 1, 0], [2, 1, 0], [0, 0, 1]]), places) == pytest.approx(2 / 3)
    # texts 0, 1, 2 have cat and sun, dog, sun: 4 labels; said are cat, nothing, sun and dog: 2 of 3 right
    assert two.score(np.array([[1.0, -1, -1], [-1, -1, -1], [-1, 1, 1]]), places) == pytest.approx(2 * 2 / (3 + 4))


@pytest.mark.parametrize("several", [False, True])
def test_linear_rivals_learn_what_words_say(several: bool) -> None:
    task = labelled(1_200, several=several)
    dealt = draw(task, 0)
    assert score_tfidf(dealt) == 1.0
    vectors_ND = task.marks_NC.astype(np.float32)
    score, head = score_linear(vectors_ND, dealt)
    assert (score, head.several) == (1.0, several)


def test_figures_are_paired_by_seed_and_shares_of_the_gap_are_those_of_mean_scores() -> None:
    def row(*values: float) -> dict[int, float]:
        return dict(enumerate(values))

    rows = {"scratch 4": row(0.6, 0.7), "teacher": row(0.8, 0.9), "kd 4": row(0.7, 0.85), "kd 1": row(0.7, 0.8)}
    none = {**rows, "scratch 4": row(0.9, 0.9), "kd 4": row(0.8, 0.9)}
    found = figures_of({"a": rows, "b": none})
    share = found["share_of_the_gap"]["kd 4, from scratch 4 to teacher"]
    assert share["a"]["mean"] == pytest.approx(100 * (0.5 + 0.75) / 2)
    assert share["b"] == {"seeds": 0}  # the teacher is behind
    assert share[MEAN]["mean"] == pytest.approx(100 * ((0.75 - 0.75) / 0.05 + (0.875 - 0.8) / 0.1) / 2)
    difference = found["differences"]["kd 4 - kd 1"]
    assert (difference["a"]["mean"], difference["a"]["seeds"]) == (pytest.approx(2.5), 2)
    assert difference["a"]["low"] < 2.5 < difference["a"]["high"]
    assert found["retention"]["kd 4"]["b"] == {"mean": 100.0, "seeds": 2}  # no interval where all seeds agree
    assert found["retention"]["embeds 4"] == {}


def test_without_the_data_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no captions; set FISTFUL_DATA to the folder that CONTRIBUTING.md describes$"):
        write_captions(tmp_path, tmp_path)


def test_of_the_real_captions_every_evaluation_photo_is_named(tmp_path: Path, data_root: Path) -> None:
    counts = write_captions(data_root, tmp_path)
    held = set((tmp_path / HELD_OUT).read_text().splitlines())
    assert len(held) == counts.pop("held_out_photos") == 8_136
    assert len((tmp_path / CAPTIONS).read_text().splitlines()) == sum(counts.values()) == 138_046
    tasks = {task.name: task for task in read_tasks(data_root)}
    assert (len(tasks["coco"].labels), tasks["coco"].several, tasks["colour"].several) == (18, True, False)
    for task in tasks.values():
        assert {photo for photo, test in zip(task.photos, task.is_test, strict=True) if test} <= held
        learnt = {text.lower() for text, test in zip(task.texts, task.is_test, strict=True) if not test}
        tested = {text.lower() for text, test in zip(task.texts, task.is_test, strict=True) if test}
        assert task.several or not learnt & tested
