"""Shards on their way from a bucket to the disk, in bounded room."""

from __future__ import annotations

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from fistful.bow.draw import mix_all
from fistful.bow.store import manifest
from fistful.bow.store.folders import folder_at
from fistful.bow.store.identity import sha256_hex
from fistful.bow.store.objects import StorePath
from fistful.errors import DataError, UsageError
from fistful.training.data import order
from fistful.training.data.reading import read_samples
from fistful.training.data.samples import Shard, Stored
from fistful.training.data.shard_cache import check_room, fetched_ahead, find_stored, gigabytes, tidy
from fistful.training.job import make_order
from fistful.training.train_config import changed, resolve, train_config
from tests.support.data_folder import make_data
from tests.support.object_store import empty_bucket, put_all

SIZES = (100, 200, 300, 400, 500, 600, 700, 800)


@pytest.fixture
def stored(tmp_path: Path) -> dict[Shard, Stored]:
    """Eight shards in a bucket, of 100 to 800 bytes."""
    bucket, found = empty_bucket("shards"), {}
    for unit, size in enumerate(SIZES):
        data = bytes([unit]) * size
        fsspec.filesystem("memory").pipe_file(f"/shards/shards/{unit:05d}.tar", data)
        path = folder_at(bucket) / f"shards/{unit:05d}.tar"
        found[0, unit] = Stored(path, tmp_path / f"shards/{unit}.tar", size, sha256_hex(data))
    return found


def needs(*batches: str) -> list[set[Shard]]:
    """What batches need: digits are units."""
    return [{(0, int(unit)) for unit in batch} for batch in batches]


def there(stored: dict[Shard, Stored]) -> str:
    return "".join(str(unit) for (_, unit), each in sorted(stored.items()) if each.is_whole())


def test_what_a_batch_needs_is_there_when_its_turn_has_come(stored: dict[Shard, Stored]) -> None:
    plan = needs("01", "12", "2", "34")
    with fetched_ahead(stored, 10_000, plan.__getitem__, range(4)) as wait_for:
        for batch, wanted in enumerate(plan):
            wait_for(batch)
            assert all(stored[shard].is_whole() for shard in wanted)
    assert stored[0, 3].local.read_bytes() == bytes([3]) * 400


def test_those_go_first_whose_last_batch_is_longest_ago(stored: dict[Shard, Stored]) -> None:
    plan = needs("0", "1", "0", "2", "3", "3")
    with fetched_ahead(stored, 100 + 200 + 300, plan.__getitem__, range(6)) as wait_for:
        for batch in range(4):
            wait_for(batch)
        assert there(stored) == "012"
        wait_for(4)  # 400 bytes: 1 goes first, then 0, and 2 last
    assert there(stored) == "3"


@pytest.mark.parametrize("seed", range(8))
def test_the_room_is_never_exceeded_whatever_comes(stored: dict[Shard, Stored], seed: int, tmp_path: Path) -> None:
    draws = (mix_all(seed, np.arange(200)) % np.uint64(8)).tolist()
    plan = [{(0, int(unit)) for unit in draws[start : start + 2]} for start in range(0, 200, 2)]
    room = 1_500 + int(mix_all(seed, 1) % np.uint64(1_200))
    with fetched_ahead(stored, room, plan.__getitem__, range(len(plan))) as wait_for:
        for batch, wanted in enumerate(plan):
            wait_for(batch)
            assert all(stored[shard].is_whole() for shard in wanted)
            assert sum(path.stat().st_size for path in (tmp_path / "shards").glob("*.tar")) <= room  # nobody else removes any


def test_a_batch_that_does_not_fit_is_refused(stored: dict[Shard, Stored]) -> None:
    plan = needs("0", "67")
    with fetched_ahead(stored, 1_000, plan.__getitem__, range(2)) as wait_for:
        wait_for(0)
        with pytest.raises(UsageError, match=r"^--cache-gb 1e-06: shards of 0\.0000015 GB are needed at a time; give --cache-gb 0\.00"):
            wait_for(1)


