"""A GPU is used where there is one, and named in what its digits decide. Without one, all is as it always was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fistful.errors import UsageError
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.tasks.classify import ClassifyConfig, classify
from fistful.eval.tasks.kept_classifiers import weights_key
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label
from fistful.training.device import choose_device, device_named
from fistful.training.model.load import load_encoder
from fistful.training.train_config import TrainConfig, resolve, train_config

NO_GPU = "--device cuda: found no GPU that torch can use; use --device cpu"


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_device(asked) for asked in ("auto", "cpu")] == ["cpu", "cpu"]
    assert resolve(TrainConfig()).run.device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [choose_device(asked) for asked in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    assert resolve(TrainConfig()).run.device == "cuda"


def test_a_gpu_that_is_not_there_is_refused_by_every_verb(tmp_path: Path) -> None:
    model, out = "tests.support.colours:ColourEncoder", str(tmp_path / "out")
    calls: list[Any] = [
        lambda: resolve(train_config(device="cuda")),
        lambda: evaluate(model, data=("none",), out=out, config=EvaluateConfig(device="cuda")),
        lambda: label("none", model=model, like=tmp_path, out=out, config=LabelConfig(label=LabelOptions(device="cuda"))),
        lambda: classify(_folder(tmp_path), str(tmp_path), names=str(_names(tmp_path)), config=ClassifyConfig(device="cuda")),
        lambda: load_encoder(_folder(tmp_path), "cuda"),
    ]
    for call in calls:
        with pytest.raises(UsageError) as error:
            call()
        assert str(error.value) == NO_GPU
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="--device gpu: expected auto, cpu, cuda"):
        choose_device("gpu")


def test_a_gpu_is_part_of_what_its_digits_decide_and_a_cpu_is_not() -> None:
    assert device_named({"seed": 0, "device": "cpu"}) == {"seed": 0}
    assert device_named({"seed": 0, "device": "cuda"}) == {"seed": 0, "device": "cuda"}
    assert weights_key("f", [["cat"]]) == weights_key("f", [["cat"]], "cpu") != weights_key("f", [["cat"]], "cuda")


def _folder(place: Path) -> str:
    """A folder that says that it is a model."""
    (place / "model").mkdir(exist_ok=True)
    (place / "model" / "fistful.json").write_text("{}")
    (place / "a.jpg").touch()
    return str(place)


def _names(place: Path) -> Path:
    path = place / "names.txt"
    path.write_text("cat\ndog\n")
    return path


MAPPED = """
import ctypes, sys, torch
from fistful.training.device import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
counts = ctypes.CDLL(None).mallinfo2
counts.restype = Counts
activations = torch.ones(16_000_000)
print(counts().hblkhd)
"""


def test_memory_of_a_pass_is_kept_for_the_next_one() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", MAPPED, how], env=environment, check=True, capture_output=True, text=True).stdout)
        for how in ("kept", "given back")
    )
    assert kept < 64_000_000 <= given_back  # bytes in blocks of their own, which free() unmaps: see mallinfo(3)
