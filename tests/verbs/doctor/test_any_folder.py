"""What `fistful doctor` finds in class folders, images and captions, each finding provoked once."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.verbs.doctor.any_folder import judge_path
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
    assert one(findings, "1 link that leads nowhere, d.png").level == "warning"
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
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a dog"}\n{"id": 2}\n')
    findings = judge_path(tmp_path / "a.jsonl")
    assert one(findings, "a.jsonl: 2 columns, captions in text").command.endswith("a.jsonl --out COUNTS")
    said = "1 of its first 2 rows are refused, the first: row 2: no_caption, no field 'text' ('id')"
    assert one(findings, said).level == "problem"  # as count does, which allows a fifth
    (tmp_path / "a.jsonl").write_text('{"text": "a dog"}\n' * 9 + "{}\n")
    assert one(judge_path(tmp_path / "a.jsonl"), "1 of its first 10 rows are refused").level == "warning"
    (tmp_path / "a.jsonl").write_text("a dog\n")
    assert one(judge_path(tmp_path / "a.jsonl"), "none of its first rows can be read, the first: row 1: bad_json").level == "problem"
    pq.write_table(pa.table({"n": [1], "title": pa.array(["a dog"], pa.string_view())}), tmp_path / "b.parquet")
    assert one(judge_path(tmp_path / "b.parquet"), "b.parquet: 2 columns, captions in title").level == "ok"
    data = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-40] + b"\xff" * 32 + data[-8:])
    assert one(judge_path(tmp_path / "b.parquet"), "none of its first rows can be read, the first: row 1: truncated").level == "problem"
    with pa.CompressedOutputStream(str(tmp_path / "c.tsv.zst"), "zstd") as out:
        out.write(b"id\tcaption\n1\ta dog\n")
    assert one(judge_path(tmp_path / "c.tsv.zst"), "c.tsv.zst: 2 columns, captions in caption").level == "ok"


def test_images_without_any_text_are_for_label(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(picture())
    assert one(judge_path(tmp_path), "images without captions").command.startswith("fistful label")


def test_a_folder_of_nothing_is_a_problem(tmp_path: Path):
    (tmp_path / "notes.md").write_text("hello")
    assert one(judge_path(tmp_path), "holds no tar, TSV, CSV, JSONL, image or parquet").level == "problem"
    assert one(judge_path(tmp_path / "notes.md"), "cannot tell what it is from its name").level == "problem"


def test_plain_text_is_said_to_be_read_by_lines(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a red dog\n")
    assert one(judge_path(tmp_path / "a.txt"), "a.txt: a caption on each line").level == "note"


def test_caption_files_are_read(tmp_path: Path):
    def judge(name: str, data: bytes) -> list[Finding]:
        (tmp_path / name).write_bytes(data)
        return judge_path(tmp_path / name)

    fine = judge("a.tsv", b"url\tcaption\nu\ta dog\n")
    assert levels(fine) == {"ok"}
    assert fine[0].command.endswith("a.tsv --out COUNTS")
    assert one(judge("b.csv", b"caption\na dog\n"), "b.csv is CSV").level == "note"
    assert one(judge("c.tsv.gz", gzip.compress(b"caption\na dog\n")), "c.tsv.gz is compressed").level == "note"
    assert one(judge("d.tsv.gz", gzip.compress(b"caption\na dog\n" * 99)[:-9]), "d.tsv.gz is broken").level == "problem"
    assert one(judge("e.tsv", b""), "e.tsv is empty").level == "problem"
    assert one(judge("f.tsv", b"caption\ncaf\xe9\n"), "f.tsv is not UTF-8 at byte 11").level == "warning"
    assert one(judge("g.tsv", "caption".encode("utf-16-le")), "g.tsv holds zero bytes").level == "warning"


def test_tables_and_documents_that_name_pictures_are_told_as_count_reads_them(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/a.png").write_bytes(picture())
    (tmp_path / "data.csv").write_text("image,caption\npics/a.png,a red fox\npics/gone.png,a dog\n")
    found = judge_path(tmp_path)
    assert (
        one(found, "data.csv: table of pictures (column image): 2 pictures, 2 captions").command == f"fistful count {tmp_path} --out COUNTS"
    )
    said = "data.csv: 1 of its first 2 rows are refused, the first: pics/gone.png: no_image, no such file"
    assert one(found, said).level == "problem"
    assert len(found) == 2


def test_tables_whose_pictures_lie_elsewhere_or_have_no_captions_are_told(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("image,caption\ngone/a.png,a red fox\n")
    found = judge_path(tmp_path / "data.csv")
    assert one(found, "captions alone; its column image names pictures such as gone/a.png").level == "warning"
    assert one(found, "data.csv: 2 columns, captions in caption").level == "ok"
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "data.csv").write_text("image,price\na.png,3\n")
    found = judge_path(tmp_path / "data.csv")
    assert one(found, "data.csv: names pictures and has no captions (its columns: 'image', 'price')").level == "problem"
    (tmp_path / "data.csv").unlink()
    (tmp_path / "captions.json").write_text('{"images": [], "annotations": [{"caption": "a dog", "image_id": 1}]}')
    assert one(judge_path(tmp_path / "captions.json"), "captions.json: none of its first rows can be read, the first: ").level == "problem"


def test_pictures_inside_parquet_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": [picture()], "caption": ["a red fox"]}), tmp_path / "a.parquet")
    assert [(f.level, f.text) for f in judge_path(tmp_path / "a.parquet")] == [("ok", "a.parquet: the pictures in its column jpg")]
    pq.write_table(pa.table({"jpg": [picture()], "key": ["0"]}), tmp_path / "a.parquet")
    assert one(judge_path(tmp_path / "a.parquet"), "no column 'caption' ('jpg', 'key')").level == "problem"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"id;caption\n1;red fox\n", "2 columns, captions in caption"),
        ("a.csv", b"image_name| comment_number| comment\na.jpg| 0| red fox\n", "3 columns, captions in comment"),
        ("a.csv", b"sep=,\r\nid,Caption\r\n1,red fox\r\n", "2 columns, captions in Caption"),
        ("a.tsv", b"\n\nid\ttitle\n1\tred fox\n", "2 columns, captions in title"),
        ("a.csv.zst", b"id;text\n1;red fox\n", "2 columns, captions in text"),
        ("a.jsonl", b'\xef\xbb\xbf\n{"text": "red fox", "tags": ["red"]}\n', "2 columns, captions in text"),
    ],
)
def test_columns_of_tables_are_those_that_count_finds(tmp_path: Path, name: str, data: bytes, said: str):
    with pa.CompressedOutputStream(str(tmp_path / name), "zstd") if name.endswith(".zst") else open(tmp_path / name, "wb") as out:
        out.write(data)
    finding = one(judge_path(tmp_path / name), f"{name}: {said}")
    assert (finding.level, finding.command) == ("ok", f"fistful count {tmp_path / name} --out COUNTS")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"id,caption\r1,red fox\r", "its lines end with CR alone"),
        ("a.tsv", "caption\nred fox\n".encode("utf-16"), "not UTF-8 but UTF-16"),
        ("a.tsv", b"caption\tcaption\nred fox\tblue whale\n", "column 'caption' is there 2 times"),
        ("a.csv", b"id,caption\n1,\n2,\n", "none of its first rows can be read"),
        ("a.tsv", b"caption\n", "none of its first rows can be read"),
        ("a.csv", b'"id,caption\n1,red fox\n', "no column 'caption' in its first line ()"),
        ("a.tsv.zst", b"not zst", "none of its first rows can be read, the first: row 1: truncated"),
        ("a.csv", b"\xef\xbb\xbf1,2\n3,4\n", "no column 'caption' in its first line ('1', '2'); --caption NAME names the caption column"),
        ("a.csv", b'"red fox, running","1"\r\n', "no column 'caption' in its first line ('red fox, running', '1')"),
        ("a.jsonl", b'{"alt, text": "red fox"}\n', "no field 'caption' ('alt, text') in its first rows; --caption NAME names"),
        ("a.jsonl", '{"caption": "red fox"}\n'.encode("utf-16"), "not UTF-8 but UTF-16"),
    ],
)
def test_no_table_is_fine_that_count_refuses(tmp_path: Path, name: str, data: bytes, said: str):
    (tmp_path / name).write_bytes(data)
    findings = judge_path(tmp_path / name)
    assert one(findings, f"{name}: {said}").level == "problem"
    assert "ok" not in levels(findings)
    assert not [finding for finding in findings if "cp1252" in finding.command]


def test_a_table_of_pictures_whose_rows_are_all_refused_is_told_with_what_helps(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.csv").write_bytes(b"image,caption\na.png,caf\xe9\n")
    finding = one(judge_path(tmp_path / "a.csv"), "a.csv: none of its first rows can be read, the first: row 1: bad_caption, not UTF-8")
    assert (finding.level, finding.command) == ("problem", "iconv -f cp1252 -t utf-8 a.csv > NEW")


def test_rows_of_a_table_that_count_refuses_are_told(tmp_path: Path):
    (tmp_path / "a.csv").write_text('id,caption\n1,"red fox\n2,red dog\n')
    assert one(judge_path(tmp_path / "a.csv"), "1 of its first 2 rows are refused").level == "problem"
