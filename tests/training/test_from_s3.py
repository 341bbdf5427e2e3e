"""Training on data folders in a server of the S3 protocol, as a user's: processes, settings in the environment."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from fistful.bow.draw import mix_all
from fistful.bow.store.objects import GONE, REFUSED
from tests.support.data_folder import make_data
from tests.support.folders import contents, environment, fistful
from tests.support.object_store import SECRET, make_bucket, put_all, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200), pytest.mark.xdist_group("s3-train")]

OPTIONS = ["--steps", "40", "--batch-size", "8", "--warmup", "1", "--threads", "1", "--checkpoint-every", "4", "--text", "bag"]
OPTIONS += ["--text-tower", "words", "--no-progress"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """A server, and how it is reached."""
    folder = tmp_path_factory.mktemp("server")
    with s3_server(folder) as found:
        yield {**found, "FAULT": str(folder / "fault")}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data") / "bags", n=96, units=12)


@pytest.fixture(scope="module")
def there(here: str, settings: dict[str, str]) -> Generator[str]:
    with pytest.MonkeyPatch.context() as patch:
        yield put_all(Path(here), f"{make_bucket('training', settings, patch)}/bags")


@pytest.fixture(scope="module")
def undisturbed(here: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the same command writes from the disk."""
    out = tmp_path_factory.mktemp("here") / "run"
    assert fistful("train", here, "--out", out, *OPTIONS).returncode == 0
    return contents(out)


def test_no_file_and_no_message_has_keys_or_hosts(
    there: str, undisturbed: dict[str, bytes], settings: dict[str, str], tmp_path: Path
) -> None:
    done = fistful("train", there, "--out", tmp_path / "run", *OPTIONS)
    assert (done.returncode, contents(tmp_path / "run") == undisturbed) == (0, True), done.stderr
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    said = [done.stdout, done.stderr, *(path.read_bytes().decode("latin1") for path in files)]
    hidden = (SECRET, settings["AWS_ACCESS_KEY_ID"], settings["AWS_ENDPOINT_URL"].partition("://")[2], "127.0.0.1")
    assert [word for word in hidden for text in said if word in text] == []


def test_killed_at_any_moment_it_ends_with_the_same_weights(there: str, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fistful", "train", there, "--out", str(tmp_path / "run"), *OPTIONS]
    killed = 0
    for moment in (mix_all(5, np.arange(6)) / 2.0**64).tolist():
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                process.wait(4 + 6 * moment)  # the first seconds import torch
            except subprocess.TimeoutExpired:
                process.kill()
                killed += process.wait() == -signal.SIGKILL
    assert killed
    done = fistful(*command[3:])
    assert (done.returncode, contents(tmp_path / "run") == undisturbed) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("fault", "says"), [("403 /shards/", f"{REFUSED} (ClientError 403)"), ("503 /shards/", f"{GONE} (ClientError 503)")]
)
def test_a_store_that_refuses_or_is_busy_ends_it_and_the_same_command_goes_on(
    there: str, undisturbed: dict[str, bytes], settings: dict[str, str], tmp_path: Path, fault: str, says: str
) -> None:
    Path(settings["FAULT"]).write_text(fault)
    done = fistful("train", there, "--out", tmp_path / "run", *OPTIONS)
    Path(settings["FAULT"]).write_text("")
    assert done.returncode == 5, done.stderr
    *_, last = done.stderr.splitlines()
    shard, _, said = last.removeprefix("fistful: ").partition(".tar: ")
    assert shard.startswith(f"{there}/shards/000")
    assert said == f"{says}; once that is put right, the same command resumes"
    done = fistful("train", there, "--out", tmp_path / "run", *OPTIONS)
    assert (done.returncode, contents(tmp_path / "run") == undisturbed) == (0, True), done.stderr


def test_two_processes_share_the_cache(here: str, there: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fistful.training"]
    for data, out in ((here, "here"), (there, "there")):
        done = subprocess.run([*command, data, "--out", str(tmp_path / out), *OPTIONS], env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
