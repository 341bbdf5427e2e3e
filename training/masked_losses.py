"""Objectives of the head that reads texts with their pictures: hidden words, and texts that fit. Shapes as in losses.py; L text places.

They share the protocol of losses.py's, and remember nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional

from fistful.bow.frequency import idf
from fistful.bow.vocabulary import Vocabulary

from .data.readings import Readings
from .losses import Layer, Objective, Seen, WordLoss
from .model.fusion import Fusion, match_logits, text_places
from .model.model import Model
from .train_config import TrainConfig


def fused_objectives(config: TrainConfig, words: Vocabulary) -> dict[str, tuple[float, Objective]]:
    """Return the head's objectives of a configuration by name, each with its weight."""
    found: dict[str, tuple[float, Objective]] = {}
    precision = torch.bfloat16 if config.run.precision == "bf16" else None
    if config.loss.mask_rate:
        by_word = config.model.text_tower == "words"
        found["masked"] = (
            1.0,
            MaskedWords(torch.from_numpy(idf(words.df, words.n_samples)), precision) if by_word else MaskedTokens(precision),
        )
    if config.loss.match_weight:
        found["match"] = config.loss.match_weight, Match(precision)
    return found


def _parts(model: Model, seen: Seen) -> tuple[Fusion, Readings, torch.Tensor]:
    """Return the head, what is read, and what the head makes of the pictures' places, (B, N, E)."""
    assert model.fusion is not None
    assert seen.readings is not None
    assert seen.places_BNC is not None
    return model.fusion, seen.readings, model.fusion.from_image(seen.places_BNC)


class MaskedTokens:
    """Cross entropy of hidden tokens among those that occur in the data, a mean over hidden places."""

    def __init__(self, precision: torch.dtype | None = None) -> None:
        self._precision = precision
        self.tensors: dict[str, torch.Tensor] = {}

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss; texts without a token add nothing."""
        assert seen.readings is not None
        with torch.autocast(seen.number_B.device.type, torch.bfloat16, enabled=self._precision is not None):
            logits_PV, answer_P, rows_P = masked_tokens(model, seen)
        loss_P = functional.cross_entropy(logits_PV.float(), answer_P, reduction="none") * seen.weight_B[rows_P]
        return loss_P.sum() / max(1, len(loss_P))

    def learnt(self, skipped: torch.Tensor) -> None:
        """Nothing is remembered."""


def masked_tokens(model: Model, seen: Seen) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return of each hidden place P the logits of all answers (P, V), the right answer, and its sample."""
    fusion, read, image_BNE = _parts(model, seen)
    assert fusion.answer is not None
    text_BLE, is_there_BL = text_places(model, read.whole_BL, read.hidden_BL)
    rows_P, places_P = read.hidden_BL.nonzero(as_tuple=True)
    answer_P = torch.searchsorted(fusion.answers_V, read.whole_BL[rows_P, places_P])
    answer_P = answer_P.clamp_max(len(fusion.answers_V) - 1)
    known_P = fusion.answers_V[answer_P] == read.whole_BL[rows_P, places_P]
    rows_P, places_P, answer_P = rows_P[known_P], places_P[known_P], answer_P[known_P]
    return fusion.answer(fusion.fuse(text_BLE, is_there_BL, image_BNE)[rows_P, places_P]), answer_P, rows_P


