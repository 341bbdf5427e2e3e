"""Small modules that tune a pretrained transformer which itself stays as it is: adapters, LoRA, prefixes, and all three under gates.

They lie beside the towers, not in them: of open_clip's blocks the attention is replaced for the block alone, and a hook follows its
feed-forward network, so that the towers' own tensors keep their names and values. Shapes: B samples, L places, W width, H heads,
R rank, N prefixes.

Source:
    UniPELT (Mao et al. 2022, arXiv 2110.07577), section 3. Adapters are Houlsby's (2019), behind the feed-forward network; LoRA is
    Hu's (2022, arXiv 2106.09685), on queries and values; prefixes are Li and Liang's (2021, arXiv 2101.00190).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from fistful.errors import UsageError

Kind = Literal["gated", "lora", "adapter", "prefix"]
PARTS = ("adapter", "lora", "prefix")
REDUCTION = 16
"""Times that an adapter is narrower than the layer; of a width of 768 it leaves 48."""
RANK, ALPHA = 8, 16
"""Of LoRA; its change is ALPHA / RANK times the product of its matrices, gated it is the gate times that product."""
PREFIXES, HIDDEN = 10, 512
"""Keys and values that each layer gets, and the width of the network that they are made by while they are learnt."""
SCALES = ("logit_scale", "logit_bias")
"""Of a CLIP, what goes on learning."""
FIRST_STD = 0.02
MEMORY = 0.98
"""Share of the old in a running mean of gates, once enough steps were seen."""


class Gate(nn.Module):
    """How much of a module each sample gets, (B, 1, 1): the mean over its places of a sigmoid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.normal_(self.linear.weight, std=FIRST_STD)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("seen", torch.zeros(2))
        self.seen: torch.Tensor
        """The running mean over training samples, and how many steps it has."""

    def forward(self, x_BLW: torch.Tensor, is_text_BL: torch.Tensor | None) -> torch.Tensor:
        """Return the gate of each sample; places behind a text's end do not count."""
        open_BL = torch.sigmoid(self.linear(x_BLW)).squeeze(-1)
        weights_BL = torch.ones_like(open_BL) if is_text_BL is None else is_text_BL.to(open_BL.dtype)
        gate_B = (open_BL * weights_BL).sum(dim=1) / weights_BL.sum(dim=1)
        if self.training:
            with torch.no_grad():
                n = self.seen[1] + 1
                self.seen[0].lerp_(gate_B.mean().float(), torch.clamp(1 / n, min=1 - MEMORY))
                self.seen[1] = n
        return gate_B[:, None, None]


class Adapter(nn.Module):
    """What is added behind a feed-forward network: a narrow layer, at first without effect."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // REDUCTION), nn.Linear(width // REDUCTION, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BLW: torch.Tensor) -> torch.Tensor:
        """Return what is added to the network's output."""
        return self.up(functional.relu(self.down(x_BLW)))


