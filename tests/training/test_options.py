"""Options of training, each against what it promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fistful.bow.draw import draw_share
from fistful.bow.store import manifest
from fistful.cli import run as command
from fistful.errors import DataError, UsageError
from fistful.training import loop
from fistful.training import step as step_module
from fistful.training.data.reading import read_samples
from fistful.training.model.export import read_model
from fistful.training.model.load import load_encoder
from fistful.training.passes import Towers
from fistful.training.recipes import changes, recipe
from fistful.training.train import train
from fistful.training.train_config import resolve, train_config
from tests.support.data_folder import change_column

QUICK = {"steps": 5, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "text": "bag"}


WORDS = {**QUICK, "text_tower": "words"}
"""With a text tower whose checkpoints are small, where a test is about something else."""


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return [line["loss"] for line in lines(run) if "loss" in line]


@pytest.mark.parametrize(("tower", "objective"), [("transformer", "joint"), ("words", "joint"), ("transformer", "sigmoid")])
def test_accumulation_changes_nothing_but_rounding(data, tmp_path, tower, objective):
    options = {**QUICK, "model": "tiny-vit", "text_tower": tower, "objective": objective}
    whole = losses(train(data, out=tmp_path / "whole", config=train_config(**options)))
    parts = losses(train(data, out=tmp_path / "parts", config=train_config(**options, accumulation=3)))
    np.testing.assert_allclose(parts, whole, rtol=1e-3)


def test_accumulation_drops_the_same_when_it_computes_a_part_again(data, tmp_path, monkeypatch):
    """A tower with dropout of patches: what the losses saw is what the gradients are of."""
    (tmp_path / "tower").mkdir()
    vision = {"image_size": 64, "patch_size": 8, "width": 64, "head_width": 32, "layers": 1, "patch_dropout": 0.5}
    tower = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}
    (tmp_path / "tower" / "open_clip_config.json").write_text(json.dumps({"model_cfg": tower}))
    found, embed = [], Towers.forward

    def watch(*arguments):
        embedded = embed(*arguments)
        found.append(embedded[0].detach().clone())
        return embedded

    monkeypatch.setattr(Towers, "forward", watch)
    config = train_config(**{**QUICK, "steps": 2}, model=str(tmp_path / "tower"), accumulation=2)
    train(data, out=tmp_path / "run", config=config)
    assert len(found) == 8
    for first, again in ((0, 2), (1, 3), (4, 6), (5, 7)):
        torch.testing.assert_close(found[again], found[first])
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize(
    "options",
    [
        {"model": "tiny-vit", "objective": "joint"},
        {"model": "tiny-resnet", "text_tower": "words", "objective": "joint", "augment": "crop"},  # a tower with batch statistics
        {"model": "tiny-resnet", "accumulation": 2},
    ],
)
def test_checkpointing_computes_layers_again_and_changes_no_byte(data, tmp_path, monkeypatch, options):
    from open_clip.transformer import ResidualAttentionBlock
    from timm.models.resnet import BasicBlock

    calls = []
    for block in (ResidualAttentionBlock, BasicBlock):

        def watch(self, *arguments, forward=block.forward, **more):
            calls.append(torch.is_grad_enabled())
            return forward(self, *arguments, **more)

        monkeypatch.setattr(block, "forward", watch)
    manifests, counts = [], []
    for name, again in (("kept", False), ("again", True)):
        calls.clear()
        run = train(data, out=tmp_path / name, config=train_config(**{**QUICK, "steps": 3}, **options, grad_checkpointing=again))
        manifests.append((run / "manifest.json").read_bytes())
        counts.append(sum(calls))
    assert manifests[0] == manifests[1]
    assert counts[1] == 2 * counts[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "tiny-rn"}, "--grad-checkpointing: this image tower cannot compute its layers again, as open_clip's ResNets"),
        ({"model": "timm:vgg11"}, "--grad-checkpointing: this image tower cannot compute its layers again, as open_clip's ResNets"),
        (
            {"init": "tests.support.pretrained:small", "train_image": "none", "text_tower": "words"},
            "--grad-checkpointing: a frozen image tower, and no transformer: nothing is computed again; leave it out",
        ),
    ],
)
def test_checkpointing_is_refused_where_a_tower_has_none(data, tmp_path, options, message):
    with pytest.raises(UsageError) as error:
        train(data, out=tmp_path / "run", config=train_config(**QUICK, **options, grad_checkpointing=True))
    assert str(error.value).startswith(message)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"model": "tiny-vit", "objective": "joint"}, {"text_tower": "words", "accumulation": 2}])
def test_compiled_towers_learn_the_same(data, tmp_path, options):
    compiled = losses(train(data, out=tmp_path / "compiled", config=train_config(**QUICK, **options, compile=True)))
    plain = losses(train(data, out=tmp_path / "plain", config=train_config(**QUICK, **options)))
    np.testing.assert_allclose(compiled, plain, rtol=1e-3)


def test_compiling_is_refused_where_there_is_no_compiler(data, tmp_path):
    import os
    import subprocess
    import sys

    env = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "fistful", "train", data, "--out", str(tmp_path / "run"), "--compile"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--compile: torch.compile does not work here (" in done.stderr
    assert not (tmp_path / "run" / "config.json").exists()


def test_decoders_are_as_many_as_the_cores_of_a_process(monkeypatch):
    import os

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert resolve(train_config()).run.decoders == 16
    assert resolve(train_config(decoders=3)).run.decoders == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert resolve(train_config()).run.decoders == 2


def test_shards_one_after_another_are_another_order(data, tmp_path, seen):
    train(data, out=tmp_path / "run", config=train_config(**WORDS, order="shards"))
    again = [batch.rows.tolist() for batch in seen]
    train(data, out=tmp_path / "samples", config=train_config(**WORDS))
    assert again != [batch.rows.tolist() for batch in seen[len(again) :]]


def test_what_a_folder_of_model_holds_names_a_run_and_its_place_does_not(data, tmp_path):
    def write(folder, layers):
        vision = {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 32, "layers": layers}
        tower = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}
        folder.mkdir(exist_ok=True)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": tower}))
        return train_config(**{**WORDS, "steps": 1}, model=str(folder))

    run = train(data, out=tmp_path / "run", config=write(tmp_path / "tower", 1))
    assert train(data, out=run, config=write(tmp_path / "moved", 1)) == run
    with pytest.raises(UsageError, match=r"belongs to another configuration \(model: "):
        train(data, out=run, config=write(tmp_path / "tower", 2))


def test_gradients_are_clipped_to_their_longest(data, tmp_path, monkeypatch):
    lengths, step = [], loop.step

    def watch(model, *more):
        taken = step(model, *more)
        lengths.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])))
        return taken

    monkeypatch.setattr(loop, "step", watch)
    train(data, out=tmp_path / "free", config=train_config(**WORDS))
    train(data, out=tmp_path / "clipped", config=train_config(**WORDS, clip_norm=0.01))
    assert min(lengths[:5]) > 0.01
    assert lengths[5:] == pytest.approx([0.01] * 5, rel=1e-3)


def test_a_gradient_that_is_no_number_changes_nothing(data, tmp_path, monkeypatch):
    clip = step_module.clip_gradients
    monkeypatch.setattr(step_module, "clip_gradients", lambda config, model: clip(config, model) * torch.nan)
    with pytest.raises(DataError, match="the loss was no number in 11 steps"):
        train(data, out=tmp_path / "run", config=train_config(**{**WORDS, "steps": 20}))
    (line, *_) = [json.loads(line) for line in (tmp_path / "run" / "logs" / "skipped-0.jsonl").read_text().splitlines()]
    assert (line["step"], len(line["keys"])) == (0, 8)


def test_a_running_mean_of_the_weights_is_the_model(data, tmp_path, monkeypatch):
    steps, step = [], loop.step

    def watch(model, *more):
        if not steps:
            steps.append(model.scale_parameter.item())
        taken = step(model, *more)
        steps.append(model.scale_parameter.item())
        return taken

    monkeypatch.setattr(loop, "step", watch)
    run = train(data, out=tmp_path / "run", config=train_config(**WORDS, ema=0.3))
    expected = steps[0]
    for value, decay in zip(steps[1:], (1 / 10, 2 / 11, 3 / 12, 0.3, 0.3), strict=True):  # (1 + n) / (10 + n), never above --ema
        expected = decay * expected + (1 - decay) * value
    assert read_model(run / "model").model.scale_parameter.item() == pytest.approx(expected, rel=1e-6)


def test_the_best_of_several_evaluations_is_kept(data, tmp_path):
    scores = iter([0.9, 0.2, 0.5, 0.4])  # the first before the first step, which only shows that it works
    config = train_config(**{**WORDS, "steps": 6}, evaluate_every=2, ema=0.9)
    run = train(data, out=tmp_path / "run", config=config, evaluate=lambda encoder: {"score": next(scores)})
    assert [(line["step"], line["scores"]) for line in lines(run) if "scores" in line] == [
        (2, {"score": 0.2}),
        (4, {"score": 0.5}),
        (6, {"score": 0.4}),
    ]
    short = train(data, out=tmp_path / "short", config=train_config(**{**WORDS, "steps": 6}, ema=0.9))
    best, last = load_encoder(str(run / "best")), load_encoder(str(run))
    assert best.fingerprint != last.fingerprint
    (weights,) = (run / "model").glob("*.safetensors")
    assert weights.read_bytes() == (short / "model" / weights.name).read_bytes()
    assert manifest.verify(run) == []
    assert not (run / "checkpoints").exists()


def test_an_interrupted_run_remembers_its_best(data, tmp_path):
    import os
    import signal

    from fistful.errors import Interrupted

    config = train_config(**{**WORDS, "steps": 8}, evaluate_every=2, checkpoint_every=3, keep_checkpoints=1)
    known = {1: 0.0, 2: 0.5, 3: 0.9, 4: 0.1, 5: 0.3}

    def score(calls, stop_at=0):
        def scores(encoder):
            calls.append(len(calls) + 1)
            if calls[-1] == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return {"score": known[calls[-1]]}

        return scores

    whole = train(data, out=tmp_path / "whole", config=config, evaluate=score([]))
    calls = []
    with pytest.raises(Interrupted, match="stopped at step 5 of 8"):
        train(data, out=tmp_path / "run", config=config, evaluate=score(calls, stop_at=3))
    run = train(data, out=tmp_path / "run", config=config, evaluate=score(calls))
    assert (run / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_intact_samples_keep_their_caption_each_epoch(data, tmp_path, seen):
    import open_clip

    train(data, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 12}, intact=0.5, seed=2))
    samples = read_samples((data,))
    intact = draw_share(samples.number, 0.5, 2)
    tokenizer = open_clip.SimpleTokenizer()
    for batch in seen:
        for row, tokens in zip(batch.rows, batch.text[0], strict=True):
            text = tokenizer.decode(tokens[1 : int((tokens == tokenizer.eot_token_id).nonzero()[0])].tolist())
            assert ("this" in text or text.startswith("a ")) == bool(intact[row]), text
    assert 0 < intact.sum() < 48
    assert seen[0].text[0].shape[1] == 16


def test_the_words_of_one_caption_are_its_bag(write_data, tmp_path, seen):
    """Each sample's captions are made different for this."""
    folder = change_column(write_data(tmp_path / "data"), "captions", lambda row, captions: ["red", "square bar"])
    train(folder, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 12}, captions="one", text_tower="words"))
    samples = read_samples((folder,))
    bags = set()
    for batch in seen:
        words, offsets = (part.numpy() for part in batch.text)
        bags |= {tuple(samples.vocabulary.words[w] for w in bag) for bag in np.split(words, offsets[1:])}
    assert bags == {("red",), ("square", "bar")}