def test_a_shard_that_changed_is_told_when_its_batch_has_come(stored: dict[Shard, Stored]) -> None:
    fsspec.filesystem("memory").pipe_file("/shards/shards/00001.tar", b"other")
    plan = needs("0", "0", "1")
    with fetched_ahead(stored, 10_000, plan.__getitem__, range(3)) as wait_for:
        wait_for(0)
        wait_for(1)
        with pytest.raises(
            DataError, match=r"^memory://shards/shards/00001\.tar: is not the file that manifest\.json names; fistful verify"
        ):
            wait_for(2)
    assert there(stored) == "0"


def test_what_lies_there_already_is_not_fetched(stored: dict[Shard, Stored]) -> None:
    with fetched_ahead(stored, 10_000, needs("01").__getitem__, range(1)) as wait_for:
        wait_for(0)
    for unit in (0, 1):
        (folder_at("memory://shards") / f"shards/{unit:05d}.tar").unlink()
    with fetched_ahead(stored, 10_000, needs("01", "2").__getitem__, range(2)) as wait_for:
        wait_for(0)
        wait_for(1)
    assert there(stored) == "012"


def test_two_processes_fetch_each_shard_once(stored: dict[Shard, Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    fetched, fetch = Counter[str](), StorePath.fetch

    def note(path: StorePath, file: Any) -> None:
        fetched[path.name] += 1
        fetch(path, file)

    def run(plan: list[set[Shard]]) -> None:
        with fetched_ahead(stored, 10_000, plan.__getitem__, range(len(plan))) as wait_for:
            for batch, wanted in enumerate(plan):
                wait_for(batch)
                assert all(stored[shard].is_whole() for shard in wanted)

    monkeypatch.setattr(StorePath, "fetch", note)
    with ThreadPoolExecutor(2) as ranks:  # locks are those of open files, so threads stand for processes
        [*ranks.map(run, [needs("01", "23", "45", "67"), needs("67", "01", "45", "23")])]
    assert fetched == dict.fromkeys([f"{unit:05d}.tar" for unit in range(8)], 1)


def test_half_a_shard_and_those_of_other_data_are_removed(stored: dict[Shard, Stored], tmp_path: Path) -> None:
    with fetched_ahead(stored, 10_000, needs("01").__getitem__, range(1)) as wait_for:
        wait_for(0)
    stored[0, 0].local.write_bytes(b"half")
    (tmp_path / "shards/other.tar").write_bytes(b"other")
    (tmp_path / "shards/logs/tmp/part").write_bytes(b"part")
    tidy(tmp_path / "shards", stored)
    assert sorted(path.name for path in (tmp_path / "shards").rglob("*")) == ["1.tar"]


def test_a_manifest_that_does_not_name_a_shard_is_told(tmp_path: Path) -> None:
    here = Path(make_data(tmp_path / "bags"))
    (here / "shards/00001.tar").unlink()
    (here / "manifest.json").unlink()
    manifest.finish(here, {}, {})
    bags = put_all(here, f"{empty_bucket('training')}/bags")
    with pytest.raises(DataError) as raised:
        find_stored(read_samples((bags,)), tmp_path / "shards")
    assert str(raised.value) == (
        f"{bags}/shards/00001.tar: is not in manifest.json, though the index names it; fistful verify {bags} tells what else changed"
    )


def test_several_processes_share_a_cache_only_if_it_holds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WINDOW", 8)
    bags = put_all(Path(make_data(tmp_path / "bags", n=96, units=12)), f"{empty_bucket('training')}/bags")
    samples = read_samples((bags,))
    samples = dataclasses.replace(samples, stored=find_stored(samples, tmp_path / "run/logs/shards"))
    config = resolve(train_config(order="shards", batch_size=8, cache_gb=0.0002))
    shown = make_order(config, samples, samples.left_out)
    check_room(config, samples, shown)
    total = gigabytes(sum(each.size for each in samples.stored.values()))
    with pytest.raises(UsageError) as raised:
        check_room(changed(config, world_size=2), samples, shown)
    assert str(raised.value) == (
        "--cache-gb 0.0002: several processes share a cache only if it holds all shards; "
        f"give --cache-gb {total}, or copy the data to disk first"
    )
    check_room(changed(config, world_size=2, cache_gb=float(total)), samples, shown)
