"""What holds while a run goes on: a lock on its folder, torch's settings, signals that stop it."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.utils.deterministic as memory

from fistful.errors import UsageError

from .device import keep_freed_memory
from .distributed import Ranks

LOCK = "logs/lock"


@contextlib.contextmanager
def locked(run: Path, ranks: Ranks) -> Iterator[None]:
    """Keep other calls of train away from the run folder; of ranks, the first does."""
    path = run / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:

        def lock() -> None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{run}: another train is at work on this run folder; wait for it, or choose another --out") from None

        ranks.by_first(lock)
        yield


@contextlib.contextmanager
def torch_settings(threads: int, seed: int, device: str) -> Iterator[None]:
    """Set threads, determinism and torch's seed for the block, and put all but the seed back after it."""
    before, deterministic, fill = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    keep_freed_memory()
    torch.set_num_threads(threads)
    memory.fill_uninitialized_memory = False  # took 12 % of a step of tiny-resnet, and guards against reading what was never written
    torch.use_deterministic_algorithms(device == "cpu")  # on a GPU some pooling has no deterministic form
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = fill


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and SIGINT into an event while the block runs (in the main thread; elsewhere they stay as they are)."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
