"""Retrieval and tagging against counts by hand and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from fistful.bow.store.manifest import verify
from fistful.eval.captions import captions_table, evaluate_captions
from fistful.eval.results import read_results
from fistful.eval.retrieval import retrieval_recall
from fistful.eval.tagging import tagging_figures, word_precision


def test_retrieval_counts_the_best_of_several_captions():
    images = np.eye(3, dtype=np.float32)
    captions = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.1], [0, 0.9, 1]], np.float32)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    found = retrieval_recall(images, captions, np.array([0, 0, 1, 2]), ks=(1, 2))
    # Caption 1 belongs to image 0 but points at image 1; image 1's own caption comes second to it.
    assert found == {
        "image_retrieval_recall@1": 0.75,
        "image_retrieval_recall@2": 0.75,
        "text_retrieval_recall@1": pytest.approx(2 / 3),
        "text_retrieval_recall@2": 1.0,
    }


def test_a_model_that_says_the_same_of_everything_retrieves_nothing():
    same = np.ones((20, 4), np.float32) / 2
    found = retrieval_recall(same, same, np.arange(20))
    assert set(found.values()) == {0.0}


def test_retrieval_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    images, captions = rng.normal(size=(30, 8)), rng.normal(size=(70, 8))
    owner = np.concatenate([np.arange(30), rng.integers(0, 30, 40)])
    found = retrieval_recall(images, captions, owner, ks=(5,))
    scores = captions @ images.T
    expected = np.mean([owner[i] in np.argsort(-scores[i])[:5] for i in range(70)])
    other = np.mean([any(owner[j] == i for j in np.argsort(-scores[:, i])[:5]) for i in range(30)])
    assert (found["image_retrieval_recall@5"], found["text_retrieval_recall@5"]) == (expected, other)


def test_tagging_counts_words_of_the_captions_by_frequency():
    truth = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[3, 2, 1], [1, 3, 2], [3, 1, 2], [1, 2, 3], [1, 2, 3]], float)
    figures = tagging_figures(scores, truth, np.array([9, 5, 1]), ks=(1, 2))
    assert (figures["n"], figures["precision@1"], figures["precision@2"]) == (4, 0.5, 0.625)
    assert figures["recall@2"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert (figures["n_words_head"], figures["n_words_tail"], figures["ap_tail"]) == (1, 0, None)
    assert figures["ap_macro"] == figures["ap_head"] == pytest.approx(word_precision(scores[:4], truth[:4])[0])


@pytest.fixture
def captioned(tmp_path):
    """A data folder of coloured squares whose captions name the colour, written by the real jobs."""
    from fistful.bow.store.shard import tar_bytes
    from fistful.pipelines.bags import bags
    from fistful.pipelines.count import count
    from tests.eval.conftest import SQUARES, square

    files = {}
    for i in range(12):
        name = list(SQUARES)[i % 3]
        files[f"{i:03d}.png"] = square(SQUARES[name], i)
        files[f"{i:03d}.txt"] = f"a {name} square".encode()
    files["011.png"] = files["011.png"][:60] + b"x" * 40
    (tmp_path / "photos.tar").write_bytes(tar_bytes(files))
    counts = count(str(tmp_path / "photos.tar"), out=tmp_path / "counts")
    return bags(str(tmp_path / "photos.tar"), counts=str(counts), out=tmp_path / "data")


@pytest.mark.parametrize("head", [False, True])
def test_models_are_evaluated_on_data_folders(captioned, colours, tmp_path, head):
    out = evaluate_captions(colours(head=head), data=(str(captioned),), out=tmp_path / "r")
    (result,) = read_results(out)
    figures = result["metrics"]
    assert (result["task"], result["tags_by"]) == ("zeroshot_retrieval", "head" if head else "prompts")
    assert result["n_in"] == figures["tags_n"] + sum(result["refused"].values())
    assert figures["tags_precision@1"] == 1.0
    assert figures["image_retrieval_recall@10"] == 1.0
    assert verify(out) == []
    assert captions_table(out).splitlines()[1].split()[:2] == ["colours", "data"]
    assert evaluate_captions(colours(head=head), data=(str(captioned),), out=tmp_path / "r") == out
