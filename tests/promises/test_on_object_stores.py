"""P1, P2, P3, P6 and P7 where the output lies in an object store.

Conditions: a store that shows an object only when it is whole. Here a store of this process; the slow tests, and
those in tests/pipelines/test_s3_out.py, write to a server of the S3 protocol.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from fistful.bow.store.folders import entries, folder_at
from fistful.bow.store.manifest import verify
from fistful.errors import DataError, MachineError, UsageError
from fistful.pipelines import bags as bags_job
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from tests.support.job import PLAN, SOURCE, run_job
from tests.support.object_store import check_halfway_in, contents_of, empty_bucket, note_requests


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of this process, which shows an object only when it is whole; by itself fsspec's shows it empty at first."""

    def put_file(system: MemoryFileSystem, place: Path, name: str, **_: object) -> None:
        system.pipe_file(name, Path(place).read_bytes())

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    return empty_bucket("promises")


def test_a_store_gets_the_bytes_of_a_local_folder(bucket: str, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    run_job(inputs, bucket)
    assert contents_of(bucket) == undisturbed
    assert verify(f"{bucket}/bags") == []


@pytest.fixture
def same_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose clock is ours, so that inputs made a moment ago are older than what was made of them."""
    monkeypatch.setattr("fistful.pipelines.engine.unchanged.STORE_CLOCK_NS", 0)


def requests_of(again: Callable[[str], None], bucket: str, inputs: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """What is asked when a job of a few units, and one of many, is run once more, after `again` has done its part."""
    asked = []
    for unit_mb in (0.05, 0.01):
        out, config = f"{bucket}/{unit_mb}", CountConfig(plan=PlanOptions(unit_mb=unit_mb), source=SOURCE, running=Running(progress=False))
        count(str(inputs[0]), out=out, config=config)
        again(out)
        with monkeypatch.context() as patch:
            noted = note_requests(patch)
            count(str(inputs[0]), out=out, config=config)
        asked.append(Counter([*(name for name, _ in noted), *["units"] * len(entries(folder_at(out) / "stats"))]))
    assert asked[1]["units"] >= 3 * asked[0]["units"]
    return asked


def test_what_is_asked_of_a_store_to_find_a_job_done_does_not_grow_with_its_units(
    bucket: str, inputs: list[Path], same_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = requests_of(lambda out: None, bucket, inputs, monkeypatch)
    assert {**few, "units": 0} == {**many, "units": 0}
    assert few["ls"] <= 2


def test_a_job_that_goes_on_lists_a_few_times_and_fetches_what_units_say_to_add_it_up(
    bucket: str, inputs: list[Path], same_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_one(out: str) -> None:
        for name in ("manifest.json", "stats/00001.json"):
            (folder_at(out) / name).unlink()

    few, many = requests_of(lose_one, bucket, inputs, monkeypatch)
    for kind in ("ls", "find", "info", "put_file"):
        assert (kind, few[kind]) == (kind, many[kind])
    assert few["ls"] <= 4
    assert many["cat_file"] <= 2 * many["units"] + 10


def test_closing_a_folder_fetches_nothing_that_units_wrote(bucket: str, inputs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    noted = note_requests(monkeypatch)
    run_job(inputs, bucket)
    put = [name for what, name in noted if what == "put_file"]
    fetched = {name for what, name in noted if what in ("cat_file", "open", "get_file")}
    assert len(put) == len({*put})
    assert [name for name in fetched if "/shards/" in name or "/index/" in name or "/dead_letters/" in name] == []


def test_another_configuration_is_refused(bucket: str, inputs: list[Path]) -> None:
    run_job(inputs, bucket)
    with pytest.raises(UsageError, match="belongs to another configuration"):
        count(str(inputs[0]), out=f"{bucket}/counts", config=CountConfig(plan=PLAN, source=SOURCE, running=Running(progress=False)))


def test_a_changed_byte_is_found(bucket: str, inputs: list[Path]) -> None:
    run_job(inputs, bucket)
    for name in ("shards/00003.tar", "stats/00002.json", "config.json", "manifest.json", "index/00000.parquet"):
        data = (folder_at(f"{bucket}/bags") / name).read_bytes()
        put, place = fsspec.filesystem("memory").pipe_file, f"/promises/bags/{name}"
        put(place, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        assert [name, len(verify(f"{bucket}/bags"))] == [name, 1]
        put(place, data)


def test_counts_that_changed_are_refused(bucket: str, inputs: list[Path]) -> None:
    run_job(inputs, bucket)
    fsspec.filesystem("memory").pipe_file("/promises/counts/vocabulary.parquet", b"other")
    config = BagsConfig(plan=PLAN, source=SOURCE, running=Running(progress=False))
    with pytest.raises(DataError, match=f"^{bucket}/counts/vocabulary.parquet: is not the file that manifest.json names; fistful verify"):
        bags(str(inputs[0]), counts=f"{bucket}/counts", out=f"{bucket}/other", config=config)


def test_an_input_that_changed_is_named(bucket: str, tmp_path: Path) -> None:
    source, config = tmp_path / "a.tsv", CountConfig(source=SourceOptions(caption="1"), running=Running(progress=False))
    source.write_bytes(b"a dog\n" * 100)
    count(str(source), out=bucket, config=config)
    source.write_bytes(b"a cat\n" * 100)
    with pytest.raises(UsageError, match=f"^{source}: has changed since {bucket} was made from it"):
        count(str(source), out=bucket, config=config)


def test_two_jobs_at_once_do_no_harm(bucket: str, inputs: list[Path], undisturbed: dict[str, bytes]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            run_job(inputs, bucket)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert contents_of(bucket) == undisturbed


def test_while_a_store_takes_a_shard_the_next_unit_is_worked_on(
    bucket: str, inputs: list[Path], undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, open_unit, opened, waited = MemoryFileSystem.put_file, bags_job.open_unit, threading.Semaphore(0), list[bool]()

    def opens(*arguments: Any) -> Any:
        opened.release()
        return open_unit(*arguments)

    def waits(self: MemoryFileSystem, local: str, name: str, **more: Any) -> None:
        if name.endswith(".tar") and not waited:
            waited.append(opened.acquire(timeout=30) and opened.acquire(timeout=30))  # its own unit's, and the next one's
        put(self, local, name, **more)

    monkeypatch.setattr(bags_job, "open_unit", opens)
    monkeypatch.setattr(MemoryFileSystem, "put_file", waits)
    run_job(inputs, bucket)
    assert waited == [True]
    assert contents_of(bucket) == undisturbed


def test_a_store_that_goes_away_at_any_write_ends_the_job_and_the_same_command_goes_on(
    bucket: str, inputs: list[Path], undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, n = MemoryFileSystem.put_file, 0

    def fails(self: MemoryFileSystem, *arguments: Any, **more: Any) -> None:
        nonlocal n
        n += 1
        if n % 13 == 0:
            raise ConnectionResetError("http://inner.host/")
        put(self, *arguments, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", fails)
    said: list[str] = []
    while len(said) < 20 and contents_of(bucket) != undisturbed:
        try:
            run_job(inputs, bucket)
        except MachineError as error:
            said.append(str(error))
        check_halfway_in(bucket, undisturbed)
    assert len(said) > 3
    assert [line for line in said if "the store does not answer as it should" not in line or "inner" in line] == []
    assert contents_of(bucket) == undisturbed
