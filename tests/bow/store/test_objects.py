"""Paths in object stores, their errors, and addresses without their secrets."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from fistful.bow.store.files import atomic_file, hash_file, read_json, record_of, stamp_of, write_json
from fistful.bow.store.folders import (
    entries,
    files_below,
    folder_at,
    in_store,
    local_file,
    out_folder,
    read_all,
    read_part,
    remove_all,
    scratch_folder,
)
from fistful.bow.store.objects import GONE, REFUSED, StorePath, _whole, bucket_mount, redacted
from fistful.errors import MachineError, UsageError


@pytest.fixture
def bucket() -> str:
    """A bucket of this process."""
    system = fsspec.filesystem("memory")
    if system.exists("/bucket"):
        system.rm("/bucket", recursive=True)
    return "memory://bucket"


def test_a_folder_in_a_store_is_used_as_one_on_disk(bucket: str, tmp_path: Path) -> None:
    for folder in (folder_at(f"{bucket}/counts"), tmp_path / "counts"):
        assert (folder.exists(), entries(folder), files_below(folder), [*folder.iterdir()] if in_store(folder) else []) == (
            False,
            {},
            {},
            [],
        )
        record = write_json(folder, "stats/00007.json", {"rows": 3})
        write_json(folder, "config.json", {})
        path = folder / "stats" / "00007.json"
        assert (read_json(path), hash_file(path), record_of(path)) == ({"rows": 3}, record, record)
        assert {name: entry.st_size for name, entry in entries(folder / "stats").items()} == {"00007.json": record["size"]}
        assert files_below(folder) == {"config.json": 3, "stats/00007.json": record["size"]}
        assert sorted(path.name for path in folder.iterdir() if path.name != "logs") == ["config.json", "stats"]
        assert [path.stem for path in (folder / "stats").glob("*.json")] == ["00007"]
        assert (path.is_file(), (folder / "stats").is_dir(), path.is_dir(), path.parent == folder / "stats") == (True, True, False, True)
        assert [*read_all([path, folder / "config.json"])] == [path.read_bytes(), b"{}\n"]
        with local_file(path) as name, open(name, "rb") as file:
            assert file.read() == path.read_bytes()
        with scratch_folder(folder) as place:
            assert place.is_dir()
        path.unlink()
        path.unlink(missing_ok=True)
        assert not path.exists()
        remove_all(folder)
        assert files_below(folder) == {}


def test_an_object_that_could_not_be_finished_is_not_there_and_leaves_nothing(bucket: str) -> None:
    folder, before = folder_at(bucket), set(os.listdir("/proc/self/fd"))

    def fails() -> None:
        with atomic_file(folder, "shards/00000.tar") as file:
            file.write(b"half")
            with open(file.local(), "rb") as same:
                assert same.read() == b"half"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert (files_below(folder), set(os.listdir("/proc/self/fd"))) == ({}, before)


def test_another_object_of_a_name_has_another_stamp(bucket: str) -> None:
    folder = folder_at(bucket)
    write_json(folder, "a.json", 1)
    first = stamp_of(folder / "a.json")
    write_json(folder, "a.json", 2)
    assert first != stamp_of(folder / "a.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "sftp://me:pass@host/x",
            "sftp://host/x: is no folder that fistful may write or read; expected one on disk, "
            "or an object store's (s3://BUCKET/NAME, gs://, az://)",
        ),
        (
            "s3://key:secret@bucket/x",
            "s3://bucket/x: has more than PROTOCOL://BUCKET/NAME; keys come from the environment, not from the URL",
        ),
        (
            "s3://bucket/x?X-Amz-Signature=1f",
            "s3://bucket/x: has more than PROTOCOL://BUCKET/NAME; keys come from the environment, not from the URL",
        ),
        ("s3://", "s3://: expected s3://BUCKET/NAME, without .."),
        ("s3://bucket/../x", "s3://bucket/../x: expected s3://BUCKET/NAME, without .."),
    ],
)
def test_a_url_that_is_no_folder_is_refused_without_its_secrets(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        out_folder(name)
    assert str(error.value) == message


def test_an_object_is_no_folder_to_write(bucket: str) -> None:
    write_json(folder_at(bucket), "a.json", 1)
    with pytest.raises(UsageError, match=r"^--out memory://bucket/a.json: is an object, expected what names of objects begin with$"):
        out_folder(f"{bucket}/a.json")


class ConnectTimeoutError(Exception):
    """As botocore's: its text holds the endpoint."""


