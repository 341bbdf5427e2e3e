"""Data jobs that write to a server of the S3 protocol, as a user's would: processes, settings in the environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from fistful.bow.draw import mix_all
from fistful.bow.store.folders import files_below, folder_at
from fistful.bow.store.objects import GONE, REFUSED
from fistful.bow.store.shard import tar_bytes
from tests.support.docs_world import SHORT, write_tar
from tests.support.folders import REPOSITORY, contents, environment, fistful
from tests.support.object_store import SECRET, check_halfway_in, contents_of, make_bucket, put_all, s3_server
from tests.support.pictures import picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800), pytest.mark.xdist_group("s3")]

WAYS = {"one worker": [], "two workers": ["--workers", "2"], "dask": ["--workers", "2", "--engine", "dask"]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """A server, and how it is reached."""
    folder = tmp_path_factory.mktemp("server")
    with s3_server(folder) as found:
        yield {**found, "FAULT": str(folder / "fault")}


@pytest.fixture
def bucket(settings: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A bucket, and a server that works."""
    Path(settings["FAULT"]).write_text("")
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")
    yield make_bucket(name, settings, monkeypatch)
    Path(settings["FAULT"]).write_text("")
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tars of small pictures with captions, one of them broken."""
    folder = tmp_path_factory.mktemp("sources") / "tars"
    folder.mkdir()
    words = ["red", "green", "blue", "dog", "cat"]
    for unit in range(8):
        files = {}
        for i in range(60):
            files[f"{i:03d}.png"] = picture((i * 4, unit * 30, 90))
            files[f"{i:03d}.txt"] = f"a {words[i % 3]} {words[3 + i % 2]} number {words[unit % 5]}".encode()
        data = tar_bytes(files)
        (folder / f"{unit}.tar").write_bytes(data[:-30_000] if unit == 3 else data)
    return folder


def commands(sources: Path, out: str, *more: str) -> list[list[str]]:
    """What counts, bags, and labels the same pictures, by neighbours among the bagged ones."""
    common = ["--no-progress", "--max-bad-fraction", "1", *more]
    model = f"tests.support.label_encoder:Headless {json.dumps({'words': []})}"
    labels = ["label", str(sources), "--model", model, "--like", f"{out}/bags", "--by", "knn", "--k", "3", "--min-precision", "0"]
    return [
        ["count", str(sources), "--out", f"{out}/counts", *common],
        ["bags", str(sources), "--counts", f"{out}/counts", "--min-count", "1", "--out", f"{out}/bags", *common],
        [*labels, "--out", f"{out}/labels", *common],
    ]


def run_all(sources: Path, out: str, *more: str) -> None:
    for command in commands(sources, out, *more):
        done = fistful(*command)
        assert (done.returncode, done.stderr.replace(APITOOLS, "")) == (0, ""), done


APITOOLS = (
    "WARNING:root:apitools not found, and bigquery client libraries are not available despite the import not raising an ImportError.\n"
)


@pytest.fixture(scope="module")
def here(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the same commands write on disk."""
    out = tmp_path_factory.mktemp("here")
    run_all(sources, str(out))
    return contents(out)


@pytest.mark.parametrize("way", WAYS)
def test_a_bucket_gets_the_bytes_of_a_local_folder(bucket: str, sources: Path, here: dict[str, bytes], way: str) -> None:
    run_all(sources, bucket, *WAYS[way])
    assert contents_of(bucket) == here
    assert fistful("verify", *(f"{bucket}/{name}" for name in ("counts", "bags", "labels"))).returncode == 0


def test_no_file_and_no_message_has_keys_or_hosts(bucket: str, sources: Path, settings: dict[str, str]) -> None:
    host, said = settings["AWS_ENDPOINT_URL"], []
    for command in commands(sources, bucket, "--workers", "2"):
        done = fistful(*command)
        said.append(done.stdout + done.stderr)
    said += [(folder_at(bucket) / name).read_bytes().decode("latin1") for name in files_below(folder_at(bucket))]
    found = [text[:200] for text in said for secret in (SECRET, "k3y", host.partition("//")[2]) if secret in text]
    assert found == []


