"""What is minimised. Shapes: B samples, G samples of all ranks, M remembered, D embedding, C channels, V words, P (sample, word) pairs.

An objective looks at what the towers made of a batch and returns one number:

>>> from fistful.training.train_config import train_config
>>> objectives_of(train_config(objective="joint"), np.array([3, 1]), 4, Ranks()).keys()
dict_keys(['contrastive', 'words'])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from fistful.bow.frequency import IDF_FLOOR, idf

from .data.readings import Readings
from .distributed import Ranks
from .model.model import Model
from .train_config import TrainConfig

CHUNK = 1 << 22
"""Numbers of a (samples, words) matrix held at a time: 16 MB."""
NOBODY = -1
"""Number of a remembered sample that is no negative of anybody."""


@dataclasses.dataclass(slots=True)
class Seen:
    """What the towers made of this rank's share of a batch, in float32, and what it was made of."""

    number_B: torch.Tensor
    """int64, tells samples apart."""
    weight_B: torch.Tensor
    """How much each sample counts; 1 where nothing else is known."""
    image_BD: torch.Tensor | None
    text_BD: torch.Tensor | None
    """Embeddings of length 1; row i of both belongs together. None without a text tower."""
    channels_BC: torch.Tensor | None
    """What the word head reads; None without one."""
    bag_rows: torch.Tensor
    """int64 (P), rising: which sample has which word."""
    bag_words: torch.Tensor
    bag_weights: torch.Tensor
    """float32 (P): how likely the word is right; 1 for words of captions."""
    bag_starts: np.ndarray
    """int64 (B + 1): where each sample's words start, known without asking the device."""
    places_BNC: torch.Tensor | None = None
    """What the image tower sees at each place; None where nobody asks."""
    readings: Readings | None = None
    """What of the texts is hidden; None where nobody asks."""


class Objective(Protocol):
    """A number to minimise, and what it remembers from step to step."""

    tensors: dict[str, torch.Tensor]
    """What it remembers: part of a checkpoint."""

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss of this rank's share of a batch, a mean over its samples."""
        ...

    def learnt(self, skipped: torch.Tensor) -> None:
        """Take note of a step.

        Args:
            skipped: 1 where its loss was no number, so that it changed nothing; else 0. It lies on the device, and nobody waits for it.
        """
        ...


def objectives_of(config: TrainConfig, df: np.ndarray, n_samples: int, ranks: Ranks) -> dict[str, tuple[float, Objective]]:
    """Return the objectives of a configuration by name, each with its weight.

    Args:
        config: Which ones.
        df: Samples that each word of the vocabulary occurs in.
        n_samples: Samples that were counted.
        ranks: Whose texts and images are each other's negatives.
    """
    found: dict[str, tuple[float, Objective]] = {}
    idf_V, precision = torch.from_numpy(idf(df, n_samples)), torch.bfloat16 if config.run.precision == "bf16" else None
    if config.loss.objective in ("contrastive", "joint"):
        found["contrastive"] = 1.0, Contrastive(ranks, config.loss.bank)
    if config.has_bias:
        found["sigmoid"] = 1.0, Sigmoid(ranks)
    if config.has_head:
        weight = config.loss.word_weight if config.has_text else 1.0
        found["words"] = weight, WordLoss(idf_V, head_layer, precision)
    if config.loss.tower_word_weight:
        found["tower_words"] = config.loss.tower_word_weight, WordLoss(idf_V, tower_layer, precision)
    return found


