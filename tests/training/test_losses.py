"""Losses and their gradients against independent dense references in float64, and against open_clip's."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from fistful.training.distributed import Ranks
from fistful.training.losses import Contrastive, Seen, Sigmoid, WordLoss, idf, objectives_of, tower_layer
from fistful.training.model.towers import WordsTower
from fistful.training.train_config import train_config


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(n=6, dim=5, channels=7, bags=(), weights=None, first=0, seed=0, certainty=None):
    rows = torch.tensor([i for i, bag in enumerate(bags) for _ in bag], dtype=torch.int64)
    words = torch.tensor([w for bag in bags for w in bag], dtype=torch.int64)
    return Seen(
        number_B=torch.arange(first, first + n),
        weight_B=torch.ones(n) if weights is None else torch.tensor(weights),
        image_BD=normalize(random(n, dim, seed=seed), dim=1).requires_grad_(),
        text_BD=normalize(random(n, dim, seed=seed + 1), dim=1).requires_grad_(),
        channels_BC=random(n, channels, seed=seed + 2).requires_grad_(),
        bag_rows=rows,
        bag_words=words,
        bag_weights=torch.ones(len(words)) if certainty is None else torch.tensor(certainty),
        bag_starts=np.cumsum([0, *map(len, bags)]),
    )


def model(scale=12.0, bias=-3.0, n_words=9, channels=7):
    head = torch.nn.Linear(channels, n_words)
    with torch.no_grad():
        head.weight.copy_(random(n_words, channels, seed=5))
        head.bias.copy_(random(n_words, seed=6))
    parameters = (torch.nn.Parameter(torch.tensor(value)) for value in (math.log(scale), bias))
    return SimpleNamespace(scale_parameter=next(parameters), bias_parameter=next(parameters), head=head)


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def test_contrastive_by_hand():
    """Two orthogonal pairs at scale s: each row is softmax(s, 0), so the loss is ln(1 + e^-s)."""
    both = seen(n=2, dim=2)
    both.image_BD = both.text_BD = torch.eye(2)
    assert math.isclose(Contrastive(Ranks())(model(scale=2.0), both).item(), math.log(1 + math.exp(-2)), rel_tol=1e-6)


@pytest.mark.parametrize("loss", [Contrastive(Ranks()), Sigmoid(Ranks())])
def test_a_sample_that_is_shown_twice_is_no_negative_of_itself(loss):
    """Of samples 0, 1, 0 the pairs (0, 2) and (2, 0) count for nothing, whatever their logits are."""
    found = seen(n=3)
    found.number_B = torch.tensor([0, 1, 0])
    scale, bias = (12.0, 0.0) if isinstance(loss, Contrastive) else (12.0, -3.0)
    logits = (scale * found.image_BD @ found.text_BD.T + bias).detach().double().numpy()
    if isinstance(loss, Contrastive):
        rows = [([0, 1], 0), ([0, 1, 2], 1), ([1, 2], 1)]
        expected = -sum(log_softmax(table[i][kept])[own] for table in (logits, logits.T) for i, (kept, own) in enumerate(rows)) / 6
    else:
        signs = 2 * np.eye(3) - 1
        terms = np.log1p(np.exp(-signs * logits))
        expected = (terms.sum() - terms[0, 2] - terms[2, 0]) / 3
    assert loss(model(), found).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_equals_open_clips_loss():
    found = seen()
    theirs = open_clip.ClipLoss()(found.image_BD, found.text_BD, torch.tensor(12.0))
    torch.testing.assert_close(Contrastive(Ranks())(model(), found), theirs)


def test_sigmoid_equals_open_clips_loss():
    found = seen()
    theirs = open_clip.loss.SigLipLoss()(found.image_BD, found.text_BD, torch.tensor(12.0), torch.tensor(-3.0))
    torch.testing.assert_close(Sigmoid(Ranks())(model(), found), theirs)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.0, 2.0, 1.0, 0.25]])
def test_contrastive_with_a_bank_equals_a_dense_reference(weights):
    loss, first, second = Contrastive(Ranks(), bank=8), seen(seed=10, first=0), seen(seed=20, first=4, weights=weights)
    loss(model(), first)
    loss.learnt(torch.zeros(()))
    value = loss(model(), second)
    expected = 0.0
    banked = {kind: getattr(first, kind).detach().double().numpy() for kind in ("image_BD", "text_BD")}
    now = {kind: getattr(second, kind).detach().double().numpy() for kind in ("image_BD", "text_BD")}
    for i in range(6):
        for mine, other in (("image_BD", "text_BD"), ("text_BD", "image_BD")):
            # samples 4 and 5 are in both batches: no negatives of themselves
            others = [now[other][j] for j in range(6)] + [banked[other][j] for j in range(6) if j != i + 4]
            expected -= (weights or [1] * 6)[i] * log_softmax([12.0 * now[mine][i] @ x for x in others])[i] / 12
    assert math.isclose(value.item(), expected, rel_tol=1e-5)


def test_the_bank_forgets_the_oldest_and_takes_nothing_in_from_a_step_not_taken():
    loss = Contrastive(Ranks(), bank=8)
    for first in (0, 6, 12):
        loss(model(), seen(first=first))
        if first != 6:
            loss.learnt(torch.zeros(()))
    assert loss.tensors["numbers"].tolist() == [4, 5, 12, 13, 14, 15, 16, 17]
    assert loss.tensors["images"].shape == loss.tensors["texts"].shape == (8, 5)
    assert not loss.tensors["images"].requires_grad


BAGS = [[0, 3], [], [5], [1, 2, 3], [8], [0, 8]]


def word_reference(channels, weight, bias, weights_V, sample_weights, certainty):
    """The loss as a graph in float64, each bag by itself."""
    total, place = torch.zeros((), dtype=torch.float64), 0
    for i, bag in enumerate(BAGS):
        log_p = (channels[i] @ weight.T + bias).log_softmax(0)
        part = [float(weights_V[w]) * certainty[place + k] for k, w in enumerate(bag)]
        place += len(bag)
        for w, x in zip(bag, part, strict=True):
            total = total - sample_weights[i] * x / sum(part) * log_p[w]
    return total / len(BAGS)


@pytest.mark.parametrize("chunk", [1, 27, 1 << 22])
def test_words_and_their_gradients_equal_a_dense_reference_whatever_is_held_at_a_time(chunk, monkeypatch):
    monkeypatch.setattr("fistful.training.losses.CHUNK", chunk)
    weights_V = idf(np.array([50, 20, 10, 5, 2, 1, 1, 1, 1]), 100)
    certainty, sample_weights = [0.5, 1.0, 0.25, 1.0, 0.125, 0.75, 1.0, 0.5, 1.0], [1.0, 1.0, 0.5, 2.0, 0.0, 1.0]
    found, head = seen(bags=BAGS, weights=sample_weights, certainty=certainty), model()
    loss = WordLoss(torch.from_numpy(weights_V))(head, found)
    (3 * loss).backward()
    inputs = [t.detach().double().requires_grad_() for t in (found.channels_BC, head.head.weight, head.head.bias)]
    expected = word_reference(*inputs, weights_V, sample_weights, certainty)
    (3 * expected).backward()
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-5)
    for ours, theirs in zip((found.channels_BC, head.head.weight, head.head.bias), inputs, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)
    assert not found.channels_BC.grad[1].any()


def test_the_word_loss_of_the_tower_and_its_gradients_equal_a_dense_reference():
    """softmax over words of scale x cosine + bias, on the same targets; as a graph in float64."""
    weights_V, certainty = idf(np.array([50, 20, 10, 5, 2, 1, 1, 1, 1]), 100), [0.5, 1.0, 0.25, 1.0, 0.125, 0.75, 1.0, 0.5, 1.0]
    found, tower = seen(bags=BAGS, certainty=certainty), WordsTower(9, 4, 5)
    tower.add_bias()
    tower.start_from(normalize(random(9, 3, seed=9), dim=1))
    with torch.no_grad():
        tower.bias.copy_(random(9, seed=8))
        tower.embedding.weight += random(9, 4, seed=7) / 10
    ours = SimpleNamespace(scale_parameter=torch.nn.Parameter(torch.tensor(math.log(12.0))), words=tower)
    loss = WordLoss(torch.from_numpy(weights_V), tower_layer)(ours, found)
    loss.backward()
    named = {name: p.detach().double().requires_grad_() for name, p in tower.named_parameters()}
    scale, image = (p.detach().double().requires_grad_() for p in (ours.scale_parameter, found.image_BD))
    words = (named["embedding.weight"] + named["vectors"] @ named["matrix.weight"].T) @ named["projection.weight"].T
    cosines = image @ (words / words.norm(dim=1, keepdim=True)).T
    expected = word_reference(scale.exp() * cosines, torch.eye(9, dtype=torch.float64), named["bias"], weights_V, [1.0] * 6, certainty)
    expected.backward()
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-5)
    pairs = [
        (ours.scale_parameter, scale),
        (found.image_BD, image),
        *((p, named[n]) for n, p in tower.named_parameters() if n != "vectors"),
    ]
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=1e-6)


def test_idf_by_hand_and_never_below_its_floor():
    np.testing.assert_allclose(idf(np.array([9, 0, 99]), 100), [math.log(10), math.log(100), 1e-6], rtol=1e-6)
    assert (idf(np.array([200]), 100) > 0).all()


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ("contrastive", ["contrastive"]),
        ("sigmoid", ["sigmoid"]),
        ("words", ["words"]),
        ("joint", ["contrastive", "words"]),
        ("joint-sigmoid", ["sigmoid", "words"]),
    ],
)
def test_a_joint_objective_is_the_sum_of_its_parts(objective, names):
    config = train_config(objective=objective, word_weight=0.5)
    found = objectives_of(config, np.array([3, 2, 1]), 10, Ranks())
    assert [(name, weight) for name, (weight, _) in found.items()] == [(n, 0.5 if n == "words" and len(names) > 1 else 1.0) for n in names]
