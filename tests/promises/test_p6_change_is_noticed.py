"""P6: `fistful verify` finds one changed byte in any file outside logs/, the manifest included.

Conditions: the folder is finished. The manifest knows accidents, not forgers: who rewrites it and its digest is believed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.balance import Balance
from fistful.bow.draw import mix_all
from fistful.bow.store import manifest
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import read_vocabulary, write_vocabulary
from fistful.errors import DataError, UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from tests.support.folders import contents, fistful
from tests.support.pictures import picture

RUNNING = Running(progress=False, max_bad_fraction=0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of counts and one of bags, with images and a dead letter."""
    base = tmp_path_factory.mktemp("p6")
    for i in range(9):
        (base / "photos").mkdir(exist_ok=True)
        (base / "photos" / f"{i}.png").write_bytes(picture((i, i * 20, 9)))
        (base / "photos" / f"{i}.txt").write_text("red dog" if i else "")
    counts = count(str(base / "photos"), out=base / "counts", config=CountConfig(running=RUNNING))
    bags(str(base / "photos"), counts=counts, out=base / "bags", config=BagsConfig(running=RUNNING))
    return base


FILES = [
    "README.md",
    "config.json",
    "dead_letters/00000.parquet",
    "index/00000.parquet",
    "manifest.json",
    "shards/00000.tar",
    "shards/README.md",
    "shards/sizes.json",
    "stats.json",
    "stats/00000.json",
    "vocabulary.parquet",
]


def test_these_are_all_the_files_that_there_are(made: Path) -> None:
    assert sorted(contents(made / "bags")) == FILES
    assert manifest.verify(made / "bags") == manifest.verify(made / "counts") == []


def places(name: str, size: int) -> Iterator[tuple[int, int]]:
    """Where to change a byte, and how: the ends, and some places by chance."""
    yield from ((0, 1), (size - 1, 128))
    for n in range(40):
        chance = mix_all(n, *name.encode()).item()
        yield chance % size, 1 << (chance >> 40) % 8


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_found_wherever_it_is(made: Path, name: str) -> None:
    path = made / "bags" / name
    good = path.read_bytes()
    try:
        for place, bit in places(name, len(good)):
            changed = bytearray(good)
            changed[place] ^= bit
            path.write_bytes(changed)
            assert len(manifest.verify(made / "bags")) == 1, f"byte {place} changed from {good[place]} to {changed[place]}"
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize(
    ("what", "place"), [("header", 3), ("padding of the header", 480), ("payload", 530), ("padding", 1_000), ("end", -5)]
)
def test_every_part_of_a_tar_counts(made: Path, what: str, place: int) -> None:
    path = made / "bags" / "shards" / "00000.tar"
    good = path.read_bytes()
    changed = bytearray(good)
    changed[place] ^= 1
    path.write_bytes(changed)
    try:
        (problem,) = manifest.verify(made / "bags")
        assert problem.startswith(f"{path}: SHA-256 is ")
    finally:
        path.write_bytes(good)


def test_missing_shortened_and_foreign_files_are_found(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bags"
    shutil.copytree(made / "bags", folder)
    (folder / "index" / "00000.parquet").unlink()
    (folder / "shards" / "sizes.json").write_bytes(b"")
    (folder / "shards" / "00001.tar").write_bytes(b"")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "logs" / "new").write_bytes(b"may be there")

    problems = manifest.verify(folder)
    assert problems[:3] == [
        f"{folder}/link: not in the manifest",
        f"{folder}/shards/00001.tar: not in the manifest",
        f"{folder}/index/00000.parquet: missing",
    ]
    assert problems[3].startswith(f"{folder}/shards/sizes.json: size is 0, expected ")
    assert len(problems) == 4


def test_the_command_line_says_what_has_changed_and_ends_with_3(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bags"
    shutil.copytree(made / "bags", folder)
    good = fistful("verify", folder, made / "counts")
    assert (good.returncode, good.stdout, good.stderr) == (
        0,
        f"{folder}: every byte as written\n{made}/counts: every byte as written\n",
        "",
    )

    (folder / "stats.json").write_bytes(b"{}")
    bad = fistful("verify", folder)
    assert bad.returncode == 3
    assert bad.stdout.startswith(f"{folder}/stats.json: size is 2, expected ")
    assert bad.stderr == "fistful: 1 difference found; delete the folder and run the command that wrote it again\n"


def test_a_vocabulary_that_is_not_the_one_that_was_counted_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "counts", tmp_path / "counts")
    write_vocabulary(tmp_path / "counts", read_vocabulary(made / "counts").balanced(Balance(rule="random", kept=0.5)))
    with pytest.raises(DataError) as error:
        bags(str(made / "photos"), counts=tmp_path / "counts", out=tmp_path / "bags", config=BagsConfig(running=RUNNING))
    assert str(error.value) == (
        f"{tmp_path}/counts/vocabulary.parquet: is not the file that manifest.json names; "
        f"fistful verify {tmp_path}/counts tells what else changed"
    )


