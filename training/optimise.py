"""How weights change: learning rate, optimiser, clipping, and a running mean of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import nn

from .train_config import TrainConfig

BETAS, EPSILON = (0.9, 0.98), 1e-6
"""AdamW's, as CLIP's (Radford et al. 2021, table 18)."""
MOMENTUM = 0.9


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: a line up, then half a cosine down to zero."""
    if step < config.optimiser.warmup:
        return config.optimiser.lr * (step + 1) / config.optimiser.warmup
    done = (step - config.optimiser.warmup) / max(config.optimiser.steps - config.optimiser.warmup, 1)
    return config.optimiser.lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of what is trainable, with weight decay on matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, others = ([p for p in trained if (p.ndim >= 2) == wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": config.optimiser.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimiser.optimizer == "sgd":
        sgd = torch.optim.SGD(groups, lr=config.optimiser.lr, momentum=MOMENTUM, fused=True)
        for parameter in trained:  # a first step that is skipped would else leave memory that nobody wrote
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    return torch.optim.AdamW(groups, lr=config.optimiser.lr, betas=BETAS, eps=EPSILON, fused=True)


def update(optimizer: torch.optim.Optimizer, skipped: torch.Tensor) -> None:
    """Change the weights, and nothing at all where `skipped`, which lies on their device, is 1 and not 0."""
    optimizer.found_inf = skipped  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.step()  # fused kernels look at it, as they do for torch.amp.GradScaler


def clip_gradients(config: TrainConfig, model: nn.Module) -> torch.Tensor:
    """Scale gradients down to the longest one allowed, and return their length before that."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    if config.optimiser.clip_norm:
        factor = (config.optimiser.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
    return norm


class RunningMean:
    """A running mean of the weights (EMA); batch statistics are the latest ones.

    Its decay rises with the number n of steps before, min(decay, (1 + n) / (10 + n)): of a run of 1,000 steps the random start
    would else be a third of the mean at a decay of 0.999. A step that is skipped leaves the weights, which are taken in once more.

    Source:
        TensorFlow's tf.train.ExponentialMovingAverage, `num_updates`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.tensors = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad} if decay else {}

    def update(self, n_before: int) -> None:
        """Take the weights of this step in, after so many earlier steps."""
        if self._decay:
            decay = min(self._decay, (1 + n_before) / (10 + n_before))
            named = dict(self._model.named_parameters())
            means = list(self.tensors.values())
            latest = [named[name].detach() for name in self.tensors]
            torch._foreach_lerp_(means, latest, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model be the mean while the block runs."""
        with torch.no_grad():
            self._swap()
            try:
                yield
            finally:
                self._swap()

    def _swap(self) -> None:
        named = dict(self._model.named_parameters())
        for name, mean in self.tensors.items():
            latest = named[name].detach().clone()
            named[name].copy_(mean)
            mean.copy_(latest)
