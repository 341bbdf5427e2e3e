"""Training on data folders that lie in a bucket: the same batches and weights as from the disk."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from fistful.bow.store import manifest
from fistful.bow.store.folders import folder_at
from fistful.bow.store.objects import StorePath
from fistful.errors import DataError, Interrupted, MachineError, UsageError
from fistful.training import loop
from fistful.training.data import order, shard_cache
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import add_likely, make_data
from tests.support.folders import contents
from tests.support.object_store import empty_bucket, put_all

QUICK = {
    "steps": 6,
    "batch_size": 8,
    "warmup": 1,
    "threads": 1,
    "progress": False,
    "text": "bag",
    "text_tower": "words",
    "checkpoint_every": 2,
}
UNITS = 12


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder of many shards, on disk."""
    return make_data(tmp_path_factory.mktemp("data") / "bags", n=96, units=UNITS)


@pytest.fixture
def there(here: str) -> str:
    """The same folder in a bucket of this process."""
    return put_all(Path(here), f"{empty_bucket('training')}/bags")


def sizes(folder: str) -> list[int]:
    return sorted(path.stat().st_size for path in Path(folder).glob("shards/*.tar"))


def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffle 8 samples together, a shard of ours, so that few shards are needed at a time."""
    monkeypatch.setattr(order, "WINDOW", 8)


def note_fetches(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on how often each object is fetched."""
    noted, fetch = Counter[str](), StorePath.fetch

    def note(path: StorePath, file: Any) -> None:
        noted[path.name] += 1
        fetch(path, file)

    monkeypatch.setattr(StorePath, "fetch", note)
    return noted


def test_training_from_a_bucket_gives_the_bytes_of_training_from_the_disk(here: str, there: str, tmp_path: Path) -> None:
    run = train(there, out=tmp_path / "there", config=train_config(**QUICK))
    assert contents(run) == contents(train(here, out=tmp_path / "here", config=train_config(**QUICK)))
    assert not (run / "logs/shards").exists()


def test_every_shard_is_fetched_once_where_the_cache_holds_all(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = note_fetches(monkeypatch)
    train(there, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 14}))
    assert noted == dict.fromkeys([f"{unit:05d}.tar" for unit in range(UNITS)], 1)


def test_a_small_cache_is_enough_where_shards_are_read_one_after_another(
    here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch)
    room, most = sum(sizes(here)[-4:]), []
    step = loop.step

    def look(*arguments: Any) -> Any:
        with contextlib.suppress(FileNotFoundError):  # one was removed at this very moment
            most.append(sum(path.stat().st_size for path in (tmp_path / "there/logs/shards").glob("*.tar")))
        return step(*arguments)

    monkeypatch.setattr(loop, "step", look)
    options = {**QUICK, "order": "shards", "steps": 16, "cache_gb": room / 1e9, "cache_mb": 0}
    run = train(there, out=tmp_path / "there", config=train_config(**options))
    assert 0 < max(most) <= room < sum(sizes(here))
    monkeypatch.setattr(loop, "step", step)
    assert contents(run) == contents(train(here, out=tmp_path / "here", config=train_config(**options)))


def test_a_cache_smaller_than_the_data_is_refused_for_a_random_order(
    here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch)
    config = train_config(**QUICK, cache_gb=1e-4)
    with pytest.raises(UsageError) as raised:
        train(there, out=tmp_path / "run", config=config)
    total, in_order = shard_cache.gigabytes(sum(sizes(here))), shard_cache.gigabytes(sum(sizes(here)[-4:]))
    assert str(raised.value) == (
        f"--cache-gb 0.0001: with --order samples any shard may come next, all of them have {total} GB; "
        f"give --cache-gb {total}, or --order shards, for which {in_order} are enough"
    )
    train(there, out=tmp_path / "other", config=train_config(**QUICK, order="shards", cache_gb=float(in_order)))
    train(there, out=tmp_path / "run", config=train_config(**QUICK, cache_gb=float(total)))


