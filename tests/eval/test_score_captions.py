"""Retrieval and tagging against counts by hand and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.manifest import verify
from fistful.errors import UsageError
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, results_table
from fistful.eval.tasks.retrieval import retrieval_figures, retrieval_ranks
from fistful.eval.tasks.tagging import by_frequency, tag_hits, tagging_figures, word_precision


def recalls(images, captions, owner, ks=(1, 5, 10)):
    """Recall at k both ways, without intervals."""
    found = retrieval_figures(retrieval_ranks(images, captions, owner), ks=ks)
    return {name: value for name, value in found.items() if name.partition("@")[2].isdecimal()}


def test_retrieval_counts_the_best_of_several_captions():
    images = np.eye(3, dtype=np.float32)
    captions = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.1], [0, 0.9, 1]], np.float32)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    found = recalls(images, captions, np.array([0, 0, 1, 2]), ks=(1, 2))
    # Caption 1 belongs to image 0 but points at image 1; image 1's own caption comes second to it.
    assert found == {
        "image_retrieval_recall@1": 0.75,
        "image_retrieval_recall@2": 0.75,
        "text_retrieval_recall@1": pytest.approx(2 / 3),
        "text_retrieval_recall@2": 1.0,
    }


def test_a_model_that_says_the_same_of_everything_retrieves_nothing():
    same = np.ones((20, 4), np.float32) / 2
    found = recalls(same, same, np.arange(20))
    assert set(found.values()) == {0.0}


def test_retrieval_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    images, captions = rng.normal(size=(30, 8)), rng.normal(size=(70, 8))
    owner = np.concatenate([np.arange(30), rng.integers(0, 30, 40)])
    found = recalls(images, captions, owner, ks=(5,))
    scores = captions @ images.T
    expected = np.mean([owner[i] in np.argsort(-scores[i])[:5] for i in range(70)])
    other = np.mean([any(owner[j] == i for j in np.argsort(-scores[:, i])[:5]) for i in range(30)])
    assert (found["image_retrieval_recall@5"], found["text_retrieval_recall@5"]) == (expected, other)


def test_tagging_counts_words_of_the_captions_by_frequency():
    truth = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[3, 2, 1], [1, 3, 2], [3, 1, 2], [1, 2, 3], [1, 2, 3]], float)
    figures = tagging_figures(tag_hits(scores, truth, 2), truth.sum(axis=1), ks=(1, 2))
    figures |= by_frequency(word_precision(scores[:4], truth[:4]), np.array([9, 5, 1]))
    assert (figures["n"], figures["precision@1"], figures["precision@2"]) == (4, 0.5, 0.625)
    assert figures["recall@2"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert figures["precision@2_low"] <= 0.625 <= figures["precision@2_high"]
    assert (figures["n_words_head"], figures["n_words_tail"], figures["ap_tail"]) == (1, 0, None)
    assert figures["ap_macro"] == figures["ap_head"] == pytest.approx(word_precision(scores[:4], truth[:4])[0])


QUIET = EvaluateConfig(progress=False, prompts=("name",))


@pytest.mark.parametrize("head", [False, True])
def test_models_are_evaluated_on_data_folders(captioned, colours, tmp_path, head):
    out = evaluate(colours(head=head), data=(str(captioned),), out=tmp_path / "r", config=QUIET)
    (result,) = read_results(out)
    figures = result["metrics"]
    assert (result["task"], result["tags_by"]) == ("zeroshot_retrieval", "word head" if head else "text tower")
    assert result["n_in"] == figures["n"] + sum(result["refused"].values())
    assert figures["tags_precision@1"] == 1.0
    assert figures["image_retrieval_recall@10"] == 1.0
    assert figures["image_retrieval_recall@10_low"] < 1.0
    assert verify(out) == []
    assert results_table(out).splitlines()[0].split()[:4] == ["model", "data", "image", "R@1"]
    assert results_table(out).splitlines()[2].split()[:2] == ["colours", "photos-bags"]
    words = pq.read_table(out / "words" / "colours--photos-bags--captions.parquet").to_pylist()
    assert {row["word"]: row["ap"] for row in words if row["word"] != "square"} == dict.fromkeys(("red", "green", "blue"), 1.0)
    assert sum(row["n"] for row in words if row["word"] != "square") == figures["n"]
    ranks = pq.read_table(out / "predictions" / "colours--photos-bags--captions.parquet").to_pylist()
    assert [len(row["caption_ranks"]) for row in ranks] == [1] * figures["n"]
    assert evaluate(colours(head=head), data=(str(captioned),), out=tmp_path / "r", config=QUIET) == out


def test_classes_and_captions_stand_beside_each_other_and_models_are_compared_on_both(captioned, squares, colours, tmp_path):
    out = evaluate(colours(), colours(swapped=True), data=(str(squares), str(captioned)), out=tmp_path / "r", config=QUIET)
    assert [(r["model"], r["task"]) for r in read_results(out)] == [
        ("colours", "zeroshot_classification"),
        ("colours", "zeroshot_retrieval"),
        ("colours-2", "zeroshot_classification"),
        ("colours-2", "zeroshot_retrieval"),
    ]
    classes, captions = json.loads((out / "results.json").read_text())["comparisons"]
    assert (classes["acc1_difference"], captions["prompts"]) == (-0.5, "captions")
    low, high = (captions[f"text_retrieval_recall@5_{end}"] for end in ("low", "high"))
    assert low <= captions["text_retrieval_recall@5_difference"] <= high < 0
    text = results_table(out)
    assert "top-1 [95 %]" in text
    assert "colours-2 - colours on photos-bags, captions: text R@5 -" in text


def test_the_half_the_training_images_and_bad_images_are_said(captioned, colours, tmp_path):
    config = EvaluateConfig(progress=False, half="dev", trained_on=(str(captioned),))
    (result,) = read_results(evaluate(colours(context_length=2), data=(str(captioned),), out=tmp_path / "r", config=config))
    assert (result["half"], result["other_half"] + result["metrics"]["n"] + sum(result["refused"].values())) == ("dev", result["n_in"])
    n = result["metrics"]["n"]
    assert result["warnings"][0] == f"{n} of {n} captions are cut off by the context of 2"
    assert "images have the very captions of another: retrieval cannot tell them apart" in result["warnings"][1]
    assert result["near_duplicates"] == n
    assert json.loads((tmp_path / "r" / "logs" / "colours--photos-bags.json").read_text())["half"] == "dev"


def test_folders_that_hold_no_captioned_pictures_are_refused(captioned, colours, tmp_path):
    from fistful.pipelines.bags import bags

    (tmp_path / "text.tsv").write_text("caption\nred square\n")
    text = bags(str(tmp_path / "text.tsv"), counts=str(captioned.parent / "counts"), out=tmp_path / "text")
    for folder, message in [
        (text, "has no picture beside its captions; fistful bags copies pictures from tars and folders of images"),
        (captioned.parent / "counts", "was written by fistful count; expected class folders, or a folder that fistful bags wrote"),
    ]:
        with pytest.raises(UsageError) as error:
            evaluate(colours(), data=(str(folder),), out=tmp_path / "r", config=QUIET)
        assert str(error.value) == f"--data {folder}: {message}"
    names = EvaluateConfig(names=("a.tsv", "b.tsv"), progress=False)
    with pytest.raises(UsageError) as error:
        evaluate(colours(), data=(str(captioned), str(captioned)), out=tmp_path / "r", config=names)
    assert str(error.value) == f'--names a.tsv: {captioned} has captions and no classes; give "" in its place'