def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_bytes(bucket: str, sources: Path, here: dict[str, bytes]) -> None:
    def kill_after(seconds: float, command: list[str]) -> None:
        everything: dict[str, Any] = {"start_new_session": True, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, "-m", "fistful", *command], env=environment(), **everything)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    undisturbed = {name: data for name, data in here.items() if not name.startswith("labels/")}
    moments = 1.0 + mix_all(7, np.arange(6)) / 2.0**64 * 4
    for seconds in moments.tolist():
        for command in commands(sources, bucket)[:2]:
            kill_after(seconds, command)
            check_halfway_in(bucket, undisturbed)
    run_all(sources, bucket)
    assert contents_of(bucket) == here


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("403", 5, f"{REFUSED} (AccessDenied)"),
        ("503", 5, f"{GONE} (ClientError SlowDown)"),
        ("slow 0.3", 0, ""),
    ],
)
def test_a_store_that_fails_ends_the_job_in_one_line_and_the_same_command_goes_on(
    bucket: str, sources: Path, here: dict[str, bytes], settings: dict[str, str], fault: str, status: int, says: str
) -> None:
    command = commands(sources, bucket)[0]
    Path(settings["FAULT"]).write_text(fault)
    done = fistful(*command)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, int(status > 0)), done.stderr
    if status:
        assert done.stderr == f"fistful: {bucket}/counts/config.json: {says}; once that is put right, the same command resumes\n"
    Path(settings["FAULT"]).write_text("")
    assert fistful(*command).returncode == 0
    assert contents_of(f"{bucket}/counts") == {name[7:]: data for name, data in here.items() if name.startswith("counts/")}


def test_a_store_that_goes_away_in_the_middle_of_two_workers_is_told(
    bucket: str, sources: Path, here: dict[str, bytes], settings: dict[str, str]
) -> None:
    command = commands(sources, bucket, "--workers", "2")[0]
    process = subprocess.Popen([sys.executable, "-m", "fistful", *command], env=environment(), stderr=subprocess.PIPE, text=True)
    while not files_below(folder_at(f"{bucket}/counts/stats")):
        assert process.poll() is None
    Path(settings["FAULT"]).write_text("403")
    _, error = process.communicate()
    assert process.returncode in (0, 5), error  # it may have been done already
    if process.returncode:
        assert "the store refuses" in error
        assert len(error.splitlines()) == 1
    Path(settings["FAULT"]).write_text("")
    assert fistful(*command).returncode == 0
    assert contents_of(f"{bucket}/counts") == {name[7:]: data for name, data in here.items() if name.startswith("counts/")}


def test_a_bucket_that_is_not_there_is_told(bucket: str, sources: Path) -> None:
    done = fistful("count", sources, "--out", "s3://no-such-bucket/counts")
    assert (done.returncode, done.stderr) == (
        5,
        "fistful: s3://no-such-bucket/counts/config.json: there is no such bucket (NoSuchBucket); "
        "once it is made, the same command resumes\n",
    )


def test_the_how_to_runs_as_it_stands(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_tar(tmp_path / "tars/00000.tar", range(48))
    put_all(tmp_path, make_bucket("BUCKET".lower(), settings, monkeypatch))
    page = (REPOSITORY / "docs/how-to/buckets.md").read_text("utf-8").replace("BUCKET", "bucket")  # S3 knows no capitals
    typed = [shlex.split(line[2:]) for line in page.splitlines() if line.startswith("$ fistful ")]
    assert len(typed) == 5
    for tokens in typed:
        short = [text for option in SHORT.items() for text in option] if tokens[1] == "train" else []
        done = fistful(*tokens[1:], *short, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_worker_that_writes_a_large_shard_stays_small(bucket: str, tmp_path: Path) -> None:
    """A shard of 256 MB, put together and uploaded: less than 1 GB of memory."""
    script = (
        "import re, sys\n"
        "from fistful.bow.store.files import atomic_file\n"
        "from fistful.bow.store.folders import folder_at\n"
        "import fistful.pipelines.bags\n"
        "with atomic_file(folder_at(sys.argv[1]), 'shards/00000.tar') as file:\n"
        "    for i in range(256): file.write(i.to_bytes() * (1 << 20))\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) >> 10)\n"
    )
    command = [sys.executable, "-c", script, bucket]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    print(f"{done.stdout.strip()} MB")
    assert int(done.stdout) < 1_000
    assert files_below(folder_at(bucket)) == {"shards/00000.tar": 256 << 20}
