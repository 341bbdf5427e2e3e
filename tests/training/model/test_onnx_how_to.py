"""docs/how-to/export-to-onnx.md as it stands there: onnxruntime gives our embeddings. Its packages lie in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import CACHE, overlay
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.clip_encoder import save_tiny_clip
from tests.support.data_folder import make_data
from tests.support.folders import REPOSITORY, environment
from tests.support.pages import blocks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("onnx")]
PAGE = REPOSITORY / "docs" / "how-to" / "export-to-onnx.md"
OVERLAY = ("onnx==1.23.2", "onnxscript==0.7.2", "onnx-ir==1.1.0", "ml-dtypes==0.6.0", "onnxruntime==1.32.0", "flatbuffers==25.12.19")
TOLERANCE = 1e-5
QUICK = {"steps": 3, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}
RUNS = {"transformer": {}, "words": {"text_tower": "words"}, "vit": {"model": "tiny-vit"}, "no text": {"objective": "words"}}


def test_the_exported_tower_gives_our_embeddings(tmp_path: Path) -> None:
    env = environment(PYTHONPATH=os.pathsep.join([str(overlay(CACHE, "onnx", OVERLAY)), str(REPOSITORY)]), PYTHONWARNINGS="ignore")
    (script,) = blocks(PAGE, "python")
    data = make_data(tmp_path / "data")
    for name, options in RUNS.items():
        train(data, out=tmp_path / name / "run", config=train_config(**QUICK, **options))
    save_tiny_clip(tmp_path / "open_clip" / "run")
    for name in (*RUNS, "open_clip"):
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / name, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (name, done.stderr[-2000:])
        assert float(done.stdout.rsplit("largest difference:", 1)[1]) < TOLERANCE, name
