"""A model: an image tower, a text tower and a word head, built from a configuration.

Shapes: B samples, D embedding, V words, C channels before the projection.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import normalize

from fistful.errors import UsageError

from ..train_config import TrainConfig
from .towers import (
    DEFAULT_MODEL,
    MODELS,
    SMALL_TEXT,
    WordsTower,
    channels_before_projection,
    image_size,
    image_tower,
    last_group,
    model_config,
    recompute,
    splits,
)
from .tune import Tuned, Tuning

if TYPE_CHECKING:
    from .weights import Pretrained

FIRST_BIAS = -10.0
"""SigLIP's (Zhai et al. 2023, section 3.2): at first nearly all pairs are told to be wrong, as nearly all are."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a model is made of; kept in fistful.json, so that it can be built again."""

    model_cfg: dict[str, Any]
    """open_clip's embed_dim, vision_cfg and, with the transformer, text_cfg."""
    text_tower: str | None
    """transformer, words, or None."""
    n_words: int
    """Words of the words tower and of the head; 0 where there is neither."""
    head: bool
    bias: bool = False
    """Whether the pair loss has a learnt bias beside its scale, as the sigmoid loss needs."""

    @property
    def for_open_clip(self) -> bool:
        """Whether open_clip can express the two towers."""
        return self.text_tower == "transformer"


def shape_of(config: TrainConfig, n_words: int, pretrained: Pretrained | None = None) -> Shape:
    """Return the model that a (resolved) configuration asks for."""
    cfg = chosen_config(config, pretrained)
    if config.model.image_size:
        cfg = {**cfg, "vision_cfg": {**cfg["vision_cfg"], "image_size": config.model.image_size}}
    if config.model.embed_dim:
        cfg = {**cfg, "embed_dim": config.model.embed_dim}
    tower = config.model.text_tower if config.has_text else None
    kept = {k: v for k, v in cfg.items() if k not in ("text_cfg", "custom_text", "init_logit_scale", "init_logit_bias")}
    if tower == "transformer":
        text = cfg.get("text_cfg", {})
        if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
            raise UsageError(f"--model {config.model.model}: its text tower comes from a model hub; use --text-tower words")
        kept |= {k: v for k, v in cfg.items() if k == "custom_text"} | {"text_cfg": {**text, "context_length": config.model.context_length}}
        kept |= {"init_logit_bias": FIRST_BIAS} if config.has_bias else {}
    needs_words = config.has_head or tower == "words"
    return Shape(model_cfg=kept, text_tower=tower, n_words=n_words if needs_words else 0, head=config.has_head, bias=config.has_bias)


def chosen_config(config: TrainConfig, pretrained: Pretrained | None) -> dict[str, Any]:
    """Return the model_cfg that a configuration names, or that its weights bring.

    Raises:
        UsageError: If there is none.
    """
    if config.model.model != "auto":
        return model_config(config.model.model)
    if pretrained is None:
        return MODELS[DEFAULT_MODEL]
    if pretrained.model_cfg is not None:
        return {"text_cfg": SMALL_TEXT, **pretrained.model_cfg}
    if pretrained.vision_cfg is None:
        raise UsageError(f"--init {config.model.init}: holds weights alone; say which tower they belong to, as in --model timm:resnet50")
    return {"embed_dim": 256, "vision_cfg": pretrained.vision_cfg, "text_cfg": SMALL_TEXT}