def test_excluded_samples_are_not_shown(data, tmp_path, seen, capsys):
    samples = read_samples((data,))
    (tmp_path / "out.txt").write_text(f"{samples.keys[3].as_py()}\n17\n\nnobody\n")  # a KEY, and a key of the source
    config = train_config(**{**WORDS, "steps": 20}, exclude=str(tmp_path / "out.txt"))
    run = train(data, out=tmp_path / "run", config=config)
    shown = {int(row) for batch in seen for row in batch.rows}
    assert len(shown) == 46
    assert 3 not in shown
    (tmp_path / "moved.txt").write_bytes((tmp_path / "out.txt").read_bytes())
    assert train(data, out=run, config=train_config(**{**WORDS, "steps": 20}, exclude=str(tmp_path / "moved.txt"))) == run
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "out.txt").read_bytes())  # as Notepad saves it
    assert train(data, out=run, config=train_config(**{**WORDS, "steps": 20}, exclude=str(tmp_path / "marked.txt"))) == run
    train(data, out=tmp_path / "said", config=train_config(**{**WORDS, "steps": 1, "progress": True}, exclude=str(tmp_path / "marked.txt")))
    assert "; 1 of 3 lines of --exclude name no sample with a picture\n" in capsys.readouterr().err
    (tmp_path / "none.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"none of its 1 lines is a KEY or source key of the data, such as 00000_0000000"):
        train(data, out=tmp_path / "b", config=train_config(**WORDS, exclude=str(tmp_path / "none.txt")))


def test_confidence_weighs_pseudo_labelled_samples_and_their_words(data, write_data, tmp_path, seen):
    pseudo = change_column(write_data(tmp_path / "pseudo", pseudo=True), "scores", lambda row, scores: [0.25, 0.75])
    train(data, pseudo, out=tmp_path / "run", config=train_config(**QUICK, objective="joint", confidence=True))
    for batch in seen:
        is_pseudo = batch.rows >= 48
        assert batch.weights.tolist() == [0.5 if p else 1.0 for p in is_pseudo]
        assert batch.bag_weights.tolist() == [w for p in is_pseudo for w in ([0.25, 0.75] if p else [1.0, 1.0])]
    assert is_pseudo.any()


def test_epochs_decide_the_steps(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**WORDS, epochs=0.5))
    assert manifest.read_config(run)["config"]["steps"] == 3
    assert len(losses(run)) == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimisers_learn(data, tmp_path, optimizer):
    run = train(data, out=tmp_path / "run", config=train_config(**{**WORDS, "steps": 30, "lr": 0.01}, optimizer=optimizer))
    assert np.mean(losses(run)[-5:]) < np.mean(losses(run)[:5])


