"""The head that reads texts with their pictures: finds hidden words, and tells whether a text fits. It is thrown away for other uses.

One cross attention from the text's places to the picture's, then self attention among the text's places. Towers stay open_clip's own: a
hidden token's input embedding is the head's mask vector, in place of the tower's.

Shapes: B samples, L text places, N image places, C channels, W width of the text tower, E width of the head, V answers.

Source:
    IRRA (Jiang and Ye 2023, arXiv 2303.12501), section 3.2, whose queries are not added to what they find; here they are.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from fistful.errors import UsageError

from .tokens import find_causal

if TYPE_CHECKING:
    from .model import Model

LAYERS = 2
"""Of self attention; IRRA has 4, on 100 times as many pictures as one machine without a GPU learns from."""
HEAD_WIDTH = 64
"""Of an attention head, as CLIP's."""
FIRST_STD = 0.02
"""Of the mask vector at first, as of token embeddings."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionShape:
    """What a head is made of; kept in fistful.json."""

    reads: Literal["tokens", "words"]
    """Tokens of a transformer, or words of the words tower."""
    channels: int
    n_places: int
    """Of a picture."""
    text_width: int
    width: int
    n_answers: int
    """Tokens, or words, that a hidden one may be; 0: nothing is hidden."""
    match: bool
    """Whether it tells if a text fits a picture."""
    hides_all: bool = False
    """Whether every word was hidden, so that it knows nothing of words at hand."""

    @property
    def heads(self) -> int:
        """How many heads attend."""
        return self.width // HEAD_WIDTH if self.width % HEAD_WIDTH == 0 else 1


class Attention(nn.Module):
    """Attention of one sequence to another, of which some places may be empty."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x_BLE: torch.Tensor, to_BNE: torch.Tensor, is_there_BN: torch.Tensor | None = None) -> torch.Tensor:
        """Return what each place of x finds, (B, L, E)."""
        query, key, value = (
            part.unflatten(2, (self._heads, -1)).transpose(1, 2) for part in (self.query(x_BLE), *self.key_value(to_BNE).chunk(2, dim=2))
        )
        mask = None if is_there_BN is None else is_there_BN[:, None, None, :]
        return self.out(scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A layer of self attention, normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BLE: torch.Tensor, is_there_BL: torch.Tensor) -> torch.Tensor:
        """Return (B, L, E)."""
        normed = self.ln_1(x_BLE)
        x_BLE = x_BLE + self.attention(normed, normed, is_there_BL)
        return x_BLE + self.mlp(self.ln_2(x_BLE))


class Fusion(nn.Module):
    """The head. What it is asked, `answer`, `predictor` and `match` say of what `fuse` returns."""

    answers_V: torch.Tensor
    """int64: the token of each answer; empty where answers are words."""

    def __init__(self, shape: FusionShape, answers_V: torch.Tensor | None = None) -> None:
        super().__init__()
        self.shape, width = shape, shape.width
        asks_tokens = shape.reads == "tokens" and shape.n_answers > 0
        asks_words = shape.reads == "words" and shape.n_answers > 0
        none = torch.zeros(shape.n_answers if asks_tokens else 0, dtype=torch.int64)
        self.register_buffer("answers_V", none if answers_V is None else answers_V)
        self.mask = nn.Parameter(torch.randn(shape.text_width) * FIRST_STD) if asks_tokens else None
        self.from_text = nn.Sequential(nn.LayerNorm(shape.text_width), nn.Linear(shape.text_width, width))
        self.from_image = nn.Sequential(nn.LayerNorm(shape.channels), nn.Linear(shape.channels, width), nn.LayerNorm(width))
        self.ln_query, self.cross, self.ln_out = nn.LayerNorm(width), Attention(width, shape.heads), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, shape.heads) for _ in range(LAYERS))
        self.answer = _answers(width, shape.n_answers) if asks_tokens else None
        self.context = nn.Linear(width, shape.channels) if asks_words else None
        self.predictor = nn.Linear(shape.channels, shape.n_answers) if asks_words else None
        self.match = _nothing_yet(nn.Linear(width, 1)) if shape.match else None

    def fuse(self, text_BLE: torch.Tensor, is_there_BL: torch.Tensor, image_BNE: torch.Tensor) -> torch.Tensor:
        """Return (B, L, E): what each place of a text is, read with the text's other places and the picture.

        Args:
            text_BLE: What `from_text` makes of the text tower's states.
            is_there_BL: Which places hold something; a text without any gives numbers that mean nothing.
            image_BNE: What `from_image` makes of the picture's places.
        """
        is_there_BL = is_there_BL | ~is_there_BL.any(dim=1, keepdim=True)  # a softmax over nothing is no number
        x_BLE = text_BLE + self.cross(self.ln_query(text_BLE), image_BNE)
        for block in self.blocks:
            x_BLE = block(x_BLE, is_there_BL)
        return self.ln_out(x_BLE)

    def summary(self, fused_BLE: torch.Tensor, end_B: torch.Tensor) -> torch.Tensor:
        """Return one vector a text, (B, E): at a transformer's last token, else the mean over the words; 0 for no words.

        Args:
            fused_BLE: What `fuse` returned.
            end_B: Place of the last token, or how many words there are.
        """
        if self.shape.reads == "tokens":
            return fused_BLE[torch.arange(len(end_B), device=end_B.device), end_B]
        is_there_BL = torch.arange(fused_BLE.shape[1], device=end_B.device) < end_B[:, None]
        return (fused_BLE * is_there_BL[..., None]).sum(dim=1) / end_B.clamp_min(1)[:, None]

    def with_context(self, channels_BC: torch.Tensor, fused_BLE: torch.Tensor, end_B: torch.Tensor) -> torch.Tensor:
        """Return channels (B, C) that also know the words at hand; without any they are the picture's own."""
        assert self.context is not None
        return channels_BC + self.context(self.summary(fused_BLE, end_B)) * (end_B > 0)[:, None]


