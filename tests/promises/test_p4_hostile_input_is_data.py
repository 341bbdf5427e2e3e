"""P4: hostile input is data: refused rows, bounded memory, nothing written outside the output, nothing executed.

Conditions: the bound is the largest image file that is read (256 MB) and a few batches; images are
looked at by their headers and copied, never decoded, by the data jobs.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fistful.bow.store.dead_letters import REASONS
from fistful.bow.store.plain_text import MAX_TEXT
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import Limits
from fistful.pipelines.bags import BagOptions, BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions, open_unit
from fistful.pipelines.read.units import Unit
from tests.support.folders import contents, rows
from tests.support.pictures import picture
from tests.support.strategies import captions

QUIET = Running(progress=False, max_bad_fraction=0.99)
DOG = picture()


def read(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the keys of the usable rows, and reason and place of the refused ones."""
    unit = Unit(0, "tar", str(path), path.name, 0, 0)
    kept, refused = [], []
    with open_unit(unit, SourceOptions(), with_images=True) as (batches, _):
        for batch in batches:
            assert batch.n_read == len(batch.rows) + len(batch.letters)
            kept += [row.source_key for row in batch.rows]
            refused += [(letter.reason, letter.place) for letter in batch.letters]
    return kept, refused


def add(tar: tarfile.TarFile, name: str, data: bytes = b"red dog", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data) if info.isreg() else None)


def both_jobs(source: Path, out: Path, options: BagOptions = BagOptions()) -> Path:
    counts = count(str(source), out=out / "counts", config=CountConfig(running=QUIET))
    config = BagsConfig(limits=Limits(min_count=1), bags=options, running=QUIET)
    return bags(str(source), counts=counts, out=out / "bags", config=config)


def test_names_that_lead_out_links_and_devices_are_refused_and_nothing_is_written_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "0.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "good.txt")
        add(tar, "good.png", DOG)
        for name in ("../up.txt", "/etc/abs.txt", "a/../../up.txt", "..\\up.txt", "~/home.txt", "a\nb.txt", "x" * 300 + ".txt"):
            add(tar, name)
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("disk", tarfile.BLKTYPE), ("pipe", tarfile.FIFOTYPE)):
            add(tar, f"{name}.txt", b"", type=kind, linkname="/etc/passwd")
        add(tar, "caf\udce9.txt")
        add(tar, "last.txt")
        add(tar, "last.png", DOG)
    before = sorted(tmp_path.rglob("*"))
    out = both_jobs(tmp_path / "in", tmp_path / "out", BagOptions(images="none"))

    letters = {(row["reason"], row["place"]) for row in rows(out, "dead_letters")}
    assert letters == {
        *(("bad_name", name) for name in ("../up.txt", "/etc/abs.txt", "a/../../up.txt", "link.txt", "hard.txt", "disk.txt", "pipe.txt")),
        ("bad_name", "caf\\udce9.txt"),  # ..\\up.txt begins with a dot, so it is hidden and no row
    }
    kept = [row["source_key"] for row in rows(out, "index")]
    assert kept == ["good", "~/home", "a\nb", "x" * 300, "last"]
    assert [path for path in sorted(tmp_path.rglob("*")) if (tmp_path / "out") not in (path, *path.parents)] == before
    with tarfile.open(out / "shards" / "00000.tar") as shard:  # our own names, whatever theirs were
        assert shard.getnames() == [f"00000_{row['key'][6:]}.{end}" for row in rows(out, "index") for end in ("json", "txt")]


def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.txt", "a.png", "a.TXT", "b.txt", "c.txt", "b.json", "d.txt", "d.__twice__"):
            add(tar, name, b"{}" if name.endswith("json") else b"red dog")
    assert read(tmp_path / "0.tar") == (["c", "d"], [("bad_name", "a"), ("bad_name", "b")])


