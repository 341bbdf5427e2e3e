"""The transform that a model says is the one it is trained, labelled and evaluated with."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from fistful.bow.store.images import decode_image
from fistful.errors import UsageError
from fistful.training.model.load import load_encoder
from fistful.training.model.preprocess import default_preprocess, preprocess_of
from fistful.training.model.pretrained import load_pretrained
from fistful.training.model.weights import Pretrained
from fistful.training.train import train
from fistful.training.train_config import TrainConfig, train_config
from tests.support.data_folder import picture_bytes

QUICK = {"steps": 1, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag"}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
TINY = {"embed_dim": 64, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}, "text_cfg": TEXT}
SIGLIP = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
LONGEST = {"mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bicubic", "resize_mode": "longest", "fill_color": 99}


def open_clip_folder(folder, preprocess, weights=True):
    """An open_clip folder that says how its pictures are prepared."""
    folder.mkdir()
    torch.manual_seed(0)
    if weights:
        save_file({k: v.contiguous() for k, v in open_clip.CLIP(**TINY).state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": preprocess}))
    return str(folder)


@pytest.mark.parametrize("preprocess", [SIGLIP, LONGEST, {"resize_mode": "shortest", "interpolation": "bilinear"}])
def test_training_sees_the_pixels_that_evaluation_and_open_clip_see(data, tmp_path, seen, preprocess):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, init=open_clip_folder(tmp_path / "theirs", preprocess)))
    pixels = seen[0].images.numpy()
    encoder = load_encoder(str(run))
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{run / 'model'}")
    mean, std = (np.array(encoder.preprocess[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    for row, ours in zip(seen[0].rows.tolist(), pixels, strict=True):
        image = decode_image(picture_bytes(row % 24 * 2 + row // 24))  # unit 0 holds the even samples
        assert np.array_equal(ours, encoder.prepare(image))
        theirs = (transform(image).numpy() * std + mean) * 255
        assert np.array_equal(ours, theirs.round().astype(np.uint8).transpose(1, 2, 0))
    said = json.loads((run / "model" / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert said == default_preprocess() | preprocess
    assert model.visual.preprocess_cfg["resize_mode"] == preprocess["resize_mode"]


def test_a_run_that_starts_from_such_a_run_goes_on_with_its_pixels(data, tmp_path):
    first = train(data, out=tmp_path / "first", config=train_config(**QUICK, init=open_clip_folder(tmp_path / "theirs", SIGLIP)))
    second = train(data, out=tmp_path / "second", config=train_config(**QUICK, init=str(first), train_image="none"))
    assert load_encoder(str(second)).preprocess == load_encoder(str(first)).preprocess == SIGLIP


def test_another_transform_of_the_same_weights_is_another_run(data, tmp_path):
    theirs = open_clip_folder(tmp_path / "theirs", SIGLIP)
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, init=theirs))
    (tmp_path / "theirs" / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": LONGEST}))
    with pytest.raises(UsageError, match="belongs to another configuration \\(preprocess: "):
        train(data, out=run, config=train_config(**QUICK, init=theirs))


def test_a_folder_that_describes_a_model_describes_its_pictures_too(tmp_path):
    config = train_config(model=open_clip_folder(tmp_path / "theirs", SIGLIP, weights=False))
    assert preprocess_of(config, None) == SIGLIP
    assert preprocess_of(TrainConfig(), None) == default_preprocess()
    assert preprocess_of(config, Pretrained(image={}, vision_cfg={}, preprocess_cfg=LONGEST)) == LONGEST  # the weights know better


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"resize_mode": "stretch"}, "resize_mode 'stretch', expected one of shortest, longest, squash"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos', expected one of bicubic, bilinear, random"),
        ({"mode": "L"}, "mode 'L', expected RGB"),
        ({"mean": [0.5]}, r"mean \[0.5\], expected three numbers"),
        ({"std": [0.5, 0, 0.5]}, r"std \[0.5, 0, 0.5\], expected three numbers, of a std above 0"),
        ({"fill_color": "white"}, "fill_color 'white', expected a whole number, 0 to 255"),
    ],
)
def test_what_training_cannot_do_is_refused(data, tmp_path, changed, message):
    theirs = open_clip_folder(tmp_path / "theirs", SIGLIP | changed)
    with pytest.raises(UsageError, match=f"--init {theirs}: its preprocess_cfg says {message}"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK, init=theirs))


def test_weights_of_timms_are_normalised_as_timm_says_of_them(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    known = timm.get_pretrained_cfg("resnet50")
    found = preprocess_of(train_config(init=str(path), model="timm:resnet50"), load_pretrained(str(path)))
    assert (found["mean"], found["std"]) == (list(known.mean), list(known.std))
    assert found["mean"] != default_preprocess()["mean"]
    by_open_clip_name = preprocess_of(train_config(init=str(path), model="ViT-B-16-SigLIP"), load_pretrained(str(path)))
    assert by_open_clip_name["mean"] == [0.5, 0.5, 0.5]

    about = {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "crop_mode": "squash"}}
    (tmp_path / "config.json").write_text(json.dumps(about))  # as timm's folders have it: the very weights' own
    found = preprocess_of(train_config(init=str(path), model="timm:resnet50"), load_pretrained(str(path)))
    assert found == {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}
