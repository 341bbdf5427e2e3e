"""The card of a model, and open_clip's own way to save a model for the hub."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fistful.bow.store import manifest
from fistful.training.model.load import load_encoder
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.clip_encoder import save_tiny_clip
from tests.support.data_folder import make_data

QUICK = {"steps": 3, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}


def trained(folder: Path, **options: Any) -> tuple[Path, dict[str, Any], str]:
    """Train, and return the model's folder and both parts of its card."""
    run = train(make_data(folder / "data"), out=folder / "run", config=train_config(**QUICK, **options))
    assert manifest.verify(run) == []
    _, front, text = (run / "model/README.md").read_text("utf-8").split("---\n", 2)
    return run / "model", yaml.safe_load(front), text


def test_the_card_says_what_the_model_is_and_how_it_is_loaded(tmp_path: Path) -> None:
    folder, front, text = trained(tmp_path, objective="joint", holdout=0.1, text="bag")
    about = json.loads((folder / "fistful.json").read_bytes())
    assert (front["library_name"], front["pipeline_tag"], front["language"]) == ("open_clip", "zero-shot-image-classification", ["en"])
    for line in (
        "| image tower | test_resnet, pictures of 64 pixels |",
        "| embedding | 256 numbers |",
        "| word head | 7 words |",
        "| text | bags of words |",
        "| training | 3 steps of 8 samples, seed 0 |",
        "| held out | 0.1 of the captioned pictures |",
        f"| data (fingerprints) | `{about['lineage']['data'][0]}` |",
        f"| configuration | `{about['lineage']['config_id']}` |",
        "| image tower saw ImageNet's labels | no |",
    ):
        assert line in text
    assert [word for word in (str(tmp_path), platform.node(), "/tmp", str(Path.home())) if word in text] == []


@pytest.mark.parametrize(("options", "library", "tag"), [
    ({"text_tower": "words"}, "fistful", "zero-shot-image-classification"),
    ({"objective": "words"}, "fistful", "image-feature-extraction"),
])  # fmt: skip
def test_models_that_open_clip_cannot_express_are_not_passed_off_as_its_own(
    tmp_path: Path, options: dict[str, Any], library: str, tag: str
) -> None:
    _, front, text = trained(tmp_path, **options)
    assert (front["library_name"], front["pipeline_tag"]) == (library, tag)
    assert "create_model_and_transforms" not in text
    assert "open_clip has no such model; fistful reads it" in text


def test_weights_of_others_are_named_by_their_fingerprint_and_not_by_their_place(tmp_path: Path) -> None:
    tower = save_tiny_clip(tmp_path / "somewhere" / "tower")
    _, _, text = trained(tmp_path, init=str(tower), train_image="none")
    assert "| started from | weights with the fingerprint `" in text
    assert "of the image tower learnt: none" in text
    assert "somewhere" not in text


class BuiltIn:
    """CLIP's tokenizer is built into open_clip; its files are for transformers."""

    def save_pretrained(self, folder: Path) -> None:
        pass


@pytest.mark.parametrize("safe", [True, "both"])
def test_what_open_clip_itself_saves_for_the_hub_is_the_same_model(tmp_path: Path, safe: Any) -> None:
    import open_clip
    import torch
    from open_clip.push_to_hf_hub import save_for_hf

    folder, _, _ = trained(tmp_path)
    model: Any = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    config = json.loads((folder / "open_clip_config.json").read_bytes())
    save_for_hf(model, BuiltIn(), config["model_cfg"], str(tmp_path / "saved"), safe_serialization=safe)  # pyright: ignore[reportArgumentType]
    saved = json.loads((tmp_path / "saved/open_clip_config.json").read_bytes())
    assert saved["model_cfg"] == config["model_cfg"]
    assert {name: saved["preprocess_cfg"][name] for name in config["preprocess_cfg"]} == config["preprocess_cfg"]
    again: Any = open_clip.create_model(f"local-dir:{tmp_path / 'saved'}", require_pretrained=True)
    ours, theirs = model.state_dict(), again.state_dict()
    assert [*ours] == [*theirs]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    first, second = load_encoder(str(folder), "cpu"), load_encoder(str(tmp_path / "saved"), "cpu")
    assert np.array_equal(first.embed_images(pixels), second.embed_images(pixels))
    assert np.array_equal(first.embed_texts(["red square"]), second.embed_texts(["red square"]))
