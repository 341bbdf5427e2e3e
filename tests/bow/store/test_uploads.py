"""Uploads behind the work."""

from __future__ import annotations

import threading

import pytest

from fistful.bow.store.files import atomic_file, nameless_file
from fistful.bow.store.folders import files_below, folder_at
from fistful.bow.store.objects import StorePath
from fistful.bow.store.uploads import WAITING, Uploads
from fistful.errors import MachineError
from tests.support.object_store import empty_bucket


def test_whoever_writes_goes_on_while_a_store_takes_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    put, may_go, order = StorePath.put, threading.Event(), []

    def waits(path: StorePath, local: str) -> None:
        assert may_go.wait(30)
        order.append(path.name)
        put(path, local)

    monkeypatch.setattr(StorePath, "put", waits)
    uploads = Uploads()
    folder = StorePath(empty_bucket("uploads"), uploads)
    names = [f"{n}.tar" for n in range(WAITING)]
    for name in names:
        with atomic_file(folder, name) as file:  # pyright: ignore[reportArgumentType]
            file.write(name.encode())
    assert files_below(folder) == {}  # pyright: ignore[reportArgumentType]
    may_go.set()
    uploads.close()
    assert order == names
    assert [(folder_at("memory://uploads") / name).read_bytes() for name in names] == [name.encode() for name in names]


def test_after_an_upload_that_failed_none_is_begun_and_nothing_is_left_open() -> None:
    begun: list[str] = []

    def fails() -> None:
        begun.append("fails")
        raise MachineError("the store does not answer")

    uploads, files = Uploads(), [nameless_file() for _ in range(6)]
    uploads.add(files[0], lambda: begun.append("first"))
    uploads.add(files[1], fails)

    def add_more() -> None:
        for file in files[2:]:  # the second may have failed already, or not
            uploads.add(file, lambda: begun.append("never"))
        uploads.close()

    with pytest.raises(MachineError, match="does not answer"):
        add_more()
    with pytest.raises(MachineError, match="does not answer"):
        uploads.close()
    assert begun == ["first", "fails"]
    assert all(file.closed for file in files[:3])


def test_paths_are_the_same_however_they_are_written() -> None:
    uploads = Uploads()
    assert StorePath("s3://b/a", uploads) == StorePath("s3://b/a")
    assert hash(StorePath("s3://b/a", uploads) / "c") == hash(StorePath("s3://b/a/c"))
    uploads.close()
