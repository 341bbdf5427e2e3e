"""What only a GPU can show: `make test-gpu`. Losses there are those of a CPU but for their last digits."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fistful.errors import Interrupted
from fistful.training import loop
from fistful.training import step as step_module
from fistful.training.checkpoint import list_checkpoints
from fistful.training.model.load import load_encoder
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")]

DEVICE = "cuda"
STEPS = 60
OPTIONS = {"steps": STEPS, "batch_size": 16, "warmup": 5, "progress": False, "text": "bag", "model": "tiny-vit", "image_size": 64}
OPTIONS |= {"objective": "joint", "checkpoint_every": 10_000}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data") / "bags")


@pytest.fixture(scope="module")
def plain(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    return train(data, out=tmp_path_factory.mktemp("plain") / "run", config=train_config(**OPTIONS, device=DEVICE))


def losses(run: Path) -> np.ndarray:
    """The losses of all steps, in their order."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, STEPS + 1)]
    return np.array([line["loss"] for line in lines])


def test_a_gpu_is_used_where_there_is_one(data: str, tmp_path: Path) -> None:
    run = train(data, out=tmp_path / "run", config=train_config(**{**OPTIONS, "steps": 2}))
    assert json.loads((run / "config.json").read_text())["config"]["device"] == DEVICE


def test_its_losses_are_those_of_a_cpu(data: str, plain: Path, tmp_path: Path) -> None:
    run = train(data, out=tmp_path / "run", config=train_config(**OPTIONS, device="cpu", threads=1))
    np.testing.assert_allclose(losses(plain)[:10], losses(run)[:10], rtol=2e-3)
    assert losses(plain)[-5:].mean() < losses(plain)[:5].mean()


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    data: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = loop.step

    def stopped(model: Any, batch: Any, objectives: Any, optimizer: Any, setting: Any, stop: threading.Event) -> Any:
        if batch.step == 20:
            stop.set()
        return take(model, batch, objectives, optimizer, setting, stop)

    monkeypatch.setattr(loop, "step", stopped)
    config = train_config(**OPTIONS, device=DEVICE)
    with pytest.raises(Interrupted) as raised:
        train(data, out=tmp_path / "run", config=config)
    (at,) = map(int, re.findall(r"stopped at step (\d+) of", str(raised.value)))
    assert 21 <= at <= 20 + loop.READ_EVERY[DEVICE]
    monkeypatch.setattr(loop, "step", take)
    run = train(data, out=tmp_path / "run", config=config)
    np.testing.assert_allclose(losses(run), losses(plain), rtol=2e-2)


@pytest.mark.parametrize("change", [{"accumulation": 2}, {"grad_checkpointing": True}], ids=str)
def test_less_memory_changes_no_loss(data: str, plain: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    run = train(data, out=tmp_path / "run", config=train_config(**OPTIONS, device=DEVICE, **change))
    np.testing.assert_allclose(losses(run)[:10], losses(plain)[:10], rtol=2e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16"},
        {"compile": True},
        {"model": "tiny-resnet", "ema": 0.9},
        {"text_tower": "words"},
        {"objective": "contrastive", "bank": 32, "optimizer": "sgd", "lr": 0.05},
        {"model": "auto", "init": "tests.support.pretrained:small", "train_image": "none"},
    ],
    ids=str,
)
def test_every_way_of_training_learns(data: str, tmp_path: Path, change: dict[str, Any]) -> None:
    found = losses(train(data, out=tmp_path / "run", config=train_config(**{**OPTIONS, **change}, device=DEVICE)))
    assert np.isfinite(found).all()
    assert found[-10:].mean() < found[:10].mean()


def test_a_loss_that_is_no_number_changes_no_weight(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, states = step_module.compute_gradients, {}

    def spoilt(towers: Any, model: Any, batch: Any, *more: Any) -> dict[str, torch.Tensor]:
        states[batch.step] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        parts = compute(towers, model, batch, *more)
        return {name: loss * np.nan for name, loss in parts.items()} if batch.step == 7 else parts

    monkeypatch.setattr(step_module, "compute_gradients", spoilt)
    run = train(data, out=tmp_path / "run", config=train_config(**OPTIONS, device=DEVICE))
    assert all(torch.equal(tensor, states[8][name]) for name, tensor in states[7].items())
    assert any(not torch.equal(tensor, states[9][name]) for name, tensor in states[8].items())
    assert [json.loads(line)["step"] for line in (run / "logs/skipped-0.jsonl").read_text().splitlines()] == [7]
    assert list_checkpoints(run) == []


def test_its_model_embeds_as_on_a_cpu(plain: Path) -> None:
    there, here = load_encoder(str(plain), DEVICE), load_encoder(str(plain), "cpu")
    images = np.arange(4 * 64 * 64 * 3, dtype=np.uint32).reshape(4, 64, 64, 3).astype(np.uint8)
    np.testing.assert_allclose(there.embed_images(images), here.embed_images(images), atol=2e-3)
    texts = ["red square", "blue bar"]
    np.testing.assert_allclose(there.embed_texts(texts), here.embed_texts(texts), atol=2e-3)