class Model(nn.Module):
    """An image tower, and as asked for a text tower and a word head."""

    def __init__(self, shape: Shape, temperature: float = 0.07) -> None:
        super().__init__()
        import open_clip

        cfg = dict(shape.model_cfg)
        self.shape = shape
        self.clip = self.visual = self.words = None
        self.fusion: Any = None  # a Fusion where texts are read with their pictures (fusion.py), added before training
        self.tuning: Tuning | None = None
        self.recomputes = False
        self._frozen: list[nn.Module] = []
        scale = math.log(1 / temperature)
        if shape.for_open_clip:
            custom = cfg.pop("custom_text", False)
            kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
            self.clip = kind(**cfg, init_logit_scale=scale)
        else:
            self.visual = image_tower(cfg)
            if shape.text_tower == "words":
                self.words = WordsTower(shape.n_words, cfg["embed_dim"], cfg["embed_dim"])
            self.logit_scale = nn.Parameter(torch.tensor(scale))
            if shape.bias:
                self.logit_bias = nn.Parameter(torch.tensor(FIRST_BIAS))
        self.n_channels = channels_before_projection(self.image_tower)
        self.head = nn.Linear(self.n_channels, shape.n_words) if shape.head else None

    @property
    def image_tower(self) -> Any:
        """open_clip's image tower."""
        return self.visual if self.clip is None else self.clip.visual

    @property
    def scale_parameter(self) -> nn.Parameter:
        """The logarithm of the inverse temperature."""
        return self.logit_scale if self.clip is None else self.clip.logit_scale

    @property
    def bias_parameter(self) -> nn.Parameter | None:
        """The learnt bias of the sigmoid loss, if there is one."""
        owner: Any = self if self.clip is None else self.clip
        return getattr(owner, "logit_bias", None)

    def encode_image(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return embeddings of length 1; without a text tower, of the channels before the projection."""
        if self.shape.text_tower is None:
            return normalize(self.channels(image_BCHW), dim=-1)
        return normalize(self.image_tower(image_BCHW), dim=-1)

    def encode_text(self, text: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return embeddings of length 1 of (tokens,) or, for the words tower, (words, offsets)."""
        if self.clip is not None:
            return self.clip.encode_text(*text, normalize=True)
        assert self.words is not None
        return normalize(self.words(*text), dim=-1)

    def channels(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the mean over all places of the last feature map, before the projection."""
        return self.image_both(image_BCHW)[0]

    def image_both(self, image_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return channels (B, C) and embeddings of length 1 (B, D), in one pass."""
        tower = self.image_tower
        if splits(tower):
            return self.finish(tower.trunk(image_BCHW))
        out = tower.forward_intermediates(image_BCHW, indices=1, normalize_intermediates=True)
        return out["image_intermediates"][-1].mean(dim=(2, 3)), normalize(out["image_features"], dim=-1)

    def frozen_features(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return what a frozen tower computes, (B, F): the trunk's features, or channels and embedding side by side."""
        tower = self.image_tower
        return tower.trunk(image_BCHW) if splits(tower) else torch.cat(self.image_both(image_BCHW), dim=1)

    def finish(self, frozen_BF: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return channels and embeddings of length 1 from a frozen tower's features."""
        tower = self.image_tower
        if splits(tower):
            return frozen_BF, normalize(tower.head(frozen_BF), dim=-1)
        return frozen_BF[:, : self.n_channels], frozen_BF[:, self.n_channels :]

    def tune(self, how: Tuned, merges: bool = False, is_plain: bool = False) -> None:
        """Leave the towers as they are, and tune them by small modules beside them (tune.Tuning says what the arguments are)."""
        self.tuning = Tuning(how, self.clip, merges, is_plain)
        self._frozen = [tower for tower in (self.clip,) if tower is not None]

    def freeze(self, trained: str) -> None:
        """Leave only a part of the image tower trainable: none, last (the last group of layers), or all.

        The projection to the embedding stays trainable where it is a layer of its own (timm's towers).
        """
        if trained == "all":
            return
        tower = self.image_tower
        for parameter in (tower.trunk if splits(tower) else tower).parameters():
            parameter.requires_grad_(False)
        for parameter in last_group(tower) if trained == "last" else ():
            parameter.requires_grad_(True)
        still = [m for m in tower.modules() if any(True for _ in m.parameters()) and not any(p.requires_grad for p in m.parameters())]
        self._frozen += still

    def recompute(self, image: bool) -> None:
        """Let the towers keep few activations, and compute their layers again in the backward pass.

        Args:
            image: Whether the image tower computes anything in training.

        Raises:
            UsageError: If a tower cannot, or there is nothing to compute again.
        """
        clip: Any = self.clip
        text: Any = None if clip is None else clip.text if hasattr(clip, "text") else clip.transformer
        if not image and text is None:
            raise UsageError("--grad-checkpointing: a frozen image tower, and no transformer: nothing is computed again; leave it out")
        if image and not recompute(self.image_tower):
            raise UsageError(
                "--grad-checkpointing: this image tower cannot compute its layers again, as open_clip's ResNets and some of timm's towers; "
                "use --accumulation, which needs less memory with any tower"
            )
        if text is not None and hasattr(text, "set_grad_checkpointing"):
            text.set_grad_checkpointing(True)
        elif text is not None:
            text.grad_checkpointing = True  # as open_clip's CLIP sets it
        self.recomputes = True

    def unreached(self) -> list[str]:
        """Return the names of weights that no loss reaches: without a text tower the scale, and what follows the channels."""
        if self.shape.text_tower is not None:
            return []
        learn = {name: p for name, p in self.named_parameters() if p.requires_grad and not name.startswith("head.")}
        if not learn:
            return []
        training, size = self.training, image_size(self.image_tower)
        channels = self.eval().channels(torch.zeros(1, 3, *size, device=self.scale_parameter.device))
        self.train(training)
        if not channels.requires_grad:
            return [*learn]
        found = torch.autograd.grad(channels.sum(), [*learn.values()], allow_unused=True)
        return [name for name, gradient in zip(learn, found, strict=True) if gradient is None]

    def train(self, mode: bool = True) -> Model:
        """Set the mode of all but what is frozen, whose batch statistics stay as they are."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def square_size(shape: Shape) -> int:
    """Return the side of the pictures that a model expects.

    Raises:
        UsageError: If they are not square.
    """
    size = shape.model_cfg["vision_cfg"].get("image_size", 224)
    if isinstance(size, int):
        return size
    if size[0] != size[1]:
        raise UsageError(f"--model: wants pictures of {size[0]} x {size[1]}, only square ones are supported")
    return int(size[0])


def normalise(images: torch.Tensor, mean: Sequence[float] | torch.Tensor, std: Sequence[float] | torch.Tensor) -> torch.Tensor:
    """Return float32 (B, 3, H, W) of uint8 (B, H, W, 3), as torchvision's ToTensor and Normalize compute it."""
    mean_C = torch.as_tensor(mean, dtype=torch.float32, device=images.device).view(3, 1, 1)
    std_C = torch.as_tensor(std, dtype=torch.float32, device=images.device).view(3, 1, 1)
    return images.permute(0, 3, 1, 2).float().div_(255).sub_(mean_C).div_(std_C)
