"""How runs end: with a model, or saying why there is none."""

from __future__ import annotations

import json
import shutil

import pytest

from fistful.bow.store import manifest
from fistful.bow.store.shard import tar_bytes
from fistful.errors import DataError, UsageError
from fistful.eval.during import AccuracyOn
from fistful.training.metrics_file import check_learnt
from fistful.training.model.load import load_encoder
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.evaluation_sets import clip_benchmark_set
from tests.support.pictures import picture

QUICK = {
    "text_tower": "words",
    "steps": 3,
    "batch_size": 8,
    "warmup": 1,
    "threads": 1,
    "progress": False,
    "text": "bag",
    "model": "tiny-vit",
}


class Evaluation:
    """An evaluation that fails in some of its calls."""

    def __init__(self, *fails):
        self.calls, self._fails = 0, fails

    def __call__(self, encoder):
        self.calls += 1
        if self.calls in self._fails:
            raise DataError("the set is gone")
        return {"score": float(self.calls)}


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_an_evaluation_that_cannot_work_fails_before_the_first_step(data, tmp_path):
    run, evaluate = tmp_path / "run", Evaluation(1)
    with pytest.raises(DataError, match="the set is gone"):
        train(data, out=run, config=train_config(**QUICK), evaluate=evaluate)
    assert not (run / "metrics.jsonl").exists()
    assert not (run / "logs" / "evaluated").exists()
    train(data, out=run, config=train_config(**QUICK), evaluate=None)  # the folder is free for another call
    assert manifest.verify(run) == []


def test_the_early_evaluation_leaves_no_trace(data, tmp_path):
    plain = train(data, out=tmp_path / "plain", config=train_config(**QUICK))
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK), evaluate=Evaluation())
    assert lines(run) == [*lines(plain), {"step": 3, "scores": {"score": 2.0}}]
    (weights,) = (run / "model").glob("*.safetensors")
    assert weights.read_bytes() == (plain / "model" / weights.name).read_bytes()


def test_a_last_evaluation_that_fails_leaves_a_model_and_only_it_is_done_again(write_data, tmp_path):
    data, run, evaluate = write_data(tmp_path / "data"), tmp_path / "run", Evaluation(2)
    with pytest.raises(DataError, match="the set is gone"):
        train(data, out=run, config=train_config(**QUICK), evaluate=evaluate)
    fingerprint = load_encoder(str(run)).fingerprint
    assert not (run / "manifest.json").exists()
    shutil.rmtree(tmp_path / "data" / "shards")  # a step would miss its pictures
    train(data, out=run, config=train_config(**QUICK), evaluate=evaluate)
    assert load_encoder(str(run)).fingerprint == fingerprint
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 3]
    assert lines(run)[-1]["scores"] == {"score": 3.0}
    assert manifest.verify(run) == []
    assert not (run / "checkpoints").exists()


def test_a_model_that_is_not_whole_is_no_model(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK))
    (run / "manifest.json").unlink()
    (run / "model" / "fistful.json").unlink()  # written last
    with pytest.raises(UsageError, match="training is not finished"):
        load_encoder(str(run))


def test_a_run_whose_steps_were_all_skipped_learnt_nothing_and_says_so(data, tmp_path):
    config = train_config(**{**QUICK, "model": "auto", "init": "tests.support.pretrained:no_numbers"})
    for _ in range(2):  # said by the same command again too
        with pytest.raises(DataError, match="nothing was learnt: the loss was no number in any of 3 steps, and all were skipped"):
            train(data, out=tmp_path / "run", config=config)
    assert not (tmp_path / "run" / "model").exists()


def test_a_loss_that_never_moves_is_said(data, tmp_path):
    config = train_config(**{**QUICK, "batch_size": 1})  # one picture, one text: always right
    with pytest.raises(DataError, match="nothing was learnt: the loss was 0 from the first step to the last"):
        train(data, out=tmp_path / "run", config=config)


@pytest.mark.parametrize("losses", [[], [2.5], [2.5, None, 2.4], [None, 2.5]])
def test_other_losses_are_no_reason(tmp_path, losses):
    rows = [{"step": i, "loss": loss} for i, loss in enumerate(losses)] + [{"step": 9, "scores": {"a": 0.5}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    check_learnt(tmp_path)


def test_a_run_of_broken_pictures_alone_learnt_nothing(write_data, tmp_path):
    data = write_data(tmp_path / "data", broken=range(48))
    for n, frozen in enumerate(("all", "none")):
        init = {"init": "tests.support.pretrained:small", "train_image": "none", "model": "auto"} if frozen == "none" else {}
        with pytest.raises(DataError, match="this picture and 15 in its place cannot be decoded"):
            train(data, out=tmp_path / str(n), config=train_config(**{**QUICK, **init}))


def test_a_set_whose_labels_were_put_right_gives_no_run_its_old_scores(data, tmp_path):
    def packed(label):
        return {"0.png": picture(), "0.cls": label, "1.png": picture(), "1.cls": b"0"}

    folder = clip_benchmark_set(tmp_path / "set", [packed(b"1")])
    tar = folder / "test" / "0.tar"
    before = tar.stat().st_size
    config = train_config(**{**QUICK, "text_tower": "transformer"})  # knows words that no caption has
    run = train(data, out=tmp_path / "run", config=config, evaluate=AccuracyOn((str(folder),)))
    tar.write_bytes(tar_bytes(packed(b"0")))
    assert tar.stat().st_size == before
    with pytest.raises(UsageError, match="belongs to another configuration \\(evaluated_on: "):
        train(data, out=run, config=config, evaluate=AccuracyOn((str(folder),)))
