"""Small run, results, data and label folders with names that would like to do harm, written by the project's own writers."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from fistful.bow.balance import Balance
from fistful.bow.draw import sample_key
from fistful.bow.store import manifest
from fistful.bow.store.dead_letters import DeadLetter, dead_letter_table
from fistful.bow.store.files import atomic_file, write_json
from fistful.bow.store.identity import semantic_values, sha256_hex
from fistful.bow.store.index import INDEX_SCHEMA, LABELLED_SCHEMA, unit_name
from fistful.bow.store.shard import add_file, end_tar
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import Limits, choose_words, count_table, write_vocabulary
from fistful.eval.results import classes_table, predictions_table, result_name
from fistful.eval.sets.class_names import ClassName
from fistful.eval.tasks.zeroshot import Predictions
from fistful.training.train_config import train_config

HOSTILE = (
    "<script>hacked=1;alert(1)</script>",
    "\"><img src=https://example.com/a.png onerror='hacked=1'>",
    "\u202egnp.exe\u202c",
    "w" * 10_000,
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{0}$ & </text></svg>",
    "الكلب קצר 狗 🦮",
    "z" + "\u0301" * 500,
    'style="color:#0a0001" <!-- ]]>',
    "two\nlines\x00\x07",
)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (20, 14)) -> bytes:
    """Return a plain picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def make_data(folder: Path, words: list[str], *, n: int = 30, pseudo: bool = False, rule: Balance | None = None) -> Path:
    """Write a data folder of n samples in two units, or a folder of pseudo-labels."""
    verb = "label" if pseudo else "bags"
    options: dict[str, Any] = {"by": "head", "min_precision": 0.1, "seed": 0} if pseudo else {"seed": 0, "txt": "balanced"}
    word_options = {"language": "en", "min_length": 1, "stop_words": False}
    manifest.claim(folder, verb, options, {"sha256": "ab" * 32, "files": 1, "bytes": 1, "word_options": word_options})
    df = np.maximum(1, 2 * n // np.arange(1, len(words) + 1))
    write_vocabulary(folder, choose_words(count_table(words, df, df), n, Limits(min_count=1), rule or Balance(rule="cap", threshold=5)))
    for unit in range(2):
        _write_unit(folder, unit, n // 2, len(words), pseudo)
    stats = {"rows": n + 2, "kept": n, "refused": {"no_label": 2}, "words_in_bags": 3 * n}
    if pseudo:
        steps = ((0.05, 0.07), (0.3, 0.2), (0.9, 0.8))
        rows = [{"words": "all", "predicted": claim, "achieved": found, "n": 50} for claim, found in steps]
        stats |= {"held_out_calibration": rows, "held_out_images": 40, "held_out_precision": 0.4}
        stats |= {"held_out_precision_low": 0.25, "held_out_precision_high": 0.57, "held_out_precision_by_chance": 0.1}
    else:
        stats |= {"bags_emptied": 1, "kept_fraction_realised": 0.5}
    write_json(folder, "stats.json", stats)
    manifest.finish(folder, {}, {})
    return folder


def _write_unit(folder: Path, unit: int, n: int, n_words: int, pseudo: bool) -> None:
    rows = []
    with atomic_file(folder, unit_name("shards", unit, "tar")) as tar:
        for row in range(n):
            key = sample_key(unit, row)
            data = b"no picture" if row == 3 else png((row * 50 % 256, row * 90 % 256, 120))
            offset = add_file(tar, f"{key}.png", data)
            words = sorted({row % n_words, 0, (row * 7) % n_words})
            rows.append(
                {"key": key, "source_key": f"k{unit}-{row}", "captions": [] if pseudo else [HOSTILE[row % len(HOSTILE)]], "words": words}
                | {"scores": [0.5] * len(words) if pseudo else [], "pseudo": pseudo, "image": f"{key}.png", "image_offset": offset}
                | {"image_size": len(data), "width": 20, "height": 14, "source": f"0000{unit}.tar", "extra": "{}"}
                | ({"likely": words, "likely_shares": [np.float16(0.5)] * len(words)} if pseudo else {})
            )
        end_tar(tar)
    write_table(folder, unit_name("index", unit, "parquet"), pa.Table.from_pylist(rows, schema=LABELLED_SCHEMA if pseudo else INDEX_SCHEMA))
    letters = [DeadLetter("no_label", f"0000{unit}.tar", f"r{unit}", "no word reaches its threshold", b"")]
    write_table(folder, unit_name("dead_letters", unit, "parquet"), dead_letter_table(letters))


def make_run(folder: Path, steps: int = 50, **options: Any) -> Path:
    """Write a run folder with its losses; the model is left out."""
    manifest.claim(folder, "train", semantic_values(train_config(steps=steps, **options)), [{"fingerprint": "cd" * 32, "weight": 1.0}])
    losses = [4.0 / (1 + step / 20) + 0.1 * (step % 3) for step in range(1, steps + 1)]
    lines = [json.dumps({"step": step, "loss": loss, "lr": 0.001}) for step, loss in enumerate(losses, start=1)]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 50, "loss": null}', '{"scores": {}, "step": 50}']) + "\n")
    manifest.finish(folder, {}, {})
    return folder


@dataclasses.dataclass(frozen=True)
class Right:
    """How often a model is right on a set."""

    acc1: float
    half: float = 0.05

    def metrics(self, n: int, n_classes: int) -> dict[str, Any]:
        """Return what an evaluation would write."""
        found: dict[str, Any] = {"n": n, "n_classes": n_classes, "chance1": 1 / n_classes, "chance5": 5 / n_classes}
        for name, value in (("acc1", self.acc1), ("acc5", min(1.0, 2 * self.acc1)), ("mean_per_class_recall", self.acc1)):
            found |= {name: value, f"{name}_low": max(0.0, value - self.half), f"{name}_high": min(1.0, value + self.half)}
        return found


def make_results(
    folder: Path, models: dict[str, Right], *, sets: tuple[str, ...] = ("seen",), classes: tuple[str, ...] = HOSTILE, n_images: int = 3
) -> Path:
    """Write a results folder with tables of classes, of so many images each."""
    manifest.claim(folder, "evaluate", {"prompts": ["name"], "seed": 0}, {"models": list(models)})
    results, comparisons, first = [], [], next(iter(models))
    labels = np.repeat(np.arange(len(classes)), n_images)
    for model, right in models.items():
        for name in sets:
            stem = result_name(model, name, "name")
            result = {
                "model": model,
                "dataset": name,
                "prompts": "name",
                "task": "zeroshot_classification",
                "metrics": right.metrics(len(labels), len(classes)),
            }
            result |= {"refused": {}, "warnings": [f"a class is called {classes[0]}"], "model_fingerprint": "ef" * 32, "content": "12" * 32}
            results.append(result)
            ranks = (labels * 5 + len(model)) % 7
            table = classes_table(
                [ClassName(f"f{i}", one) for i, one in enumerate(classes)], labels, ranks, None, np.arange(len(classes)) * 3
            )
            write_table(folder, f"classes/{stem}.parquet", table)
            found = Predictions(
                ((labels + ranks) % len(classes))[:, None].astype(np.int32), np.ones((len(labels), 1), np.float32), ranks.astype(np.int32)
            )
            images = [f"f{c}/{i}.png" for i, c in enumerate(labels)]
            digests = [sha256_hex(image.encode()) for image in images]
            write_table(folder, f"predictions/{stem}.parquet", predictions_table(images, digests, [""] * len(images), labels, found))
            if model != first:
                figures = {"acc1_difference": 0.02, "acc1_low": -0.01, "acc1_high": 0.05}
                comparisons.append({"first": first, "second": model, "dataset": name, "prompts": "name", **figures})
    write_json(folder, "results.json", {"format": 1, "results": results, "comparisons": comparisons})
    manifest.finish(folder, {}, {})
    return folder


def make_vectors(folder: Path, words: list[str], vectors: np.ndarray) -> Path:
    """Write a folder of word vectors."""
    manifest.claim(folder, "vectors", {"dim": vectors.shape[1]}, {"counts": "cd" * 32, "sha256": "ab" * 32, "files": 1, "bytes": 1})
    df = np.arange(len(words), 0, -1) * 5
    write_vocabulary(folder, choose_words(count_table(words, df, df), 100, Limits(min_count=1), Balance()))
    with atomic_file(folder, "vectors.npy") as file:
        np.save(file, vectors.astype(np.float32))  # pyright: ignore[reportArgumentType]
    n_with = int(vectors.any(axis=1).sum())
    stats = {"words": len(words), "words_with_vector": n_with, "words_without_vector": len(words) - n_with, "pairs": 9, "captions": 50}
    write_json(folder, "stats.json", {**stats, "dim": vectors.shape[1], "rows": 50, "kept": 50, "refused": {}})
    manifest.finish(folder, {}, {})
    return folder


def make_all(root: Path) -> Path:
    """Write one folder of each kind, hostile names wherever a name can stand."""
    make_data(root / "bags", list(HOSTILE))
    make_data(root / "pseudo", list(HOSTILE), pseudo=True)
    make_vectors(root / "vectors", list(HOSTILE), np.eye(len(HOSTILE)))
    for name, text in (("captions", "caption"), (HOSTILE[0].replace("/", "∕"), "balanced")):
        make_run(root / "runs" / name, text=text)
    make_results(
        root / "results", {"captions": Right(0.3), HOSTILE[0]: Right(0.4), HOSTILE[3][:150]: Right(0.8)}, sets=("seen", HOSTILE[1])
    )
    truth = [
        ("key", "name"),
        *((f"k{unit}-{row}", f"a {HOSTILE[row % 3]} dog".replace("\n", " ")) for unit in range(2) for row in range(15)),
        ("r0", HOSTILE[1]),
    ]
    (root / "truth.tsv").write_text("".join("\t".join(pair) + "\n" for pair in truth), "utf-8")
    return root
