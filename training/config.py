"""What a training run can be told, and how open choices become definite before the run gets its name."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

from fistful.bow.balance import Balance
from fistful.bow.store.config import execution, semantic
from fistful.errors import UsageError

CONTEXT_OF_TEXT = {"caption": 32, "bag": 16, "balanced": 16}
"""Text positions where none are asked for. A bag of ten words has some 14 tokens; captions rarely pass 32."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How a model is trained."""

    model: str = semantic("tiny-resnet")
    """A small model of ours (tiny-resnet, tiny-vit), an open_clip model name, or a folder with open_clip_config.json."""
    text_tower: Literal["transformer", "words"] = semantic("transformer")
    """transformer: open_clip's; words: the mean of the words' vectors, for bags."""
    text: Literal["caption", "bag", "balanced"] = semantic("balanced")
    """What is learnt from: one caption a sample and epoch, its full bag, or its bag thinned anew each epoch."""
    rule: Literal["data", "none", "top_k", "power", "w2v", "cap", "budget", "random", "auto"] = semantic("data")
    """How balanced bags are thinned; data: as the data folder's vocabulary says; else a rule of fistful bags."""
    threshold: float | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    kept: float | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    alpha: float | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    n_words: int | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    objective: Literal["contrastive", "joint", "words"] = semantic("contrastive")
    """contrastive: image against text; words: predict the bag's words; joint: both."""
    word_weight: float = semantic(1.0)
    """joint: weight of the word loss beside the contrastive one."""
    pseudo_share: float = semantic(0.5)
    """Largest share of pseudo-labelled samples in a batch, 0 to 1."""
    holdout: float = semantic(0.0)
    """Share of the captioned samples that are not shown, so that fistful label can measure on them; 0 to 0.5."""
    steps: int = semantic(1_000)
    """Optimiser steps."""
    batch_size: int = semantic(64)
    """Samples a step."""
    lr: float = semantic(1e-3)
    """Highest learning rate; cosine to zero."""
    warmup: int = semantic(50)
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = semantic(0.1)
    """AdamW's weight decay, for matrices only."""
    temperature: float = semantic(0.07)
    """Softmax temperature at the start; learnt from there, never below 0.01."""
    context_length: int = semantic(0)
    """Text positions of the transformer; 0: 16 for bags, 32 for captions."""
    precision: Literal["fp32", "bf16"] = semantic("fp32")
    """bf16 only where the machine has units for it."""
    augment: Literal["none", "crop"] = semantic("none")
    """crop: a random window of each picture, anew each epoch."""
    device: Literal["auto", "cpu", "cuda"] = semantic("auto")
    """Where to compute; auto: a GPU if there is one."""
    threads: int = semantic(0)
    """Threads of computation; 0: one for each core. Other threads, other rounding."""
    seed: int = semantic(0)
    """Decides initial weights, data order, draws and crops."""
    checkpoint_every: int = execution(200)
    """Steps between checkpoints."""
    keep_checkpoints: int = execution(2)
    """How many checkpoints to keep while the run goes on."""
    progress: bool = execution(True)
    """Show a progress bar (a line every 10 s without a terminal)."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "keep_checkpoints"):
            _check(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("warmup", "weight_decay", "word_weight", "context_length", "threads", "seed"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        _check(self, "lr", self.lr > 0, "a number above 0")
        _check(self, "temperature", 0.01 <= self.temperature <= 100, "0.01 to 100")
        _check(self, "pseudo_share", 0 <= self.pseudo_share <= 1, "0 to 1")
        _check(self, "holdout", 0 <= self.holdout <= 0.5, "0 to 0.5")
        _check(self, "context_length", self.context_length == 0 or self.context_length >= 4, "0, or 4 or more")
        self.balance()
        if self.text_tower == "words" and self.text == "caption" and self.objective != "words":
            raise UsageError("--text-tower words: reads words of the vocabulary, found --text caption; use --text bag or balanced")
        if self.rule != "data" and self.text != "balanced":
            raise UsageError(f"--rule {self.rule}: thins balanced bags, found --text {self.text}; use --text balanced")

    def balance(self) -> Balance | None:
        """Return the rule that thins bags; None for the data folder's own."""
        options = {name: getattr(self, name) for name in ("threshold", "kept", "alpha", "n_words")}
        if self.rule == "data":
            if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
                raise UsageError(f"--rule data: takes no {' and no '.join(given)}; name the rule that they belong to")
            return None
        return Balance(rule=self.rule, **options)

    @property
    def has_head(self) -> bool:
        """Whether words are predicted."""
        return self.objective != "contrastive"

    @property
    def has_text(self) -> bool:
        """Whether there is a text tower."""
        return self.objective != "words"


def _check(config: TrainConfig, name: str, good: bool, expected: str) -> None:
    if not good:
        raise UsageError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected {expected}")


def resolve(config: TrainConfig) -> TrainConfig:
    """Make open choices definite: context length, device, threads. The result gives the run its id.

    Raises:
        UsageError: If the machine lacks what is asked for.
    """
    import torch

    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: found no GPU that torch can use; use --device cpu")
    if config.precision == "bf16" and not has_bf16(device):
        raise UsageError(
            "--precision bf16: this processor has no bf16 units (avx512_bf16, amx_bf16), where it is some 20 times slower; use fp32"
        )
    return dataclasses.replace(
        config,
        device=device,
        context_length=config.context_length or CONTEXT_OF_TEXT[config.text],
        threads=config.threads or len(os.sched_getaffinity(0)),
    )


def has_bf16(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the device computes in bfloat16 natively."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpuinfo.exists():
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(cpuinfo.read_text().split()))