def test_a_cache_that_holds_no_window_of_shards_is_refused(here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    least = shard_cache.gigabytes(sum(sizes(here)[-4:]))
    said = f"--cache-gb 1e-05: shards of {least} GB are needed at a time; give --cache-gb {least} or more"
    with pytest.raises(UsageError, match=f"^{said}$"):
        train(there, out=tmp_path / "run", config=train_config(**QUICK, order="shards", cache_gb=1e-5))


def test_a_disk_without_the_room_is_told_before_the_first_step(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = train(there, out=tmp_path / "done", config=train_config(**QUICK))
    monkeypatch.setattr(shard_cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000}))
    with pytest.raises(UsageError, match=r"^--cache-gb 100: .*/run/logs/shards has room for 1e-06 GB more, 0\.\d+ are needed"):
        train(there, out=tmp_path / "run", config=train_config(**QUICK))
    assert train(there, out=done, config=train_config(**QUICK)) == done  # a finished run needs none


def change(url: str, name: str, how: Callable[[bytes], bytes]) -> None:
    system, place = fsspec.filesystem("memory"), f"{url.removeprefix('memory:/')}/{name}"
    system.pipe_file(place, how(system.cat_file(place)))


@pytest.mark.parametrize("how", [lambda data: data[:-9] + b"x" + data[-8:], lambda data: data[:-512], lambda data: data + b"more"])
def test_a_shard_that_changed_is_named(there: str, tmp_path: Path, how: Callable[[bytes], bytes]) -> None:
    change(there, "shards/00003.tar", how)
    said = f"{there}/shards/00003.tar: is not the file that manifest.json names; fistful verify {there} tells what else changed"
    with pytest.raises(DataError, match=f"^{said}$"):
        train(there, out=tmp_path / "run", config=train_config(**QUICK))


def test_a_shard_that_is_missing_is_named(there: str, tmp_path: Path) -> None:
    (folder_at(there) / "shards/00003.tar").unlink()
    said = f"{there}/shards/00003.tar: missing, though manifest.json names it; fistful verify {there} tells what else changed"
    with pytest.raises(DataError, match=f"^{said}$"):
        train(there, out=tmp_path / "run", config=train_config(**QUICK))


def test_a_store_that_goes_away_ends_the_run_and_the_same_call_goes_on(
    here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch)
    options = {**QUICK, "order": "shards", "steps": 14, "cache_gb": sum(sizes(here)[-4:]) / 1e9}
    opened, open_it = Counter[str](), MemoryFileSystem._open

    def fails(system: MemoryFileSystem, path: str, *arguments: Any, **more: Any) -> Any:
        opened["shards"] += "/shards/" in path
        if "/shards/" in path and opened["shards"] % 8 == 0:
            raise ConnectionResetError("http://inner.host/")
        return open_it(system, path, *arguments, **more)

    monkeypatch.setattr(MemoryFileSystem, "_open", fails)
    said: list[str] = []
    while len(said) < 20 and not (tmp_path / "run/manifest.json").exists():
        try:
            train(there, out=tmp_path / "run", config=train_config(**options))
        except MachineError as error:
            said.append(str(error))
    assert len(said) > 1
    end = ".tar: the store does not answer as it should, however often it is asked (ConnectionResetError); once that is put right, "
    assert [line for line in said if not line.startswith(f"{there}/shards/") or end not in line] == []
    assert contents(tmp_path / "run") == contents(train(here, out=tmp_path / "here", config=train_config(**options)))


def test_a_run_that_was_stopped_fetches_only_what_is_not_there(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, stops = loop.step, [4]

    def stopped(model: Any, batch: Any, objectives: Any, optimizer: Any, setting: Any, stop: threading.Event) -> Any:
        if [batch.step] == stops:
            stop.set()
            stops.clear()
        return take(model, batch, objectives, optimizer, setting, stop)

    monkeypatch.setattr(loop, "step", stopped)
    with pytest.raises(Interrupted):
        train(there, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 14}))
    left = tmp_path / "run/logs/shards"
    assert len([*left.glob("*.tar")]) == UNITS
    (left / "logs/tmp/part").write_bytes(b"half")
    victim = sorted(left.glob("*.tar"))[5]
    victim.write_bytes(victim.read_bytes()[:-1])
    noted = note_fetches(monkeypatch)
    train(there, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 14}))
    assert noted == {"00005.tar": 1}


