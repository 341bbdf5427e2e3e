"""Texts through open_clip's text transformers, no longer than they are.

In a causal tower a position sees only those before it, and the feature is read at the end-of-text token.
What follows that token changes nothing, so a prompt of 10 tokens costs 10 positions and not 77. Texts of one
length go together: the shape of a pass, and with it the rounding, depends on the text alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

ROWS = 32
"""Pictures or texts in a pass, the last pass filled up: other shapes would round differently."""
STEP = 2
"""Lengths are rounded up to a multiple of this: half as many shapes for a tenth more positions."""
REMEMBERED = 1 << 17
"""Texts whose tokens are kept: those of ImageNet's 1,000 classes with 80 templates, in some 30 MB."""


def in_passes(function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, width: int, device: str = "cpu") -> np.ndarray:
    """Apply a function to ROWS rows at a time, on a device, and return float32 (n, width)."""
    out = np.zeros((len(rows), width), np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            filled = part if len(part) == ROWS else torch.cat([part, part[-1:].expand(ROWS - len(part), *part.shape[1:])])
            out[start : start + len(part)] = function(filled.to(device))[: len(part)].float().cpu().numpy()
    return out


class Causal(NamedTuple):
    """A text transformer whose passes may be shortened."""

    tower: Any
    """Has token_embedding, positional_embedding, transformer, attn_mask, ln_final, text_projection."""
    pool: str
    """argmax or eos: where the feature is read."""
    end: int | None
    """eos: the end-of-text token."""


def find_causal(model: Any) -> Causal | None:
    """Return the text tower of an open_clip model if it is causal and read at the end of the text, else None."""
    from open_clip import CLIP
    from open_clip.transformer import TextTransformer

    if isinstance(model, CLIP):
        found = Causal(model, model.text_pool_type, getattr(model, "text_eos_id", None))
    elif isinstance(getattr(model, "text", None), TextTransformer) and model.text.cls_emb is None:
        found = Causal(model.text, model.text.pool_type, model.text.eos_id)
    else:
        return None
    return found if found.tower.attn_mask is not None and found.pool in ("argmax", "eos") else None


LONG_WORD = 1_000
"""Characters of a word that are tokenized. CLIP's tokenizer takes seconds for 10,000 and days for a million, and a context
holds some 75 tokens, of which not one in a thousand has 13 characters."""
_LONG_WORDS = re.compile(rf"(\S{{{LONG_WORD}}})\S+")


def shorten(text: str) -> str:
    """Return a text whose longest words are cut: what is left fills any context.

    >>> len(shorten("x" * 1_000_000))
    1000
    """
    return _LONG_WORDS.sub(r"\1", text) if len(text) > LONG_WORD else text


class TokenTexts:
    """Texts of any number to float32 (n, dim) of length 1."""

    def __init__(self, model: Any, tokenizer: Any, context: int, dim: int, device: str = "cpu") -> None:
        from open_clip import SimpleTokenizer

        self._model, self._tokenizer, self._context, self._dim, self._device = model, tokenizer, context, dim, device
        self._causal = find_causal(model)
        self._simple = type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None
        if self._simple:
            self._ids = functools.lru_cache(REMEMBERED)(lambda text: tuple(tokenizer.encode(shorten(text))))

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return features of length 1."""
        tokens = self.tokens(texts)
        if self._causal is None:
            return in_passes(lambda part: normalize(self._model.encode_text(part), dim=-1), tokens, self._dim, self._device)
        out, widths = np.zeros((len(texts), self._dim), np.float32), self._widths(tokens)
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            out[rows] = in_passes(self._features, tokens[torch.from_numpy(rows), : int(width)], self._dim, self._device)
        return out

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Return int64 (n, context), as the tokenizer itself does; a text is encoded once however often it comes."""
        if not texts:
            return torch.zeros(0, self._context, dtype=torch.int64)
        if not self._simple:
            return self._tokenizer([shorten(text) for text in texts], context_length=self._context)
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        out = np.zeros((len(texts), self._context), np.int64)
        for row, text in zip(out, texts, strict=True):
            ids = (start, *self._ids(text)[: self._context - 2], end)
            row[: len(ids)] = ids
        return torch.from_numpy(out)

    def n_cut(self, texts: list[str]) -> int:
        """Return how many texts are longer than the context."""
        if not self._simple:
            return (
                sum(len(self._tokenizer.encode(shorten(t))) + 2 > self._context for t in texts) if hasattr(self._tokenizer, "encode") else 0
            )
        return sum(not self._surely_fits(text) and len(self._ids(text)) + 2 > self._context for text in texts)

    def _surely_fits(self, text: str) -> bool:
        """Tell whether a text fits without encoding it: plain ASCII has at most a token a character."""
        return len(text) + 2 <= self._context and text.isascii() and "&" not in text

    def _widths(self, tokens: torch.Tensor) -> np.ndarray:
        """Return how many positions each text needs."""
        assert self._causal is not None
        at_end = tokens if self._causal.pool == "argmax" else (tokens == self._causal.end).int()
        lengths = at_end.argmax(dim=1).numpy() + 1
        if self._causal.pool == "eos":
            lengths[~(tokens == self._causal.end).any(dim=1).numpy()] = 1  # open_clip reads the first place then
        return np.minimum(-(-lengths // STEP) * STEP, self._context)

    def _features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what encode_text does, of tokens that end after the end-of-text token."""
        from open_clip.transformer import text_global_pool

        assert self._causal is not None
        tower, n = self._causal.tower, tokens.shape[1]
        kind = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(kind) + tower.positional_embedding[:n].to(kind)
        x = tower.transformer(x, attn_mask=tower.attn_mask[:n, :n])
        x = tower.ln_final(text_global_pool(x, tokens, self._causal.pool, eos_token_id=self._causal.end))
        if tower.text_projection is not None:
            x = tower.text_projection(x) if isinstance(tower.text_projection, torch.nn.Linear) else x @ tower.text_projection
        return normalize(x, dim=-1)
