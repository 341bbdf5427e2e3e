"""Webdataset tars that are not ours."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile

import numpy as np
import pytest

from fistful.bow.store import manifest
from fistful.errors import DataError, UsageError
from fistful.training.data import foreign
from fistful.training.data.reading import read_samples
from fistful.training.data.samples import read_picture
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import picture_bytes, sample

QUICK = {"steps": 3, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}


def write_tar(path, numbers, captions=True):
    """Write a tar as img2dataset does: pax headers, members of a sample in any order, other members between."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in numbers:
            colour, shape = sample(number)
            files = {"txt": f"A {colour} {shape}.".encode(), "jpg": picture_bytes(number), "json": b'{"width": 96}'}
            if number % 5 == 0:
                files["json"] = json.dumps({"captions": [f"A {colour} {shape}.", f"{shape} of {colour}"]}).encode()
            for kind, content in files.items():
                if captions or kind == "jpg":
                    info = tarfile.TarInfo(f"folder/{number:05d}.{kind}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return str(path)


@pytest.fixture
def tars(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    write_tar(folder / "00000.tar", range(24))
    write_tar(folder / "00001.tar", range(24, 48))
    return folder


def test_doubles_that_macos_packs_are_passed_over_in_tars_and_beside_them(tmp_path):
    folder = tmp_path / "mac"
    folder.mkdir()
    (folder / "._0.tar").write_bytes(b"\0\5\x16\7")
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, content in (
            (f"{n}.{end}", data) for n in range(3) for end, data in (("jpg", picture_bytes(n)), ("txt", b"A red square."))
        ):
            for member, data in ((f"./._{name}", b"\0\5\x16\7"), (f"./{name}", content)):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    samples = read_samples((str(folder),), cache=tmp_path / "cache")
    assert samples.captions.to_pylist() == [["A red square."]] * 3


def test_tars_are_read_as_our_own_folders_are(tars, tmp_path):
    samples = read_samples((str(tars),), cache=tmp_path / "cache")
    assert len(samples) == 48
    assert samples.captions[5].as_py() == ["A green bar.", "bar of green"]
    assert samples.keys[30].as_py() == "00001_0000006"
    assert read_picture(samples, 30) == picture_bytes(30)
    assert set(samples.vocabulary.words) == {"red", "green", "blue", "yellow", "square", "bar", "stripe"}
    assert [samples.vocabulary.words[w] for w in samples.bags.pick(np.array([5])).values] == ["green", "bar"]


def test_a_byte_order_mark_is_no_part_of_a_caption():
    assert foreign._captions({"txt": b"\xef\xbb\xbfzebra runs\n"}) == ["zebra runs"]


@pytest.mark.parametrize("spec", ["{folder}", "{folder}/{{00000..00001}}.tar", "{folder}/*.tar", "{folder}/0000?.tar"])
def test_folders_globs_and_brace_lists_name_the_same_tars(tars, spec):
    samples = read_samples((spec.format(folder=tars),))
    assert len(samples) == 48


def test_tars_are_indexed_once(tars, tmp_path):
    first = read_samples((str(tars),), cache=tmp_path / "cache")
    for tar in tars.glob("*.tar"):  # whoever reads it again finds no sample
        times, size = tar.stat(), tar.stat().st_size
        tar.write_bytes(bytes(size))
        os.utime(tar, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read_samples((str(tars),), cache=tmp_path / "cache").captions.equals(first.captions)


@pytest.mark.parametrize(
    "options",
    [
        {"text": "caption"},
        {"text": "bag", "text_tower": "words"},
        {"text": "balanced", "rule": "cap", "kept": 0.5, "objective": "joint"},
    ],
)
def test_training_on_tars(tars, tmp_path, options):
    run = train(str(tars), out=tmp_path / "run", config=train_config(**QUICK, **options))
    assert manifest.verify(run) == []


def test_tars_beside_a_data_folder_take_its_vocabulary(tars, data, tmp_path):
    samples = read_samples((data, f"{tars}*2"))
    assert samples.weights == [1.0, 2.0]
    assert samples.folder.tolist() == [0] * 48 + [1] * 48
    assert samples.bags.lengths().tolist() == [2] * 96
    run = train(data, f"{tars}*2", out=tmp_path / "run", config=train_config(**QUICK, objective="joint"))
    assert manifest.verify(run) == []


def test_balanced_text_of_tars_alone_needs_a_rule(tars, tmp_path):
    with pytest.raises(UsageError, match="--text balanced: tars have no rule of their own; give --rule, or use --text bag"):
        train(str(tars), out=tmp_path / "run", config=train_config(**QUICK))
    run = train(str(tars), out=tmp_path / "run", config=train_config(**QUICK, text="bag"))  # the folder is still free
    assert manifest.verify(run) == []


def test_what_is_wrong_with_tars_is_said(tars, tmp_path):
    with pytest.raises(UsageError, match=r"00002.tar: no such file; expected a data folder, or webdataset tars"):
        read_samples((f"{tars}/{{00000..00002}}.tar",))
    os.rename(tars / "00001.tar", tars / "00001.tar.gz")
    with pytest.raises(UsageError, match=r"00001.tar.gz: pictures are read from the middle of plain .tar files"):
        read_samples((str(tars / "00001.tar.gz"),))
    whole = (tars / "00000.tar").read_bytes()
    (tars / "00000.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(UsageError, match=r"00000.tar: pictures are read from the middle of plain .tar files"):
        read_samples((str(tars),))
    (tars / "00000.tar").write_bytes(whole)
    with tarfile.open(tars / "00000.tar") as tar:
        edge = tar.getmembers()[4].offset
    for cut in (len(whole) // 2 + 100, edge, edge + 100):  # in a picture, between two samples, in a header
        (tars / "00000.tar").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"00000.tar sample folder/000\d\d: archive broken (in|after) this sample .*fistful bags takes"):
            read_samples((str(tars),))
    write_tar(tars / "00000.tar", range(24), captions=False)
    with pytest.raises(DataError, match="no word occurs in 3 captions; is there text beside the pictures"):
        read_samples((str(tars),))


def test_tars_are_told_apart_by_what_is_in_them(captioned_tar, tmp_path):
    """Captions or pictures corrected, the sizes equal: no longer the data that a run or its features belong to."""
    first = read_samples((str(captioned_tar("a.tar", ["a red dog", "a blue cat"])),), needs_words=False).fingerprints
    assert first == read_samples((str(captioned_tar("a.tar", ["a red dog", "a blue cat"])),), needs_words=False).fingerprints
    path = captioned_tar("a.tar", ["a red cat", "a blue dog"])
    other = read_samples((str(path),), needs_words=False).fingerprints
    data = bytearray(path.read_bytes())
    index = read_samples((str(path),), needs_words=False)
    data[int(index.offset[0]) + int(index.size[0]) // 2] ^= 1
    path.write_bytes(data)
    assert len({*first, *other, *read_samples((str(path),), needs_words=False).fingerprints}) == 3


def test_pictures_of_tars_that_cat_joined_are_their_own(tmp_path):
    write_tar(tmp_path / "a.tar", range(3))
    write_tar(tmp_path / "b.tar", range(3, 6))
    (tmp_path / "joined.tar").write_bytes((tmp_path / "a.tar").read_bytes() + (tmp_path / "b.tar").read_bytes())
    apart = read_samples((str(tmp_path / "a.tar"), str(tmp_path / "b.tar")), needs_words=False)
    joined = read_samples((str(tmp_path / "joined.tar"),), needs_words=False)
    assert [read_picture(joined, row) for row in range(6)] == [read_picture(apart, row) for row in range(6)]