def test_random_resized_crops_and_scaled_decoding_train(data, tmp_path, seen):
    for decode in ("full", "scaled"):
        config = train_config(**WORDS, augment="resized", decode=decode)
        assert manifest.verify(train(data, out=tmp_path / decode, config=config)) == []
    full, scaled = (batch.images.numpy().astype(int) for batch in (seen[0], seen[5]))
    assert not np.array_equal(seen[0].images, seen[1].images)
    assert np.abs(full - scaled).mean() < 8  # of 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"intact": 0.5, "text": "caption"},
            "--intact 0.5: all texts are captions already, found --text caption; use --text bag or balanced",
        ),
        ({"intact": 0.5, "text_tower": "words"}, "--intact 0.5: the words tower reads no captions; use --text-tower transformer"),
        (
            {"captions": "one", "text": "caption"},
            "--captions one: says whose words make a bag, found --text caption, which takes one caption anyway",
        ),
        ({"bank": 9, "objective": "sigmoid"}, "--bank 9: adds negatives to the contrastive loss, found --objective sigmoid"),
        ({"ema": 1.0}, "--ema 1.0: expected 0, or a number below 1 such as 0.999"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options, message):
    with pytest.raises(UsageError) as error:
        train_config(**options)
    assert str(error.value) == message


def test_a_recipe_gives_defaults_and_options_win(data, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert command(["train", data, "--out", out, "--recipe", "tiny-joint", "--steps", "2", "--batch-size", "8", "--no-progress"]) == 0
    config = manifest.read_config(tmp_path / "run")["config"]
    assert (config["objective"], config["steps"], config["batch_size"]) == ("joint", 2, 8)
    assert command(["train", data, "--out", out, "--recipe", "tiny-jiont"]) == 2
    assert "did you mean tiny-joint?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fistful", "clip", "joint", "cc3m-8gpu", "tiny-fistful", "tiny-clip", "tiny-joint", "photos-frozen"])
def test_every_recipe_is_a_configuration_with_its_source(name):
    from fistful.training import recipes

    function = getattr(recipes, name.replace("-", "_"))
    assert recipe(name) == function()
    assert {"Source:", "Command:"} <= set(function.__doc__.split())
    assert changes(name)
