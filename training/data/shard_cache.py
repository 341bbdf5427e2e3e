"""Shards of data folders in a bucket, on the local disk: fetched whole, ahead of the batches that need them, in bounded room.

Which batch needs which shards is known beforehand (order.py). So one thread plans and waits, without a lock: a shard is asked
for as soon as there is room for it, and goes when the room is needed and no batch that was planned needs it any more.
What a shard must be, its folder's manifest says.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from fistful.bow.store.files import HashingWriter, atomic_file
from fistful.bow.store.folders import in_store
from fistful.bow.store.index import unit_name
from fistful.bow.store.manifest import MANIFEST, read_manifest
from fistful.errors import DataError, UsageError

from ..train_config import TrainConfig
from . import order as orders
from .order import Order, Stream
from .samples import Shard, Stored, TrainingSamples

FETCHERS = 8
"""Shards that are fetched at a time."""
LOOK_AHEAD = 1_000
"""Batches that are planned ahead at most."""
PLANNED_AT_ONCE = 64
"""Of these at most so many from one batch to the next, so that no batch waits long for planning."""

Needs = Callable[[int], set[Shard]]
"""Which shards a batch reads."""


def find_stored(samples: TrainingSamples, place: Path) -> dict[Shard, Stored]:
    """Return the shards that lie in a bucket, and where they will lie on the disk.

    Args:
        samples: Their folders and units count.
        place: Folder for shards.

    Raises:
        DataError: If a manifest is broken, or does not name a shard.
    """
    found: dict[Shard, Stored] = {}
    for number, folder in enumerate(samples.folders):
        if not in_store(folder):
            continue
        files = read_manifest(folder)["files"]
        for unit in np.unique(samples.unit[samples.folder == number]).tolist():
            name = unit_name("shards", unit, "tar")
            if name not in files:
                raise DataError(f"{folder / name}: is not in {MANIFEST}, though the index names it{_verify(folder)}")
            about = files[name]
            local = place / f"{number}-{unit:05d}-{about['sha256'][:16]}.tar"  # another content is another file
            found[number, unit] = Stored(folder / name, local, about["size"], about["sha256"])
    return found


def tidy(place: Path, stored: Mapping[Shard, Stored]) -> None:
    """Remove from a folder for shards what is none of these, such as what a kill left half-fetched."""
    whole = {each.local for each in stored.values() if each.is_whole()}
    for path in place.iterdir() if place.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in whole:
            path.unlink()


def room_of(config: TrainConfig) -> int:
    """Return how many bytes of shards may lie on the disk."""
    return round(config.run.cache_gb * 1e9)


def check_room(config: TrainConfig, samples: TrainingSamples, order: Order) -> None:
    """Check before the first step that --cache-gb holds what is needed at a time, and the disk what --cache-gb lets in.

    Raises:
        UsageError: If they do not.
    """
    stored = shown_shards(samples, order)
    if not stored:
        return
    room, total = room_of(config), sum(each.size for each in stored.values())
    asked, least = f"--cache-gb {config.run.cache_gb:g}", _least(config, samples, order)
    if room < least == total and config.data.order == "samples" and config.model.train_image != "none":
        in_order = gigabytes(min(total, _in_windows(samples, order)))
        way_out = f"give --cache-gb {gigabytes(total)}, or --order shards, for which {in_order} are enough"
        raise UsageError(f"{asked}: with --order samples any shard may come next, all of them have {gigabytes(total)} GB; {way_out}")
    if room < least:
        raise UsageError(f"{asked}: shards of {gigabytes(least)} GB are needed at a time; give --cache-gb {gigabytes(least)} or more")
    if room < total and config.run.world_size > 1:
        raise UsageError(
            f"{asked}: several processes share a cache only if it holds all shards; give --cache-gb {gigabytes(total)}, "
            "or copy the data to disk first"
        )
    place = next(iter(stored.values())).local.parent
    lacking = min(room, total) - sum(each.size for each in stored.values() if each.is_whole())
    free = shutil.disk_usage(next(path for path in place.parents if path.exists())).free
    if lacking > free:
        raise UsageError(f"{asked}: {place} has room for {free / 1e9:.3g} GB more, {gigabytes(lacking)} are needed; choose another --out")


def gigabytes(size: int) -> str:
    """Return a size in GB, two digits, rounded up: what is typed so is enough.

    >>> gigabytes(12_345_678_901), gigabytes(123_456), gigabytes(1_000_000_000)
    ('13', '0.00013', '1')
    """
    digit = 10.0 ** (math.floor(math.log10(max(size, 1))) - 1)
    return f"{np.format_float_positional(math.ceil(size / digit) * digit / 1e9, precision=12, trim='-')}"


def shown_shards(samples: TrainingSamples, order: Order) -> dict[Shard, Stored]:
    """Return those shards in a bucket of which a run shows samples."""
    if not samples.stored:
        return {}
    members = np.concatenate([order.real.members, order.pseudo.members])
    shards = np.unique(np.stack([samples.folder[members], samples.unit[members]], axis=1), axis=0).tolist()
    return {(folder, unit): samples.stored[folder, unit] for folder, unit in shards if (folder, unit) in samples.stored}


def _least(config: TrainConfig, samples: TrainingSamples, order: Order) -> int:
    """Return how many bytes of shards are needed at a time, at most."""
    sizes = [each.size for each in shown_shards(samples, order).values()]
    if config.model.train_image == "none":  # each shard is read once, from one end to the other
        return max(sizes)
    return sum(sizes) if config.data.order == "samples" else min(sum(sizes), _in_windows(samples, order))


def _in_windows(samples: TrainingSamples, order: Order) -> int:
    """Return the most bytes of shards that a batch can need where shards are read one after another.

    Its samples lie in two windows, or more if it is larger than one. These hold as many whole shards as the smallest
    ones that fit, and two that begin or end there for each folder.
    """
    window = orders.WINDOW
    reach = window * (2 + (order.batch_size - 1) // window)
    return sum(_in_reach(samples, stream, reach) for stream in (order.real, order.pseudo) if stream.per_epoch())


def _in_reach(samples: TrainingSamples, stream: Stream, reach: int) -> int:
    shards, counts = np.unique(np.stack([samples.folder[stream.members], samples.unit[stream.members]], axis=1), axis=0, return_counts=True)
    n_whole = int(np.searchsorted(np.cumsum(np.sort(counts)), reach, side="right"))
    sizes = sorted((samples.stored[f, u].size for f, u in shards.tolist() if (f, u) in samples.stored), reverse=True)
    return sum(sizes[: n_whole + 2 * len(stream.weights)])


@contextlib.contextmanager
def fetched_ahead(stored: Mapping[Shard, Stored], room: int, needs: Needs, batches: range) -> Generator[Callable[[int], None]]:
    """Fetch shards while the block runs.

    Args:
        stored: What is fetched; where there is nothing, nothing happens.
        room: Bytes that shards may take, together with those that lie there already.
        needs: Which shards a batch reads; others than these lie elsewhere.
        batches: Numbers of the batches that will come, rising.

    Yields:
        A function that waits until the shards of a batch are there, for one thread; the batches before it have been made.
        It raises DataError for a shard that is missing or changed, MachineError if the store does not answer, UsageError if
        the room does not hold the shards of one batch.
    """
    if not stored:
        yield lambda _: None
        return
    with ThreadPoolExecutor(FETCHERS) as pool:
        ahead = _Ahead(stored, room, needs, batches, pool)
        try:
            yield ahead.wait_for
        finally:
            ahead.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


class _Ahead:
    """What is planned, on its way and there."""

    def __init__(self, stored: Mapping[Shard, Stored], room: int, needs: Needs, batches: range, pool: Executor) -> None:
        self._stored, self._room, self._needs, self._batches, self._pool = stored, room, needs, batches, pool
        self._last = {shard: -1 for shard, each in stored.items() if each.is_whole()}
        """The shards that are there or on their way, each with the last planned batch that needs it."""
        self._used = sum(stored[shard].size for shard in self._last)
        self._fetches: dict[Shard, Future[None]] = {}
        self._next = batches.start
        self._needed: dict[int, set[Shard]] = {}
        """By planned batch."""
        self.stopped = threading.Event()

    def wait_for(self, batch: int) -> None:
        """Plan on, and wait until what a batch needs is there."""
        if len(self._last) == len(self._stored) and not self._fetches:
            return  # all is there, and no more comes that would need its room
        until = min(batch + LOOK_AHEAD, self._next + PLANNED_AT_ONCE)
        while self._next < self._batches.stop and (self._next <= batch or (self._next < until and len(self._last) < len(self._stored))):
            if not self._plan(batch):
                break
        for shard in sorted(self._needed.pop(batch, ())):
            if shard in self._fetches:
                self._fetches[shard].result()
                del self._fetches[shard]

    def _plan(self, now: int) -> bool:
        """Ask for what the next batch to be planned lacks; return False, and ask for nothing, if there is no room as yet."""
        if self._next not in self._needed:
            self._needed[self._next] = self._needs(self._next) & self._stored.keys()
        wanted = self._needed[self._next]
        new = sorted(wanted - self._last.keys())
        lacking = self._used + sum(self._stored[shard].size for shard in new) - self._room
        going = sorted((last, shard) for shard, last in self._last.items() if last < now and shard not in wanted) if lacking > 0 else []
        if lacking > sum(self._stored[shard].size for _, shard in going):
            if self._next > now:
                return False
            most = gigabytes(sum(self._stored[shard].size for shard in wanted))
            raise UsageError(f"--cache-gb {self._room / 1e9:g}: shards of {most} GB are needed at a time; give --cache-gb {most} or more")
        for _, shard in going:
            if lacking > 0:
                lacking -= self._stored[shard].size
                self._remove(shard)
        for shard in new:
            self._used += self._stored[shard].size
            self._fetches[shard] = self._pool.submit(_fetch, self._stored[shard], self.stopped)
        self._last.update(dict.fromkeys(wanted, self._next))
        self._next += 1
        return True

    def _remove(self, shard: Shard) -> None:
        self._stored[shard].local.unlink(missing_ok=True)
        self._used -= self._stored[shard].size
        del self._last[shard]


def _fetch(shard: Stored, stopped: threading.Event) -> None:
    folder = shard.path.parent.parent
    with _alone(shard.local.with_suffix(".lock")):
        if shard.is_whole():  # another process of this run fetched it
            return
        with atomic_file(shard.local.parent, shard.local.name) as file:
            try:
                shard.path.fetch(cast(IO[bytes], _Watched(file, shard.size, stopped)))  # pyright: ignore[reportAttributeAccessIssue]
            except FileNotFoundError:
                raise DataError(f"{shard.path}: missing, though {MANIFEST} names it{_verify(folder)}") from None
            if file.record() != {"size": shard.size, "sha256": shard.sha256}:
                raise DataError(f"{shard.path}: is not the file that {MANIFEST} names{_verify(folder)}")


def _verify(folder: Path) -> str:
    return f"; fistful verify {folder} tells what else changed"


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep the other processes of a run, which share its folder for shards, from the same shard."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Stopped(Exception):
    """Nobody waits for a shard any more."""


class _Watched:
    """A file that takes no more than it should, and nothing more once the run has stopped."""

    def __init__(self, file: HashingWriter, size: int, stopped: threading.Event) -> None:
        self._file, self._size, self._stopped = file, size, stopped

    def write(self, data: Any) -> None:
        if self._stopped.is_set():
            raise _Stopped
        if self._file.size <= self._size:  # of a longer object the hash is wrong anyway
            self._file.write(data)
