"""Adds the head that reads texts with their pictures to a model that is going to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .data.texts import CaptionTokens, reads_caption
from .model.fusion import Fusion, FusionShape, check_readable
from .model.places import count_places
from .model.tokens import shorten

if TYPE_CHECKING:
    from .data.samples import TrainingSamples
    from .model.model import Model
    from .train_config import TrainConfig

CAPTIONS_AT_ONCE = 50_000
"""Captions whose tokens are looked at together."""


def add_fusion(model: Model, config: TrainConfig, samples: TrainingSamples, tokenizer: Any, members: np.ndarray) -> None:
    """Give a model its head, where the configuration asks for one.

    Args:
        model: Before its first step, on the CPU.
        config: Which objectives.
        samples: All samples.
        tokenizer: open_clip's, of the model's text positions.
        members: Rows of the samples that are learnt from.

    Raises:
        UsageError: If the towers cannot be read.
    """
    if not config.has_fusion:
        return
    check_readable(model)
    by_word, answers = model.words is not None, None
    if config.loss.mask_rate and not by_word:
        answers = torch.from_numpy(used_tokens(config, samples, tokenizer, members))
    asked = 0 if not config.loss.mask_rate else len(samples.vocabulary) if answers is None else len(answers)
    model.fusion = Fusion(
        FusionShape(
            reads="words" if by_word else "tokens",
            channels=model.n_channels,
            n_places=count_places(model),
            text_width=model.words.embedding.embedding_dim if model.words is not None else model.shape.model_cfg["text_cfg"]["width"],
            width=model.shape.model_cfg["embed_dim"],
            n_answers=asked,
            match=config.loss.match_weight > 0,
            hides_all=config.loss.mask_rate == 1,
        ),
        answers,
    )


def used_tokens(config: TrainConfig, samples: TrainingSamples, tokenizer: Any, members: np.ndarray) -> np.ndarray:
    """Return the tokens that texts of these samples can have, rising: a softmax over all 49,408 would be most of the work."""
    seen = np.zeros(tokenizer.vocab_size, bool)
    captioned = reads_caption(config, samples, members)
    read = CaptionTokens(tokenizer, config.model.context_length)
    captions = samples.captions.take(members[captioned]).flatten()
    for start in range(0, len(captions), CAPTIONS_AT_ONCE):
        seen[read(captions.slice(start, CAPTIONS_AT_ONCE).to_pylist()).ravel()] = True
    words = np.unique(samples.bags.pick(members[~captioned]).values)
    words = np.union1d(words, np.unique(samples.likely.pick(members[~captioned]).values)).astype(np.int64)
    for word in words.tolist():
        seen[tokenizer.encode(shorten(samples.vocabulary.words[word]))] = True
    seen[[tokenizer.sot_token_id, tokenizer.eot_token_id]] = False
    return np.flatnonzero(seen)
