"""A Dask cluster that is there already, or is not: one line says so, within seconds."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from fistful.errors import MachineError, UsageError
from fistful.pipelines.engine.dask_cluster import ANSWERS_SECONDS, check_cluster
from tests.support.clusters import dask_cluster, wait_for_workers
from tests.support.folders import fistful

THEN = "; once one does (dask scheduler starts one), the same command resumes"


@contextlib.contextmanager
def a_port(listens: bool) -> Generator[str]:
    """The address of a port that is taken by somebody who never says a word, or does not even listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listens:
            taken.listen()
        yield f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def message(kind: type[Exception], option: str, folder: Path) -> str:
    """Return what is said, within the time that is promised."""
    start = time.monotonic()
    with pytest.raises(kind) as error:
        check_cluster([option], folder)
    assert time.monotonic() - start < ANSWERS_SECONDS + 3
    return str(error.value)


@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "somebody listens and is mute"])
def test_nobody_at_the_address_is_one_line_within_ten_seconds(tmp_path: Path, listens: bool) -> None:
    (tmp_path / "a.tsv").write_text("caption\na cat\n")
    start = time.monotonic()
    with a_port(listens) as address:
        option = f"dask_client_address={address}"
        done = fistful("count", "a.tsv", "--out", "out", "--engine", "dask", "--beam-option", option, "--no-progress", cwd=tmp_path)
    expected = f"fistful: {tmp_path}/out: no Dask scheduler answers at {address} within 3 s{THEN}\n"
    assert (done.returncode, done.stderr) == (5, expected)
    assert time.monotonic() - start < 10 + 10  # ten on a quiet machine


def test_a_scheduler_file_is_waited_for_no_longer(tmp_path: Path) -> None:
    half = tmp_path / "half.json"
    half.write_text('{"addr')
    for file in (tmp_path / "nowhere.json", half):
        said = message(MachineError, f"--dask_scheduler_file={file}", tmp_path)
        assert said == f"{tmp_path}: no Dask scheduler answers at {file} within 3 s{THEN}"


def test_whoever_is_no_scheduler_is_told(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_port}"
        assert message(MachineError, f"--dask_client_address={address}", tmp_path).startswith(f"{tmp_path}: no Dask scheduler answers at")
        server.shutdown()


def test_an_address_that_is_none_is_a_typing_error(tmp_path: Path) -> None:
    assert message(UsageError, "--dask_client_address=localhost", tmp_path) == (
        "--beam-option dask_client_address=localhost: missing port number in address 'localhost'; expected such as tcp://HOST:8786"
    )
    assert message(UsageError, "--dask_client_address=http://a:1", tmp_path).startswith(
        "--beam-option dask_client_address=http://a:1: unknown address scheme 'http'"
    )
    tls = tmp_path / "tls.json"
    tls.write_text(json.dumps({"address": "tls://127.0.0.1:1"}))
    assert "TLS expects a `ssl_context` argument" in message(MachineError, f"--dask_scheduler_file={tls}", tmp_path)


@pytest.mark.timeout(60)
def test_workers_without_fistful_are_told_before_they_die_of_it(tmp_path: Path) -> None:
    with dask_cluster(tmp_path, lacking="fistful") as (address, _):
        worker = wait_for_workers(address, 2)[0]
        with pytest.raises(MachineError) as error:
            check_cluster([f"--dask_client_address={address}"], tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: fistful is not installed where Dask's worker {worker} runs; once it is, the same command resumes"
    )