def test_a_run_that_began_on_a_bucket_goes_on_on_the_disk(here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = loop.step

    def stopped(model: Any, batch: Any, objectives: Any, optimizer: Any, setting: Any, stop: threading.Event) -> Any:
        stop.set()
        return take(model, batch, objectives, optimizer, setting, stop)

    monkeypatch.setattr(loop, "step", stopped)
    with pytest.raises(Interrupted):
        train(there, out=tmp_path / "run", config=train_config(**QUICK))
    monkeypatch.setattr(loop, "step", take)
    run = train(here, out=tmp_path / "run", config=train_config(**QUICK))
    assert contents(run) == contents(train(here, out=tmp_path / "here", config=train_config(**QUICK)))


def test_holdout_exclude_and_labels_work_as_on_disk(here: str, there: str, tmp_path: Path) -> None:
    labels = add_likely(make_data(tmp_path / "labels", n=24, pseudo=True), lambda row: ([row % 4], [0.5]))
    (Path(labels) / "manifest.json").unlink()
    manifest.finish(Path(labels), {}, {})
    (tmp_path / "keys").write_text("00001_0000001\n")
    config = train_config(**QUICK, holdout=0.3, exclude=str(tmp_path / "keys"))
    run = train(f"{there}*2", put_all(Path(labels), f"{there.rpartition('/')[0]}/labels"), out=tmp_path / "there", config=config)
    assert contents(run) == contents(train(f"{here}*2", labels, out=tmp_path / "here", config=config))


def test_a_bucket_and_the_disk_go_together(here: str, there: str, tmp_path: Path) -> None:
    more = make_data(tmp_path / "more", n=24)
    run = train(there, more, out=tmp_path / "there", config=train_config(**QUICK))
    assert contents(run) == contents(train(here, more, out=tmp_path / "here", config=train_config(**QUICK)))


def test_a_frozen_tower_needs_room_for_one_shard(here: str, there: str, tmp_path: Path) -> None:
    options = {**QUICK, "init": "tests.support.pretrained:small", "train_image": "none", "cache_gb": sizes(here)[-1] / 1e9}
    run = train(there, out=tmp_path / "there", config=train_config(**options))
    assert contents(run) == contents(train(here, out=tmp_path / "here", config=train_config(**options)))


def test_what_stands_in_for_a_broken_picture_is_read_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    here = make_data(tmp_path / "bags", n=96, units=UNITS, broken=range(0, 96, 5))
    there = put_all(Path(here), f"{empty_bucket('training')}/bags")
    options = {**QUICK, "order": "shards", "steps": 14, "cache_gb": sum(sizes(here)[-4:]) / 1e9}
    run = train(there, out=tmp_path / "there", config=train_config(**options))
    assert contents(run) == contents(train(here, out=tmp_path / "here", config=train_config(**options)))


def test_tars_of_others_in_a_bucket_are_refused(there: str, tmp_path: Path) -> None:
    said = f"{there}/shards: of a bucket, train reads folders that fistful bags or label wrote \\(found no config.json\\); fistful bags mak"
    with pytest.raises(UsageError, match=f"^{said}"):
        train(f"{there}/shards", out=tmp_path / "run", config=train_config(**QUICK))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("memory://training/nowhere", "memory://training/nowhere: no such folder"),
        ("https://host/bags", "https://host/bags: is no folder that fistful may write or read; expected one on disk, or an object store's"),
        ("s3://k:s@bucket/x", "s3://bucket/x: has more than PROTOCOL://BUCKET/NAME; keys come from the environment, not from the URL"),
    ],
)
def test_what_is_no_data_folder_is_refused_by_name(tmp_path: Path, data: str, says: str) -> None:
    empty_bucket("training")
    with pytest.raises(UsageError) as raised:
        train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert str(raised.value).startswith(says)


def test_weights_to_start_from_may_lie_in_a_bucket(here: str, tmp_path: Path) -> None:
    first = train(here, out=tmp_path / "first", config=train_config(**{**QUICK, "text_tower": "transformer"}))
    stored = put_all(first, f"{empty_bucket('training')}/first")
    options = {**QUICK, "text_tower": "transformer", "init_towers": "both", "train_image": "last"}
    run = train(here, out=tmp_path / "there", config=train_config(**options, init=stored))
    alone = train(here, out=tmp_path / "here", config=train_config(**options, init=str(first)))
    assert contents(run)["model/open_clip_model.safetensors"] == contents(alone)["model/open_clip_model.safetensors"]


@pytest.mark.parametrize(("option", "says"), [("features", "features lie on the disk"), ("word_vectors", "is read from the disk; copy")])
def test_folders_of_other_options_are_refused_in_a_bucket(here: str, tmp_path: Path, option: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"^--{option.replace('_', '-')} memory://training/x: {says}"):
        train(here, out=tmp_path / "run", config=train_config(**QUICK, **{option: "memory://training/x"}))
