"""Classifiers kept on disk by hash: the same prompts are not shown to the same text tower again.

A file that is broken counts as missing, and is written anew. Where files lie decides nothing: what is kept is
what would be computed.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fistful.bow.store.files import write_bytes
from fistful.bow.store.identity import canonical_json, sha256_hex, versions_of
from fistful.training.device import device_named

FORMAT = 1
"""Part of every key: another way to build classifiers leaves older files behind."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds."""

    weights: np.ndarray
    """(C, D) float32."""
    n_cut: int
    """Prompts longer than the text tower's context."""


def weights_key(fingerprint: str, texts: Sequence[Sequence[str]], device: str = "cpu") -> str:
    """Name a classifier: by its model, the prompts of each class, the device and the versions that compute it.

    >>> weights_key("c" * 64, [["cat"], ["dog"]]) == weights_key("c" * 64, [["cat", "dog"]])
    False
    """
    versions = versions_of("fistful", "numpy", "torch", "open_clip_torch")
    named = {"format": FORMAT, "model": fingerprint, "texts": texts, "versions": versions, "device": device}
    return sha256_hex(canonical_json(device_named(named)))


def weights_path(folder: Path, key: str) -> Path:
    """Return where a classifier lies."""
    return folder / f"{key}.weights"


def read_weights(folder: Path, key: str) -> Kept | None:
    """Return what is kept under a key, None if nothing is.

    Raises:
        ValueError: If its file is broken.
    """
    path = weights_path(folder, key)
    if not path.is_file():
        return None
    head, _, body = path.read_bytes().partition(b"\n")
    digest, _, n_cut = head.decode("ascii", "replace").partition(" ")
    if digest != _digest(n_cut, body):
        raise ValueError(f"{path}: is broken")
    return Kept(np.load(io.BytesIO(body), allow_pickle=False), int(n_cut))


def write_weights(folder: Path, key: str, kept: Kept) -> None:
    """Keep a classifier, whole or not at all: a line with a digest, then numpy's own format."""
    body = io.BytesIO()
    np.save(body, kept.weights, allow_pickle=False)
    head = f"{_digest(str(kept.n_cut), body.getvalue())} {kept.n_cut}\n"
    write_bytes(folder, weights_path(folder, key).name, head.encode() + body.getvalue())


def _digest(n_cut: str, body: bytes) -> str:
    return sha256_hex(n_cut.encode() + b"\n" + body)
