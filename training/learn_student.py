"""A student learns what its teacher says of captions: steps in torch, a folder that needs none.

Loss: 1 - the cosine of student and teacher, and the divergence (KL) of the student's softmax over the similarities to a queue of
other captions from the teacher's, at the teacher's own temperature, divided by the scale that this temperature is: it multiplies the
gradient too, and a scale of 100 would leave nothing of the cosine. Of a classifier the divergence of labels alone.

Shape suffixes: B captions of a batch, Q of the queue, D numbers of an embedding.

Source:
    Sparse Distillation (Ye et al. 2022, arXiv 2110.08536): student, SparseAdam beside Adam, warm-up of 6 % and a line down.
    SEED (Fang et al. 2021, arXiv 2101.04731): similarities to a queue as what a student of embeddings learns.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, normalize

from fistful.bow import student
from fistful.bow.ngrams import NgramTable
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.model_folder import FOLDER
from fistful.bow.student import StudentWeights
from fistful.errors import Interrupted
from fistful.progress import progress_bar

from . import checkpoint
from .distributed import Ranks
from .lessons import Lessons
from .metrics_file import METRIC_LINES, METRICS, check_learnt, truncate_metrics, write_metrics
from .model.student import LAYERS, Student, StudentLineage, write_student
from .student_options import StudentOptions
from .surroundings import locked, stop_signals, torch_settings
from .text_labels import Head

QUEUE = 4_096
"""Captions that the similarities are to: those before the batch in the order."""
WARMUP = 0.06
BETAS, EPSILON, WEIGHT_DECAY = (0.9, 0.98), 1e-6, 0.01
TABLE_LR = 100.0
"""The table's learning rate, in those of the layers: most n-grams are met a few times only, and Adam moves each by so much a time."""
FIRST_STD = 0.02
"""Standard deviation of the first embeddings: small, since an n-gram that is met a few times keeps much of its first one."""


@dataclasses.dataclass(frozen=True, slots=True)
class StudentJob:
    """A student to be, all choices made."""

    run: Path
    options: StudentOptions
    """With device and threads made definite."""
    lessons: Lessons
    table: NgramTable
    texts: list[str]
    """The table's n-grams, written out."""
    lineage: StudentLineage
    content: dict[str, str]
    """SHA-256 of the captions' files."""
    head: Head | None
    """What makes labels of the teacher's embeddings; None where the student learns these themselves."""
    progress: bool

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return max(1, round(self.options.epochs * len(self.lessons.shown) / self.options.batch_size))


