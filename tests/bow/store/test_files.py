"""Files appear whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import fsspec
import pytest

from fistful.bow.store.files import atomic_file, hash_file, local_out, open_input, read_json, write_bytes, write_json
from fistful.errors import UsageError


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_file(tmp_path, "shards/00000.tar") as file:
        file.write(b"hel")
        assert not (tmp_path / "shards" / "00000.tar").exists()
        file.write(b"lo")

    assert (tmp_path / "shards" / "00000.tar").read_bytes() == b"hello"
    assert file.record() == hash_file(tmp_path / "shards" / "00000.tar") == write_bytes(tmp_path, "again", b"hello")
    assert [*(tmp_path / "logs" / "tmp").iterdir()] == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path, "a.json", {"old": True})
    with pytest.raises(AttributeError), atomic_file(tmp_path, "a.json") as file:
        file.write(b"half of the new").no_such_thing()  # pyright: ignore[reportAttributeAccessIssue]

    assert read_json(tmp_path / "a.json") == {"old": True}
    assert [*(tmp_path / "logs" / "tmp").iterdir()] == []


def test_two_attempts_at_one_file_do_not_meet(tmp_path: Path) -> None:
    with atomic_file(tmp_path, "a") as first:
        first.write(b"same ")
        with atomic_file(tmp_path, "a") as second:
            second.write(b"same bytes")
        first.write(b"bytes")
    assert (tmp_path / "a").read_bytes() == b"same bytes"


def test_inputs_come_from_disk_or_from_any_address_that_fsspec_knows(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"on disk")
    with fsspec.open("memory://fistful/a.tsv", "wb") as file:
        file.write(b"elsewhere")  # pyright: ignore[reportAttributeAccessIssue]

    with open_input(str(tmp_path / "a.tsv")) as file:
        assert file.read() == b"on disk"
    with open_input("memory://fistful/a.tsv") as file:
        assert file.read() == b"elsewhere"
    with pytest.raises(UsageError) as error:
        open_input(str(tmp_path / "b.tsv"))
    assert str(error.value) == f"{tmp_path}/b.tsv: no such file"


def test_outputs_are_local_folders(tmp_path: Path) -> None:
    assert local_out(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(UsageError) as error:
        local_out("s3://bucket/out")
    assert str(error.value) == "--out s3://bucket/out: this verb writes local folders; write to disk, then copy the finished folder"
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as error:
        local_out(tmp_path / "file")
    assert str(error.value) == f"--out {tmp_path}/file: is a file, expected a folder"


@pytest.mark.parametrize(("name", "meant"), [("s3:/bucket/out", "s3://bucket/out"), ("S3:bucket", "s3://bucket"), ("gs:/b", "gs://b")])
def test_an_output_from_whose_address_a_slash_is_missing_is_not_written_to_the_disk(name: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        local_out(name)
    assert str(error.value) == f"--out {name}: is neither an address nor likely a folder; did you mean {meant}, or ./{name}?"
    assert local_out(f"./{name}") == Path(name).absolute()


@pytest.mark.parametrize(("raised", "number"), [(errno.EBUSY, errno.EIO), (errno.ETIMEDOUT, errno.EIO), (errno.EACCES, errno.EACCES)])
def test_a_store_that_is_busy_while_an_input_is_read_is_a_fault_of_the_machine(
    raised: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(raised, "reduce your request rate")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "_open", fail)
    with pytest.raises(OSError, match="Error") as error:
        open_input("memory://fistful/a.tsv")
    assert error.value.errno == number
