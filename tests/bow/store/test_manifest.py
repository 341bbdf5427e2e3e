"""Folders: who may write them, when they are finished, and what has changed in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fistful.bow.store import manifest
from fistful.bow.store.files import write_bytes, write_json
from fistful.errors import DataError, UsageError


def make_folder(folder: Path) -> Path:
    assert not manifest.claim(folder, "count", {"min_length": 1}, {"files": 1})
    write_bytes(folder, "counts/00000.parquet", b"hello")
    write_bytes(folder, "logs/run.json", b"anything")
    manifest.finish(folder, {}, {"a.tsv": "00"})
    return folder


def test_a_folder_is_claimed_finished_and_verified(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out")

    assert manifest.claim(folder, "count", {"min_length": 1}, {"files": 1})
    assert manifest.verify(folder) == []
    found = json.loads((folder / "manifest.json").read_bytes())
    assert sorted(found["files"]) == ["config.json", "counts/00000.parquet"]
    assert found["files"]["counts/00000.parquet"] == {
        "size": 5,
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    }
    assert found["input_content"] == {"a.tsv": "00"}
    assert manifest.fingerprint(folder) == found["digest"]


def test_another_configuration_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out")
    with pytest.raises(UsageError) as error:
        manifest.claim(folder, "count", {"min_length": 2}, {"files": 2})
    assert (
        str(error.value) == f"{folder}: belongs to another configuration (min_length: 1 there, 2 asked; other inputs); choose another --out"
    )

    with pytest.raises(UsageError, match=r"configuration \(other inputs: encoder, more\); choose"):
        manifest.claim(folder, "count", {"min_length": 1}, {"files": 2, "encoder": "a", "more": ["b"]})

    (folder / "manifest.json").unlink()
    with pytest.raises(UsageError) as error:
        manifest.claim(folder, "bags", {"min_length": 1}, {"files": 1})
    assert str(error.value) == (
        f"{folder}: belongs to another configuration (written by fistful count); choose another --out, or delete this unfinished folder"
    )


def test_a_folder_of_somebody_else_is_refused_and_one_that_holds_only_logs_is_not(tmp_path: Path) -> None:
    write_bytes(tmp_path, "logs/workers.log", b"")
    assert not manifest.claim(tmp_path, "count", {}, {})

    other = tmp_path / "other"
    write_bytes(other, "thesis.tex", b"years of work")
    with pytest.raises(UsageError) as error:
        manifest.claim(other, "count", {}, {})
    assert str(error.value) == f"{other}: is not empty and was not written by fistful count; choose another --out"
    assert (other / "thesis.tex").read_bytes() == b"years of work"


def test_a_newer_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out")
    config = json.loads((folder / "config.json").read_bytes())
    write_json(folder, "config.json", {**config, "format": 2})
    with pytest.raises(UsageError) as error:
        manifest.read_config(folder)
    assert str(error.value) == f"{folder}: has format 2, this version reads up to 1; upgrade fistful"


def test_a_broken_config_is_told(tmp_path: Path) -> None:
    write_bytes(tmp_path, "config.json", b"{}")
    with pytest.raises(UsageError) as error:
        manifest.read_config(tmp_path)
    assert (
        str(error.value)
        == f"{tmp_path}/config.json: is not fistful's (expected the fields format, verb, config, inputs and id); choose another folder"
    )
    (tmp_path / "config.json").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"^.*config.json: not valid JSON "):
        manifest.read_config(tmp_path)


def test_what_is_not_finished_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        manifest.fingerprint(tmp_path)
    assert str(error.value) == f"{tmp_path}: is no folder that fistful wrote (no config.json)"
    manifest.claim(tmp_path / "half", "count", {}, {})
    with pytest.raises(UsageError) as error:
        manifest.fingerprint(tmp_path / "half")
    assert str(error.value) == f"{tmp_path}/half: is not finished (no manifest.json); run the command that writes it again, it resumes"
    with pytest.raises(UsageError) as error:
        manifest.verify(tmp_path)
    assert str(error.value) == f"{tmp_path}: no manifest.json; either not a folder of fistful's, or not finished"


def test_every_difference_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out")
    (folder / "counts" / "00000.parquet").write_bytes(b"hellO")
    (folder / "extra.txt").write_bytes(b"")
    (folder / "config.json").unlink()

    assert manifest.verify(folder) == [
        f"{folder}/extra.txt: not in the manifest",
        f"{folder}/config.json: missing",
        f"{folder}/counts/00000.parquet: SHA-256 is 04a6f55face2f46be8c23f627d539827615851e10751b63ec59db6d2c706b770, "
        "expected 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    ]


DEEP = b"[" * 100_000
FOREIGN = [b"", b"[]", b"null", b"7", b'"digest"', b"{}", DEEP, b'{"digest": ' + DEEP, b'{"digest": [], "files": []}']
FOREIGN_FILES = b'{"digest": "x", "files": {"a": 1}}'


@pytest.mark.parametrize("data", [*FOREIGN, FOREIGN_FILES], ids=range(len(FOREIGN) + 1))
def test_a_manifest_of_any_json_is_told_to_be_none(tmp_path: Path, data: bytes) -> None:
    folder = make_folder(tmp_path / "out")
    (folder / "manifest.json").write_bytes(data)
    assert manifest.verify(folder) == [f"{folder}/manifest.json: is not a manifest"]
    if data != FOREIGN_FILES:  # whose digest is one
        with pytest.raises(DataError, match=r"manifest.json: (is not a manifest|not valid JSON)"):
            manifest.fingerprint(folder)


@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_a_config_of_any_json_is_told_to_be_none(tmp_path: Path, data: bytes) -> None:
    folder = make_folder(tmp_path / "out")
    (folder / "config.json").write_bytes(data)
    assert manifest.verify(folder)[0].startswith(f"{folder}/config.json: ")
    with pytest.raises((DataError, UsageError), match=r"config.json: (is not fistful's|not valid JSON)"):
        manifest.read_config(folder)


def test_a_config_with_fields_of_other_kinds_is_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out")
    config = json.loads((folder / "config.json").read_bytes())
    for field, value in (("format", "1"), ("format", None), ("config", []), ("verb", 3)):
        write_json(folder, "config.json", {**config, field: value})
        with pytest.raises(DataError, match=r"config.json: format, verb or config is not what fistful writes there"):
            manifest.read_config(folder)


def test_a_file_that_is_read_again_must_be_the_one_that_was_written(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out")
    manifest.check_file(folder, "counts/00000.parquet")
    (folder / "counts" / "00000.parquet").write_bytes(b"other")
    with pytest.raises(DataError) as error:
        manifest.check_file(folder, "counts/00000.parquet")
    assert str(error.value) == (
        f"{folder}/counts/00000.parquet: is not the file that manifest.json names; fistful verify {folder} tells what else changed"
    )


def test_sizes_are_checked_with_one_listing(tmp_path: Path) -> None:
    manifest.claim(tmp_path, "count", {}, {})
    for name in ("shards/a.tar", "shards/b.tar", "other"):
        write_bytes(tmp_path, name, b"1234")
    manifest.finish(tmp_path, {}, {})
    (tmp_path / "other").write_bytes(b"")
    manifest.check_sizes(tmp_path, "shards")
    (tmp_path / "shards/b.tar").write_bytes(b"12")
    with pytest.raises(DataError, match=r"shards/b.tar: has 2 bytes, expected 4 bytes as manifest.json says; fistful verify"):
        manifest.check_sizes(tmp_path, "shards")
    (tmp_path / "shards/b.tar").unlink()
    with pytest.raises(DataError, match=r"shards/b.tar: is missing, expected 4 bytes"):
        manifest.check_sizes(tmp_path, "shards")


def test_what_a_file_manager_leaves_in_a_folder_is_no_difference(tmp_path: Path) -> None:
    manifest.claim(tmp_path, "count", {}, {})
    manifest.finish(tmp_path, {}, {})
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert manifest.verify(tmp_path) == []
    (tmp_path / "more.txt").write_bytes(b"x")
    assert len(manifest.verify(tmp_path)) == 1
