"""An encoder for runs that share a frozen image tower: each picture goes through the tower once, whichever run asks.

Named to the verbs as a factory, `benchmarks.photos_tower:shared {"run": "RUN"}`: five texts in five seeds are
25 runs on one tower, and the tower is nearly all of the time.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fistful.training.export import Exported, read_model
from fistful.training.model import normalise, splits
from fistful.training.tokens import in_passes
from fistful.training.towers import TowerEncoder, own_encoder

if TYPE_CHECKING:
    from PIL import Image


def shared(run: str) -> SharedTower:
    """Return the encoder of a run whose tower is frozen."""
    folder = Path(run) / "model"
    exported, own = read_model(folder), own_encoder(folder, run)
    assert exported.lineage.train_image == "none", run
    assert splits(exported.model.image_tower), run
    features = Features(exported, own.preprocess, kept(_digest(exported)))
    scores = functools.partial(_word_scores, exported, features) if own.words is not None else None
    return SharedTower(own.name, own.fingerprint, own.image_size, None, own.saw_imagenet_labels, own.words, scores, own, features)


@functools.lru_cache(maxsize=2)
def kept(tower: str) -> dict[bytes, np.ndarray]:  # noqa: ARG001 - what it is kept by
    """Return the features kept of a tower in this process, by the pictures' content."""
    return {}


@dataclasses.dataclass(frozen=True, slots=True)
class Features:
    """What the frozen tower makes of pictures."""

    exported: Exported
    preprocess: dict
    known: dict[bytes, np.ndarray]

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        """Return float32 (n, F) of uint8 (n, H, W, 3)."""
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        new = [i for i, key in enumerate(keys) if key not in self.known]
        if new:
            model, mean, std = self.exported.model, self.preprocess["mean"], self.preprocess["std"]
            parts = torch.from_numpy(images[new])
            found = in_passes(lambda part: model.frozen_features(normalise(part, mean, std)), parts, model.n_channels)
            self.known.update(zip((keys[i] for i in new), found, strict=True))
        return torch.from_numpy(np.stack([self.known[key] for key in keys]))


@dataclasses.dataclass(slots=True)
class SharedTower:
    """A run's own encoder, but for the way to the tower's features."""

    name: str
    fingerprint: str
    image_size: int
    context_length: int | None
    saw_imagenet_labels: bool | None
    words: list[str] | None
    word_scores: Callable[[np.ndarray], np.ndarray] | None
    own: TowerEncoder
    features: Features

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture to uint8 (H, W, 3)."""
        return self.own.prepare(image)

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (n, d) of length 1 for uint8 (n, H, W, 3)."""
        with torch.inference_mode():
            return self.features.exported.model.finish(self.features(images))[1].numpy()

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, d) of length 1, or 0."""
        return self.own.embed_texts(texts)

    def n_cut(self, texts: list[str]) -> int:
        """Return how many of the texts lose their end."""
        return self.own.n_cut(texts)


def _word_scores(exported: Exported, features: Features, images: np.ndarray) -> np.ndarray:
    model = exported.model
    assert model.head is not None
    with torch.inference_mode():
        return ((model.head(model.finish(features(images))[0]) - exported.head_mean) / exported.head_std).numpy()


def _digest(exported: Exported) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(exported.model.image_tower.trunk.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
