"""P1: rows in = kept + refused, in every unit and in sum, and each refused row is in the dead letters with its reason.

Conditions: a row is what the input's own grammar makes one (a line, a CSV record, neighbours of one
name in a tar, an image of a folder); what stands behind the place where an archive breaks is one row.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from fistful.bow.store.dead_letters import RAW_BYTES, REASONS
from fistful.bow.store.files import read_json
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import Limits
from fistful.errors import DataError
from fistful.pipelines.bags import BagOptions, BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from tests.support.folders import rows
from tests.support.pictures import picture, png_header

QUIET = Running(progress=False, max_bad_fraction=0.95)
DOG = picture()


def check_sums(folder: Path) -> dict[str, int]:
    """Check rows = kept + refused everywhere, and that the dead letters are the refused rows; return refused by reason."""
    total = json.loads((folder / "stats.json").read_bytes())
    units = [json.loads(path.read_bytes()) for path in sorted((folder / "stats").glob("*.json"))]
    for number, unit in enumerate(units):
        assert unit["rows"] == unit["kept"] + sum(unit["refused"].values())
        name = f"dead_letters/{number:05d}.parquet"
        assert unit["files"][name]["size"] == (folder / name).stat().st_size
    for field in ("rows", "kept"):
        assert total[field] == sum(unit[field] for unit in units)
    letters = Counter(letter["reason"] for letter in rows(folder, "dead_letters"))
    assert total["refused"] == dict(letters)
    if (folder / "index").exists():
        assert total["kept"] == len(rows(folder, "index"))
    return total["refused"]


def letters(folder: Path) -> list[tuple[str, str, str, str]]:
    return [(row["reason"], row["file"], row["place"], row["detail"]) for row in rows(folder, "dead_letters")]


def hostile_tar() -> bytes:
    files = {
        "good.png": DOG,
        "good.txt": b"red dog",
        "gif.png": b"GIF89a" + bytes(20),
        "gif.txt": b"red dog",
        "bomb.png": png_header(65_000, 65_000),
        "bomb.txt": b"red dog",
        "blank.png": DOG,
        "blank.txt": b" \n",
        "nothing.png": DOG,
        "pictureless.txt": b"red dog",
        "latin.png": DOG,
        "latin.txt": b"caf\xe9",
        "notjson.png": DOG,
        "notjson.json": b"{",
        "list.json": b"[1]",
        "list.png": DOG,
        "number.png": DOG,
        "number.json": b'{"captions": ["red dog", 3]}',
        "half.png": DOG,
        "half.json": b'{"captions": ["red \\ud83d dog"]}',
        "rare.png": DOG,
        "rare.txt": b"aardvark",
        "stop.png": DOG,
        "stop.txt": b"the of 123",
        "../out.txt": b"red dog",
        "good.json": b"{}",
        "last.png": DOG,
        "last.txt": b"red dog",
    }
    whole = tar_bytes(files)
    return whole[: whole.rindex(b"red dog") // 512 * 512 + 512]  # without its end marker


APART = "its parts do not stand side by side in the archive; pack it again sorted: tar --sort=name -cf NEW.tar FOLDER"
EXPECTED = [
    ("bad_image", "gif", "not a JPEG, PNG, WEBP image (UnidentifiedImageError; starts with b'GIF89a\\x00\\x00')"),
    ("huge_image", "bomb", "more than 89478485 pixels"),
    ("no_caption", "blank", "caption is empty or missing"),
    ("no_caption", "nothing", "caption is empty or missing"),
    ("no_image", "pictureless", "no image among jpg, jpeg, png, webp, jfif, jpe; --images none makes bags of captions alone"),
    ("bad_caption", "latin", "not UTF-8 (unexpected end of data at byte 3)"),
    ("bad_json", "notjson", "not JSON (JSONDecodeError)"),
    ("bad_json", "list", "expected an object, found list"),
    ("bad_json", "number", 'expected "captions" to be a list of strings'),
    ("bad_caption", "half", "holds half of a surrogate pair"),
    ("no_words", "rare", "no word of the vocabulary in it; --wordless keep keeps such samples"),
    ("no_words", "stop", "no word of the vocabulary in it; --wordless keep keeps such samples"),
    ("bad_name", "../out.txt", "name leaves its folder"),
    ("bad_name", "good", APART),
    ("truncated", "last", "archive broken after this sample (no end marker)"),
]


def test_every_reason_of_a_tar_is_in_the_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    path.write_bytes(hostile_tar())
    counts = count(str(path), out=tmp_path / "counts", config=CountConfig(running=QUIET))
    out = bags(str(path), counts=counts, out=tmp_path / "bags", config=BagsConfig(limits=Limits(min_count=2), running=QUIET))

    found = letters(out)
    assert sorted((reason, place) for reason, _, place, _ in found) == sorted((reason, place) for reason, place, _ in EXPECTED)
    details = {place: detail for _, _, place, detail in found}
    for _, place, detail in EXPECTED:
        assert details[place] == detail
    assert {file for _, file, _, _ in found} == {"00000.tar"}
    refused = check_sums(out)
    assert refused["no_caption"] == 2
    assert set(refused) == {*REASONS} - {"bad_row", "no_label", "not_fetched"}
    assert [row["source_key"] for row in rows(out, "index")] == ["good", "last"]
    check_sums(counts)


TSV = b"""caption\tid
red dog\t1
blue cat\t2\textra

