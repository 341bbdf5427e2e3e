"""benchmarks/evidence_tune.py: MiniLM as a network that learns is the MiniLM that embeds, and each row changes what it says it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.evidence_text_data import Task
from benchmarks.evidence_tune import RATES, STEPS, Lab, Reader, figures_of, learn, score
from benchmarks.minilm import MiniLM, minilm
from fistful.bow.store.files import write_json
from tests.test_minilm import parts  # noqa: F401 - a fixture

TEXTS = ["a dog", "skateboarding dog!", "a cafe's dog"]


@pytest.fixture
def source(parts) -> MiniLM:  # noqa: F811
    return minilm(str(parts[0]))


def test_a_padded_batch_gives_the_encoders_own_vectors(source):
    reader = Reader(source, 2)
    with torch.no_grad():
        ours = normalize(reader.embed([source.tokens(text) for text in TEXTS]), dim=1)
    np.testing.assert_allclose(ours.numpy(), source.embed_texts(TEXTS), atol=1e-5)


@pytest.mark.parametrize("row", RATES)
def test_each_row_learns_what_it_says_and_nothing_else(source, row, tmp_path, monkeypatch):
    monkeypatch.setitem(STEPS, 100, 2)
    monkeypatch.setattr("fistful.training.model.tune.REDUCTION", 2)
    marks = np.eye(2, dtype=bool)[np.arange(12) % 2]
    task = Task("type", [f"{i}" for i in range(12)], [TEXTS[i % 2] for i in range(12)], ["a", "b"], marks, np.arange(12) % 3 == 0)
    lab = Lab(source, {"type": task}, (TEXTS, TEXTS), source.tokens, tmp_path)
    before = Reader(source, 2).state_dict()
    reader = learn(lab, task, row, 100, 0, 1e-2)
    changed = {name.split(".")[0] for name, t in reader.state_dict().items() if name in before and not torch.equal(t, before[name])}
    learnt = {"full": {"words", "places", "kind", "norm", "blocks"}, "last layer": {"blocks"}}
    assert changed - {"head"} == learnt.get(row, set())
    found = score(lab, task, reader)
    assert (found["elsewhere"], 0 <= found["accuracy"] <= 1) == (1.0, True)
    assert (found["learnt"] == 0) == (row == "probe")


def test_figures_are_paired_over_seeds(tmp_path):
    for seed in range(3):
        for task in ("type", "colour"):
            for i, row in enumerate(RATES):
                found = {"accuracy": 0.5 + 0.01 * i + 0.1 * seed, "elsewhere": 0.9, "learnt": 5.0}
                write_json(tmp_path / "scores/100" / task / row, f"{seed}.json", found)
    of = figures_of(tmp_path)["100"]
    assert of["seeds"] == 3
    assert of["gated - adapter"]["mean"] == pytest.approx(0.03)
    assert of["gated - best single method of each task"]["mean"] == pytest.approx(0.01)  # prefix comes right before it
