"""Evaluation sets in each layout: class folders, CLIP_benchmark's tars, parquet."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.store.shard import tar_bytes
from tests.support.squares import SQUARES, square

RED = square(SQUARES["red"])


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(RED)
    return root


def clip_benchmark_set(root: Path, shards: list[dict[str, bytes]], classes: str = "cat\ndog\n") -> Path:
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text(classes)
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n{c}\n")
    (root / "test" / "nshards.txt").write_text(str(len(shards)))
    for i, files in enumerate(shards):
        (root / "test" / f"{i}.tar").write_bytes(tar_bytes(files))
    return root


def write_parquet(path: Path, images: list[object], labels: list[object], hub_names: list[str] | None = None) -> Path:
    table = pa.table({"image": images, "label": labels})
    if hub_names:
        features = {"info": {"features": {"label": {"names": hub_names}}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
    pq.write_table(table, path)
    return path
