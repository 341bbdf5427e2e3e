"""One's own data, as it lies: every shape that other tools leave gives the same bags, by any number of workers, anywhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import fistful
from fistful.bow.vocabulary import Limits
from fistful.errors import UsageError
from fistful.pipelines.bags import BagsConfig
from fistful.pipelines.count import CountConfig
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.source_options import SourceOptions
from tests.support.folders import contents, rows
from tests.support.shapes import SHAPES, Pictures, coco, csv_of_paths, parquet_of_bytes, real_pictures, shards

QUIET = Running(progress=False)
PLAN = PlanOptions(unit_files=50)
Shape = Callable[[Path, Pictures], None]


@pytest.fixture(scope="module")
def pictures(data_root: Path) -> Pictures:
    return real_pictures(data_root / "photos/captioned/flickr8k-00000.tar.gz", 120)


def write(shape: Shape, pictures: Pictures, root: Path) -> Path:
    root.mkdir(parents=True)
    shape(root, pictures)
    return root


def count_and_bag(source: Path, out: Path, running: Running = QUIET, options: SourceOptions = SourceOptions()) -> Path:
    counts = fistful.count(str(source), out=out / "counts", config=CountConfig(running=running, plan=PLAN, source=options))
    config = BagsConfig(running=running, limits=Limits(min_count=2), plan=PLAN, source=options)
    return fistful.bags(str(source), counts=counts, out=out / "bags", config=config)


def bags_by_picture(data: Path) -> dict[str, list[str]]:
    words = pq.read_table(data / "vocabulary.parquet")["word"].to_pylist()
    return {Path(row["source_key"]).name: sorted(words[i] for i in row["words"]) for row in rows(data, "index")}


@pytest.fixture(scope="module")
def expected(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Each picture's bag, from shards."""
    place = tmp_path_factory.mktemp("shards")
    return bags_by_picture(count_and_bag(write(shards, pictures, place / "in"), place))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_shape_of_the_same_data_gives_the_same_bags(
    shape: Shape, pictures: Pictures, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    data = count_and_bag(write(shape, pictures, tmp_path / "in"), tmp_path)
    stats = json.loads((data / "stats.json").read_text())
    assert (stats["rows"], stats["kept"], stats["captions"], stats["refused"]) == (120, 120, 600, {})
    assert bags_by_picture(data) == expected
    assert {row["image"].rpartition(".")[2] for row in rows(data, "index")} == {"jpg"}


@pytest.mark.parametrize(
    "shape", [pytest.param(coco, marks=pytest.mark.slow), csv_of_paths, parquet_of_bytes], ids=["coco", "csv_of_paths", "parquet_of_bytes"]
)
def test_workers_and_places_change_no_byte(shape: Shape, pictures: Pictures, tmp_path: Path) -> None:
    source = write(shape, pictures, tmp_path / "in")
    one = contents(count_and_bag(source, tmp_path / "one"))
    assert contents(count_and_bag(source, tmp_path / "two", Running(progress=False, workers=2))) == one
    moved = shutil.move(source, tmp_path / "elsewhere/set")
    assert contents(count_and_bag(Path(moved), tmp_path / "three")) == one


def test_a_root_that_is_given_changes_no_byte(pictures: Pictures, tmp_path: Path) -> None:
    source = write(csv_of_paths, pictures, tmp_path / "in")
    found = contents(count_and_bag(source / "data.csv", tmp_path / "found"))
    given = SourceOptions(images_root=str(source))
    assert contents(count_and_bag(source / "data.csv", tmp_path / "given", options=given)) == found


def test_a_picture_of_a_table_that_changes_later_is_noticed(pictures: Pictures, tmp_path: Path) -> None:
    source = write(csv_of_paths, pictures, tmp_path / "in")
    count_and_bag(source, tmp_path)
    picture = sorted((source / "pics").iterdir())[3]
    data = bytearray(picture.read_bytes())
    data[-3] ^= 1
    picture.write_bytes(data)
    with pytest.raises(UsageError, match=f"{picture.name}: has changed since .* though its size has not"):
        count_and_bag(source, tmp_path)


def test_pictures_are_refused_one_by_one_and_nothing_is_lost(pictures: Pictures, tmp_path: Path) -> None:
    source = write(csv_of_paths, pictures, tmp_path / "in")
    gone, broken, *_ = sorted((source / "pics").iterdir())
    os.unlink(gone)
    broken.write_bytes(b"no picture")
    data = count_and_bag(source, tmp_path)
    stats = json.loads((data / "stats.json").read_text())
    assert (stats["rows"], stats["kept"], stats["refused"]) == (120, 118, {"bad_image": 1, "no_image": 1})
    assert {(row["reason"], row["place"]) for row in rows(data, "dead_letters")} == {
        ("no_image", f"pics/{gone.name}"),
        ("bad_image", f"pics/{broken.stem}"),
    }
