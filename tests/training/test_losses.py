"""Losses against independent dense references in float64."""

from __future__ import annotations

import math

import numpy as np
import open_clip
import torch

from fistful.training.losses import contrastive, idf, softmax_idf


def test_contrastive_equals_open_clips_loss():
    image, text = (torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(i)), dim=1) for i in (0, 1))
    theirs = open_clip.ClipLoss()(image, text, torch.tensor(12.0))
    torch.testing.assert_close(contrastive(image, text, torch.tensor(12.0)), theirs)


def test_contrastive_by_hand():
    """Two orthogonal pairs at scale s: each row is softmax(s, 0), so the loss is ln(1 + e^-s)."""
    assert math.isclose(contrastive(torch.eye(2), torch.eye(2), torch.tensor(2.0)).item(), math.log(1 + math.exp(-2)), rel_tol=1e-6)


def test_softmax_idf_equals_a_dense_reference():
    generator = np.random.default_rng(0)
    logits, bags = generator.normal(size=(4, 6)), [[0, 3], [], [5], [1, 2, 3]]
    weights = idf(np.array([50, 20, 10, 5, 2, 1]), 100)
    expected = 0.0
    for scores, bag in zip(logits, bags, strict=True):
        log_softmax = scores - np.log(np.exp(scores).sum())
        total = sum(float(weights[w]) for w in bag)
        expected -= sum(float(weights[w]) / total * log_softmax[w] for w in bag) / len(bags)
    rows = torch.tensor([i for i, bag in enumerate(bags) for _ in bag])
    words = torch.tensor([w for bag in bags for w in bag])
    logits_t = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss = softmax_idf(logits_t, rows, words, torch.from_numpy(weights))
    assert math.isclose(loss.item(), expected, rel_tol=1e-5)
    loss.backward()
    assert torch.isfinite(logits_t.grad).all()
    assert not logits_t.grad[1].any()


def test_idf_by_hand_and_never_below_its_floor():
    np.testing.assert_allclose(idf(np.array([9, 0, 99]), 100), [math.log(10), math.log(100), 1e-6], rtol=1e-6)
    assert (idf(np.array([200]), 100) > 0).all()