def shown_again(number_B: torch.Tensor, number_G: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Return which pairs of a batch show one sample twice, bool (B, G): neither right nor wrong. A pair of its own place is none of them.

    A batch over the end of an epoch can have a sample twice, and so can one that has another in the place of a broken picture.
    """
    own_B = torch.arange(len(number_B), device=number_B.device) + ranks.rank * len(number_B)
    return (number_B[:, None] == number_G).scatter(1, own_B[:, None], False)


class Contrastive:
    """The symmetric InfoNCE loss over the samples of all ranks, and earlier ones as further negatives.

    Source:
        CLIP (Radford et al. 2021), figure 3; the bank of some 8,000 earlier embeddings is A Fistful of Words' (arXiv 2112.13884).
    """

    def __init__(self, ranks: Ranks, bank: int = 0) -> None:
        self._ranks, self._bank = ranks, bank
        self.tensors: dict[str, torch.Tensor] = {}
        self._latest: dict[str, torch.Tensor] = {}

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss; a sample that is shown twice, or is remembered, is no negative of itself."""
        assert seen.image_BD is not None
        assert seen.text_BD is not None
        images_GD, texts_GD = self._ranks.gather(seen.image_BD), self._ranks.gather(seen.text_BD)
        scale = model.scale_parameter.exp()
        to_texts, to_images = scale * seen.image_BD @ texts_GD.T, scale * seen.text_BD @ images_GD.T
        number_G = self._ranks.gather(seen.number_B)
        again_BG = shown_again(seen.number_B, number_G, self._ranks)
        to_texts, to_images = to_texts.masked_fill(again_BG, -torch.inf), to_images.masked_fill(again_BG, -torch.inf)
        if self._bank:
            self._latest = {"images": images_GD.detach(), "texts": texts_GD.detach(), "numbers": number_G}
            if self.tensors:
                numbers_M = self.tensors["numbers"]
                same_BM = (seen.number_B[:, None] == numbers_M) | (numbers_M == NOBODY)
                to_texts = torch.cat([to_texts, (scale * seen.image_BD @ self.tensors["texts"].T).masked_fill(same_BM, -torch.inf)], 1)
                to_images = torch.cat([to_images, (scale * seen.text_BD @ self.tensors["images"].T).masked_fill(same_BM, -torch.inf)], 1)
        own_B = torch.arange(len(to_texts), device=to_texts.device) + self._ranks.rank * len(to_texts)
        both = (functional.cross_entropy(logits, own_B, reduction="none") for logits in (to_texts, to_images))
        return (sum(both) * seen.weight_B).sum() / (2 * len(own_B))

    def learnt(self, skipped: torch.Tensor) -> None:
        """Remember this batch, as nobody where its step was skipped, and forget the oldest samples past the bank's size."""
        for name, latest in self._latest.items():
            rows = torch.where(skipped > 0, torch.full_like(latest, NOBODY if name == "numbers" else 0), latest)
            kept = torch.cat([self.tensors[name], rows]) if name in self.tensors else rows
            self.tensors[name] = kept[-self._bank :].clone()
        self._latest = {}


class Sigmoid:
    """The sigmoid loss: each pair of the batch is right or wrong by itself.

    Source:
        SigLIP (Zhai et al. 2023, arXiv 2303.15343), algorithm 1.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.tensors: dict[str, torch.Tensor] = {}

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss."""
        assert seen.image_BD is not None
        assert seen.text_BD is not None
        assert model.bias_parameter is not None
        logits_BG = model.scale_parameter.exp() * seen.image_BD @ self._ranks.gather(seen.text_BD).T + model.bias_parameter
        own_B = torch.arange(len(logits_BG), device=logits_BG.device) + self._ranks.rank * len(logits_BG)
        signs_BG = torch.full_like(logits_BG, -1.0).scatter(1, own_B[:, None], 1.0)
        again_BG = shown_again(seen.number_B, self._ranks.gather(seen.number_B), self._ranks)
        terms_BG = functional.logsigmoid(signs_BG * logits_BG).masked_fill(again_BG, 0.0)
        return -(terms_BG.sum(dim=1) * seen.weight_B).sum() / len(own_B)

    def learnt(self, skipped: torch.Tensor) -> None:
        """Nothing is remembered."""


Layer = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What a linear layer reads (B, C), its weight (V, C) and its bias (V)."""


def head_layer(model: Model, seen: Seen) -> Layer:
    """Return the word head."""
    assert model.head is not None
    assert seen.channels_BC is not None
    return seen.channels_BC, model.head.weight, model.head.bias


def tower_layer(model: Model, seen: Seen) -> Layer:
    """Return what tells words by the words tower: scale times the cosine of picture and word, and a bias for each word."""
    assert model.words is not None
    assert model.words.bias is not None
    assert seen.image_BD is not None
    return model.scale_parameter.exp() * seen.image_BD, model.words.embedded_words(), model.words.bias


class WordLoss:
    """Cross entropy of the words' softmax against each bag's normalised idf weights. An empty bag adds nothing.

    Source:
        SuperClass (Huang et al. 2024, arXiv 2411.03313), equations 1 and 2.
    """

    def __init__(
        self, idf_V: torch.Tensor, layer: Callable[[Model, Seen], Layer] = head_layer, precision: torch.dtype | None = None
    ) -> None:
        self._idf_V, self._layer, self._precision = idf_V, layer, precision
        self.tensors: dict[str, torch.Tensor] = {}

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss, without ever holding more than a part of the (samples, words) matrix."""
        self._idf_V = self._idf_V.to(seen.bag_words.device)
        targets = seen.bag_rows, seen.bag_words, bag_shares(self._idf_V, seen), seen.bag_starts
        return _SoftmaxIdf.apply(*self._layer(model, seen), targets, self._precision)  # pyright: ignore[reportReturnType]

    def learnt(self, skipped: torch.Tensor) -> None:
        """Nothing is remembered."""


def bag_shares(idf_V: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Return each (sample, word) pair's share of its bag's target, times the sample's weight: float32 (P)."""
    weight_P = idf_V[seen.bag_words] * seen.bag_weights
    total_B = torch.zeros(len(seen.weight_B), device=weight_P.device).index_add(0, seen.bag_rows, weight_P)
    return weight_P / total_B[seen.bag_rows].clamp_min(IDF_FLOOR * IDF_FLOOR) * seen.weight_B[seen.bag_rows]


class _SoftmaxIdf(torch.autograd.Function):
    """The linear layer, its softmax and the loss in one, some samples at a time; gradients are made on the way.

    d loss / d logit = (softmax * the bag's sum of shares - share) / B
    """

    @staticmethod
    def forward(ctx: Any, x_BC: torch.Tensor, weight_VC: torch.Tensor, bias_V: torch.Tensor, targets: Any, precision: Any) -> torch.Tensor:
        rows_P, words_P, share_P, starts = targets
        n, loss = len(x_BC), torch.zeros((), device=x_BC.device)
        wanted = any(ctx.needs_input_grad)
        of_x = ctx.needs_input_grad[0]  # not of a frozen tower's features: a third of the work
        grads = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in (x_BC, weight_VC, bias_V)] if wanted else []
        low_VC = weight_VC.to(precision) if precision else weight_VC
        step = max(1, CHUNK // max(1, len(weight_VC)))
        for start in range(0, n, step):
            pairs = slice(int(starts[start]), int(starts[min(start + step, n)]))
            part_BC = x_BC[start : start + step].to(low_VC.dtype)
            logits = torch.addmm(bias_V.to(low_VC.dtype), part_BC, low_VC.T).float()
            rows, words, share = rows_P[pairs] - start, words_P[pairs], share_P[pairs]
            lse = logits.logsumexp(dim=1)
            loss = loss - (share * (logits[rows, words] - lse[rows])).sum()
            if wanted:
                total = torch.zeros(len(logits), device=logits.device).index_add(0, rows, share)
                logits.sub_(lse[:, None]).exp_().mul_(total[:, None])
                logits.index_put_((rows, words), -share, accumulate=True)
                low = logits.to(low_VC.dtype)
                if of_x:
                    grads[0][start : start + step] = (low @ low_VC).float()
                grads[1] += (low.T @ part_BC).float()
                grads[2] += logits.sum(dim=0)
        ctx.save_for_backward(*grads)
        ctx.n = n
        return loss / n

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = zip(ctx.needs_input_grad, ctx.saved_tensors, strict=False)  # targets and precision have none
        return (*(g * (gradient / ctx.n) if needed else None for needed, g in found), None, None)
