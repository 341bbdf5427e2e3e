"""What `fistful doctor` finds in class folders, images and captions, each finding provoked once."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fistful.verbs.doctor.any_folder import judge_path, judge_text_file
from fistful.verbs.doctor.finding import Finding
from tests.support.findings import levels, make_classes, one, write_tar
from tests.support.pictures import picture


def test_class_folders_are_taken_for_an_evaluation_set(tmp_path: Path):
    finding = one(judge_path(make_classes(tmp_path / "set", "dog", "cat")), "evaluation set of 2 classes, 4 images")
    assert (finding.level, finding.command) == ("ok", f"fistful evaluate RUN --data {tmp_path / 'set'} --out RESULTS")


def test_classes_without_images_and_broken_images_are_found(tmp_path: Path):
    root = make_classes(tmp_path / "set", "dog", "cat")
    (root / "owl").mkdir()
    (root / "dog" / "0.png").write_bytes(b"not an image")
    findings = judge_path(root)
    assert one(findings, "class 'owl' has no image").level == "warning"
    assert one(findings, "1 of 4 images tried cannot be read, dog/0.png").level == "warning"


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        (("n01443537", "n02123045"), "ok", "class folders are WordNet ids, n01443537 = goldfish"),
        (("n01443537", "dog"), "warning", "1 of 2 class folders are WordNet ids"),
        (("n99999999", "n01443537"), "problem", "looks like a WordNet id but is not one of ImageNet's"),
        (("0", "1"), "warning", "2 classes are called by numbers, which say nothing of what is in them ('0', '1')"),
        (("train", "test"), "problem", "are splits, not classes"),
    ],
)
def test_names_of_class_folders(tmp_path: Path, names: tuple[str, ...], level: str, said: str):
    assert one(judge_path(make_classes(tmp_path / "set", *names)), said).level == level


def test_a_missing_shard_of_an_evaluation_set_is_found(tmp_path: Path):
    (tmp_path / "classnames.txt").write_text("dog\ncat\n")
    write_tar(tmp_path / "test" / "0.tar", {"0.png": picture(), "0.cls": b"1"})
    (tmp_path / "test" / "nshards.txt").write_text("2")
    assert one(judge_path(tmp_path), "1 of 2 shards are missing").level == "problem"


def test_images_and_texts_that_do_not_stand_side_by_side_are_found(tmp_path: Path):
    for name in ("0.png", "1.png", "2.png", "2.jpg"):
        (tmp_path / name).write_bytes(picture(format="PNG" if name.endswith("png") else "JPEG"))
    for name, text in (("0", ""), ("2", "a dog"), ("9", "a cat")):
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "3.gif").write_bytes(b"GIF89a")
    findings = judge_path(tmp_path)
    assert one(findings, "1 image without a .txt, 1.png").level == "warning"
    assert one(findings, "1 text without an image, 9.txt").level == "warning"
    assert one(findings, "1 empty text, 0.txt").level == "warning"
    assert one(findings, "1 text beside several images, 2.txt").level == "note"
    assert one(findings, "1 picture of a kind that is not read (.gif), such as 3.gif").level == "warning"


def test_what_count_refuses_of_a_folder_of_images_is_found(tmp_path: Path):
    for name in ("a.png", "b.PNG", "c.png"):
        (tmp_path / name).write_bytes(picture())
    (tmp_path / "a.TXT").write_text("a dog")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt").write_text(" \n")
    (tmp_path / "d.png").symlink_to("nowhere.png")
    (tmp_path / "._a.png").write_bytes(b"x")
    findings = judge_path(tmp_path)
    assert one(findings, "1 text not in UTF-8, b.txt").level == "warning"
    assert one(findings, "1 empty text, c.txt").level == "warning"
    assert one(findings, "1 link that lead nowhere, d.png").level == "warning"
    assert one(findings, "1 hidden file or folder, such as ._a.png").level == "note"


def test_a_folder_is_taken_for_what_count_takes_it_for(tmp_path: Path):
    write_tar(tmp_path / "a.tgz", {"0.png": picture(), "0.txt": b"a dog"})
    (tmp_path / "b.tar.bz2").write_bytes(b"BZh")
    (tmp_path / "c.tsv").write_text("caption\n")
    findings = judge_path(tmp_path)
    assert one(findings, "1 tar walked: 1 sample, 1 image, 1 with text").level == "ok"
    assert one(findings, "1 archive of a kind that is not read (.tar.bz2)").level == "warning"
    assert one(findings, "1 file of another kind (.tsv), such as c.tsv").level == "warning"


def test_what_count_refuses_whole_is_a_problem(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(picture())
    (tmp_path / "1.png").symlink_to("0.png")
    assert one(judge_path(tmp_path), "given twice").level == "problem"
    (tmp_path / "a.tar.xz").write_bytes(b"x")
    assert one(judge_path(tmp_path / "a.tar.xz"), ".tar.xz is not read; pack it as .tar or .tar.gz").level == "problem"


def test_jsonl_parquet_and_zst_are_read_as_count_reads_them(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a dog"}\n{"id": 2}\n')
    findings = judge_path(tmp_path / "a.jsonl")
    assert one(findings, "a.jsonl: 1 column of text, text").command.endswith("--caption text")
    assert one(findings, "1 of its first 2 rows are refused").level == "warning"
    (tmp_path / "a.jsonl").write_text("a dog\n")
    assert one(judge_path(tmp_path / "a.jsonl"), "no column of text").level == "problem"
    pq.write_table(pa.table({"n": [1], "title": pa.array(["a dog"], pa.string_view())}), tmp_path / "b.parquet")
    assert one(judge_path(tmp_path / "b.parquet"), "b.parquet: 1 column of text, title").level == "ok"
    data = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-40] + b"\xff" * 32 + data[-8:])
    assert one(judge_path(tmp_path / "b.parquet"), "no column of text").level == "problem"
    with pa.CompressedOutputStream(str(tmp_path / "c.tsv.zst"), "zstd") as out:
        out.write(b"id\tcaption\n1\ta dog\n")
    assert one(judge_path(tmp_path / "c.tsv.zst"), "c.tsv.zst: 2 columns of text, id, caption").command.endswith("--caption caption")


def test_images_without_any_text_are_for_label(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(picture())
    assert one(judge_path(tmp_path), "images without captions").command.startswith("fistful label")


def test_a_folder_of_nothing_is_a_problem(tmp_path: Path):
    (tmp_path / "notes.md").write_text("hello")
    assert one(judge_path(tmp_path), "holds no tar, TSV, CSV, JSONL, image or parquet").level == "problem"
    assert one(judge_path(tmp_path / "notes.md"), "cannot tell what it is from its name").level == "problem"


def test_caption_files_are_read(tmp_path: Path):
    def judge(name: str, data: bytes) -> list[Finding]:
        (tmp_path / name).write_bytes(data)
        return judge_text_file(tmp_path / name)

    fine = judge("a.tsv", b"url\tcaption\nu\ta dog\n")
    assert levels(fine) == {"ok"}
    assert fine[0].command.endswith("a.tsv --out COUNTS --caption caption")
    assert one(judge("b.csv", b"caption\na dog\n"), "b.csv is CSV").level == "note"
    assert one(judge("c.tsv.gz", gzip.compress(b"caption\na dog\n")), "c.tsv.gz is compressed").level == "note"
    assert one(judge("d.tsv.gz", gzip.compress(b"caption\na dog\n" * 99)[:-9]), "d.tsv.gz is broken").level == "problem"
    assert one(judge("e.tsv", b""), "e.tsv is empty").level == "problem"
    assert one(judge("f.tsv", b"caption\ncaf\xe9\n"), "f.tsv is not UTF-8 at byte 11").level == "warning"
    assert one(judge("g.tsv", "caption".encode("utf-16-le")), "g.tsv holds zero bytes").level == "warning"