class Net(nn.Module):
    """What learns; its state becomes StudentWeights."""

    def __init__(self, n_rows: int, dim: int, width: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(n_rows, dim, mode="mean", sparse=True)
        nn.init.normal_(self.table.weight, std=FIRST_STD)
        self.hidden, self.out = nn.Linear(dim, dim), nn.Linear(dim, width)

    def forward(self, rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Return what the student says of texts, not normalised, for the rows of one after the other and where each begins."""
        return self.out(torch.tanh(self.hidden(self.table(rows, starts))))

    def weights(self) -> StudentWeights:
        """Return the weights for numpy, the table as its file will have it."""
        state = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        state["table"] = state.pop("table.weight").astype(np.float16).astype(np.float32)
        return StudentWeights(**{field: state[name] for name, field in LAYERS.items()})


def student_loss(said_BD: torch.Tensor, teacher_BD: torch.Tensor, queue_QD: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
    """Return the parts of the loss, means over the batch, not weighted.

    Args:
        said_BD: What the student says.
        teacher_BD: The teacher's embeddings, of length 1.
        queue_QD: The teacher's of other captions.
        scale: What the teacher's cosines are multiplied by before a softmax.
    """
    student_BD = normalize(said_BD, dim=1)
    log_student_BQ = (scale * student_BD @ queue_QD.T).log_softmax(dim=1)
    log_teacher_BQ = (scale * teacher_BD @ queue_QD.T).log_softmax(dim=1)
    return {
        "cosine": 1 - (student_BD * teacher_BD).sum(dim=1).mean(),
        "similarities": kl_div(log_student_BQ, log_teacher_BQ, reduction="batchmean", log_target=True),
    }


def label_loss(said_BC: torch.Tensor, teacher_BD: torch.Tensor, head: Head) -> dict[str, torch.Tensor]:
    """Return the divergence (KL) of the student's probabilities of labels from the teacher's, at temperature 1.

    Args:
        said_BC: What the student says: logits.
        teacher_BD: The teacher's embeddings.
        head: Makes labels of them.
    """
    weight_CD, bias_C = (torch.from_numpy(part).to(teacher_BD.device) for part in (head.weight_CD, head.bias_C))
    logits_BC = teacher_BD @ weight_CD.T + bias_C
    if not head.several:
        return {"labels": kl_div(said_BC.log_softmax(dim=1), logits_BC.log_softmax(dim=1), reduction="batchmean", log_target=True)}
    shares_BC = logits_BC.sigmoid()
    least = binary_cross_entropy_with_logits(logits_BC, shares_BC, reduction="sum")  # what a perfect student would have
    return {"labels": (binary_cross_entropy_with_logits(said_BC, shares_BC, reduction="sum") - least) / len(said_BC)}


def learning_rate(options: StudentOptions, step: int, n_steps: int) -> float:
    """Return the learning rate of a step: a line up over WARMUP of the steps, then a line down to zero."""
    warmup = max(1, round(WARMUP * n_steps))
    return options.lr * min((step + 1) / warmup, (n_steps - step) / max(1, n_steps - warmup), 1.0)


@dataclasses.dataclass(slots=True)
class Learner:
    """A student on its way."""

    job: StudentJob
    net: Net
    dense: torch.optim.AdamW
    sparse: torch.optim.SparseAdam
    belongs: dict[str, Any]
    step: int = 0

    def resume(self) -> list[str]:
        """Go back to the newest checkpoint, and return a line for each that could not be read."""
        found, problems = checkpoint.load_newest(self.job.run, self.belongs)
        if found:
            moments = checkpoint.restore(found, self.net, self.dense)
            self.step = found["about"]["step"]
            weight = self.net.table.weight
            self.sparse.state[weight] = {"step": self.step, **{name: moment.to(weight.device) for name, moment in moments.items()}}
        truncate_metrics(self.job.run, self.step, set())
        return problems

    def save(self) -> None:
        """Write a checkpoint of this step."""
        state = self.sparse.state[self.net.table.weight]
        moments = {name: state[name] for name in ("exp_avg", "exp_avg_sq")}
        checkpoint.save_checkpoint(self.job.run, self.net, self.dense, moments, {**self.belongs, "step": self.step}, 1)

    def queue(self) -> torch.Tensor:
        """Return the teacher's embeddings of the captions before this step in the order."""
        first = self.step * self.job.options.batch_size
        return self._teacher(self.job.lessons.at(np.arange(first - QUEUE, first), self.job.options.seed))

    def learn(self, queue_QD: torch.Tensor) -> tuple[dict[str, float], torch.Tensor]:
        """Take a step; return the losses, and the queue of the next one."""
        options, lessons = self.job.options, self.job.lessons
        captions = lessons.batch(self.step, options.batch_size, options.seed)
        teacher_BD, rows = self._teacher(captions), lessons.ngrams(captions)
        rate = learning_rate(options, self.step, self.job.n_steps)
        for optimizer, times in ((self.dense, 1.0), (self.sparse, TABLE_LR)):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = times * rate
        said_BD = self.net(*(torch.from_numpy(part).long().to(self.job.options.device) for part in (rows.values, rows.offsets[:-1])))
        if self.job.head is None:
            parts, scale = student_loss(said_BD, teacher_BD, queue_QD, self.job.lineage.logit_scale), self.job.lineage.logit_scale
            loss = parts["cosine"] + parts["similarities"] / scale
        else:
            parts = label_loss(said_BD, teacher_BD, self.job.head)
            loss = parts["labels"]
        loss.backward()
        self.dense.step()
        self.sparse.step()
        self.step += 1
        return {name: value.item() for name, value in {"loss": loss, **parts}.items()}, torch.cat([queue_QD, teacher_BD])[-QUEUE:]

    def _teacher(self, captions: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.job.lessons.teacher(captions)).to(self.job.options.device)


def learn_student(job: StudentJob) -> Path:
    """Let a student learn, and write its folder; the same call goes on after an interruption.

    Raises:
        Interrupted: After SIGTERM or SIGINT, with a checkpoint.
        DataError: If nothing was learnt.
    """
    options = job.options
    with locked(job.run, Ranks()), torch_settings(options.threads, options.seed, options.device), stop_signals() as stop:
        if (job.run / manifest.MANIFEST).exists():
            return job.run
        learner = make_learner(job)
        for problem in learner.resume():
            print(problem, file=sys.stderr)
        _take_steps(learner, stop)
        learner.save()  # whatever fails from here on, the same command need not learn again
        check_learnt(job.run)
        _write(learner)
        checkpoint.remove_all(job.run)
        manifest.finish(job.run, {}, job.content)
    return job.run


def make_learner(job: StudentJob) -> Learner:
    """Return a student before its first step."""
    width = len(job.head.labels) if job.head else job.lessons.targets[0].shape[1]
    net = Net(job.table.n_rows, job.options.dim, width).to(job.options.device)
    layers = [*net.hidden.parameters(), *net.out.parameters()]
    dense = torch.optim.AdamW(layers, lr=job.options.lr, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY)
    sparse = torch.optim.SparseAdam([net.table.weight], lr=job.options.lr, betas=BETAS, eps=EPSILON)
    return Learner(job, net, dense, sparse, {"id": job.lineage.config_id})


def _take_steps(learner: Learner, stop: threading.Event) -> None:
    job, n_steps = learner.job, learner.job.n_steps
    every, first, queue_QD = -(-n_steps // METRIC_LINES), learner.step, learner.queue()
    with open(job.run / METRICS, "a") as metrics, progress_bar("distill", n_steps - first, job.progress) as update:
        while learner.step < n_steps:
            values, queue_QD = learner.learn(queue_QD)
            if learner.step % every == 0 or learner.step == n_steps:
                write_metrics(metrics, learner.step, values)
            update(learner.step - first, f"loss {values['loss']:.3f}")
            last = stop.is_set() and learner.step < n_steps
            if last or (learner.step % job.options.checkpoint_every == 0 and learner.step < n_steps):
                _to_disk(metrics)
                learner.save()
            if last:
                raise Interrupted(f"{job.run}: stopped at step {learner.step} of {n_steps}; the same command goes on from there")


def _to_disk(metrics: TextIO) -> None:
    """Let no checkpoint be newer than the lines of its steps."""
    metrics.flush()
    os.fsync(metrics.fileno())


def _write(learner: Learner) -> None:
    """Write the student's folder, with how near it comes to its teacher, as numpy will say it."""
    job = learner.job
    made = Student(learner.net.weights(), job.table, job.lineage)
    scores = _scores(made.weights, job) if len(job.lessons.held_out) else {}
    with open(job.run / METRICS, "a") as metrics:
        write_metrics(metrics, learner.step, {"scores": scores})
    write_student(job.run, FOLDER, made, job.texts, {"captions": len(job.lessons.shown), "steps": job.n_steps, **scores})


def _scores(weights: StudentWeights, job: StudentJob) -> dict[str, Any]:
    """Return how near a student comes to its teacher in captions that it did not learn from: mean cosine, or how often labels agree."""
    captions, head = job.lessons.held_out, job.head
    found, teacher_ND = job.lessons.ngrams(captions), job.lessons.teacher(captions).astype(np.float64)
    rows = Ragged(found.offsets, found.values.astype(np.int64))
    if head is None:
        figure, same = "held_out_cosine", (student.embed(weights, rows).astype(np.float64) * teacher_ND).sum(axis=1)
    else:
        logits_NC, said_NC = teacher_ND @ head.weight_CD.T + head.bias_C, student.outputs(weights, rows)
        same = (logits_NC > 0) == (said_NC > 0) if head.several else logits_NC.argmax(axis=1) == said_NC.argmax(axis=1)
        figure = "held_out_agreement"
    return {"held_out_captions": len(captions), figure: round(float(same.mean()), 4)}
