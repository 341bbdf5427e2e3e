"""What can go wrong in training, and what the user is told."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import threading

import numpy as np
import pytest
import torch

from fistful.bow.store import manifest
from fistful.errors import DataError, Interrupted, UsageError
from fistful.training import checkpoint, loop
from fistful.training import step as step_module
from fistful.training.data.reading import read_samples
from fistful.training.device import has_bf16
from fistful.training.train import train
from fistful.training.train_config import train_config

QUICK = {
    "steps": 4,
    "batch_size": 8,
    "warmup": 1,
    "threads": 1,
    "progress": False,
    "text": "bag",
    "model": "tiny-resnet",
    "text_tower": "words",
}


def weights(run):
    return {p.name: p.read_bytes() for p in (run / "model").iterdir()}


def test_the_same_command_again_finds_the_run_done(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK))
    before = weights(run)
    assert train(data, out=run, config=train_config(**QUICK)) == run
    assert weights(run) == before


def test_another_configuration_is_refused_naming_the_field(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK))
    with pytest.raises(UsageError) as error:
        train(data, out=run, config=train_config(**{**QUICK, "seed": 1}))
    assert str(error.value) == f"{run}: belongs to another configuration (seed: 0 there, 1 asked); choose another --out"


def test_a_run_folder_in_use_is_refused(data, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    with open(tmp_path / "run" / "logs" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another train is at work on this run folder"):
            train(data, out=tmp_path / "run", config=train_config(**QUICK))


def test_a_stopped_run_goes_on_to_the_same_bytes(data, tmp_path, monkeypatch):
    whole = train(data, out=tmp_path / "whole", config=train_config(**QUICK))
    step = loop.step

    def stop_in_the_third(model, batch, *more):
        if batch.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(model, batch, *more)

    monkeypatch.setattr(loop, "step", stop_in_the_third)
    with pytest.raises(Interrupted, match=r"stopped at step 3 of 4; the same command goes on from there"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path / "run")] == ["step-0000000003.pt"]
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert weights(run) == weights(whole)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (run / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def interrupted(data, run, monkeypatch, at=3, **options):
    """Train until a step and stop there, with a checkpoint of each step."""
    step = loop.step
    with monkeypatch.context() as patch:

        def stop_at(model, batch, *more):
            if batch.step == at - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(model, batch, *more)

        patch.setattr(loop, "step", stop_at)
        with pytest.raises(Interrupted):
            train(data, out=run, config=train_config(**QUICK, checkpoint_every=1, **options))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_broken_checkpoint_falls_back_to_the_one_before(data, tmp_path, monkeypatch, damage, capsys):
    whole = train(data, out=tmp_path / "whole", config=train_config(**QUICK))
    run = tmp_path / "run"
    interrupted(data, run, monkeypatch)
    newest = checkpoint.list_checkpoints(run)[-1]
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": content, "cut": content[: len(content) // 2], "empty": b""}[damage])
    train(data, out=run, config=train_config(**QUICK))
    assert "cannot be read" in capsys.readouterr().err
    assert weights(run) == weights(whole)


def test_if_no_checkpoint_can_be_read_the_run_says_so(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(data, run, monkeypatch)
    for path in checkpoint.list_checkpoints(run):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 2 checkpoints can be read; remove the folder to start from step 0"):
        train(data, out=run, config=train_config(**QUICK))


def test_a_checkpoint_of_another_run_is_refused(data, tmp_path, monkeypatch):
    interrupted(data, tmp_path / "a", monkeypatch)
    interrupted(data, tmp_path / "b", monkeypatch, seed=1)
    newest = checkpoint.list_checkpoints(tmp_path / "b")[-1]
    (tmp_path / "a" / "checkpoints" / newest.name).write_bytes(newest.read_bytes())
    with pytest.raises(DataError, match="it belongs to another run, remove it"):
        train(data, out=tmp_path / "a", config=train_config(**QUICK))


def test_a_checkpoint_that_would_run_code_is_not_run(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(data, run, monkeypatch)

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    for path in checkpoint.list_checkpoints(run):
        torch.save({"about": "{}", "tensors": Evil()}, path)
    with pytest.raises(DataError, match="can be read"):
        train(data, out=run, config=train_config(**QUICK))
    assert not (tmp_path / "evil").exists()


def test_data_given_twice_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match=r"given twice; bags\*2 shows its samples twice an epoch"):
        train(data, f"{data}*3", out=tmp_path / "run", config=train_config(**QUICK))


@pytest.mark.parametrize("alone", [True, False])
def test_a_weight_that_shows_no_sample_is_refused(data, write_data, tmp_path, alone):
    other = write_data(tmp_path / "other", n=24)
    folders = [f"{other}*0.02"] if alone else [data, f"{other}*0.02"]
    with pytest.raises(UsageError) as error:
        train(*folders, out=tmp_path / "run", config=train_config(**QUICK))
    said = f"{other}*0.02: an epoch shows none of its 24 samples; give {other}*0.042 or more, or leave it out"
    assert str(error.value) == said


def test_a_folder_that_is_left_out_whole_is_said(data, write_data, tmp_path, capsys):
    other = write_data(tmp_path / "other", n=12, units=1)
    keys = read_samples((data,)).keys.to_pylist()
    (tmp_path / "keys.txt").write_text("\n".join(keys))  # its keys are those of the first twelve too
    more = write_data(tmp_path / "more", n=96, units=1)
    train(more, other, out=tmp_path / "run", config=train_config(**QUICK, exclude=str(tmp_path / "keys.txt")))
    assert capsys.readouterr().err == f"train: {other}: no sample of it is shown\n"


def test_a_batch_without_room_for_a_pseudo_labelled_sample_is_refused(data, write_data, tmp_path):
    pseudo = write_data(tmp_path / "pseudo", n=24, pseudo=True)
    with pytest.raises(
        UsageError, match=r"^--batch-size 1 --pseudo-share 0.5: a batch has no room for a pseudo-labelled sample; use a larger"
    ):
        train(data, pseudo, out=tmp_path / "run", config=train_config(**{**QUICK, "batch_size": 1}))


def test_excluding_everything_is_said(data, tmp_path):
    keys = read_samples((data,)).keys.to_pylist()
    (tmp_path / "keys.txt").write_text("\n".join(keys))
    with pytest.raises(UsageError, match=r"--exclude .*keys.txt --holdout 0.0: leave no sample to learn from"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK, exclude=str(tmp_path / "keys.txt")))


def test_broken_pictures_are_replaced_by_a_pure_function_and_counted(write_data, tmp_path):
    data = write_data(tmp_path / "data", broken=[3, 4, 5])
    runs = [train(data, out=tmp_path / name, config=train_config(**{**QUICK, "steps": 12})) for name in "ab"]
    assert weights(runs[0]) == weights(runs[1])
    lines = [json.loads(line) for line in (runs[0] / "logs" / "replaced.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0]["why"].startswith("bad_image: ")


def test_data_of_broken_pictures_only_is_an_error(write_data, tmp_path):
    data = write_data(tmp_path / "data", broken=range(48))
    with pytest.raises(DataError, match="this picture and 15 in its place cannot be decoded"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK))


def test_a_missing_shard_is_named(write_data, tmp_path):
    data = write_data(tmp_path / "data")
    os.unlink(f"{data}/shards/00001.tar")
    with pytest.raises(DataError, match=r"shards/00001.tar: missing"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK))


@pytest.fixture
def spoil(monkeypatch):
    """Return a function that makes the losses of some steps no numbers."""
    compute = step_module.compute_gradients

    def spoil_steps(steps, watch=lambda step, model: None):
        def spoilt(towers, model, batch, *more):
            watch(batch.step, model)
            parts = compute(towers, model, batch, *more)
            if batch.step in steps:
                for parameter in model.parameters():
                    parameter.grad = None if parameter.grad is None else parameter.grad * np.nan
                parts = {name: loss * np.nan for name, loss in parts.items()}
            return parts

        monkeypatch.setattr(step_module, "compute_gradients", spoilt)

    return spoil_steps


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_loss_that_is_no_number_changes_nothing_and_too_many_end_the_run(data, tmp_path, monkeypatch, spoil, every, optimizer):
    """Read every step, as on a CPU, or some steps later, as on a GPU."""
    states = {}

    def watch(step, model):
        states[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    monkeypatch.setitem(loop.READ_EVERY, "cpu", every)
    spoil(range(2, 30), watch)
    with pytest.raises(DataError, match=r"the loss was no number in 11 steps, at last in step 12 \(samples 0000"):
        train(data, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 30, "checkpoint_every": 10}, optimizer=optimizer))
    assert all(torch.equal(tensor, states[12][name]) for name, tensor in states[2].items())
    skipped = [json.loads(line)["step"] for line in (tmp_path / "run" / "logs" / "skipped-0.jsonl").read_text().splitlines()]
    assert skipped == list(range(2, 13))
    assert not (tmp_path / "run" / "model").exists()
    for path in checkpoint.list_checkpoints(tmp_path / "run"):
        kept = torch.load(path, weights_only=True)["tensors"]
        assert all(tensor.isfinite().all() for tensor in kept.values() if tensor.is_floating_point())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_first_step_that_is_skipped_leaves_a_run_that_learns(data, tmp_path, spoil, optimizer):
    spoil([0])
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, optimizer=optimizer, objective="joint", bank=16, ema=0.9))
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [loss is None for loss in losses] == [True, False, False, False]


@pytest.mark.parametrize("more", [{}, {"model": "tiny-vit", "objective": "joint", "bank": 16, "ema": 0.9, "accumulation": 2}])
def test_when_losses_are_read_changes_no_byte(data, tmp_path, monkeypatch, more):
    options = {**QUICK, "steps": 10, "checkpoint_every": 3, **more}
    runs = []
    for every in (1, 4):
        monkeypatch.setitem(loop.READ_EVERY, "cpu", every)
        runs.append(train(data, out=tmp_path / str(every), config=train_config(**options)))
    assert (runs[0] / "metrics.jsonl").read_bytes() == (runs[1] / "metrics.jsonl").read_bytes()
    assert (runs[0] / "manifest.json").read_bytes() == (runs[1] / "manifest.json").read_bytes()


def test_weights_that_are_no_numbers_are_never_written(data, tmp_path, monkeypatch):
    step = loop.step

    def break_one(model, batch, *more):
        taken = step(model, batch, *more)
        if batch.step == 2:
            with torch.no_grad():
                model.scale_parameter.fill_(torch.inf)
        return taken

    monkeypatch.setattr(loop, "step", break_one)
    run = tmp_path / "run"
    with pytest.raises(DataError) as error:
        train(data, out=run, config=train_config(**QUICK, checkpoint_every=1))
    assert str(error.value) == (
        f"{run}: after step 3 weights of logit_scale are no numbers, so they are not written; a smaller --lr helps, in another --out"
    )
    assert [path.name for path in checkpoint.list_checkpoints(run)] == ["step-0000000001.pt", "step-0000000002.pt"]
    assert not (run / "model").exists()


def test_folders_of_different_vocabularies_are_refused(data, write_data, tmp_path):
    other = write_data(tmp_path / "other", words=["zebra"])
    with pytest.raises(DataError, match="has another vocabulary than"):
        train(data, other, out=tmp_path / "run", config=train_config(**QUICK))


def test_real_and_pseudo_labelled_folders_train_together(data, write_data, tmp_path):
    pseudo = write_data(tmp_path / "pseudo", pseudo=True)
    run = train(data, f"{pseudo}*2", out=tmp_path / "run", config=train_config(**QUICK, objective="joint"))
    assert manifest.verify(run) == []
    with pytest.raises(UsageError, match="all samples are pseudo-labelled"):
        train(pseudo, out=tmp_path / "pseudo-only", config=train_config(**QUICK))


def test_an_unfinished_data_folder_is_refused(write_data, tmp_path):
    data = write_data(tmp_path / "data")
    os.unlink(f"{data}/manifest.json")
    with pytest.raises(UsageError, match="is not finished"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0: expected 1 or more"),
        ({"lr": 0}, "--lr 0: expected a number above 0"),
        ({"context_length": 3}, "--context-length 3: expected 0, or 4 or more"),
        ({"pseudo_share": 2}, "--pseudo-share 2: expected 0 to 1"),
        ({"kept": 0.5}, "--rule data: takes no --kept; name the rule that they belong to"),
        ({"rule": "cap", "kept": 0.5, "text": "bag"}, "--rule cap: thins balanced bags, found --text bag; use --text balanced"),
        (
            {"rule": "cap", "kept": 0.5, "text": "balanced", "objective": "words"},
            "--rule cap: thins what the text tower reads, and --objective words has none: its loss weighs words by idf; "
            "leave --rule out, or use --objective joint",
        ),
        ({"rule": "cap"}, "--rule cap: needs --threshold or --kept, found none"),
        ({"lr": math.inf}, "--lr inf: expected a finite number"),
        ({"lr": math.nan}, "--lr nan: expected a number above 0"),
        ({"epochs": math.inf}, "--epochs inf: expected a finite number"),
        ({"seed": 2**63}, "--seed 9223372036854775808: expected a number below 2**63"),
        ({"steps": 10**12}, "--steps 1000000000000: expected at most 1,000,000,000"),
        (
            {"text": "caption", "text_tower": "words"},
            "--text-tower words: reads words of the vocabulary, found --text caption; use --text bag or balanced",
        ),
    ],
)
def test_a_configuration_at_fault_says_what_to_do(options, message):
    with pytest.raises(UsageError) as error:
        train_config(**options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 49}, "--batch-size 49: an epoch has only 48 samples; --batch-size 32 fits, or give more data"),
        ({"epochs": 1e300}, "--epochs 1e+300: are 6e+300 steps, expected at most 1,000,000,000"),
        ({"model": "no-such"}, "--model no-such: found no such model, expected tiny-resnet"),
        (
            {"model": "roberta-ViT-B-32", "text_tower": "transformer"},
            "--model roberta-ViT-B-32: its text tower comes from a model hub; use --text-tower words",
        ),
    ],
)
def test_a_call_at_fault_says_what_to_do(data, tmp_path, options, message):
    with pytest.raises(UsageError) as error:
        train(data, out=tmp_path / "run", config=train_config(**{**QUICK, **options}))
    assert str(error.value).startswith(message)


def test_bf16_is_refused_where_the_processor_has_no_units_for_it(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512f\n")
    assert not has_bf16("cpu", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags : fpu avx512_bf16\n")
    assert has_bf16("cpu", tmp_path / "cpuinfo")


def test_signals_and_torchs_settings_are_put_back(data, tmp_path):
    before = signal.getsignal(signal.SIGTERM), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert before == (signal.getsignal(signal.SIGTERM), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_train_works_outside_the_main_thread(data, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(data, out=tmp_path / "run", config=train_config(**QUICK))))
    thread.start()
    thread.join()
    assert results == [tmp_path / "run"]


def test_an_evaluation_is_noted_in_the_metrics(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK), evaluate=lambda encoder: {"size": float(encoder.image_size)})
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) == {"step": 4, "scores": {"size": 64.0}}
    assert len(read_samples((data,))) == 48


@pytest.mark.parametrize("tower", ["transformer", "words"])
def test_empty_bags_do_no_harm(write_data, tmp_path, tower):
    data = write_data(tmp_path / "data", wordless=range(0, 48, 3))
    run = train(data, out=tmp_path / "run", config=train_config(**{**QUICK, "text_tower": tower}, objective="joint"))
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 4
    assert None not in losses


def test_samples_held_out_are_not_shown_in_place_of_broken_ones_either(write_data, tmp_path, seen):
    from fistful.training.data.holdout import hidden_rows

    data = write_data(tmp_path / "data", broken=range(0, 48, 2))
    config = train_config(**{**QUICK, "steps": 20}, holdout=0.4)
    train(data, out=tmp_path / "run", config=config)
    rows = np.unique(np.concatenate([batch.rows for batch in seen]))
    hidden = hidden_rows(config, read_samples((data,)), tmp_path / "cache")
    assert not hidden[rows].any()
    assert len(rows) == (~hidden)[24:].sum()  # the first 24 rows are unit 0, all broken


@pytest.mark.parametrize("more", [{"objective": "joint"}, {"tower_word_weight": 1.0}])
def test_bf16_trains_where_it_is_allowed(data, tmp_path, monkeypatch, more):
    monkeypatch.setattr("fistful.training.train_config.has_bf16", lambda device: True)
    run = train(data, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 2}, precision="bf16", **more))
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    exact = train(data, out=tmp_path / "exact", config=train_config(**{**QUICK, "steps": 2}, **more))
    expected = [json.loads(line)["loss"] for line in (exact / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses != expected


def test_bf16_is_refused_elsewhere(data, tmp_path, monkeypatch):
    monkeypatch.setattr("fistful.training.train_config.has_bf16", lambda device: False)
    with pytest.raises(UsageError, match="this processor has no bf16 units"):
        train(data, out=tmp_path / "run", config=train_config(**QUICK, precision="bf16"))