class MaskedWords:
    """The word loss of each bag's hidden words, from the picture and the words that are left; where all are hidden, it is WordLoss."""

    def __init__(self, idf_V: torch.Tensor, precision: torch.dtype | None = None) -> None:
        self._words = WordLoss(idf_V, self._layer, precision)
        self._precision = precision
        self.tensors: dict[str, torch.Tensor] = {}

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss; samples without a word add nothing."""
        read = seen.readings
        assert read is not None
        hidden = {name: getattr(read, name) for name in ("bag_rows", "bag_words", "bag_weights", "bag_starts")}
        return self._words(model, dataclasses.replace(seen, **hidden))

    def _layer(self, model: Model, seen: Seen) -> Layer:
        assert model.fusion is not None
        assert model.fusion.predictor is not None
        predictor = model.fusion.predictor
        with torch.autocast(seen.number_B.device.type, torch.bfloat16, enabled=self._precision is not None):
            channels_BC = known_channels(model, seen)
        return channels_BC.float(), predictor.weight, predictor.bias

    def learnt(self, skipped: torch.Tensor) -> None:
        """Nothing is remembered."""


def known_channels(model: Model, seen: Seen) -> torch.Tensor:
    """Return channels (B, C) that also know the words that are left."""
    fusion, read, image_BNE = _parts(model, seen)
    assert seen.channels_BC is not None
    text_BLE, is_there_BL = text_places(model, read.rest_BL)
    return fusion.with_context(seen.channels_BC, fusion.fuse(text_BLE, is_there_BL, image_BNE), is_there_BL.sum(dim=1))


class Match:
    """Binary cross entropy of right pairs, and of wrong ones: each text with a picture, and each picture with a text, drawn by likeness.

    What is learnt is what to add to the embeddings' cosine: a head that tells by itself takes far longer to learn it.

    Source:
        ALBEF (Li et al. 2021, arXiv 2107.07651), section 3.2: wrong partners within the batch by the softmax of similarities.
    """

    def __init__(self, precision: torch.dtype | None = None) -> None:
        self._precision = precision
        self.tensors: dict[str, torch.Tensor] = {}

    def __call__(self, model: Model, seen: Seen) -> torch.Tensor:
        """Return the loss, a mean over right and wrong pairs."""
        fusion, read, image_BNE = _parts(model, seen)
        assert fusion.match is not None
        other_B2, has_B = wrong_partners(model, seen)
        own_B = torch.arange(len(has_B), device=has_B.device)
        images, texts = torch.cat([own_B, other_B2[:, 0], own_B]), torch.cat([own_B, own_B, other_B2[:, 1]])
        assert seen.image_BD is not None
        assert seen.text_BD is not None
        cosine = (seen.image_BD[images] * seen.text_BD[texts]).sum(dim=1).detach()  # embeddings learn by their own loss
        with torch.autocast(own_B.device.type, torch.bfloat16, enabled=self._precision is not None):
            text_BLE, is_there_BL = text_places(model, read.whole_BL)
            fused = fusion.fuse(text_BLE[texts], is_there_BL[texts], image_BNE[images])
            logits = match_logits(model, fusion.summary(fused, read.end_B[texts]), cosine)
        right = torch.cat([torch.ones_like(own_B), torch.zeros_like(own_B), torch.zeros_like(own_B)]).float()
        weight = torch.cat([seen.weight_B, seen.weight_B * has_B, seen.weight_B * has_B])
        loss = functional.binary_cross_entropy_with_logits(logits.float(), right, reduction="none")
        return (loss * weight).sum() / len(loss)

    def learnt(self, skipped: torch.Tensor) -> None:
        """Nothing is remembered."""


@torch.no_grad()
def wrong_partners(model: Model, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a wrong picture for each text and a wrong text for each picture, the likelier the more alike.

    Neither the same sample again nor an equal text is wrong. Returned are int64 (B, 2), and which samples have any wrong partner.
    """
    read = seen.readings
    assert read is not None
    assert seen.image_BD is not None
    assert seen.text_BD is not None
    alike_BB = model.scale_parameter.exp() * seen.text_BD @ seen.image_BD.T
    same_BB = (seen.number_B[:, None] == seen.number_B) | (read.whole_BL[:, None] == read.whole_BL).all(dim=2)
    found, has_B = [], (~same_BB).any(dim=1)
    for way, scores_BB in enumerate((alike_BB, alike_BB.T)):
        odds_BB = scores_BB.masked_fill(same_BB, -torch.inf).softmax(dim=1).nan_to_num(0.0).double()
        below_BB = odds_BB.cumsum(dim=1)
        at_B1 = (read.draws_B2[:, way] * below_BB[:, -1])[:, None]
        chosen_B = (below_BB <= at_B1).sum(dim=1)
        found.append(torch.where(has_B, chosen_B.clamp_max(len(has_B) - 1), torch.arange(len(has_B), device=has_B.device)))
    return torch.stack(found, dim=1), has_B