def _nothing_yet(layer: nn.Linear) -> nn.Linear:
    """Let a layer say 0 of everything at first: the embeddings' order is where matching begins."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def match_logits(model: Model, summary_PE: torch.Tensor, cosine_P: torch.Tensor) -> torch.Tensor:
    """Return how well texts fit pictures, (P): what the embeddings say at the model's temperature, and what the head adds to it.

    Args:
        model: Has a head that learnt to match.
        summary_PE: What `Fusion.summary` returned of each pair.
        cosine_P: Of the pair's embeddings.
    """
    return model.fusion.match(summary_PE).squeeze(1) + model.scale_parameter.detach().exp() * cosine_P


def _answers(width: int, n_answers: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, n_answers))


def token_states(model: Model, tokens_BL: torch.Tensor, hidden_BL: torch.Tensor | None = None) -> torch.Tensor:
    """Return what open_clip's transformer makes of each token, (B, L, W), before it is pooled.

    Args:
        model: Has the text tower and the head.
        tokens_BL: Without columns that are empty in all texts.
        hidden_BL: Tokens whose embedding is the head's mask vector.
    """
    causal = find_causal(model.clip)
    assert causal is not None
    assert model.fusion is not None
    tower, n = causal.tower, tokens_BL.shape[1]
    kind = tower.transformer.get_cast_dtype()
    x_BLW = tower.token_embedding(tokens_BL).to(kind)
    if hidden_BL is not None:
        assert model.fusion.mask is not None
        x_BLW = torch.where(hidden_BL[..., None], model.fusion.mask.to(kind), x_BLW)
    x_BLW = x_BLW + tower.positional_embedding[:n].to(kind)
    return tower.ln_final(tower.transformer(x_BLW, attn_mask=tower.attn_mask[:n, :n]))


def word_states(model: Model, words_BL: torch.Tensor) -> torch.Tensor:
    """Return the vector of each word of the words tower, (B, L, W); of places without a word, that of the first word."""
    assert model.words is not None
    return nn.functional.embedding(words_BL.clamp_min(0), model.words.words())


def text_places(model: Model, text_BL: torch.Tensor, hidden_BL: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the head reads of texts, (B, L, E), and which places hold something, bool (B, L).

    Args:
        model: Has a head.
        text_BL: Tokens without columns that are empty in all texts; or words, then -1.
        hidden_BL: Tokens that are hidden.
    """
    assert model.fusion is not None
    if model.fusion.shape.reads == "words":
        return model.fusion.from_text(word_states(model, text_BL)), text_BL >= 0
    end_B = text_BL.argmax(dim=1)
    is_there_BL = torch.arange(text_BL.shape[1], device=text_BL.device) <= end_B[:, None]
    return model.fusion.from_text(token_states(model, text_BL, hidden_BL)), is_there_BL


def check_readable(model: Any) -> None:
    """Check that the places of a text tower can be read.

    Raises:
        UsageError: If it is another transformer than open_clip's causal one.
    """
    if model.words is None and find_causal(model.clip) is None:
        raise UsageError(
            "--mask-rate, --match-weight: read open_clip's causal text transformer, and this --model has another; use --text-tower words"
        )
