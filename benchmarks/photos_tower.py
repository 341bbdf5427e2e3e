"""An encoder for runs that share a frozen image tower: each picture goes through the tower once, whichever run asks.

Named to the verbs as a factory, `benchmarks.photos_tower:shared {"run": "RUN"}`: five texts in five seeds are
25 runs on one tower, and the tower is nearly all of the time.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import torch

from fistful.training.model.export import read_model
from fistful.training.model.tower_encoders import TowerEncoder, encoder_of
from fistful.training.model.towers import splits


def shared(run: str) -> TowerEncoder:
    """Return the encoder of a run whose tower is frozen."""
    folder = Path(run) / "model"
    exported = read_model(folder)
    tower = exported.model.image_tower
    assert exported.lineage.train_image == "none", run
    assert splits(tower), run
    tower.trunk = Remembered(tower.trunk, kept(_digest(tower.trunk)))
    return encoder_of(exported, folder, run)


@functools.lru_cache(maxsize=2)
def kept(trunk: str) -> dict[bytes, torch.Tensor]:  # noqa: ARG001 - what it is kept by
    """Return the features kept of a trunk in this process, by the pictures' content."""
    return {}


class Remembered(torch.nn.Module):
    """A frozen trunk that looks at no picture twice."""

    def __init__(self, trunk: torch.nn.Module, known: dict[bytes, torch.Tensor]) -> None:
        super().__init__()
        self._trunk, self._known = trunk, known

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return features (B, F) of normalised pictures."""
        keys = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in image_BCHW]
        if not self._known.keys() >= set(keys):
            self._known.update(zip(keys, self._trunk(image_BCHW), strict=True))
        return torch.stack([self._known[key] for key in keys])


def _digest(trunk: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
