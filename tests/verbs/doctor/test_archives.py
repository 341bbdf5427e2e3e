"""What `fistful doctor` finds in webdataset tars, each finding provoked once."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from fistful.bow.store.shard import tar_bytes
from fistful.verbs.doctor.any_folder import judge_path
from tests.support.findings import one, pair, write_tar
from tests.support.pictures import picture


@pytest.mark.parametrize(
    ("files", "level", "said", "means"),
    [
        ({**pair("0"), "1.png": picture()}, "warning", "1 image without text, x.tar/1", "no_caption"),
        ({**pair("0"), "1.txt": b"a cat"}, "warning", "1 text without an image, x.tar/1", "no_image"),
        ({"1.json": b"{}"}, "note", "1 text without an image, x.tar/1", "no_image"),
        ({**pair("0"), **pair("1", b"")}, "warning", "1 empty text, x.tar/1", "no_caption"),
        ({**pair("0"), "1.png": b"GIF89a", "1.txt": b"a"}, "warning", "1 of 2 images tried cannot be read, x.tar/1.png", "replaces"),
        ({**pair("0"), **pair("1"), "0.PNG": b"{}"}, "problem", "1 name twice in a tar, x.tar/0", "splits the sample"),
        ({**pair("0"), **pair("1"), "0.json": b"{}"}, "problem", "1 sample whose parts do not stand side by side, x.tar/0", "bad_name"),
        ({"0.png": picture(), "1.png": picture(), "0.txt": b"a", "1.txt": b"a"}, "problem", "2 samples whose parts do not", "bad_name"),
        ({**pair("0"), "._0.png": b"x", "._0.txt": b"x"}, "note", "2 hidden files inside, x.tar/._0.png", "macOS"),
        ({**pair("0"), **pair("1", b"caf\xe9")}, "warning", "1 sample that count and bags refuse, x.tar/1 (bad_caption", ""),
        ({**pair("0"), "1.png": picture(), "1.json": b"{"}, "warning", "1 sample that count and bags refuse, x.tar/1 (bad_json", ""),
        ({**pair("0"), **pair("1", b" \n")}, "warning", "1 empty text, x.tar/1", "no_caption"),
        ({**pair("0"), **pair("a.b")}, "problem", "2 files with a dot in the key, x.tar/a.b.png", "first dot"),
        ({**pair("0"), "0.txt.gz": gzip.compress(b"a")}, "warning", "1 compressed file inside, x.tar/0.txt.gz", "unpacks"),
        ({**pair("0"), "0.pkl": b"."}, "warning", "1 pickle inside, x.tar/0.pkl", "run the program"),
        ({**pair("0"), "0.mp4": b"m", "LICENSE": b"l"}, "note", "files that are not read: 1 .mp4, 1 without ending", ""),
        ({**pair("0"), "../1.png": picture()}, "warning", "1 link or name that lead out", "bad_name"),
        ({"0.png": picture()}, "note", "images without captions", "nothing to count"),
        ({"dog/0.png": picture(), "cat/0.png": picture()}, "note", "no webdataset: images in folders", "side by side"),
        ({}, "warning", "1 empty tar, x.tar", "no sample"),
    ],
)
def test_each_finding_about_a_tar(tmp_path: Path, files: dict[str, bytes], level: str, said: str, means: str):
    finding = one(judge_path(write_tar(tmp_path / "x.tar", files)), said)
    assert finding.level == level
    assert means in finding.means


def test_parts_that_lie_apart_are_told_as_nothing_else(tmp_path: Path):
    files = {"0.png": picture(), "1.png": picture(), "0.txt": b"a", "1.txt": b"a"}
    findings = judge_path(write_tar(tmp_path / "x.tar", files))
    assert [f.text.partition(",")[0] for f in findings if f.level != "ok"] == ["2 samples whose parts do not stand side by side"]


def test_links_in_tars_are_found(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("0.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert one(judge_path(tmp_path / "x.tar"), "lead out of the archive").level == "warning"


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_cut_archive_is_found(tmp_path: Path, name: str):
    whole = tar_bytes({**pair("0"), **pair("1")})
    data = gzip.compress(whole) if name.endswith(".gz") else whole
    (tmp_path / name).write_bytes(data[: len(data) // 2] if name.endswith(".gz") else data[:2_000])
    finding = one(judge_path(tmp_path / name), "1 broken archive, x.tar")
    assert (finding.level, finding.command) == ("problem", "fetch or pack them again")


def test_what_is_no_archive_is_found(tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(b"<html>404</html>" * 100)
    assert one(judge_path(tmp_path / "x.tar"), "1 broken archive").level == "problem"


def test_shards_of_a_folder_are_compared_with_each_other(tmp_path: Path):
    folder = tmp_path / "data"
    for n in (0, 1, 4):
        write_tar(folder / f"{n:05d}.tar", pair("same"))
    findings = judge_path(folder)
    assert one(findings, "2 keys that an earlier tar has too, 00001.tar/same, 00004.tar/same").level == "note"
    assert one(findings, "2 numbers missing between the tars, 00002.tar, 00003.tar").level == "warning"
    assert one(findings, "no sizes.json").command == "--train-num-samples 3 for open_clip_train"


@pytest.mark.parametrize(
    ("sizes", "level", "said"),
    [
        ('{"0.tar": 1, "1.tar": 1}', "ok", "sizes.json agrees with 2 tars"),
        ('{"0.tar": 1, "1.tar": 5}', "problem", "sizes.json does not match 1 tar, 1.tar: 5 there, 1 counted"),
        ('{"0.tar": 1, "1.tar": 1, "2.tar": 1}', "problem", "sizes.json names 1 missing tar, 2.tar"),
        ('{"0.tar": 1}', "warning", "sizes.json leaves out 1 tar, 1.tar"),
        ("[", "problem", "is not JSON of tars and numbers"),
    ],
)
def test_sizes_are_compared_with_what_is_there(tmp_path: Path, sizes: str, level: str, said: str):
    for n in (0, 1):
        write_tar(tmp_path / f"{n}.tar", pair(f"k{n}"))
    (tmp_path / "sizes.json").write_text(sizes)
    assert one(judge_path(tmp_path), said).level == level


def test_downloads_of_img2dataset_are_counted(tmp_path: Path):
    for n in range(3):
        write_tar(tmp_path / f"0000{n}.tar", pair(f"k{n}"))
    told = {"count": 10, "successes": 1, "failed_to_download": 9, "status_dict": {"success": 1, "HTTP Error 404: Not Found": 9}}
    (tmp_path / "00000_stats.json").write_text(json.dumps(told))
    (tmp_path / "00001_stats.json").write_text(json.dumps({**told, "successes": 2}))
    findings = judge_path(tmp_path)
    assert one(findings, "img2dataset: 3 of 20 downloads succeeded (15.0%); HTTP Error 404: Not Found 18").level == "warning"
    assert (
        one(findings, "1 tar with other numbers of samples than img2dataset's stats, 00001.tar (1 samples, 2 successes)").level == "problem"
    )
    assert one(findings, "1 tar without img2dataset's stats, 00002.tar").level == "warning"


def test_img2dataset_files_are_told_by_its_stats_too(tmp_path: Path) -> None:
    (tmp_path / "00000").mkdir()
    for name, content in pair("a").items():
        (tmp_path / "00000" / name).write_bytes(content)
    told = {"count": 4, "successes": 1, "failed_to_download": 3, "status_dict": {"success": 1, "HTTP Error 404: Not Found": 3}}
    (tmp_path / "00000_stats.json").write_text(json.dumps(told))
    findings = judge_path(tmp_path)
    assert one(findings, "img2dataset: 1 of 4 downloads succeeded (25.0%); HTTP Error 404: Not Found 3").level == "warning"
    assert not [finding for finding in findings if "without an image" in finding.text]
