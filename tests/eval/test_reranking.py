"""Retrieval reranked by a matching head: the order against a plain loop, and the verb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.manifest import read_config, verify
from fistful.cli import run as command
from fistful.errors import UsageError
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results
from fistful.eval.tasks.reranking import reranked
from fistful.eval.tasks.retrieval import retrieval_ranks
from fistful.training.model.load import load_encoder
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data

QUIET = EvaluateConfig(progress=False)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_k_nearest_are_put_in_order_and_the_others_stay() -> None:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(12), 3)
    images, captions = unit(rng.normal(size=(12, 6))), unit(rng.normal(size=(36, 6)))
    table = rng.normal(size=(12, 36))
    plain = retrieval_ranks(images, captions, owner)
    found, n = reranked(images, captions, plain, 5, lambda pairs, _: table[pairs[:, 0], pairs[:, 1]])
    assert n == (12 + 36) * 5
    for caption in range(36):
        near = np.argsort(-(captions[caption] @ images.T))[:5]
        order = near[np.argsort(-table[near, caption])].tolist()
        expected = order.index(owner[caption]) if owner[caption] in order else plain.captions[caption]
        assert found.captions[caption] == expected
    for image in range(12):
        near = np.argsort(-(images[image] @ captions.T))[:5]
        order = [owner[caption] == image for caption in near[np.argsort(-table[image, near])]]
        assert found.images[image] == (order.index(True) if any(order) else plain.images[image])


def test_a_head_that_says_the_same_of_everything_puts_the_true_ones_last() -> None:
    images = unit(np.random.default_rng(1).normal(size=(10, 4)))
    plain = retrieval_ranks(images, images, np.arange(10))
    assert not plain.images.any()
    found, _ = reranked(images, images, plain, 4, lambda pairs, _: np.zeros(len(pairs)))
    assert found.images.tolist() == found.captions.tolist() == [3] * 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A data folder, and the folder of runs that learnt from it."""
    root = tmp_path_factory.mktemp("reranking")
    data = make_data(root / "bags")
    options = {"steps": 60, "batch_size": 24, "warmup": 2, "threads": 1, "progress": False}
    train(data, out=root / "words", config=train_config(**options, text="bag", text_tower="words", match_weight=1.0))
    few = {**options, "steps": 3}
    train(data, out=root / "captions", config=train_config(**few, text="caption", match_weight=1.0, mask_rate=0.5))
    train(data, out=root / "plain", config=train_config(**few, text="caption"))
    return data, root


def test_results_have_reranked_recalls_beside_the_plain_ones_and_say_what_they_cost(
    world: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = world
    asked = ["evaluate", str(root / "captions"), str(root / "words"), "--data", data, "--out", str(tmp_path / "out"), "--no-progress"]
    assert command([*asked, "--rerank", "8"]) == 0
    said = capsys.readouterr().out
    assert "passes of the head" in said
    for result in read_results(tmp_path / "out"):
        metrics = result["metrics"]
        assert (metrics["reranked_nearest"], metrics["reranked_passes"]) == (8, (48 + 96) * 8)
        assert f"{metrics['reranked_passes']:,}" in said
        for way in ("image", "text"):
            names = [f"{way}_retrieval_recall@1{part}" for part in ("", "_low", "_high")]
            assert all(0 <= metrics[f"reranked_{name}"] <= 1 for name in names)
            assert {*names} <= metrics.keys()
    more = [*asked[:-3], "--out", str(tmp_path / "all"), "--no-progress", "--rerank", "1000"]
    assert command(more) == 0
    assert {result["metrics"]["reranked_nearest"] for result in read_results(tmp_path / "all")} == {96}, "no more than there are captions"
    again = pq.read_table(next((tmp_path / "out" / "reranked").glob("captions*.parquet")))
    assert again.column_names == ["image", "sha256", "source", "rank", "caption_ranks"]
    assert verify(tmp_path / "out") == []


def test_the_size_of_a_batch_changes_no_byte(world: tuple[str, Path], tmp_path: Path) -> None:
    data, root = world
    for size in (7, 256):
        evaluate(
            str(root / "words"), data=(data,), out=tmp_path / str(size), config=EvaluateConfig(progress=False, rerank=4, batch_size=size)
        )
    first, second = (next((tmp_path / size / "results").glob("*.json")).read_bytes() for size in ("7", "256"))
    assert first == second


def test_a_model_that_learnt_tells_which_colour_a_picture_has(world: tuple[str, Path]) -> None:
    from tests.support.data_folder import COLOURS, SHAPES, picture, sample

    encoder = load_encoder(str(world[1] / "words"))
    pixels = np.stack([encoder.prepare(picture(*sample(number), number)) for number in range(12)])
    texts = [f"A {colour} {shape}." for colour in COLOURS for shape in SHAPES]
    matcher = encoder.matcher  # pyright: ignore[reportAttributeAccessIssue]
    pairs = np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"), axis=2).reshape(-1, 2)
    cosines = (encoder.embed_images(pixels) @ encoder.embed_texts(texts).T).ravel()
    scores = matcher.scores(matcher.images(pixels), matcher.read_texts(texts), pairs, cosines).reshape(12, 12)
    right = [texts.index("A {} {}.".format(*sample(number))) for number in range(12)]
    own = scores[np.arange(12), right]
    assert (own[:, None] > scores).mean() > 0.75  # of the others; by chance half


def test_the_order_of_pairs_changes_no_score_but_by_rounding(world: tuple[str, Path]) -> None:
    from tests.support.data_folder import picture, sample

    matcher = load_encoder(str(world[1] / "words")).matcher  # pyright: ignore[reportAttributeAccessIssue]
    encoder = load_encoder(str(world[1] / "words"))
    known = matcher.images(np.stack([encoder.prepare(picture(*sample(number), number)) for number in range(3)]))
    texts = matcher.read_texts(["a red square", "nothing known", "blue stripe bar"])
    pairs = np.array([(i, j) for i in range(3) for j in range(3)])
    cosines = np.arange(9) / 9
    scores = matcher.scores(known, texts, pairs, cosines)
    np.testing.assert_allclose(matcher.scores(known, texts, pairs[::-1], cosines[::-1]), scores[::-1], rtol=1e-4, atol=1e-5)
    said = scores - encoder.logit_scale * cosines
    np.testing.assert_allclose(said[1::3], said[1], atol=1e-4)  # of a text without a known word nothing is added


def test_what_cannot_be_reranked_is_refused(world: tuple[str, Path], tmp_path: Path, squares: Path) -> None:
    data, root = world
    with pytest.raises(UsageError) as error:
        evaluate(str(root / "plain"), data=(data,), out=tmp_path / "a", config=EvaluateConfig(progress=False, rerank=4))
    assert str(error.value) == f"--rerank 4: {root / 'plain'} has no matching head; train with --match-weight 1, or leave it out"
    with pytest.raises(UsageError) as error:
        evaluate(str(root / "words"), data=(str(squares),), out=tmp_path / "a", config=EvaluateConfig(progress=False, rerank=4))
    assert str(error.value) == "--rerank 4: puts captions and pictures in order, and no set has captions; leave it out"
    with pytest.raises(UsageError, match="--rerank -1: expected 0 or more"):
        EvaluateConfig(rerank=-1)


def test_an_evaluation_without_it_is_named_as_by_earlier_versions(world: tuple[str, Path], tmp_path: Path) -> None:
    data, root = world
    out = evaluate(str(root / "plain"), data=(data,), out=tmp_path / "out", config=QUIET)
    assert "rerank" not in read_config(out)["config"]
    assert not any("reranked" in name for name in read_results(out)[0]["metrics"])
