"""Captions and images in a bucket, on a server of the S3 protocol that runs here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from fistful.bow.store.files import open_input, read_json
from fistful.bow.store.shard import tar_bytes
from fistful.cli import run
from tests.support.pictures import picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FILES = {
    "tars/00000.tar": tar_bytes({"0.png": picture(), "0.txt": b"a dog", "1.txt": b"no picture"}),
    "tars/00001.tar": tar_bytes({"0.png": picture(), "0.txt": b"a dog"}),
    "texts/a.tsv": b"".join(b"a dog\t%d\n" % i for i in range(3_000)),
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, reached as a user's would be: by the environment's settings."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.filesystem("s3").clear_instance_cache()
    system = fsspec.filesystem("s3")
    system.mkdir("captions")
    for name, data in FILES.items():
        system.pipe(f"captions/{name}", data)
    yield "s3://captions"
    system.rm("captions", recursive=True)
    system.clear_instance_cache()
    server.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bucket_gives_the_bytes_of_a_local_folder(bucket: str, tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        path = tmp_path / "local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for where, out in (("local", "here"), (bucket, "there")):
        sources = [f"{where}/tars", f"{where}/texts/a.tsv"]
        options = ["--no-progress", "--unit-mb", "0.005", "--workers", workers, "--max-bad-fraction", "1"]
        assert run(["count", *sources, "--out", f"{out}/counts", "--caption", "1", *options]) == 0
        assert run(["bags", f"{where}/tars", "--counts", f"{out}/counts", "--out", f"{out}/data", *options]) == 0
    for folder in ("counts", "data"):
        assert read_json(tmp_path / "here" / folder / "manifest.json") == read_json(tmp_path / "there" / folder / "manifest.json")
    assert read_json(tmp_path / "there" / "data" / "stats.json")["kept"] == 2


def test_what_is_wrong_with_a_bucket_is_told(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["count", "s3://nosuch/a.tsv", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "fistful: s3://nosuch/a.tsv: no such file or folder\n"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    fsspec.filesystem("s3").clear_instance_cache()
    assert run(["count", f"{bucket}/texts/a.tsv", "--out", str(tmp_path / "out")]) == 2
    said = "cannot be listed (NoCredentialsError); are address and credentials right?"
    assert capsys.readouterr().err == f"fistful: {bucket}/texts/a.tsv: {said}\n"


def test_a_bucket_that_goes_away_is_the_machines_fault(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_input(f"{bucket}/texts/a.tsv") as file:
        assert file.readline(100) == b"a dog\t0\n"
    monkeypatch.setattr("s3fs.S3File._fetch_range", _gone)
    with open_input(f"{bucket}/texts/a.tsv") as file, pytest.raises(OSError, match="EndpointConnectionError") as error:
        file.read()
    assert error.value.errno == errno.EIO


def _gone(*_: object) -> bytes:
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url="http://127.0.0.1")
