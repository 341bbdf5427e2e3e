"""P5: training goes on as if never stopped. Conditions: fp32 on a CPU, the same machine and threads."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data

OPTIONS = {"steps": 7, "batch_size": 8, "warmup": 1, "progress": False, "augment": "crop", "checkpoint_every": 2}

KILLED = """
import os, signal, sys
from fistful.training import loop
from fistful.training.train_config import train_config
from fistful.training.train import train

data, out, what, when, options = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), eval(sys.argv[5])
step, replace, seen = loop.step, os.replace, []

def die_in_step(model, batch, *more):
    if what == "step" and batch.step == when:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(model, batch, *more)

def die_at_write(source, target):
    seen.append(target)
    if what == "before write" and len(seen) == when:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if what == "after write" and len(seen) == when:
        os.kill(os.getpid(), signal.SIGKILL)

loop.step, os.replace = die_in_step, die_at_write
train(data, out=out, config=train_config(**options))
print(len(seen))
"""

pytestmark = pytest.mark.xdist_group("p5")  # one process makes the whole run once
SOME = [("step", 3), ("after write", 6)]
WRITES = 13
"""Files that a run of these options renames into place: the test of all of them checks the number."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "bags")


def contents(run: Path) -> dict[str, bytes]:
    """Return the bytes of every file outside logs/."""
    files = [p for p in run.rglob("*") if p.is_file() and "logs" not in p.relative_to(run).parts]
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in files}


def run_killed(data: str, out: Path, what: str, when: int, options: dict) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", KILLED, data, str(out), what, str(when), repr(options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run."""
    options = {**OPTIONS, "threads": 1, "objective": "joint"}
    return options, train(data, out=tmp_path_factory.mktemp("whole") / "run", config=train_config(**options))


@pytest.fixture(scope="module")
def whole_on_two_threads(data, tmp_path_factory):
    """An uninterrupted run of two threads."""
    options = {**OPTIONS, "threads": 2, "objective": "joint"}
    return options, train(data, out=tmp_path_factory.mktemp("whole") / "run", config=train_config(**options))


@pytest.mark.parametrize(("what", "when"), SOME)
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(data, whole, tmp_path, what, when):
    options, expected = whole
    killed = run_killed(data, tmp_path / "run", what, when, options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = train(data, out=tmp_path / "run", config=train_config(**options))
    assert contents(expected) == contents(run)


@pytest.mark.parametrize(
    "more",
    [{"text": "caption", "mask_rule": "content"}, {"text_tower": "words", "objective": "joint"}],
    ids=["captions", "words"],
)
def test_a_killed_run_that_hides_words_ends_with_the_bytes_of_one_that_was_not(data, tmp_path, more):
    options = {**OPTIONS, "threads": 1, "mask_rate": 0.4, "match_weight": 1.0, **more}
    expected = train(data, out=tmp_path / "whole", config=train_config(**options))
    killed = run_killed(data, tmp_path / "run", "step", 3, options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert contents(expected) == contents(train(data, out=tmp_path / "run", config=train_config(**options)))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["before write", "after write"])
@pytest.mark.parametrize("when", range(1, WRITES + 1))
def test_a_run_killed_around_any_write_ends_with_the_same_bytes(data, whole_on_two_threads, tmp_path, what, when):
    options, expected = whole_on_two_threads
    killed = run_killed(data, tmp_path / "run", what, when, options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = train(data, out=tmp_path / "run", config=train_config(**options))
    assert contents(expected) == contents(run)


@pytest.mark.slow
def test_the_number_of_writes_above_is_all_of_them(data, whole, tmp_path):
    done = run_killed(data, tmp_path / "run", "never", 0, whole[0])
    assert done.stdout.split() == [str(WRITES)], done.stderr


def test_when_checkpoints_are_written_changes_no_byte(data, whole, tmp_path):
    options, expected = whole
    config = train_config(**{**options, "checkpoint_every": 1, "keep_checkpoints": 1})
    assert contents(expected) == contents(train(data, out=tmp_path / "run", config=config))