def test_bags_made_from_other_counts_are_not_continued(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "bags", tmp_path / "bags")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.csv").write_text("caption\nred dog\n")
    counts = count(str(tmp_path / "more"), out=tmp_path / "counts", config=CountConfig(running=RUNNING))
    with pytest.raises(UsageError) as error:
        bags(str(made / "photos"), counts=counts, out=tmp_path / "bags", config=BagsConfig(running=RUNNING))
    assert str(error.value) == f"{tmp_path}/bags: belongs to another configuration (other inputs: counts); choose another --out"


# Inputs: of the same name and size, and of any time


def _inputs(base: Path) -> dict[str, Path]:
    """A file of every kind of unit, by what it is called."""
    base.mkdir()
    (base / "a.tsv").write_text("caption\nred dog\nblue cat\n")
    (base / "b.csv").write_text("caption\nred dog\nblue cat\n")
    (base / "c.tar").write_bytes(tar_bytes({"0.png": picture((1, 2, 3)), "0.txt": b"red dog"}))
    pq.write_table(pa.table({"caption": ["red dog", "blue cat"]}), base / "d.parquet", compression="none")
    (base / "photos").mkdir()
    (base / "photos" / "0.png").write_bytes(picture((1, 2, 3)))
    (base / "photos" / "0.txt").write_text("red dog")
    (base / "photos" / "1.png").write_bytes(picture((3, 2, 1)))
    (base / "photos" / "1.TXT").write_text("red dog")
    return {
        "tsv": base / "a.tsv",
        "csv": base / "b.csv",
        "tar": base / "c.tar",
        "parquet": base / "d.parquet",
        "text": base / "photos" / "0.txt",
        "capital text": base / "photos" / "1.TXT",
    }


@pytest.mark.parametrize("kind", ["tsv", "csv", "tar", "parquet", "text", "capital text"])
@pytest.mark.parametrize("finished", [True, False])
def test_an_input_that_changed_and_kept_its_size_is_named_when_the_command_comes_again(tmp_path: Path, kind: str, finished: bool) -> None:
    path = _inputs(tmp_path / "in")[kind]
    source, config = str(path.parent if "text" in kind else path), CountConfig(running=RUNNING)
    out = count(source, out=tmp_path / "counts", config=config)
    if not finished:
        (out / "manifest.json").unlink()
    os.utime(path)  # written, as far as its time says, but the same: done already
    count(source, out=out, config=config)
    if not finished:
        (out / "manifest.json").unlink()
    about = path.stat()
    path.write_bytes(path.read_bytes().replace(b"red dog", b"red cow"))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # as cp -p and rsync -t leave it
    way_out = "choose another --out" if finished else "choose another --out, or delete this unfinished folder"
    with pytest.raises(UsageError) as error:
        count(source, out=out, config=config)
    assert str(error.value) == f"{path}: has changed since {out} was made from it, though its size has not; {way_out}"


@pytest.mark.parametrize("finished", [True, False])
def test_the_first_input_of_another_size_is_named(tmp_path: Path, finished: bool) -> None:
    photos = _inputs(tmp_path / "in")["text"].parent
    table = tmp_path / "in" / "photos" / "t.csv"
    table.write_text("image,caption\n0.png,red dog\n1.png,blue cat\n")
    out = count(str(photos), out=tmp_path / "counts", config=CountConfig(running=RUNNING))
    if not finished:
        (out / "manifest.json").unlink()
    size = (photos / "1.png").stat().st_size
    way_out = "choose another --out" if finished else "choose another --out, or delete this unfinished folder"

    def check(said: str) -> None:
        with pytest.raises(UsageError) as error:
            count(str(photos), out=out, config=CountConfig(running=RUNNING))
        assert str(error.value) == f"{out}: belongs to another configuration (other inputs: {said}); {way_out}"

    (photos / "1.png").write_bytes((photos / "1.png").read_bytes() + b"more")
    check(f"t.csv: 1.png has {size + 4:,} bytes and had {size:,}")
    (photos / "1.png").unlink()
    check(f"t.csv: 1.png has 0 bytes and had {size:,}")
    (photos / "0.png").rename(photos / "00.png")
    table.write_text("image,caption\n00.png,red dog\n1.png,blue cat\n")
    check("t.csv has 44 bytes and had 43")
    table.unlink()
    check("00.png is new among them")


def test_a_caption_beside_a_picture_that_is_gone_is_noticed(tmp_path: Path) -> None:
    photos = _inputs(tmp_path / "in")["text"].parent
    out = count(str(photos), out=tmp_path / "counts", config=CountConfig(running=RUNNING))
    (photos / "0.txt").unlink()
    with pytest.raises(UsageError, match="has changed since"):
        count(str(photos), out=out, config=CountConfig(running=RUNNING))


def test_bags_notice_it_too(tmp_path: Path) -> None:
    path = _inputs(tmp_path / "in")["tsv"]
    (tmp_path / "in" / "a.tsv").write_text("caption\n" + "red dog\n" * 9)
    counts = count(str(path), out=tmp_path / "counts", config=CountConfig(running=RUNNING))
    made = {"counts": counts, "out": tmp_path / "bags", "config": BagsConfig(running=RUNNING)}
    bags(str(path), **made)
    path.write_text("caption\n" + "red cow\n" * 9)
    with pytest.raises(UsageError, match=r"a.tsv: has changed since"):
        bags(str(path), **made)
