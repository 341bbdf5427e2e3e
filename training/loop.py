"""The training loop: a batch in, a step of the weights; stopped and gone on with at any step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fistful.bow.store.files import write_bytes
from fistful.errors import DataError, Interrupted
from fistful.training import checkpoint as checkpoints
from fistful.training import losses
from fistful.training.config import TrainConfig
from fistful.training.data import Samples
from fistful.training.loader import Batch, Loader
from fistful.training.model import Model, normalise
from fistful.training.progress import report_speed

METRICS = "metrics.jsonl"
METRIC_LINES = 2_000
"""At most so many lines of losses a run; short runs have one a step."""
MAX_SKIPPED = 10
"""Steps that may be skipped for a loss that is no number; a run that needs more has diverged."""
MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: more makes training unstable (Radford et al. 2021, section 2.5)."""
BETAS, EPSILON = (0.9, 0.98), 1e-6
"""AdamW's, as CLIP's (Radford et al. 2021, table 18)."""


@contextlib.contextmanager
def torch_settings(config: TrainConfig) -> Iterator[None]:
    """Set threads, determinism and torch's seed for the block, and put all but the seed back after it."""
    import torch.utils.deterministic as memory

    threads, deterministic, fill = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.set_num_threads(config.threads)
    memory.fill_uninitialized_memory = False  # took 12 % of a step of tiny-resnet, and guards against reading what was never written
    torch.use_deterministic_algorithms(config.device == "cpu")  # on a GPU some pooling has no deterministic form
    torch.manual_seed(config.seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = fill


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and SIGINT into an event while the block runs (in the main thread; elsewhere they stay as they are)."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: a line up, then half a cosine down to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(config: TrainConfig, model: Model) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=BETAS, eps=EPSILON, fused=True)


@dataclasses.dataclass(slots=True)
class Trainer:
    """A model on its way, and all that a step needs."""

    config: TrainConfig
    run: Path
    model: Model
    loader: Loader
    samples: Samples
    belongs: dict[str, Any]
    """Run id and data fingerprints, written into every checkpoint."""
    preprocess: dict[str, Any]
    optimizer: torch.optim.Optimizer = dataclasses.field(init=False)
    word_idf: torch.Tensor = dataclasses.field(init=False)
    step: int = 0
    skipped: list[int] = dataclasses.field(default_factory=list)
    """Steps that were skipped because their loss was no number."""

    def __post_init__(self) -> None:
        model: Any = self.model  # torch's annotations do not know memory_format
        model.to(self.config.device, memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.config, self.model)
        self.word_idf = torch.from_numpy(losses.idf(self.samples.vocabulary.df, self.samples.vocabulary.n_samples)).to(self.config.device)

    def resume(self) -> list[str]:
        """Go back to the newest checkpoint, and return a line for each that could not be read."""
        found, problems = checkpoints.load_newest(self.run, self.belongs)
        if found:
            checkpoints.restore(found, self.model, self.optimizer)
            self.step, self.skipped = found["about"]["step"], found["about"]["skipped"]
        _truncate_metrics(self.run, self.step)
        return problems

    def train(self) -> None:
        """Take all steps that are left.

        Raises:
            Interrupted: After SIGTERM or SIGINT, with a checkpoint of the last step.
            DataError: If too many losses are no numbers.
        """
        config = self.config
        every = -(-config.steps // METRIC_LINES)
        speed = report_speed(self.run / "logs" / "speed.jsonl", self.step, config.steps, config.batch_size, config.progress)
        with stop_signals() as stop, open(self.run / METRICS, "a") as metrics, speed as report:
            for batch in self.loader.batches(self.step, config.steps):
                values = self.take_step(batch)
                self.step += 1
                if self.step % every == 0 or self.step == config.steps:
                    metrics.write(json.dumps({"step": self.step, **values}, sort_keys=True) + "\n")
                report(self.step, values["loss"] or math.nan, self.loader.waited_s)
                if stop.is_set() or (self.step % config.checkpoint_every == 0 and self.step < config.steps):
                    metrics.flush()
                    os.fsync(metrics.fileno())
                    self.save()
                if stop.is_set():
                    raise Interrupted(f"{self.run}: stopped at step {self.step} of {config.steps}; the same command goes on from there")

    def save(self) -> None:
        """Write a checkpoint of this step."""
        about = {**self.belongs, "step": self.step, "skipped": self.skipped}
        checkpoints.save_checkpoint(self.run, self.model, self.optimizer, about, self.config.keep_checkpoints)

    def take_step(self, batch: Batch) -> dict[str, float | None]:
        """Change the weights by one batch and return what to note; a loss that is no number changes nothing."""
        self.model.train()
        lr = learning_rate(self.config, batch.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        parts = self.losses_of(batch)
        loss = torch.stack(list(parts.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                self.model.scale_parameter.clamp_(0, MAX_LOGIT_SCALE)
        else:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self._count_skipped(batch)
        noted = {"loss": loss, **(parts if len(parts) > 1 else {}), "temperature": (-self.model.scale_parameter.detach()).exp()}
        values = {name: float(value.detach()) for name, value in noted.items()}
        return {"lr": lr, **{name: value if math.isfinite(value) else None for name, value in values.items()}}

    def losses_of(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the weighted losses of a batch by name, computed in float32 whatever the towers' precision."""
        config, model, device = self.config, self.model, self.config.device
        images = normalise(batch.images.to(device), self.preprocess["mean"], self.preprocess["std"])
        with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"):
            channels_BC, image_BD = model.image_both(images) if config.has_head else (None, model.encode_image(images))
            text_BD = model.encode_text(tuple(part.to(device) for part in batch.text)) if config.has_text else None
            logits_BV = None if model.head is None else model.head(channels_BC)
        parts = {}
        if text_BD is not None:
            parts["contrastive"] = losses.contrastive(image_BD.float(), text_BD.float(), model.scale_parameter.exp())
        if logits_BV is not None:
            loss = losses.softmax_idf(logits_BV, batch.bag_rows.to(device), batch.bag_words.to(device), self.word_idf)
            parts["words"] = loss * (config.word_weight if config.objective == "joint" else 1.0)
        return parts

    def _count_skipped(self, batch: Batch) -> None:
        self.skipped.append(batch.step)
        if len(self.skipped) > MAX_SKIPPED:
            keys = ", ".join(self.samples.keys[int(row)].as_py() for row in batch.rows[:5])
            raise DataError(
                f"{self.run}: the loss was no number in {len(self.skipped)} steps, at last in step {batch.step} "
                f"(samples {keys}, ...); at most {MAX_SKIPPED} are skipped; a smaller --lr helps"
            )

    def head_statistics(self, n_samples: int = 2_048) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return mean and standard deviation of each word's logit over training pictures; None without a head."""
        if self.model.head is None:
            return None
        members = np.sort(np.concatenate([self.loader.order.real.members, self.loader.order.pseudo.members]))
        rows = members[np.linspace(0, len(members) - 1, min(n_samples, len(members)), dtype=np.int64)]
        self.model.eval()
        logits = [self._logits(rows[start : start + 64]) for start in range(0, len(rows), 64)]
        stacked = torch.cat(logits).double()
        return stacked.mean(0).float(), stacked.std(0, correction=0).clamp_min(1e-6).float()

    def _logits(self, rows: np.ndarray) -> torch.Tensor:
        from fistful.training.pixels import centre

        size = self.loader.size
        images = np.stack([centre(self.loader.pictures.get(int(row))[1], size) for row in rows])
        with torch.inference_mode():
            images = normalise(torch.from_numpy(images).to(self.config.device), self.preprocess["mean"], self.preprocess["std"])
            assert self.model.head is not None
            return self.model.head(self.model.channels(images)).cpu()


def _truncate_metrics(run: Path, step: int) -> None:
    """Drop the lines of steps that will be taken again, a half-written last line among them."""
    path = run / METRICS
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            break
        if value["step"] > step:
            break
        kept.append(line + "\n")
    write_bytes(run, METRICS, "".join(kept).encode())
