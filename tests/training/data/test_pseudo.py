"""Pseudo-labels as training learns them: distributions, drawn anew each epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest

from fistful.bow.balance import Balance
from fistful.bow.draw import draw_bags
from fistful.bow.pseudo import draw_sizes_anew, draw_words
from fistful.bow.store.index import INDEX_SCHEMA, read_index, read_likely
from fistful.errors import DataError, UsageError
from fistful.training.data.reading import read_samples
from fistful.training.data.texts import bags_of, caption_bags, measure_texts, targets_of
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import add_likely, change_column, make_data

QUICK = {"steps": 4, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag"}
SHARES = [0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]
"""Of words 0 to 6; float16 holds them exactly."""
N = 24
"""Labelled pictures, after 48 captioned ones."""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """As fistful label writes it: hard bags of two words, no captions, seven words with their shares."""
    folder = make_data(tmp_path_factory.mktemp("labelled") / "labels", n=N, units=1, pseudo=True)
    change_column(folder, "captions", lambda row, captions: [])
    change_column(folder, "scores", lambda row, scores: [0.5, 0.25])
    return add_likely(folder, lambda row: (range(7), SHARES))


@pytest.fixture(scope="module")
def samples(data, labelled):
    return read_samples((data, labelled))


ROWS = np.array([50, 3, 60])
"""Two labelled pictures, and a captioned one between them."""


def bags(config, samples, rows=ROWS, epoch=0, vocabulary=None, of_captions=None):
    found = bags_of(config, samples, vocabulary or samples.vocabulary, rows, np.full(len(rows), epoch), of_captions)
    return [bag.tolist() for bag in found]


def test_a_label_becomes_another_bag_each_epoch_and_a_captioned_picture_keeps_its_own(samples):
    found = [bags(train_config(text="bag"), samples, epoch=epoch) for epoch in range(20)]
    assert {tuple(of_epoch[1]) for of_epoch in found} == {tuple(samples.bags.pick(np.array([3])).values.tolist())}
    assert all(len(of_epoch[0]) == 2 for of_epoch in found)  # as many as real bags have, here always two
    assert len({tuple(of_epoch[0]) for of_epoch in found}) > 5


def test_bags_are_those_that_the_draw_gives(samples):
    rows, epochs = np.arange(48, 48 + N), np.full(N, 3)
    sizes = draw_sizes_anew(samples.sizes, samples.number[rows], 5, epochs)
    likely = samples.likely.pick(rows)
    expected = draw_words(likely, np.tile(np.float32(SHARES), N), sizes, samples.number[rows], 5, epochs)
    assert bags(train_config(text="bag", seed=5), samples, rows, 3) == [bag.tolist() for bag in expected]


def test_a_drawn_bag_is_thinned_like_a_real_one(samples):
    half = samples.vocabulary.balanced(Balance(rule="random", kept=0.5))
    rows = np.arange(48, 48 + N)
    whole = bags_of(train_config(text="bag"), samples, half, rows, np.full(N, 2))
    thinned, _ = draw_bags(whole, samples.number[rows], half.keep_u32, 0, 2, blind=True)
    assert bags(train_config(), samples, rows, 2, half) == [bag.tolist() for bag in thinned]


def test_fixed_labels_are_the_bags_that_were_written(samples):
    config = train_config(text="bag", pseudo="fixed")
    hard = [bag.tolist() for bag in samples.bags.pick(ROWS)]
    assert bags(config, samples, epoch=0) == bags(config, samples, epoch=1) == hard


def test_one_caption_a_bag_changes_nothing_for_labels(samples):
    one, union = train_config(text="bag", captions="one"), train_config(text="bag")
    found = bags(one, samples, of_captions=caption_bags(samples))
    assert [found[0], found[2]] == [bags(union, samples)[i] for i in (0, 2)]


def test_sizes_are_those_of_labels_where_no_picture_has_a_caption(labelled):
    assert read_samples((labelled,)).sizes.tolist() == [2] * N


def test_texts_are_measured_as_they_are_drawn(samples):
    tokenizer, rows = open_clip.SimpleTokenizer(), np.arange(48, 48 + N)
    texts = [" ".join(samples.vocabulary.words[w] for w in bag) for bag in bags(train_config(text="bag"), samples, rows)]
    found = measure_texts(train_config(text="bag"), samples, samples.vocabulary, tokenizer, rows)
    assert found.tokens.tolist() == [2 + len(tokenizer.encode(text)) for text in texts]


@pytest.mark.parametrize(
    ("options", "words", "weights"),
    [
        ({}, [*range(7)], SHARES),
        ({"confidence": True}, [*range(7)], SHARES),  # words are weighed by their shares either way
        ({"pseudo": "fixed"}, None, [1.0, 1.0]),
        ({"pseudo": "fixed", "confidence": True}, None, [0.5, 0.25]),
    ],
)
def test_the_word_loss_learns_the_distribution_or_the_fixed_bag(samples, options, words, weights):
    targets, found = targets_of(train_config(objective="joint", **options), samples, ROWS)
    hard = [bag.tolist() for bag in samples.bags.pick(ROWS)]
    assert [bag.tolist() for bag in targets] == [words or hard[0], hard[1], words or hard[2]]
    assert found.tolist() == [*weights, 1.0, 1.0, *weights]
    assert found.dtype == np.float32


@pytest.mark.parametrize("tower", ["transformer", "words"])
def test_a_run_learns_from_drawn_labels(data, labelled, tmp_path, seen, tower):
    config = train_config(**QUICK, text_tower=tower, objective="joint", confidence=True)
    train(data, labelled, out=tmp_path / "run", config=config)
    for batch in seen:
        is_pseudo = batch.rows >= 48
        assert batch.weights.tolist() == [0.375 if p else 1.0 for p in is_pseudo]  # the mean of the written bag's certainty
        assert np.bincount(batch.bag_rows, minlength=8).tolist() == [7 if p else 2 for p in is_pseudo]
        assert is_pseudo.any()


@pytest.mark.parametrize("length", [{}, {"epochs": 1.0}])
@pytest.mark.parametrize("first", [False, True])
def test_labels_that_are_not_shown_change_no_weight(data, labelled, tmp_path, capsys, first, length):
    config = train_config(**{**QUICK, **length}, objective="joint", pseudo_share=0.0)
    folders = (labelled, data) if first else (data, labelled)
    both = train(*folders, out=tmp_path / "both", config=config)
    assert f"{labelled}: no sample of it is shown" in capsys.readouterr().err
    alone = train(data, out=tmp_path / "alone", config=config)
    for name in ("open_clip_model.safetensors", "fistful.safetensors", "vocabulary.parquet"):
        assert (both / "model" / name).read_bytes() == (alone / "model" / name).read_bytes(), name


def test_labels_alone_are_not_left_out(labelled, tmp_path):
    with pytest.raises(UsageError, match=r"--pseudo-share 0.0: all samples are pseudo-labelled; add a folder of real ones, or use 1"):
        train(labelled, out=tmp_path / "run", config=train_config(**QUICK, pseudo_share=0.0))


def test_labels_of_earlier_versions_stay_what_they_are_and_that_is_said_once(data, write_data, tmp_path, capsys):
    old = write_data(tmp_path / "old", n=N, units=1, pseudo=True)
    samples = read_samples((data, old))
    assert bags(train_config(text="bag"), samples) == [bag.tolist() for bag in samples.bags.pick(ROWS)]
    said = f"train: {old}: labels without shares, as earlier versions wrote them: their bags are the same each epoch\n"
    for pseudo in ("drawn", "fixed"):
        train(data, old, out=tmp_path / pseudo, config=train_config(**QUICK, text_tower="words", pseudo=pseudo))
        assert capsys.readouterr().err == (said if pseudo == "drawn" else "")


def test_other_readers_of_a_labelled_folder_see_the_index_as_before(labelled, data):
    assert read_index(Path(labelled)).schema.names == INDEX_SCHEMA.names
    likely, shares = read_likely(Path(labelled))
    assert (likely.lengths().tolist(), shares.dtype) == ([7] * N, np.float32)
    assert read_likely(Path(data)) is None


@pytest.mark.parametrize(
    ("words", "shares", "message"),
    [
        ([0, 99], [0.5, 0.5], "word id 99 in an index, the vocabulary has 7 words; the folder is damaged"),
        ([0, 1], [0.5, 0.0], "a share in its index is not above 0 and at most 1; fistful verify .* tells what changed"),
        ([0, 1], [0.5, np.nan], "a share in its index is not above 0 and at most 1; fistful verify .* tells what changed"),
    ],
)
def test_a_damaged_distribution_is_noticed(write_data, tmp_path, words, shares, message):
    folder = add_likely(write_data(tmp_path / "labels", n=N, units=1, pseudo=True), lambda row: (words, shares))
    with pytest.raises(DataError, match=message):
        read_samples((folder,))
