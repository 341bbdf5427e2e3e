"""A words tower that starts from word vectors, and its word loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fistful.bow.balance import Balance
from fistful.bow.store import manifest
from fistful.bow.vocabulary import FILE, Limits, choose_words, count_table, write_vocabulary
from fistful.errors import DataError, UsageError
from fistful.training import evaluations
from fistful.training.model.export import read_model
from fistful.training.model.load import load_encoder
from fistful.training.model.towers import WordsTower
from fistful.training.model.word_vectors import read_word_vectors
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.stopped_runs import check_same_bytes_after_a_stop

QUICK = {"steps": 4, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag", "text_tower": "words"}
OWN = ["red", "green", "blue", "yellow", "square", "bar", "stripe"]
"""The words of the data folder."""


def write_vectors(folder: Path, words=OWN, nothing=(), width=5, scale=1.0) -> str:
    """Write a folder as fistful vectors does: a row of length 1 a word, 0 for `nothing`."""
    manifest.claim(folder, "vectors", {"dim": width}, {})
    n = len(words)
    ones = np.ones(n, np.int64)
    vocabulary = choose_words(count_table(list(words), ones * 9, ones * 9), 100, Limits(), Balance())
    write_vocabulary(folder, vocabulary)
    vectors = normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(1)), dim=1).numpy() * np.float32(scale)
    vectors[[vocabulary.ids()[word] for word in nothing]] = 0
    np.save(folder / "vectors.npy", vectors)
    manifest.finish(folder, {}, {})
    return str(folder)


@pytest.fixture
def vectors(tmp_path):
    """Of all words but `bar`, which has none, and of others that the data lacks."""
    (tmp_path / "vectors").mkdir()
    return write_vectors(tmp_path / "vectors", ["zebra", *OWN, "ant"], nothing=["bar"])


def watched(monkeypatch):
    """Return a list that will hold the models that are written, as they were trained."""
    found, write = [], evaluations.export.write_model

    def watch(run, folder, model, *more):
        found.append(model)
        write(run, folder, model, *more)

    monkeypatch.setattr(evaluations.export, "write_model", watch)
    return found


def test_vectors_are_found_by_word(vectors):
    found = read_word_vectors(vectors, ["ant", "unknown", "bar", "red"])
    stored = np.load(Path(vectors) / "vectors.npy")
    ids = {word: i for i, word in enumerate(sorted(["zebra", *OWN, "ant"]))}
    np.testing.assert_allclose(found.vectors_VE[[0, 3]], stored[[ids["ant"], ids["red"]]], rtol=1e-6)
    assert not found.vectors_VE[[1, 2]].any()
    assert found.n_found == 2


def test_what_is_exported_is_what_was_trained_and_knows_nothing_of_vectors(data, vectors, tmp_path, monkeypatch):
    """The trained tower is watched where it is written; all bags of two words are embedded by both."""
    trained = watched(monkeypatch)
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, word_vectors=vectors, objective="joint", tower_word_weight=1))
    plain = train(data, out=tmp_path / "plain", config=train_config(**QUICK, objective="joint"))
    assert manifest.verify(run) == []
    exported = read_model(run / "model").model
    assert exported.state_dict().keys() == read_model(plain / "model").model.state_dict().keys()
    model = trained[0].eval()
    text = torch.tensor([[a, b] for a in range(7) for b in range(7)]).flatten(), torch.arange(0, 98, 2)
    with torch.no_grad():
        torch.testing.assert_close(exported.encode_text(text), model.encode_text(text), rtol=0, atol=1e-6)
        image = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(exported.encode_image(image), model.encode_image(image), rtol=0, atol=1e-6)
    assert np.isfinite(load_encoder(str(run)).embed_texts(["red square"])).all()
    assert model.words.matrix.weight.grad is not None  # it is the one with vectors
    fingerprint = read_word_vectors(vectors, read_model(run / "model").words).fingerprint()
    assert f"vectors of captions alone, with the fingerprint `{fingerprint}`" in (run / "model" / "README.md").read_text()
    assert "captions alone" not in (plain / "model" / "README.md").read_text()


def test_a_word_without_a_vector_learns_too():
    """It starts from a random row as long as the others are; a word with a vector from its vector alone."""
    torch.manual_seed(0)
    tower, fixed = WordsTower(50, 64, 32), normalize(torch.randn(50, 16), dim=1)
    fixed[7] = 0
    tower.start_from(fixed)
    before = tower.words().detach().clone()
    lengths = before.norm(dim=1)
    assert 0.5 < float(lengths[7] / lengths.mean()) < 2
    torch.testing.assert_close(before[3], tower.matrix(fixed[3]).detach())
    loss = -(normalize(tower(torch.tensor([7, 3]), torch.tensor([0, 1])), dim=-1)[:, 0]).sum()
    loss.backward()
    gradient = tower.embedding.weight.grad
    assert 0.1 < float(gradient[7].norm() / gradient[3].norm()) < 10
    assert tower.vectors.grad is None


def test_fixed_vectors_stay_and_are_no_weight_that_learns(data, vectors, tmp_path, monkeypatch):
    seen = watched(monkeypatch)
    train(data, out=tmp_path / "run", config=train_config(**QUICK, word_vectors=vectors, weight_decay=1.0, lr=0.1, ema=0.5))
    (model,) = seen
    words = read_model(tmp_path / "run" / "model").words
    assert np.array_equal(model.words.vectors.numpy(), read_word_vectors(vectors, words).vectors_VE)
    assert not torch.equal(model.words.embedding.weight, torch.zeros(7, 256))


def test_vectors_are_part_of_what_names_a_run_and_their_place_is_not(data, vectors, tmp_path):
    config = train_config(**QUICK, word_vectors=vectors)
    run = train(data, out=tmp_path / "run", config=config)
    moved = Path(vectors).rename(tmp_path / "moved")
    assert train(data, out=run, config=train_config(**QUICK, word_vectors=str(moved))) == run
    np.save(moved / "vectors.npy", np.load(moved / "vectors.npy")[::-1])
    manifest.finish(moved, {}, {})
    with pytest.raises(UsageError, match=r"belongs to another configuration \(word_vectors: '[0-9a-f]{64}' there, '[0-9a-f]{64}' asked\)"):
        train(data, out=run, config=train_config(**QUICK, word_vectors=str(moved)))


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(data, vectors, tmp_path):
    """Rows, matrix, bias, their moments and their running mean."""

    config = train_config(**QUICK, word_vectors=vectors, tower_word_weight=0.5, ema=0.9, evaluate_every=2)
    check_same_bytes_after_a_stop(data, tmp_path, config)


def test_few_words_with_a_vector_are_said(data, tmp_path, capsys):
    (tmp_path / "few").mkdir()
    few = write_vectors(tmp_path / "few", ["red", "green", "ant"])
    train(data, out=tmp_path / "run", config=train_config(**QUICK, word_vectors=few))
    said = f"train: --word-vectors {few}: has a vector for 2 of the 7 words of the vocabulary; the others start at random\n"
    assert capsys.readouterr().err == said


def test_vectors_of_none_of_the_words_are_refused(data, tmp_path):
    (tmp_path / "none").mkdir()
    other = write_vectors(tmp_path / "none", ["ant", "zebra", "red"], nothing=["red"])
    with pytest.raises(UsageError) as error:
        train(data, out=tmp_path / "run", config=train_config(**QUICK, word_vectors=other))
    assert str(error.value) == (
        f"--word-vectors {other}: has a vector for none of the 7 words of the vocabulary; are they of the same language?"
    )


def test_what_is_no_folder_of_vectors_is_refused(vectors, tmp_path):
    with pytest.raises(UsageError) as error:
        read_word_vectors("nowhere", OWN)
    assert str(error.value) == f"--word-vectors nowhere: has no vectors.npy and no {FILE}; expected a folder that fistful vectors wrote"
    path = Path(vectors) / "vectors.npy"
    for damaged, message in (
        (b"no array", "not a readable array"),
        (b"", "not a readable array"),
        (np.zeros((2, 5), np.float32), r"holds float32 \(2, 5\), expected float32 \(9, d\), a row for each word of vocabulary.parquet"),
        (np.full((9, 5), np.nan, np.float32), "holds what is no number"),
    ):
        path.write_bytes(damaged) if isinstance(damaged, bytes) else np.save(path, damaged)
        manifest.finish(path.parent, {}, {})
        with pytest.raises(DataError, match=rf"vectors\.npy: {message}"):
            read_word_vectors(vectors, OWN)


def test_a_folder_that_is_not_finished_or_has_changed_is_refused(data, vectors, tmp_path):
    config = train_config(**QUICK, word_vectors=vectors)
    folder = Path(vectors)
    for name in ("vectors.npy", FILE):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DataError) as changed:
            train(data, out=tmp_path / "run", config=config)
        assert str(changed.value) == (
            f"{folder / name}: is not the file that manifest.json names; fistful verify {folder} tells what else changed"
        )
        (folder / name).write_bytes(whole)
    (folder / "manifest.json").unlink()
    for left in ("vectors.npy", FILE):  # as a call that was stopped leaves it: without vectors, then without words
        with pytest.raises(UsageError) as unfinished:
            train(data, out=tmp_path / "run", config=config)
        assert str(unfinished.value) == f"{folder}: is not finished (no manifest.json); run the command that writes it again, it resumes"
        (folder / left).unlink()
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_folder_of_another_verb_is_refused(data):
    with pytest.raises(UsageError) as error:
        read_word_vectors(data, OWN)
    assert str(error.value) == f"--word-vectors {data}: was written by fistful bags, expected a folder that fistful vectors wrote"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"word_vectors": "v"}, "--word-vectors v: is for the words tower, found --text-tower transformer"),
        ({"tower_word_weight": 0.5}, "--tower-word-weight 0.5: is for the words tower, found --text-tower transformer"),
        (
            {"word_vectors": "v", "text_tower": "words", "objective": "words"},
            "--word-vectors v: is for the words tower, found --objective words, which has no text tower",
        ),
    ],
)
def test_both_need_the_words_tower(options, message):
    with pytest.raises(UsageError) as error:
        train_config(text="bag", **options)
    assert str(error.value) == f"{message}; use --text-tower words with another objective than words"


@pytest.mark.parametrize("objective", ["contrastive", "joint", "sigmoid"])
def test_the_word_loss_of_the_tower_adds_to_any_pair_loss_in_any_number_of_parts(data, vectors, tmp_path, objective):
    options = {**QUICK, "model": "tiny-vit", "steps": 12, "objective": objective, "tower_word_weight": 0.5, "word_vectors": vectors}
    whole = train(data, out=tmp_path / "whole", config=train_config(**options))
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["tower_words"] < lines[0]["tower_words"]
    assert lines[0]["loss"] == pytest.approx(sum(lines[0].get(name, 0) for name in ("contrastive", "sigmoid", "words", "tower_words")))
    parts = train(data, out=tmp_path / "parts", config=train_config(**options, accumulation=3))
    again = [json.loads(line)["loss"] for line in (parts / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(again, [line["loss"] for line in lines], rtol=1e-3)