class Lora(nn.Module):
    """What is added to the weights of queries and values: a product of two narrow matrices each, at first 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a_query, self.a_value = (nn.Parameter(torch.empty(RANK, width)) for _ in range(2))
        self.b_query, self.b_value = (nn.Parameter(torch.zeros(width, RANK)) for _ in range(2))
        for matrix in (self.a_query, self.a_value):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))

    def merged(self, packed_3WW: torch.Tensor) -> torch.Tensor:
        """Return an attention's packed weights of queries, keys and values, (3 W, W), with the change added."""
        query_WW, key_WW, value_WW = packed_3WW.chunk(3)
        scale = ALPHA / RANK
        return torch.cat([query_WW + scale * (self.b_query @ self.a_query), key_WW, value_WW + scale * (self.b_value @ self.a_value)])

    def changes(self, x_BLW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is added to queries and values, before it is scaled."""
        return (
            functional.linear(functional.linear(x_BLW, self.a_query), self.b_query),
            functional.linear(functional.linear(x_BLW, self.a_value), self.b_value),
        )


class Prefixes(nn.Module):
    """Keys and values of each layer that every place may look at: made by a network while they are learnt, plain once they are kept."""

    def __init__(self, layers: int, width: int, is_plain: bool) -> None:
        super().__init__()
        self._shape = (PREFIXES, layers, 2, width)
        if is_plain:
            self.plain = nn.Parameter(torch.zeros(self._shape))
        else:
            self.embedding, self.hidden = nn.Embedding(PREFIXES, width), nn.Linear(width, HIDDEN)
            self.out = nn.Linear(HIDDEN, layers * 2 * width)

    def made(self) -> torch.Tensor:
        """Return all of them, (N, layers, 2, W)."""
        if hasattr(self, "plain"):
            return self.plain
        return self.out(torch.tanh(self.hidden(self.embedding.weight))).view(self._shape)


class LayerTuning(nn.Module):
    """The modules of one layer."""

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        wanted = PARTS if kind == "gated" else (kind,)
        self.adapter = Adapter(width) if "adapter" in wanted else None
        self.lora = Lora(width) if "lora" in wanted else None
        self.gates = nn.ModuleDict({part: Gate(width) for part in PARTS}) if kind == "gated" else None


class TowerTuning(nn.Module):
    """The modules of one transformer, and the places of the batch that is on its way through it."""

    def __init__(self, kind: Kind, blocks: nn.ModuleList, is_plain: bool) -> None:
        super().__init__()
        first: Any = blocks[0]
        width = int(first.attn.embed_dim)
        self.layers = nn.ModuleList(LayerTuning(kind, width) for _ in blocks)
        self.prefixes = Prefixes(len(blocks), width, is_plain) if kind in ("prefix", "gated") else None
        self.is_text_BL: torch.Tensor | None = None
        """Where a text's places are, of the batch that is on its way; None: all are."""
        for number, block in enumerate(blocks):
            self._attach(number, block)

    def _attach(self, number: int, block: Any) -> None:
        """Let a block of open_clip's call what tunes it."""
        layer: Any = self.layers[number]
        if layer.lora is not None or self.prefixes is not None:
            block.attention = functools.partial(self._attend, number, block.attn)
        if layer.adapter is not None:
            block.mlp.register_forward_hook(functools.partial(self._adapt, layer))

    def _adapt(self, layer: LayerTuning, _: nn.Module, __: Any, out_BLW: torch.Tensor) -> torch.Tensor:
        assert layer.adapter is not None
        added_BLW = layer.adapter(out_BLW)
        return out_BLW + (added_BLW if layer.gates is None else layer.gates["adapter"](out_BLW, self.is_text_BL) * added_BLW)

    def _attend(self, number: int, attention: nn.MultiheadAttention, q_x: torch.Tensor, attn_mask: Any = None, **_: Any) -> torch.Tensor:
        """Stand for the attention of an open_clip block, which also names keys and values: in these towers they are the queries."""
        layer: Any = self.layers[number]
        if self.prefixes is None:  # LoRA alone: the same attention with other weights, so that at its start it is the same to the bit
            weights = {"in_proj_weight": layer.lora.merged(attention.in_proj_weight)}
            mask = None if attn_mask is None else attn_mask.to(q_x.dtype)
            return functional_call(attention, weights, (q_x, q_x, q_x), {"need_weights": False, "attn_mask": mask})[0]
        return self._attend_with_prefixes(number, attention, q_x, attn_mask)

    def _attend_with_prefixes(self, number: int, attention: nn.MultiheadAttention, x_BLW: torch.Tensor, mask_LL: Any) -> torch.Tensor:
        layer: Any = self.layers[number]
        assert self.prefixes is not None
        n, length, width = x_BLW.shape
        query, key, value = functional.linear(x_BLW, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        prefix_BN2W = self.prefixes.made()[:, number].expand(n, -1, -1, -1).to(key.dtype)
        if layer.gates is not None:
            lora = layer.gates["lora"](x_BLW, self.is_text_BL)
            of_query, of_value = layer.lora.changes(x_BLW)
            query, value = query + lora * of_query, value + lora * of_value
            prefix_BN2W = layer.gates["prefix"](x_BLW, self.is_text_BL)[..., None] * prefix_BN2W
        key, value = torch.cat([prefix_BN2W[:, :, 0], key], dim=1), torch.cat([prefix_BN2W[:, :, 1], value], dim=1)
        if mask_LL is not None:
            mask_LL = functional.pad(mask_LL.to(query.dtype), (PREFIXES, 0))  # prefixes are seen from everywhere
            mask_LL = mask_LL.view(n, -1, *mask_LL.shape[1:]) if mask_LL.ndim == 3 else mask_LL  # else one for each sample and head
        heads = [part.view(n, -1, attention.num_heads, width // attention.num_heads).transpose(1, 2) for part in (query, key, value)]
        seen = functional.scaled_dot_product_attention(*heads, attn_mask=mask_LL)
        return attention.out_proj(seen.transpose(1, 2).reshape(n, length, width))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """How a model is tuned, and what it is made of; kept in its fistful.json."""

    init: str
    """Where the model lies that stays as it is, as --init named it."""
    kind: Kind
    image: bool
    """Whether the image tower is tuned too."""


class Tuning(nn.Module):
    """All that is learnt of a tuned model but its scale and its word head.

    Args:
        how: Which modules.
        clip: open_clip's model, whose weights stop learning, all but the scale.
        merges: Whether the model is written with LoRA's changes in its own weights.
        is_plain: Whether prefixes are as they are kept, instead of being made.

    Raises:
        UsageError: If a tower is no transformer of open_clip's.
    """

    def __init__(self, how: Tuned, clip: Any, merges: bool = False, is_plain: bool = False) -> None:
        super().__init__()
        _check_tunable(clip, how.image)
        self.how, self.merges = how, merges
        for parameter in clip.parameters():
            parameter.requires_grad_(False)
        for name in SCALES:
            if getattr(clip, name) is not None:
                getattr(clip, name).requires_grad_(True)
        self.towers = nn.ModuleDict({name: TowerTuning(how.kind, blocks, is_plain) for name, blocks in _blocks(clip, how.image).items()})
        text = clip if hasattr(clip, "transformer") else clip.text
        if "argmax" in (getattr(text, "text_pool_type", ""), getattr(text, "pool_type", "")):  # where the end is the largest token
            text.token_embedding.register_forward_pre_hook(self._note_texts)

    def _note_texts(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        """Note which texts go through the text tower next: places behind a text's end are none of it."""
        text: Any = self.towers["text"]
        (tokens_BL,) = inputs
        text.is_text_BL = torch.arange(tokens_BL.shape[1], device=tokens_BL.device) <= tokens_BL.argmax(dim=1)[:, None]

    def plain_state(self) -> dict[str, torch.Tensor]:
        """Return what a model folder keeps: tensors of the same modules, prefixes as they are made, without running means."""
        found = {name: tensor for name, tensor in self.state_dict().items() if ".prefixes." not in name and not name.endswith(".seen")}
        for name, tower in self.towers.items():
            prefixes: Any = tower.prefixes
            if prefixes is not None:
                found[f"towers.{name}.prefixes.plain"] = prefixes.made().detach()
        return found

    def gates(self) -> dict[str, list[dict[str, float]]]:
        """Return the mean gates by tower and layer, as training saw them; none but for gated tuning."""
        return {
            name: [{part: round(float(gate.seen[0]), 4) for part, gate in layer.gates.items()} for layer in tower.layers]  # pyright: ignore
            for name, tower in self.towers.items()
            if self.how.kind == "gated"
        }


def _blocks(clip: Any, image: bool) -> dict[str, nn.ModuleList]:
    """Return the blocks of the transformers that are tuned."""
    text = clip.transformer if hasattr(clip, "transformer") else clip.text.transformer
    return {"image": clip.visual.transformer.resblocks, "text": text.resblocks} if image else {"text": text.resblocks}


def _check_tunable(clip: Any, image: bool) -> None:
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    if image and not isinstance(clip.visual, VisionTransformer):
        raise UsageError(
            f"--tune: the image tower ({type(clip.visual).__name__}) is no transformer of open_clip's; "
            "--train-image none leaves it as it is and tunes the text tower alone"
        )
    for name, blocks in _blocks(clip, image).items():
        if other := next((block for block in blocks if type(block) is not ResidualAttentionBlock), None):
            raise UsageError(f"--tune: the {name} tower has layers of a kind that is not known here ({type(other).__name__})")


def kept_state(tuning: Tuning, clip: Any) -> dict[str, torch.Tensor]:
    """Return the tensors that a tuned model's folder keeps: what was learnt, and no weight of the model that it was tuned from."""
    scales = {name: tensor for name in SCALES if (tensor := getattr(clip, name)) is not None}
    return {f"tuning.{name}": tensor for name, tensor in tuning.plain_state().items()} | {f"clip.{name}": t for name, t in scales.items()}


def merged_state(tuning: Tuning, clip: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a plain model that computes what LoRA makes of this one."""
    names, found = {id(module): name for name, module in clip.named_modules()}, dict(clip.state_dict())
    for tower, blocks in _blocks(clip, tuning.how.image).items():
        layers: Any = tuning.towers[tower].layers
        for block, layer in zip(blocks, layers, strict=True):
            attention: Any = block.attn
            found[f"{names[id(attention)]}.in_proj_weight"] = layer.lora.merged(attention.in_proj_weight).detach()
    return found
