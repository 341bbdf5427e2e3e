"""The tuning lab: `make evidence-tune`. What do one percent of the weights reach, beside all of them and beside the last layer alone?

    python -m benchmarks.evidence_tune --seeds 0 1 2 3 4 --out tune-out    # learns and scores what is missing
    python -m benchmarks.evidence_tune --figures --out tune-out            # benchmarks/results/tune-DATE.json

MiniLM, a pretrained transformer of six layers, tells what a shop says of its products (FISTFUL_DATA's fashion titles) from K labelled
titles, by a linear layer on the mean of its last layer. The modules are those of `fistful train --tune`, on blocks of BERT's order of
layers. Each row takes the same batches and steps; its learning rate was chosen on another task and draw (`--choose`). Beside each
score stands what it forgets: of photos of other people's, how often the nearest caption is another one of the same photo.

Source:
    UniPELT (Mao et al. 2022, arXiv 2110.07577), tables 1 and 2: means over GLUE's tasks at K = 100, 500, 1,000.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fistful.bow.store.files import read_json, write_json
from fistful.training.model.tune import TowerTuning

from .evidence_text_data import Task, read_captions_of_photos, read_tasks
from .measure import RESULTS, over_seeds, write_results
from .minilm import MiniLM, minilm

TASKS = ("type", "colour", "subcategory", "usage", "category", "gender", "season")
SIZES = (100, 300, 1_000)
STEPS, BATCH = {100: 40, 300: 60, 1_000: 100}, 16
TESTED, PHOTOS = 500, 200
RATES: dict[str, float] = {
    "probe": 3e-2,
    "last layer": 1e-3,
    "full": 3e-4,
    "adapter": 1e-2,
    "lora": 1e-2,
    "prefix": 3e-3,
    "gated": 3e-3,
    "gates at 1": 3e-3,
}
"""Rows, each with the best of the learning rates 3e-4, 1e-3, 3e-3, 1e-2 and so on at which it was tried (a third and three times of it
are worse) on task `type`, K = 100, of a draw that nothing else uses; open gates have that of gates. The linear layer has 1e-2 at least."""
CHOOSING, HEAD_RATE = 1_000, 1e-2
TUNES = {"adapter": "adapter", "lora": "lora", "prefix": "prefix", "gated": "gated", "gates at 1": "gated"}
SINGLE = ("adapter", "lora", "prefix")


class Block(nn.Module):
    """A layer of BERT, built as open_clip's are: attention and a feed-forward network by these names, so that they can be tuned."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def attention(self, q_x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the attention adds."""
        return self.attn(q_x, q_x, q_x, need_weights=False, attn_mask=attn_mask)[0]

    def forward(self, x_BLW: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what the next layer reads; layers are normalised after they are added, not before."""
        x_BLW = self.ln_1(x_BLW + self.attention(q_x=x_BLW, attn_mask=mask))
        return self.ln_2(x_BLW + self.mlp(x_BLW))


class Reader(nn.Module):
    """MiniLM as a network that can learn, and a linear layer behind it."""

    def __init__(self, source: MiniLM, n_labels: int) -> None:
        super().__init__()
        weights, self._source = source.weights, source
        words, width = weights["embeddings.word_embeddings.weight"], weights["embeddings.word_embeddings.weight"].shape[1]
        self.words, self.places = nn.Embedding.from_pretrained(words.clone(), freeze=False), nn.Parameter(self._of("position").clone())
        self.kind, self.norm = nn.Parameter(self._of("token_type")[0].clone()), nn.LayerNorm(width, eps=1e-12)
        hidden = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
        self.blocks = nn.ModuleList(Block(width, source.n_heads, hidden) for _ in range(source.n_layers))
        self._load()
        self.head = nn.Linear(width, n_labels)
        self.tuning: TowerTuning | None = None

    def _of(self, kind: str) -> torch.Tensor:
        return self._source.weights[f"embeddings.{kind}_embeddings.weight"]

    def _load(self) -> None:
        weights = self._source.weights
        theirs = {"ln_1": "attention.output.LayerNorm", "ln_2": "output.LayerNorm", "mlp.0": "intermediate.dense", "mlp.2": "output.dense"}
        theirs |= {"attn.out_proj": "attention.output.dense"}
        for kind in ("weight", "bias"):
            for number, block in enumerate(self.blocks):
                at = f"encoder.layer.{number}."
                state = {f"{ours}.{kind}": weights[f"{at}{name}.{kind}"] for ours, name in theirs.items()}
                packed = [weights[f"{at}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
                block.load_state_dict({**state, f"attn.in_proj_{kind}": torch.cat(packed)}, strict=False)
            self.norm.load_state_dict({kind: weights[f"embeddings.LayerNorm.{kind}"]}, strict=False)

    def tune(self, row: str) -> None:
        """Choose what learns."""
        for parameter in self.parameters():
            parameter.requires_grad_(row == "full")
        for parameter in self.blocks[-1].parameters():
            parameter.requires_grad_(row in ("full", "last layer"))
        self.head.requires_grad_(True)
        if row in TUNES:
            self.tuning = TowerTuning(TUNES[row], self.blocks, is_plain=False)  # pyright: ignore[reportArgumentType]
        if row == "gates at 1" and self.tuning is not None:
            for layer in self.tuning.layers:
                layer.gates = nn.ModuleDict({part: One() for part in SINGLE})

    def embed(self, tokens: Sequence[list[int]]) -> torch.Tensor:
        """Return the mean of the last layer over each text's tokens, (B, W)."""
        length = max(map(len, tokens))
        is_text_BL = torch.tensor([[i < len(row) for i in range(length)] for row in tokens])
        padded_BL = torch.tensor([row + [0] * (length - len(row)) for row in tokens])
        if self.tuning is not None:
            self.tuning.is_text_BL = is_text_BL
        hidden = torch.zeros(is_text_BL.shape).masked_fill(~is_text_BL, -torch.inf)
        mask = hidden[:, None, None].expand(-1, self._source.n_heads, length, -1).reshape(-1, length, length)
        x_BLW = self.norm(self.words(padded_BL) + self.places[:length] + self.kind)
        for block in self.blocks:
            x_BLW = block(x_BLW, mask)
        return (x_BLW * is_text_BL[..., None]).sum(dim=1) / is_text_BL.sum(dim=1, keepdim=True)


class One(nn.Module):
    """A gate that is open."""

    def forward(self, x_BLW: torch.Tensor, _: Any) -> torch.Tensor:
        """Return 1 for each sample."""
        return torch.ones(len(x_BLW), 1, 1)


# Learning and scoring

Tokens = Callable[[str], list[int]]


@dataclasses.dataclass(frozen=True, slots=True)
class Lab:
    """What all rows share."""

    source: MiniLM
    tasks: dict[str, Task]
    photos: tuple[list[str], list[str]]
    """Two captions of each photo that nothing here learns from."""
    tokens: Tokens
    out: Path


def learn(lab: Lab, task: Task, row: str, k: int, seed: int, rate: float) -> Reader:
    """Learn from k labelled titles."""
    torch.manual_seed(seed)
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(~task.is_test))[:k]
    reader = Reader(lab.source, len(task.labels))
    reader.tune(row)
    named = [(name, p) for name, p in reader.named_parameters() if p.requires_grad]
    heads = [p for name, p in named if name.startswith("head.")]
    optimizer = torch.optim.AdamW(
        [{"params": heads, "lr": max(rate, HEAD_RATE)}, {"params": [p for name, p in named if not name.startswith("head.")]}], lr=rate
    )
    texts, labels = [lab.tokens(task.texts[i]) for i in drawn], torch.from_numpy(task.marks_NC[drawn].argmax(axis=1))
    order, steps = np.random.default_rng([seed, k]), STEPS[k]
    shown = np.concatenate([order.permutation(len(drawn)) for _ in range(-(-steps * BATCH // len(drawn)))])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    reader.train()
    for step in range(steps):
        rows = shown[step * BATCH : (step + 1) * BATCH].tolist()
        loss = functional.cross_entropy(reader.head(reader.embed([texts[i] for i in rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return reader.eval()


@torch.inference_mode()
def score(lab: Lab, task: Task, reader: Reader) -> dict[str, float]:
    """Return the accuracy on titles for evaluation, and of how many photos the nearest caption is their own other one."""
    asked = np.flatnonzero(task.is_test)[:TESTED]
    said = reader.head(_embedded(lab, reader, [task.texts[i] for i in asked])).argmax(dim=1).numpy()
    first, second = (functional.normalize(_embedded(lab, reader, texts), dim=1) for texts in lab.photos)
    nearest = (first @ second.T).argmax(dim=1).numpy()
    kept = sum(p.numel() for name, p in reader.named_parameters() if p.requires_grad and not name.startswith("head."))
    return {
        "accuracy": float((said == task.marks_NC[asked].argmax(axis=1)).mean()),
        "elsewhere": float((nearest == np.arange(len(nearest))).mean()),
        "learnt": float(kept if reader.tuning is None else sum(t.numel() for t in _kept(reader))),
    }


def _kept(reader: Reader) -> list[torch.Tensor]:
    assert reader.tuning is not None
    made = [] if reader.tuning.prefixes is None else [reader.tuning.prefixes.made()]
    return [p for name, p in reader.tuning.named_parameters() if not name.startswith("prefixes.")] + made


def _embedded(lab: Lab, reader: Reader, texts: Sequence[str]) -> torch.Tensor:
    """Return what the reader makes of texts, (N, W); those of about one length together, for little is padded then."""
    tokens = [lab.tokens(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    found = torch.cat([reader.embed([tokens[i] for i in order[start : start + 64]]) for start in range(0, len(texts), 64)])
    return found[torch.tensor(order).argsort()]


def go(lab: Lab, seeds: Sequence[int], sizes: Sequence[int], rows: Sequence[str]) -> None:
    """Learn and score what is missing: OUT/scores/K/TASK/ROW/SEED.json."""
    for seed in seeds:
        for k in sizes:
            for name, task in lab.tasks.items():
                for row in rows:
                    place = lab.out / "scores" / str(k) / name / row / f"{seed}.json"
                    if place.exists():
                        continue
                    start = time.monotonic()
                    found = score(lab, task, learn(lab, task, row, k, seed, RATES[row]))
                    write_json(place.parent, place.name, found)
                    print(f"seed {seed} K {k} {name:12} {row:12} {found['accuracy']:.3f}  {time.monotonic() - start:.0f} s", flush=True)


def choose(lab: Lab, rows: Sequence[str]) -> None:
    """Print what each row reaches by its learning rate, a third and three times of it, on draws that nothing else uses."""
    task = lab.tasks["type"]
    for row in rows:
        for rate in (RATES[row] / 3, RATES[row], RATES[row] * 3):
            reader = learn(lab, task, row, 100, CHOOSING, rate)
            print(f"{row:12} {rate:.1e}  {score(lab, task, reader)['accuracy']:.3f}", flush=True)


# Figures


def figures_of(out: Path) -> dict[str, Any]:
    """Return means by K, task and row, and by K the differences that are asked about, paired over seeds."""
    scores: dict[str, Any] = {}
    for place in sorted((out / "scores").glob("*/*/*/*.json")):
        k, task, row = place.parts[-4:-1]
        scores.setdefault(k, {}).setdefault(task, {}).setdefault(row, {})[int(place.stem)] = read_json(place)
    found: dict[str, Any] = {}
    for k, tasks in scores.items():
        rows = {row for of_task in tasks.values() for row in of_task}
        whole = [task for task in tasks if set(tasks[task]) == rows]
        seeds = sorted(set.intersection(*(set(tasks[task][row]) for task in whole for row in rows)))
        by_task = {task: {row: _mean(tasks[task], row, seeds, "accuracy") for row in sorted(rows)} for task in whole}
        found[k] = {"seeds": len(seeds), "accuracy_by_task": by_task}
        for figure in ("accuracy", "elsewhere", "learnt"):
            found[k][figure] = {row: float(np.mean([_mean(tasks[task], row, seeds, figure) for task in whole])) for row in sorted(rows)}
        asked = {
            "gated - best single method of each task": _best_single,
            "gated - gates at 1": lambda of, s: of["gates at 1"][s]["accuracy"],
        }
        asked |= {f"gated - {row}": functools.partial(_of_row, row) for row in ("full", "last layer", "probe", *SINGLE)}
        for name, other in asked.items():
            found[k][name] = over_seeds(
                [float(np.mean([tasks[t]["gated"][s]["accuracy"] - other(tasks[t], s) for t in whole])) for s in seeds], 1.0, 4
            )
        kept = [float(np.mean([tasks[t]["gated"][s]["elsewhere"] - tasks[t]["full"][s]["elsewhere"] for t in whole])) for s in seeds]
        found[k]["elsewhere, gated - full"] = over_seeds(kept, 1.0, 4)
    return found


def _best_single(of_task: dict[str, Any], seed: int) -> float:
    """Return what the single method has at a seed that is the best of the task over the other seeds: chosen without looking at it."""
    others = [s for s in of_task["gated"] if s != seed] or [seed]
    best = max(SINGLE, key=lambda row: np.mean([of_task[row][s]["accuracy"] for s in others if s in of_task[row]]))
    return of_task[best][seed]["accuracy"]


def _of_row(row: str, of_task: dict[str, Any], seed: int) -> float:
    return of_task[row][seed]["accuracy"]


def _mean(of_task: dict[str, Any], row: str, seeds: Sequence[int], figure: str) -> float:
    return float(np.mean([of_task[row][seed][figure] for seed in seeds]))


def main() -> None:
    """Read the command line and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[*range(5)])
    parser.add_argument("--sizes", nargs="*", type=int, choices=SIZES, default=[*SIZES])
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=[*TASKS])
    parser.add_argument("--rows", nargs="*", choices=[*RATES], default=[*RATES])
    parser.add_argument("--out", type=Path, default=Path("tune-out"))
    parser.add_argument("--choose", action="store_true", help="print what other learning rates would give")
    parser.add_argument("--figures", action="store_true", help="learn nothing; write what was found")
    asked = parser.parse_args()
    if asked.figures:
        print(f"written to {write_results('tune', figures_of(asked.out), RESULTS)}")
        return
    root, source = Path(os.environ["FISTFUL_DATA"]), minilm()
    tasks = {task.name: task for task in read_tasks(root) if task.name in asked.tasks}
    lab = Lab(source, tasks, read_captions_of_photos(root, PHOTOS), functools.cache(source.tokens), asked.out)
    if asked.choose:
        choose(lab, asked.rows)
    else:
        go(lab, asked.seeds, asked.sizes, asked.rows)


if __name__ == "__main__":
    main()