def test_wherever_an_archive_breaks_off_the_whole_samples_before_are_kept_and_one_row_is_refused(tmp_path: Path) -> None:
    data = tar_bytes({f"{i}.{end}": content for i in range(3) for end, content in (("png", DOG), ("txt", b"red dog"))})
    zipped = gzip.compress(data, mtime=0)
    end = data.rindex(b"red dog") // 512 * 512 + 512
    for length in [*range(0, end + 1, 61), end - 1, end, end + 511]:
        (tmp_path / "0.tar").write_bytes(data[:length])
        kept, refused = read(tmp_path / "0.tar")
        assert kept == ["0", "1", "2"][: len(kept)]
        assert [reason for reason, _ in refused] == ["truncated"]
        assert len(kept) >= length // (end // 3) - 1
    for length in range(0, len(zipped) - 8, 7):
        (tmp_path / "0.tar.gz").write_bytes(zipped[:length])
        assert [reason for reason, _ in read(tmp_path / "0.tar.gz")[1]] == ["truncated"]


DAMAGE = st.lists(st.tuples(st.integers(0, 6_000), st.integers(0, 255)), min_size=1, max_size=8)
WHOLE = tar_bytes(
    {"a.png": DOG, "a.txt": b"red dog", "b.json": b'{"captions": ["blue cat"], "extra": [1, null]}', "b.png": DOG, "c.txt": b"green tree"}
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DAMAGE, st.booleans())
def test_damage_anywhere_in_an_archive_gives_rows_and_refusals_and_nothing_else(
    tmp_path: Path, damage: list[tuple[int, int]], repair: bool
) -> None:
    data = bytearray(WHOLE)
    for place, value in damage:
        data[place % len(data)] = value
    if repair:  # headers that lie, with a checksum that says they do not
        for place in range(0, len(data), 512):
            if data[place + 257 : place + 262] == b"ustar":
                data[place + 148 : place + 156] = b" " * 8
                data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])
    (tmp_path / "0.tar").write_bytes(data)
    kept, refused = read(tmp_path / "0.tar")
    assert len(kept) + len(refused) >= 1
    assert {reason for reason, _ in refused} <= {*REASONS}