only
\t4
caf\xe9\t5
red cat\t6
"""

CSV = b"""id,caption
1,"red dog, and
a cat"
2,blue cat,extra
3,""
4,caf\xe9
5,red\rcat
6,"unclosed
"""


def test_every_reason_of_a_table_is_in_the_dead_letters(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(TSV)
    (tmp_path / "b.csv").write_bytes(CSV)
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(b"caption\tid\n" + b"red dog\t1\n" * 9, compresslevel=0)[:60])
    out = count(str(tmp_path), out=tmp_path.parent / "counts", config=CountConfig(running=QUIET))

    found = letters(out)
    assert found[:-1] == [
        ("bad_row", "a.tsv", "row 2", "3 columns, expected 2"),
        ("bad_row", "a.tsv", "row 3", "1 columns, expected 2"),
        ("no_caption", "a.tsv", "row 4", "caption is empty or missing"),
        ("bad_caption", "a.tsv", "row 5", "not UTF-8 (unexpected end of data at byte 3)"),
        ("bad_row", "b.csv", "row 2", "3 columns, expected 2; quote texts that have commas"),
        ("no_caption", "b.csv", "row 3", "caption is empty or missing"),
        ("bad_caption", "b.csv", "row 4", "not UTF-8 (unexpected end of data at byte 3)"),
        ("bad_row", "b.csv", "row 5", "not CSV (new-line character seen in unquoted field)"),
        ("bad_row", "b.csv", "row 6", "not CSV (a quote that never closes)"),
    ]
    assert found[-1][:2] == ("truncated", "c.tsv.gz")
    assert found[-1][3] == "file broken from here on (Compressed file ended before the end-of-stream marker was reached)"
    check_sums(out)


def test_a_dead_letter_holds_the_beginning_of_the_raw_row(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"red dog\t1\nblue cat\n" + b"x" * 5_000 + b"\ngreen cat\t2\n")
    out = count(str(tmp_path / "a.tsv"), out=tmp_path / "out", config=CountConfig(source=SourceOptions(caption="1"), running=QUIET))

    assert [row["raw"] for row in rows(out, "dead_letters")] == [b"blue cat", b"x" * RAW_BYTES]


@pytest.mark.parametrize(("unit_bytes", "header"), [(20, True), (20, False), (10_000, True)])
def test_wherever_a_tsv_is_cut_every_line_is_read_once(tmp_path: Path, unit_bytes: int, header: bool) -> None:
    captions = ["red dog", "a", "", "x" * 60, "caf\u00e9 \u72ac", "blue cat", "no", "green\x0btree", "end"]
    lines = [f"{i}\t{caption}" for i, caption in enumerate(captions)]
    (tmp_path / "a.tsv").write_text("\n".join([*(["id\tcaption"] if header else []), *lines, "torn"]))
    source = SourceOptions(caption="caption" if header else "2")
    plan = PlanOptions(unit_mb=unit_bytes / 1e6)
    counts = count(str(tmp_path / "a.tsv"), out=tmp_path / "counts", config=CountConfig(plan=plan, source=source, running=QUIET))
    config = BagsConfig(plan=plan, source=source, limits=Limits(min_count=1), bags=BagOptions(wordless="keep"), running=QUIET)
    out = bags(str(tmp_path / "a.tsv"), counts=counts, out=tmp_path / "bags", config=config)

    assert [row["captions"] for row in rows(out, "index")] == [[caption] for caption in captions if caption]
    assert check_sums(out) == {"no_caption": 1, "bad_row": 1}
    assert check_sums(counts) == {"no_caption": 1, "bad_row": 1}


def test_a_folder_of_images_loses_none(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, text in [("a", b"red dog\nblue dog\n"), ("b", b""), ("c", b"\xff"), ("d", b"red cat")]:
        (folder / f"{name}.png").write_bytes(DOG)
        (folder / f"{name}.txt").write_bytes(text)
    (folder / "e.jpg").write_bytes(b"not an image")
    (folder / "e.txt").write_bytes(b"red dog")
    (folder / "f.webp").write_bytes(DOG)
    (folder / "g.png").write_bytes(DOG)
    (folder / "g.txt").mkdir()
    counts = count(str(folder), out=tmp_path / "counts", config=CountConfig(running=QUIET))
    config = BagsConfig(limits=Limits(min_count=1), plan=PlanOptions(unit_files=2), running=QUIET)
    out = bags(str(folder), counts=counts, out=tmp_path / "bags", config=config)

    assert [(row["source_key"], row["captions"]) for row in rows(out, "index")] == [("a", ["red dog", "blue dog"]), ("d", ["red cat"])]
    assert [(reason, place) for reason, _, place, _ in letters(out)] == [
        ("no_caption", "b"),
        ("bad_caption", "c.png"),
        ("no_caption", "f"),
        ("bad_image", "e"),
        ("no_caption", "g"),
    ]
    check_sums(out)


def test_past_the_fraction_that_may_be_bad_the_job_ends_and_the_same_command_with_a_larger_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("red dog\nblue cat\n \n \n")
    source, out = SourceOptions(caption="1"), tmp_path / "out"
    with pytest.raises(DataError) as error:
        count(str(tmp_path / "a.tsv"), out=out, config=CountConfig(source=source, running=Running(progress=False)))
    assert str(error.value) == (
        f"{out}: 2 of 4 rows refused (no_caption 2; the first: a.tsv row 3: caption is empty or missing), allowed are 20.0%; "
        f"{out}/dead_letters has them; --max-bad-fraction allows more"
    )
    assert not (out / "manifest.json").exists()

    count(str(tmp_path / "a.tsv"), out=out, config=CountConfig(source=source, running=Running(progress=False, max_bad_fraction=0.5)))
    assert check_sums(out) == {"no_caption": 2}


def test_text_in_another_encoding_is_told_with_the_command_that_helps(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\nred dog\ncafé\n", encoding="latin-1")
    with pytest.raises(DataError) as error:
        count(str(tmp_path / "a.tsv"), out=tmp_path / "out", config=CountConfig(running=Running(progress=False)))
    assert str(error.value) == (
        f"{tmp_path}/out: 1 of 2 rows refused (bad_caption 1; the first: a.tsv row 2: not UTF-8 (unexpected end of data at byte 3)), "
        f"allowed are 20.0%; {tmp_path}/out/dead_letters has them; bad_caption is "
        "text that is not UTF-8: iconv -f cp1252 -t utf-8 FILE > NEW, if it is Windows-1252 or Latin-1; --max-bad-fraction allows more"
    )


def test_nothing_but_refused_rows_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(" \n\n \n")
    with pytest.raises(DataError) as error:
        count(
            str(tmp_path / "a.tsv"),
            out=tmp_path / "out",
            config=CountConfig(source=SourceOptions(caption="1"), running=Running(progress=False, max_bad_fraction=1.0)),
        )
    assert str(error.value) == (
        f"{tmp_path}/out: 2 of 2 rows refused (no_caption 2; the first: a.tsv row 1: caption is empty or missing), none is left; "
        f"{tmp_path}/out/dead_letters has them"
    )


def test_what_stands_behind_a_broken_place_is_never_passed_over_in_silence(tmp_path: Path) -> None:
    good = tar_bytes({"a.txt": b"red dog", "b.txt": b"blue cat"})
    broken = bytearray(good)
    broken[1024] ^= 1  # the second header's name: its checksum no longer fits
    (tmp_path / "0.tar").write_bytes(broken)
    (tmp_path / "1.tar").write_bytes(good[:1024])  # ends where a header would begin
    (tmp_path / "2.tar").write_bytes(good + b"<html>" * 100)
    (tmp_path / "3.tar").write_bytes(good + tar_bytes({"c.txt": b"red dog"}))  # two archives, one after the other: both are read
    out = count(str(tmp_path), out=tmp_path.parent / "counts-of-broken", config=CountConfig(running=QUIET))

    assert letters(out) == [
        ("truncated", "0.tar", "a", "archive broken after this sample (bad checksum)"),
        ("truncated", "1.tar", "a", "archive broken after this sample (no end marker)"),
        ("truncated", "2.tar", "b", "archive broken after this sample (invalid header)"),
    ]
    assert read_json(out / "stats.json")["kept"] == 7
    check_sums(out)


def test_tars_of_others_with_long_names_and_other_members_lose_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key in ("x" * 150, "\u72ac", "plain"):
            for extension, data in (("png", DOG), ("txt", b"red dog"), ("cls", b"3")):
                info = tarfile.TarInfo(f"folder/{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (tmp_path / "0.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    counts = count(str(tmp_path), out=tmp_path.parent / "counts-of-long", config=CountConfig(running=QUIET))
    out = bags(
        str(tmp_path), counts=counts, out=tmp_path.parent / "bags-of-long", config=BagsConfig(limits=Limits(min_count=1), running=QUIET)
    )

    assert [row["source_key"] for row in rows(out, "index")] == ["folder/" + "x" * 150, "folder/\u72ac", "folder/plain"]
    assert check_sums(out) == {}