class ClientError(Exception):
    """As botocore's."""

    def __init__(self) -> None:
        super().__init__("arn:aws:iam::1234:user/me may not")
        self.response = {"Error": {"Code": "AccessDenied", "Message": str(self)}}


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            ConnectTimeoutError("https://me:pass@inner.host/"),
            f"{GONE} (ConnectTimeoutError)",
        ),
        (FileNotFoundError(errno.ENOENT, "https://inner.host"), "there is no such bucket (FileNotFoundError)"),
        (PermissionError(errno.EACCES, "arn:aws:iam::1234"), f"{REFUSED} (PermissionError)"),
    ],
)
def test_what_a_store_says_is_told_by_its_kind_alone(bucket: str, monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str) -> None:
    def fails(*_: object) -> None:
        raise raised

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", fails)
    with pytest.raises(MachineError) as error:
        write_json(folder_at(bucket), "a.json", 1)
    end = "once it is made, the same command resumes" if "bucket (" in said else "once that is put right, the same command resumes"
    assert str(error.value) == f"{bucket}/a.json: {said}; {end}"


def test_the_code_of_a_refusal_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "arn:aws:iam::1234") from ClientError()

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", fails)
    with pytest.raises(MachineError) as error:
        (folder_at(bucket) / "a.json").read_bytes()
    assert str(error.value) == f"{bucket}/a.json: {REFUSED} (ClientError AccessDenied); once that is put right, the same command resumes"


def test_a_missing_object_is_missing_as_a_missing_file_is(bucket: str) -> None:
    path = StorePath(bucket) / "none.json"
    for ask in (path.read_bytes, path.stat, path.open, path.unlink):
        with pytest.raises(FileNotFoundError) as error:
            ask()
        assert error.value.filename == str(path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/a.tsv?X-Amz-Signature=1&x=2: no such file", "https://h/a.tsv?...: no such file"),
        ("['https://u:p@h/a', 's3://k:s@b/c']", "['https://h/a', 's3://b/c']"),
        ("a@b.c and why? s3://bucket/why?.tsv", "a@b.c and why? s3://bucket/why?.tsv"),
    ],
)
def test_addresses_are_shown_without_what_opens_them(text: str, shown: str) -> None:
    assert redacted(text) == shown


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
s3fs /mnt/s3 fuse.s3fs rw 0 0
bucket /mnt/my\\040bucket fuse.gcsfuse rw 0 0
drive: /mnt/rclone fuse.rclone rw 0 0
mountpoint-s3 /mnt/point fuse rw 0 0
tmpfs /mnt/s3/cache tmpfs rw 0 0
host:/x /mnt/sshfs fuse.sshfs rw 0 0
"""


def test_a_bucket_that_is_mounted_as_a_folder_is_recognised(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    places = [
        "/mnt/s3/out",
        "/mnt/my bucket",
        "/mnt/rclone/a/b",
        "/mnt/point/x",
        "/mnt/s3/cache/x",
        "/mnt/sshfs/x",
        "/mnt/s3more/x",
        "/home",
    ]
    found = [bucket_mount(place, str(table)) for place in places]
    assert found == ["s3fs", "gcsfuse", "rclone", "mountpoint-s3", "", "", "", ""]


def test_an_output_in_a_mounted_bucket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fistful.bow.store.files.bucket_mount", lambda path: "s3fs" if path == str(tmp_path / "out") else "")
    with pytest.raises(UsageError) as error:
        out_folder(tmp_path / "out")
    assert str(error.value) == (
        f"--out {tmp_path}/out: lies in a bucket that s3fs shows as a folder, where files can be seen half-written and renames are "
        "copies; write to the bucket itself (count, bags, label, vectors and embed take s3://BUCKET/NAME), or to a disk"
    )


def test_what_lies_in_a_folder_may_have_its_name(bucket: str) -> None:
    folder = folder_at(f"{bucket}/same")
    write_json(folder, "same/same", 1)
    assert [*folder.iterdir()] == [*folder.glob("s*")] == [folder / "same"]
    assert [*(folder / "same").iterdir()] == [folder / "same" / "same"]


class PastTheEnd(OSError):
    """As botocore says that a range begins behind an object's end."""

    response: ClassVar = {"Error": {"Code": "InvalidRange"}}


def test_of_a_part_behind_the_end_there_is_nothing_as_on_the_disk(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    def refuse(self: object, path: str, start: int | None = None, end: int | None = None) -> bytes:
        raise PastTheEnd

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    assert read_part(folder_at(f"{bucket}/a"), 5, 2) == read_part(tmp_path / "a", 5, 2) == b""


def test_an_object_is_read_in_one_request_where_a_client_would_ask_for_its_size_first() -> None:
    class Asking:
        async def _cat_file(self, path: str, start: int | None = None, max_concurrency: int | None = None) -> bytes: ...

    assert _whole(Asking) == {"max_concurrency": 1}
    assert _whole(type(fsspec.filesystem("memory"))) == {}
