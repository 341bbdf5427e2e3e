"""Buckets on this machine: one of this process, and a server of the S3 protocol, reached as a user reaches one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fistful.bow.store.folders import files_below, folder_at
from fistful.bow.store.objects import StorePath
from tests.support.clusters import free_ports, processes, wait_for_port
from tests.support.folders import environment

SECRET = "s3cr3t"


def empty_bucket(name: str) -> str:
    """The URL of a bucket of this process, without what earlier tests left."""
    system = fsspec.filesystem("memory")
    if system.exists(f"/{name}"):
        system.rm(f"/{name}", recursive=True)
    return f"memory://{name}"


@contextlib.contextmanager
def s3_server(folder: Path) -> Generator[dict[str, str]]:
    """A server that forgets everything when the block ends; yields what stands in the environment of those who use it.

    What FOLDER/fault says goes wrong (tests/support/s3_server.py).
    """
    (port,) = free_ports(1)
    with processes([[sys.executable, "-m", "tests.support.s3_server", str(port), str(folder / "fault")]], folder, environment()):
        wait_for_port(port)
        keys = {"ACCESS_KEY_ID": "k3y", "SECRET_ACCESS_KEY": SECRET, "DEFAULT_REGION": "us-east-1"}
        names = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", **keys}
        yield {f"AWS_{name}": value for name, value in names.items()}


def make_bucket(name: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a bucket, and let this process reach it for a test; returns its URL."""
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    fsspec.filesystem("s3").clear_instance_cache()
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


def put_all(folder: Path, url: str) -> str:
    """Put every file of a folder into a store, as a user's own tools would; returns the URL."""
    for path in folder.rglob("*"):
        if path.is_file():
            (folder_at(url) / path.relative_to(folder).as_posix()).put(str(path))  # pyright: ignore[reportAttributeAccessIssue]
    return url


def contents_of(folder: str) -> dict[str, bytes]:
    """The bytes of every object outside logs/, by its name in the folder."""
    place = folder_at(folder)
    return {name: (place / name).read_bytes() for name in sorted(files_below(place)) if "logs" not in name.split("/")[:-1]}


def check_halfway_in(folder: str, undisturbed: dict[str, bytes]) -> None:
    """Check that every object that is there is there in full."""
    assert [name for name, data in contents_of(folder).items() if undisturbed.get(name) != data] == []


def note_requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Note what stores are asked from now on: fsspec's name of the request, and the object."""
    asked: list[tuple[str, str]] = []
    system_of: Any = vars(StorePath)["_system"].fget

    class Noting:
        def __init__(self, system: Any) -> None:
            self._noted = system

        def __getattr__(self, name: str) -> Any:
            def ask(*arguments: Any, **more: Any) -> Any:
                asked.append((name, arguments[-1]))
                return getattr(self._noted, name)(*arguments, **more)

            return ask

    monkeypatch.setattr(StorePath, "_system", property(lambda path: Noting(system_of(path))))
    return asked
