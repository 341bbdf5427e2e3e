"""`train --tune`: a pretrained model that stays as it is, and what is learnt beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.errors import DataError, UsageError
from fistful.training.model.load import load_encoder
from fistful.training.model.model import Model, shape_of
from fistful.training.model.pretrained import load_pretrained, start_from
from fistful.training.model.tune import Tuned, Tuning, kept_state
from fistful.training.train import train
from fistful.training.train_config import train_config
from fistful.verbs.report import report
from tests.support.stopped_runs import check_same_bytes_after_a_stop

QUICK = {"steps": 4, "batch_size": 8, "warmup": 1, "lr": 1e-2, "threads": 1, "progress": False, "text": "caption", "checkpoint_every": 2}
TEXTS = ["a red square", "a photo of a blue square on a table", ""]
KINDS = ("gated", "lora", "adapter", "prefix")


@pytest.fixture(scope="module")
def base(data, tmp_path_factory) -> str:
    return str(train(data, out=tmp_path_factory.mktemp("base") / "run", config=train_config(**QUICK, model="tiny-vit", context_length=16)))


def tuning(base: str, kind: str, **more):
    return train_config(**QUICK, init=base, init_towers="both", tune=kind, context_length=16, **more)


@pytest.fixture(scope="module")
def tuned(data, base, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tuned")
    return {kind: train(data, out=root / kind, config=tuning(base, kind)) for kind in KINDS}


def embedded(spec: str) -> tuple[np.ndarray, np.ndarray]:
    encoder, pictures = load_encoder(spec, "cpu"), np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    return encoder.embed_texts(TEXTS), encoder.embed_images(pictures)


def fresh(base: str, kind: str | None) -> Model:
    torch.manual_seed(1)
    pretrained = load_pretrained(base)
    model = Model(shape_of(train_config(**QUICK, init=base, context_length=16), 0, pretrained))
    start_from(model, pretrained, "both", base)
    if kind is not None:
        model.tune(Tuned(init=base, kind=kind, image=True))
    return model


@pytest.mark.parametrize("kind", ["lora", "adapter"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_adapters_and_lora_start_as_the_base_to_the_bit(base, kind, mode):
    plain, model = fresh(base, None), fresh(base, kind)
    images, tokens = torch.rand(2, 3, 64, 64), torch.randint(1, 40_000, (2, 16))
    plain.eval().requires_grad_(False)  # torch chooses kernels by it, even where no gradient is computed
    model.train(mode == "train")
    with torch.no_grad():
        assert torch.equal(plain.encode_image(images), model.encode_image(images))
        assert torch.equal(plain.encode_text((tokens,)), model.encode_text((tokens,)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_new_tensor_learns_and_none_of_the_base_does(base, kind):
    model = fresh(base, kind).train()
    with torch.no_grad():  # where the second of two matrices is 0, the first has no gradient at the first step
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and (".up." in name or ".b_" in name):
                parameter.normal_(std=0.02)
    images, tokens = torch.rand(4, 3, 64, 64), torch.randint(1, 40_000, (4, 16))
    (model.scale_parameter.exp() * model.encode_image(images) @ model.encode_text((tokens,)).T).square().sum().backward()
    learnt = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in learnt - {"clip.logit_scale"}} == {"tuning"}
    assert [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_tuned_run_keeps_what_was_learnt_alone(base, tuned, kind):
    run = tuned[kind]
    assert manifest.verify(run) == []
    files = {path.name for path in (run / "model").iterdir()}
    assert files == {"fistful.json", "fistful.safetensors", "README.md"}
    ours, theirs = (embedded(str(spec)) for spec in (run, base))
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(ours, theirs, strict=True))
    assert all(np.isfinite(part).all() for part in ours)
    assert "which needs the weights that it started from" in (run / "model" / "README.md").read_text()


def test_a_real_model_is_tuned_by_less_than_two_percent_of_its_weights():
    import open_clip

    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32"))
        n_base = sum(p.numel() for p in clip.parameters())
        kept = kept_state(Tuning(Tuned(init="", kind="gated", image=True), clip), clip)
    assert 0.01 < sum(t.numel() for t in kept.values()) / n_base < 0.02


def test_the_place_of_a_texts_end_does_not_count_in_its_gates(base):
    """Padding behind a text is no part of it: other tokens there change nothing but what they cannot be seen by."""
    model = fresh(base, "gated").eval()
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    tokens[:, :4] = torch.tensor([49406, 320, 736, 49407])
    tokens[1, 4:] = 320  # no text: the end is the largest token
    with torch.no_grad():
        first, second = model.encode_text((tokens,))
    torch.testing.assert_close(first, second)


def test_gates_are_told_by_layer_and_drawn_in_the_report(tuned, tmp_path):
    gates = read_json(tuned["gated"] / "model" / "fistful.json")["gates"]
    assert {tower: len(layers) for tower, layers in gates.items()} == {"image": 4, "text": 2}
    assert all(0 < share < 1 for layers in gates.values() for layer in layers for share in layer.values())
    assert gates["text"][0].keys() == {"adapter", "lora", "prefix"}
    page = Path(report(*map(str, tuned.values()), out=tmp_path / "page.html")).read_text()
    assert page.count("gates by layer") == 1  # of the others there are none
    assert (
        f'<th scope="row">text 2</th><td><span class="gate" aria-hidden="true"><span style="width:{100 * gates["text"][1]["adapter"]:.0f}%'
        in page
    )


def test_a_tuned_model_is_refused_on_another_base(data, base, tuned, tmp_path):
    moved = shutil.copytree(base, tmp_path / "moved")
    assert all(np.array_equal(*pair) for pair in zip(embedded(f"{tuned['lora']}+{moved}"), embedded(str(tuned["lora"])), strict=True))
    other = train(data, out=tmp_path / "other", config=train_config(**{**QUICK, "steps": 1}, model="tiny-vit", context_length=16))
    with pytest.raises(DataError, match=r"was tuned from what was called .* is another; .*\+FOLDER says where it lies"):
        load_encoder(f"{tuned['lora']}+{other}", "cpu")
    lost = shutil.copytree(tuned["lora"], tmp_path / "lost")
    about = json.loads((lost / "model" / "fistful.json").read_text())
    about["tuned"]["init"] = str(tmp_path / "gone")
    (lost / "model" / "fistful.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=r"lost: was tuned from another model, and that is not to be had .*gone: no such folder.*\+FOLDER"):
        load_encoder(str(lost), "cpu")


def test_a_base_beside_the_run_is_found_from_anywhere(data, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train(data, out="base", config=train_config(**{**QUICK, "steps": 1}, model="tiny-vit", context_length=16))
    train(data, out="run", config=tuning("base", "lora"))
    monkeypatch.chdir(tmp_path)
    assert load_encoder("here/run", "cpu").embed_texts(TEXTS).shape == (3, 256)
    with pytest.raises(UsageError, match=r"^here/base\+here/run: the tuned model stands first; here/run\+here/base$"):
        load_encoder("here/base+here/run", "cpu")
    with pytest.raises(UsageError, match=r"here/base is a whole model, which needs no other beside it; leave \+elsewhere out"):
        load_encoder("here/base+elsewhere", "cpu")


def test_a_run_whose_base_has_moved_goes_on_with_its_new_place(data, base, tmp_path):
    moved = shutil.copytree(base, tmp_path / "base")
    run = train(data, out=tmp_path / "run", config=tuning(str(moved), "lora"))
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"base: no such folder.*; if what .*run was begun from lies elsewhere now, --init with"):
        train(data, out=run, config=tuning(str(moved), "lora"))
    assert train(data, out=run, config=tuning(str(tmp_path / "elsewhere"), "lora")) == run


def test_merged_lora_is_an_ordinary_model_with_the_same_features(data, base, tuned, tmp_path):
    merged = train(data, out=tmp_path / "merged", config=tuning(base, "lora", merge=True))
    assert (merged / "model" / "open_clip_config.json").exists()
    for ours, theirs in zip(embedded(str(merged)), embedded(str(tuned["lora"])), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    import open_clip

    model = open_clip.create_model(f"local-dir:{merged / 'model'}", require_pretrained=True)
    assert any(not torch.equal(t, load_pretrained(base).image[name]) for name, t in model.visual.state_dict().items())


@pytest.mark.parametrize("more", [{"train_image": "none"}, {"objective": "joint", "accumulation": 2, "text": "bag"}], ids=str)
def test_a_stopped_tuning_goes_on_to_the_same_bytes(data, base, tmp_path, more):
    options = {**QUICK, "init": base, "init_towers": "both", "tune": "gated", "context_length": 16, "evaluate_every": 2, **more}
    check_same_bytes_after_a_stop(data, tmp_path, train_config(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tune": "lora", "init": "", "init_towers": "image"}, "give --init MODEL and --init-towers both"),
        ({"tune": "gated", "merge": True}, "--merge: puts what LoRA learns into the weights, found --tune gated"),
        ({"tune": "lora", "text_tower": "words", "text": "bag"}, "tunes transformers, found --text-tower words"),
        ({"tune": "lora", "train_image": "last"}, "leaves the towers' own weights as they are"),
        ({"tune": "lora", "compile": True}, "does not go with --compile"),
        ({"tune": "lora", "mask_rate": 0.5}, "does not go with --mask-rate"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        train_config(**{**QUICK, "init": "some", "init_towers": "both", **options})


def test_a_convolution_tower_is_refused_unless_it_is_left_as_it_is(data, tmp_path):
    base = str(train(data, out=tmp_path / "base", config=train_config(**{**QUICK, "steps": 1}, context_length=16)))
    with pytest.raises(UsageError, match=r"the image tower \(TimmModel\) is no transformer of open_clip's; --train-image none"):
        train(data, out=tmp_path / "run", config=tuning(base, "lora"))
    run = train(data, out=tmp_path / "text", config=tuning(base, "lora", train_image="none"))
    (texts, images), (before, same) = embedded(str(run)), embedded(base)
    assert np.abs(texts - before).max() > 1e-4
    np.testing.assert_array_equal(images, same)
    with pytest.raises(UsageError, match="has what a model was tuned by, and not its weights"):
        train(data, out=tmp_path / "again", config=train_config(**QUICK, init=str(run)))