def bombs(folder: Path) -> Iterator[tuple[str, bytes, list[tuple[str, str]]]]:
    """Small files that claim, or unpack to, much: name, bytes, refusals expected."""
    zeros = 300 << 20
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, zeros
        yield f"header-{kind.decode()}.tar.gz", info.tobuf(tarfile.GNU_FORMAT) + b"0", [("truncated", "start")]
    info = tarfile.TarInfo("a.txt")
    info.size = zeros
    yield "text.tar.gz", info.tobuf(tarfile.GNU_FORMAT) + b"0", [("bad_name", "a.txt"), ("truncated", "start")]
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 40
    yield "image.tar.gz", info.tobuf(tarfile.GNU_FORMAT) + b"0", [("bad_name", "a.jpg"), ("truncated", "start")]
    info = tarfile.TarInfo("a.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    yield "sparse.tar.gz", info.tobuf(tarfile.GNU_FORMAT) + b"0", [("truncated", "start")]
    deep = b"[" * (MAX_TEXT // 4)
    yield "deep.tar.gz", tar_bytes({"a.json": deep, "a.png": DOG}), [("bad_json", "a")]
    yield "long.tar.gz", tar_bytes({"a.json": b'{"n": ' + b"9" * 1_000_000 + b"}"}), [("bad_json", "a")]


def compress(path: Path, start: bytes) -> None:
    """Write a gzip file; a start that ends in "0" goes on with 300 MB of zeros."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        if start.endswith(b"0"):
            for _ in range(300):
                file.write(bytes(1 << 20))


def test_bombs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    for name, start, expected in bombs(tmp_path):
        compress(tmp_path / name, start)
        tracemalloc.start()
        try:
            kept, refused = read(tmp_path / name)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (name, kept, refused) == (name, [], expected)
        assert peak < 64 << 20, name


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_nothing_in_an_archive_is_ever_executed(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    evil = pickle.dumps(Evil(trace))
    files = {f"a.{end}": evil for end in ("pyd", "pkl", "pickle", "pth", "npy", "cls", "txt.gz")}
    (tmp_path / "0.tar").write_bytes(tar_bytes({**files, "a.png": DOG, "a.txt": b"red dog", "b.png": evil, "b.txt": b"blue cat"}))
    out = both_jobs(tmp_path / "0.tar", tmp_path / "out")

    assert [row["source_key"] for row in rows(out, "index")] == ["a"]
    assert [(row["reason"], row["place"]) for row in rows(out, "dead_letters")] == [("bad_image", "b")]
    assert not trace.exists()
    with tarfile.open(out / "shards" / "00000.tar") as shard:
        assert shard.getnames() == ["00000_0000000.png", "00000_0000000.json", "00000_0000000.txt"]


def test_json_of_every_sort_is_taken_as_data(tmp_path: Path) -> None:
    texts = {
        "nan": b'{"captions": ["red dog"], "width": NaN, "height": Infinity}',
        "huge": b'{"captions": ["red dog"], "width": 1e999}',
        "source": b'{"captions": ["red dog"], "source": "\\ud800"}',
        "number": b'{"captions": ["red dog"], "source": 7}',
        "utf16": '{"captions": ["red dog"]}'.encode("utf-16"),
        "null": b'{"captions": null, "caption": null}',
        "empty": b'{"captions": ["", " ", "red dog"]}',
        "single": b'{"caption": "red dog"}',
        "keys": b'{"captions": ["red dog"], "__class__": {"x": [1, 2.5, null, true, "\\u0000"]}}',
    }
    (tmp_path / "0.tar").write_bytes(tar_bytes({f"{name}.json": text for name, text in texts.items()}))
    out = both_jobs(tmp_path / "0.tar", tmp_path / "out", BagOptions(images="none"))

    index = {row["source_key"]: row for row in rows(out, "index")}
    assert {name: json.loads(row["extra"]) for name, row in index.items()} == {
        "nan": {"width": None, "height": None},
        "source": {},
        "number": {},
        "utf16": {},
        "empty": {},
        "single": {},
        "keys": {"__class__": {"x": [1, 2.5, None, True, "\0"]}},
    }
    assert {row["source"] for row in index.values()} == {"0.tar"}
    assert {(row["reason"], row["place"]) for row in rows(out, "dead_letters")} == {("bad_json", "huge"), ("no_caption", "null")}


@settings(max_examples=8)
@given(st.lists(captions(), min_size=1, max_size=12))
def test_captions_of_every_sort_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    base = tmp_path_factory.mktemp("unicode")
    texts = [
        *texts,
        "red dog \U0001f469\U0001f3fd\u200d\U0001f680",
        "\u202eright to left",
        "a\0b dog",
        "\x1b[31mred",
        "e\u0301te dog \ufeff",
    ]
    files = {f"{i}.json": json.dumps({"captions": [text]}).encode() for i, text in enumerate(texts)}
    (base / "0.tar").write_bytes(tar_bytes(files))
    out = both_jobs(base / "0.tar", base / "out", BagOptions(images="none", wordless="keep"))

    found = rows(out, "index")
    assert [row["captions"] for row in found] == [[text.strip()] for text in texts if text.strip()]
    with tarfile.open(out / "shards" / "00000.tar") as shard:
        samples = [json.loads(shard.extractfile(f"{row['key']}.json").read()) for row in found]  # pyright: ignore[reportOptionalMemberAccess]
    assert [sample["caption"] for sample in samples] == [row["captions"][0] for row in found]


def test_a_folder_of_hostile_files_is_read_as_data(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.png").write_bytes(DOG)
    (photos / "good.txt").write_text("red dog")
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "folder.png").mkdir()
    (tmp_path / "photos" / "caf\udce9.png").write_bytes(DOG)
    with open(photos / "huge.jpg", "wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        out = both_jobs(photos, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 600 << 20
    finally:
        tracemalloc.stop()
    assert [row["source_key"] for row in rows(out, "index")] == ["good"]
    assert sorted((row["reason"], row["place"]) for row in rows(out, "dead_letters")) == [
        ("bad_name", "caf\\udce9.png"),
        ("bad_name", "huge.jpg"),
        ("no_image", "loop.png"),
    ]
    assert "logs" not in "".join(contents(out))


def test_a_plan_of_hostile_names_is_a_plan(tmp_path: Path) -> None:
    for name in ("-rf.tsv", "a b.tsv", "a\nb.tsv", "$(touch x).tsv", "é.tsv", "caf\udce9.tsv"):
        (tmp_path / name).write_text("caption\nred dog\n")
    out = count(str(tmp_path), out=tmp_path.parent / "counts-of-names", config=CountConfig(running=QUIET))
    assert len(plan_units((str(tmp_path),), PlanOptions())[0]) == 6
    assert json.loads((out / "stats.json").read_bytes())["kept"] == 6
