"""Batches on the device that computes, the next one sent while a step still runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from .loader import Batch

QUEUED = 2
"""Steps that a GPU has been given and not begun, at most: enough that it never runs dry, few enough that their batches fit in."""


def on_device(batches: Iterator[Batch], device: str) -> Iterator[Batch]:
    """Yield batches with their tensors on a device.

    A GPU copies a batch from pinned memory in a stream of its own, beside the step before. Nobody waits for either: the program is
    ahead of the GPU, by no more than some steps.

    Args:
        batches: As the loader makes them.
        device: cpu, or cuda:NUMBER.
    """
    if device == "cpu":
        yield from batches
        return
    copies, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    ends: deque[Any] = deque()
    for batch in batches:
        if len(ends) > QUEUED:
            ends.popleft().synchronize()  # of a step that others wait behind: the GPU has work all the while
        with torch.cuda.stream(copies):
            sent = batch.moved(lambda tensor: tensor.to(device, non_blocking=True))
        computing.wait_stream(copies)
        sent.moved(lambda tensor: _used_in(tensor, computing))
        yield sent
        ends.append(computing.record_event())


def _used_in(tensor: torch.Tensor, stream: torch.cuda.Stream) -> torch.Tensor:
    """Keep the tensor's memory from being used again before the stream is done with it."""
    tensor.record_stream(stream)
    return tensor
