"""Tars: our headers are tarfile's bytes, and everybody's tools read them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.shard import tar_bytes, tar_header

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/\\"), min_size=1, max_size=99)


def test_a_tar_is_read_by_tarfile_and_by_webdataset(tmp_path: Path) -> None:
    files = {
        "00000_0000000.jpg": b"\xff\xd8" + bytes(700),
        "00000_0000000.json": b'{"a":1}',
        "00000_0000000.txt": b"red dog",
        "00000_0000001.txt": b"",
    }
    path = tmp_path / "00000.tar"
    path.write_bytes(tar_bytes(files))

    with tarfile.open(path) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == files  # pyright: ignore[reportOptionalMemberAccess]
    samples = [*webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)]
    assert [(sample["__key__"], sample["txt"]) for sample in samples] == [("00000_0000000", b"red dog"), ("00000_0000001", b"")]
    assert samples[0]["jpg"] == files["00000_0000000.jpg"]


@given(NAMES, st.integers(0, 2**33 - 1))
def test_a_header_is_tarfiles_to_the_byte(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert tar_header(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT)


@given(st.dictionaries(NAMES, st.binary(max_size=1_100), max_size=4))
def test_a_whole_tar_is_tarfiles_to_the_byte(files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert tar_bytes(files) == buffer.getvalue()


@pytest.mark.parametrize(("name", "size"), [(b"", 1), (b"x" * 100, 1), (b"x", 1 << 33)])
def test_what_a_header_cannot_say_is_our_defect(name: bytes, size: int) -> None:
    with pytest.raises(AssertionError):
        tar_header(name, size)
