"""Samples of tars: what is made of them, what is refused, and where their members stand."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.shard import tar_bytes
from fistful.bow.store.tar_samples import APART, PICTURES, TEXTS, TWICE, TarRefusal, TarSample, read_tar_samples
from fistful.bow.store.untar import TarReader


def stream(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


def keys(data: bytes, **options: object) -> list[str | tuple[str, str]]:
    """The keys of samples; of refusals place and detail."""
    found = read_tar_samples(stream(data), lambda sample: sample.key, **options)
    return [(one.place, one.detail) if isinstance(one, TarRefusal) else one for one in found]


def test_a_sample_has_its_members_by_extension_and_the_contents_asked_for() -> None:
    data = tar_bytes({"f/a.cls": b"1", "f/a.PNG": b"12345", "f/a.txt": b"red dog", "f/a.jpg": b"678"})
    (sample,) = read_tar_samples(stream(data), lambda sample: sample, contents=TEXTS)
    assert isinstance(sample, TarSample)
    assert (sample.number, sample.key, sample.picture) == (0, "f/a", "png")
    assert [*sample.members] == ["cls", "png", "txt", "jpg"]
    assert sample.contents == {"txt": b"red dog"}
    png = sample.members["png"]
    assert (png.name, data[png.offset : png.offset + png.size]) == ("f/a.PNG", b"12345")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_offsets_are_those_of_tarfile_whatever_is_read_and_however_large_members_are(format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for i, size in enumerate([0, 1, 511, 512, 513, 3 << 20, 5, (1 << 20) - 512, 1 << 20, 7]):
            info = tarfile.TarInfo(f"{i}{'é' if i % 3 == 0 else ''}.bin")
            info.size = size
            tar.addfile(info, io.BytesIO(os.urandom(size)))
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        expected = [(member.name, member.offset_data) for member in tar]
    for read_each in (1, 2, 100):
        reader = TarReader(stream(buffer.getvalue()))
        found = []
        for n, member in enumerate(reader):
            found.append((member.name, member.offset))
            if n % read_each == 0:
                reader.read()
        assert found == expected


def test_what_a_sample_needs_is_for_the_caller_to_say() -> None:
    data = tar_bytes({"a.jpg": b"1", "b.cls": b"1", "c.jpg": b"1", "c.cls": b"1", "a.cls": b"2"})
    assert keys(data) == ["a", "b", "c"]
    assert keys(data, needs={"no_image": PICTURES}) == ["a", "c", "b"]  # what lacks something waits for the end
    assert keys(data, needs={"no_image": PICTURES, "no_label": frozenset({"cls"})}) == ["c", ("a", APART), "b"]


def test_names_that_stand_twice_are_refused_side_by_side_or_not() -> None:
    data = tar_bytes({"a.jpg": b"1", "a.JPG": b"2", "b.jpg": b"1", "c.jpg": b"1", "b.Jpg": b"2"})
    assert keys(data) == [("a", TWICE), "b", "c", ("b", TWICE)]


def test_what_cannot_be_made_of_a_sample_is_refused_with_its_text() -> None:
    def make(sample: TarSample) -> str:
        raise Refused("bad_json", "odd")

    data = tar_bytes({"a.jpg": b"1", "a.json": b"{"})
    assert [*read_tar_samples(stream(data), make, contents=TEXTS)] == [TarRefusal("bad_json", "a", "odd", b"{")]


def test_all_members_but_folders_are_watched() -> None:
    seen = []
    data = tar_bytes({"._a.jpg": b"x", "a.jpg": b"1", "../b.jpg": b"1"})
    assert keys(data, watch=lambda member: seen.append(member.name)) == [("../b.jpg", "name leaves its folder"), "a"]
    assert seen == ["._a.jpg", "a.jpg", "../b.jpg"]
