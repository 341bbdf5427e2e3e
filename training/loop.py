"""The training loop: a batch in, a step of the weights; stopped and gone on with at any step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fistful.bow.store.files import write_bytes
from fistful.errors import DataError, Interrupted

from . import checkpoint as checkpoints
from .data.loader import Batch, Loader, Text
from .data.samples import TrainingSamples
from .distributed import Ranks
from .losses import Objective, Seen, objectives_of
from .model.model import Model, normalise
from .optimise import RunningMean, clip_gradients, learning_rate, make_optimizer
from .speed import report_speed
from .train_config import TrainConfig

METRICS = "metrics.jsonl"
METRIC_LINES = 2_000
"""At most so many lines of losses a run; short runs have one a step."""
MAX_SKIPPED = 10
"""Steps that may be skipped for a loss that is no number; a run that needs more has diverged."""
MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: more makes training unstable (Radford et al. 2021, section 2.5)."""

Embedded = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""Images (B, D), texts (B, D), channels (B, C); None for what nothing looks at."""


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


@dataclasses.dataclass(slots=True)
class Trainer:
    """A model on its way, and all that a step needs."""

    config: TrainConfig
    run: Path
    model: Model
    loader: Loader
    samples: TrainingSamples
    belongs: dict[str, Any]
    """Run id and data fingerprints, written into every checkpoint."""
    preprocess: dict[str, Any]
    ranks: Ranks = Ranks()
    score: Callable[[], dict[str, float]] | None = None
    """Evaluates the model as it is; the first score decides which is the best."""
    device: str = dataclasses.field(init=False)
    optimizer: torch.optim.Optimizer = dataclasses.field(init=False)
    objectives: dict[str, tuple[float, Objective]] = dataclasses.field(init=False)
    mean: RunningMean = dataclasses.field(init=False)
    step: int = 0
    skipped: list[int] = dataclasses.field(default_factory=list)
    """Steps that were skipped because their loss was no number."""
    evaluated: list[list[float]] = dataclasses.field(default_factory=list)
    """Step and first score of each evaluation."""

    def __post_init__(self) -> None:
        self.device = f"cuda:{self.ranks.local}" if self.config.device == "cuda" else "cpu"
        model: Any = self.model  # torch's annotations do not know memory_format
        model.to(self.device, memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.config, self.model)
        self.mean = RunningMean(self.model, self.config.ema)
        words = self.samples.vocabulary
        self.objectives = objectives_of(self.config, words.df, words.n_samples, self.ranks)

    def resume(self) -> list[str]:
        """Go back to the newest checkpoint, and return a line for each that could not be read."""
        found, problems = checkpoints.load_newest(self.run, self.belongs)
        if found:
            more = checkpoints.restore(found, self.model, self.optimizer)
            about = found["about"]
            self.step, self.skipped, self.evaluated = about["step"], about["skipped"], about["evaluated"]
            for kind, tensors in self._remembered().items():
                tensors |= {name.removeprefix(f"{kind}."): t.to(self.device) for name, t in more.items() if name.startswith(f"{kind}.")}
        if self.ranks.rank == 0:
            _truncate_metrics(self.run, self.step, {step for step, _ in self.evaluated})
        return problems

    def _remembered(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"mean": self.mean.tensors, **{name: objective.tensors for name, (_, objective) in self.objectives.items()}}

    def train(self, stop: threading.Event) -> None:
        """Take all steps that are left.

        Raises:
            Interrupted: When `stop` is set, with a checkpoint of the last step.
            DataError: If too many losses are no numbers.
        """
        config, first = self.config, self.ranks.rank == 0
        every = -(-config.steps // METRIC_LINES)
        speed = report_speed(self.run / "logs", self.step, config, config.progress and first, first)
        with open(self.run / METRICS if first else os.devnull, "a") as metrics, speed as report:
            for batch in self.loader.batches(self.step, config.steps):
                values, stopped = self.take_step(batch, stop)
                self.step += 1
                if self.step % every == 0 or self.step == config.steps:
                    metrics.write(json.dumps({"step": self.step, **values}, sort_keys=True) + "\n")
                report(self.step, values, self.loader.waited_s)
                due = self.score is not None and config.evaluate_every > 0 and self.step % config.evaluate_every == 0
                if due and self.step < config.steps:
                    metrics.write(json.dumps({"step": self.step, "scores": self.evaluate()}, sort_keys=True) + "\n")
                if due or stopped or (self.step % config.checkpoint_every == 0 and self.step < config.steps):
                    metrics.flush()
                    if first:
                        os.fsync(metrics.fileno())
                    self.save()
                if stopped:
                    raise Interrupted(f"{self.run}: stopped at step {self.step} of {config.steps}; the same command goes on from there")

    def evaluate(self) -> dict[str, float]:
        """Evaluate the model as it is now, and keep its weights if no earlier ones were better."""
        assert self.score is not None
        with self.mean.in_place():
            scores = self.ranks.by_first(self.score)
            self.evaluated.append([self.step, next(iter(scores.values()))])
            if self.ranks.rank == 0 and checkpoints.best_step(self.evaluated, self.step) == self.step:
                checkpoints.save_weights(self.run, checkpoints.best_name(self.step), self.model)
        return scores

    def save(self) -> None:
        """Write a checkpoint of this step; all ranks have the same weights, so the first one does."""
        if self.ranks.rank == 0:
            about = {**self.belongs, "step": self.step, "skipped": self.skipped, "evaluated": self.evaluated}
            more = {f"{kind}.{name}": tensor for kind, tensors in self._remembered().items() for name, tensor in tensors.items()}
            checkpoints.save_checkpoint(self.run, self.model, self.optimizer, more, about, self.config.keep_checkpoints)
        self.ranks.wait()

    def take_step(self, batch: Batch, stop: threading.Event) -> tuple[dict[str, float | None], bool]:
        """Change the weights by one batch; a loss that is no number changes nothing.

        Returns:
            What to note, and whether any rank was asked to stop.
        """
        self.model.train()
        lr = learning_rate(self.config, batch.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.compute_gradients(batch)
        self.ranks.average_gradients(self.model.parameters())
        norm = clip_gradients(self.config, self.model)
        told = torch.stack([*parts.values(), norm, torch.tensor(float(stop.is_set()), device=norm.device)])
        *losses, norm_now, asked = self.ranks.mean(told).tolist()
        loss = sum(losses)
        if math.isfinite(loss) and math.isfinite(norm_now):
            self._apply()
        else:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self._count_skipped(batch)
        noted = {"loss": loss, **(dict(zip(parts, losses, strict=True)) if len(parts) > 1 else {})}
        noted["temperature"] = float((-self.model.scale_parameter.detach()).exp())
        return {"lr": lr, **{name: value if math.isfinite(value) else None for name, value in noted.items()}}, asked > 0

    def _apply(self) -> None:
        self.optimizer.step()
        with torch.no_grad():
            self.model.scale_parameter.clamp_(0, MAX_LOGIT_SCALE)
            self.ranks.average_buffers(self.model)
            self.mean.update(self.step - len(self.skipped))
        for _, objective in self.objectives.values():
            objective.learnt()

    def compute_gradients(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the weighted losses of a batch by name, and their gradients; in parts if so asked.

        In parts, embeddings of all samples are computed first, without a graph; the losses say how they should
        change; then each part is computed again and told so (GradCache, Gao et al. 2021, arXiv 2101.06983).
        """
        if self.config.accumulation == 1:
            parts = self.losses_of(batch, self.embed(batch.images, batch.text))
            torch.stack(list(parts.values())).sum().backward()
            return {name: loss.detach() for name, loss in parts.items()}
        n = self.config.accumulation
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        found, random = [], []
        with torch.no_grad():
            for images, text in batch.parts(n):
                random.append(get_random_state(self.device))
                found.append(self.embed(images, text))
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        whole: Any = [None if kind[0] is None else torch.cat(kind).requires_grad_() for kind in zip(*found, strict=True)]
        parts = self.losses_of(batch, tuple(whole))
        torch.stack(list(parts.values())).sum().backward()
        for (start, stop), (images, text), state in zip(batch.edges(n), batch.parts(n), random, strict=True):
            set_random_state(self.device, state)  # dropout drops the same again
            wanted = [(now, all_.grad[start:stop]) for now, all_ in zip(self.embed(images, text), whole, strict=True) if now is not None]
            wanted = [(now, gradient) for now, gradient in wanted if now.requires_grad]
            if wanted:
                torch.autograd.backward(*map(list, zip(*wanted, strict=True)))
        return {name: loss.detach() for name, loss in parts.items()}

    def embed(self, images: torch.Tensor, text: Text) -> Embedded:
        """Send samples through the towers; float32 comes out, whatever the towers' precision."""
        config, model = self.config, self.model
        images = images.to(self.device, non_blocking=True)
        frozen = config.train_image == "none"
        ready = images.float() if frozen else normalise(images, self.preprocess["mean"], self.preprocess["std"])
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=config.precision == "bf16"):
            if frozen or config.has_head:
                channels_BC, image_BD = model.finish(ready) if frozen else model.image_both(ready)
            else:
                channels_BC, image_BD = None, model.encode_image(ready)
            text_BD = model.encode_text(tuple(part.to(self.device) for part in text)) if config.has_text else None
        used = image_BD if config.has_text else None, text_BD, channels_BC if config.has_head else None
        return tuple(None if tensor is None else tensor.float() for tensor in used)  # pyright: ignore[reportReturnType]

    def losses_of(self, batch: Batch, embedded: Embedded) -> dict[str, torch.Tensor]:
        """Return the weighted losses of a batch by name."""
        image_BD, text_BD, channels_BC = embedded
        seen = Seen(
            number_B=torch.from_numpy(batch.rows).to(self.device),
            weight_B=batch.weights.to(self.device),
            image_BD=image_BD,
            text_BD=text_BD,
            channels_BC=channels_BC,
            bag_rows=batch.bag_rows.to(self.device),
            bag_words=batch.bag_words.to(self.device),
            bag_weights=batch.bag_weights.to(self.device),
        )
        return {name: weight * objective(self.model, seen) for name, (weight, objective) in self.objectives.items()}

    def _count_skipped(self, batch: Batch) -> None:
        self.skipped.append(batch.step)
        keys = [self.samples.keys[int(row)].as_py() for row in batch.rows]
        with open(self.run / "logs" / f"skipped-{self.ranks.rank}.jsonl", "a") as log:
            log.write(json.dumps({"step": batch.step, "keys": keys}) + "\n")
        if len(self.skipped) > MAX_SKIPPED:
            raise DataError(
                f"{self.run}: the loss was no number in {len(self.skipped)} steps, at last in step {batch.step} "
                f"(samples {', '.join(keys[:5])}, ...); at most {MAX_SKIPPED} are skipped; a smaller --lr helps"
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
        assert self.model.head is not None
        with torch.inference_mode():
            if self.loader.features is not None:
                channels = self.model.finish(torch.from_numpy(self.loader.features.take(rows)[1]).to(self.device).float())[0]
            else:
                images = torch.from_numpy(np.stack([self.loader.pictures.plain(int(row)) for row in rows])).to(self.device)
                channels = self.model.channels(normalise(images, self.preprocess["mean"], self.preprocess["std"]))
            return self.model.head(channels).cpu()


def get_random_state(device: str) -> list[torch.Tensor]:
    """Return torch's random state on the CPU and, where that is another, on the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device != "cpu" else [])]


def set_random_state(device: str, state: list[torch.Tensor]) -> None:
    """Put back what `get_random_state` returned."""
    torch.set_rng_state(state[0])
    for on_device in state[1:]:
        torch.cuda.set_rng_state(on_device, device)


def _truncate_metrics(run: Path, step: int, evaluated: set[float]) -> None:
    """Drop the lines of steps and evaluations that will come again, a half-written last line among them."""
    path = run / METRICS
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            break
        if value["step"] > step or ("scores" in value and value["step"] not in evaluated):
            break
        kept.append(line + "\n")
    write_bytes(run, METRICS, "".join(kept).encode())
