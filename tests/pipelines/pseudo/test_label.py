"""`fistful label`: images without captions in, shards of pseudo-bags out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fistful.bow.draw import mix_all
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.store.index import read_index
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import read_vocabulary
from fistful.errors import DataError, UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label
from tests.support.folders import contents, environment
from tests.support.pictures import picture

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
QUIET = Running(progress=False, max_bad_fraction=0.6)


def write_tars(folder: Path, n: int, named: bool, broken: bool = False, caption: Callable[[int], str] | None = None) -> str:
    """Pictures in three colours, in two tars; every third is called by its colour and "thing", or as `caption` says."""
    folder.mkdir(parents=True)
    for part in (0, 1):
        files: dict[str, bytes] = {}
        for i in range(part, n, 2):
            colour = list(COLOURS)[i // 2 % 3]
            r, g, b = COLOURS[colour]  # each picture another shade, so that none is a copy of another
            files[f"{i:04d}.png"] = picture((r + i % 20, g + i // 20 % 20, b + i // 400))
            if named:
                files[f"{i:04d}.txt"] = (caption(i) if caption else f"a {colour} thing").encode()
        if broken:
            files["9999.png"] = b"no picture"
        (folder / f"{part}.tar").write_bytes(tar_bytes(files))
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Captioned images as a data folder, uncaptioned ones, and an encoder that knows the vocabulary."""
    root = tmp_path_factory.mktemp("label")
    captioned = write_tars(root / "captioned", 900, named=True)
    counts = count(captioned, out=root / "counts")
    data = bags(captioned, counts=counts, out=root / "bags", config=BagsConfig(running=QUIET))
    images = write_tars(root / "images", 60, named=False, broken=True)
    return {"like": data, "images": images, "model": labeller(data), "root": root}


def labeller(data: Path) -> str:
    """The encoder whose head has the words of a data folder."""
    return f"tests.support.label_encoder:Labeller {json.dumps({'words': read_vocabulary(data).words})}"


def run(world: dict[str, Any], out: Path, running: Running = QUIET, **options: Any) -> Path:
    config = LabelConfig(label=LabelOptions(**options), running=running)
    return label(world["images"], model=world["model"], like=world["like"], out=out, config=config)


def test_neighbours_label_images_with_the_words_of_their_colour(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo", by="knn", k=5)
    words, index = read_vocabulary(folder).words, read_index(folder)
    for row in index.to_pylist():
        colour = list(COLOURS)[int(row["source_key"]) // 2 % 3]
        assert {words[i] for i in row["words"]} <= {colour, "thing"}
        assert (row["pseudo"], row["captions"], len(row["scores"])) == (True, [], len(row["words"]))
    stats = read_json(folder / "stats.json")
    assert (stats["rows"], stats["kept"], stats["refused"], stats["held_out_precision"]) == (62, 60, {"bad_image": 2}, 1.0)
    assert manifest.verify(folder) == []


def test_the_head_is_held_to_a_quota_for_each_word(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo", by="head")
    words, index = read_vocabulary(folder).words, read_index(folder)
    given = [words[i] for row in index["words"].to_pylist() for i in row]
    for colour in COLOURS:  # a third of the captioned images have it, so a third of these may: 20 of 60, and ties
        assert 15 <= given.count(colour) <= 22
    stats = read_json(folder / "stats.json")
    assert stats["held_out_precision_by_chance"] < 0.7 < stats["held_out_precision_low"]
    assert 0.9 < stats["held_out_precision"] <= stats["held_out_precision_high"]


def test_two_workers_write_the_bytes_that_one_writes_and_the_same_call_finds_it_done(world: dict[str, Any], tmp_path: Path) -> None:
    one = run(world, tmp_path / "one", by="knn")
    before = contents(one)
    assert before == contents(run(world, tmp_path / "two", Running(workers=2, progress=False, max_bad_fraction=0.6), by="knn"))
    assert before == contents(run(world, tmp_path / "one", by="knn"))


def test_a_head_of_another_vocabulary_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    other = {**world, "model": 'tests.support.label_encoder:Labeller {"words": ["red"]}'}
    with pytest.raises(DataError, match="its word head has other words than"):
        run(other, tmp_path / "pseudo", by="head")


def test_a_model_without_a_head_is_told_of_the_other_way(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        run({**world, "model": "tests.support.colours:ColourEncoder"}, tmp_path / "pseudo", by="head")
    assert (
        str(error.value) == "tests.support.colours:ColourEncoder: has no word head; label with --by knn, or with a run of --objective joint"
    )


def test_captions_are_no_images(world: dict[str, Any], tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_text("a red thing\n")
    with pytest.raises(UsageError, match="expected tars or folders of images"):
        run({**world, "images": str(table)}, tmp_path / "pseudo", by="knn")


SCRIPT = """
import os, signal, sys, json
from tests.support.job import die_at_write
from tests.pipelines.pseudo.test_label import QUIET, run
from collections.abc import Callable
from pathlib import Path
if int(sys.argv[3]):
    die_at_write(int(sys.argv[3]), after=False)
run(json.loads(sys.argv[1]), Path(sys.argv[2]), by="knn")
"""


def killed_at(world: dict[str, Any], out: Path, write: int) -> int:
    given = json.dumps({name: str(value) for name, value in world.items()})
    return subprocess.run([sys.executable, "-c", SCRIPT, given, str(out), str(write)], env=environment(), check=False).returncode


@pytest.mark.parametrize("write", [3, 9, 17])
def test_killed_at_a_write_and_run_again_it_ends_with_the_same_bytes(world: dict[str, Any], tmp_path: Path, write: int) -> None:
    whole = contents(run(world, tmp_path / "whole", by="knn"))
    assert killed_at(world, tmp_path / "killed", write) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert killed_at(world, tmp_path / "killed", 0) == 0
    assert contents(tmp_path / "killed") == whole


def test_where_no_score_is_worth_enough_the_folder_is_free_for_other_options(world: dict[str, Any], tmp_path: Path) -> None:
    captioned = write_tars(
        tmp_path / "captioned", 900, named=True, caption=lambda i: list(COLOURS)[int(mix_all(i) % np.uint64(3))]
    )  # whatever is seen
    counts = count(captioned, out=tmp_path / "counts")
    data = bags(captioned, counts=counts, out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    unlike = {**world, "like": data, "model": labeller(data)}
    with pytest.raises(DataError, match=r"the best has 0\.[34]\d\d; a smaller --min-precision helps"):
        run(unlike, tmp_path / "pseudo", by="knn", min_precision=0.6)
    embedded = (tmp_path / "pseudo/stages/images/manifest.json").stat().st_mtime_ns
    folder = run(unlike, tmp_path / "pseudo", by="head", min_precision=0)
    assert (folder / "stages/images/manifest.json").stat().st_mtime_ns == embedded
    assert contents(folder) == contents(run(unlike, tmp_path / "other", by="head", min_precision=0))


def test_too_few_held_out_pictures_are_said_before_any_work(world: dict[str, Any], tmp_path: Path) -> None:
    few = write_tars(tmp_path / "few", 30, named=True)
    data = bags(few, counts=world["root"] / "counts", out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    with pytest.raises(DataError, match="held-out captioned images, expected 30 or more"):
        run({**world, "like": data}, tmp_path / "pseudo", by="knn")
    assert not (tmp_path / "pseudo").exists()


def test_copies_of_one_picture_are_one_picture_held_out(world: dict[str, Any], tmp_path: Path) -> None:
    """A row a caption: each picture under 20 keys. None may vote on its own copies, and few pictures stay few."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for copy in range(20):
        files: dict[str, bytes] = {}
        for i in range(45):
            files[f"{i:02d}_{copy:02d}.png"] = picture((20 * (i % 3), i * 5, 255 - i * 5))
            files[f"{i:02d}_{copy:02d}.txt"] = f"a {list(COLOURS)[i % 3]} thing".encode()
        (folder / f"{copy}.tar").write_bytes(tar_bytes(files))
    data = bags(str(folder), counts=world["root"] / "counts", out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    with pytest.raises(DataError, match=r"calibration: \d held-out captioned images, expected 30 or more"):
        run({**world, "like": data}, tmp_path / "pseudo", by="knn")  # some 90 rows, which are 4 or 5 pictures


def test_a_model_of_ours_must_have_learnt_from_the_data_and_held_some_out(world: dict[str, Any], tmp_path: Path) -> None:
    from fistful.training.train import train
    from fistful.training.train_config import train_config

    data = str(world["like"])
    base = {"steps": 2, "batch_size": 8, "objective": "joint", "progress": False, "threads": 1, "context_length": 8}
    everything = train(data, out=tmp_path / "everything", config=train_config(**base))
    with pytest.raises(UsageError) as error:
        run({**world, "model": str(everything)}, tmp_path / "p1", by="head")
    assert str(error.value) == f"{everything}: held no captioned images out, so nothing can be measured; train with --holdout 0.1"

    some = train(data, out=tmp_path / "some", config=train_config(**base, holdout=0.1))
    folders = [
        run({**world, "model": str(some)}, tmp_path / name, r, by="head", min_precision=0.0) for name, r in (("one", QUIET), ("two", PAIR))
    ]
    assert contents(folders[0]) == contents(folders[1])  # torch, faiss and two worker processes, one thread each

    about = some / "model" / "fistful.json"
    earlier = json.loads(about.read_text())
    earlier["lineage"].pop("holdout_by")
    about.write_text(json.dumps(earlier))
    with pytest.raises(DataError, match="an earlier version trained it, which held samples out and may have shown it copies"):
        run({**world, "model": str(some)}, tmp_path / "p3", by="head")

    other = write_tars(tmp_path / "captioned", 60, named=True)
    counts = count(other, out=tmp_path / "counts")
    elsewhere = bags(other, counts=counts, out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    with pytest.raises(DataError, match=r"was not trained on .* --like must name a folder that it learnt from"):
        run({**world, "model": str(some), "like": elsewhere}, tmp_path / "p2", by="head")


PAIR = Running(workers=2, progress=False, max_bad_fraction=0.6)
