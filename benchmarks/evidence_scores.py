"""What a run of the lab is asked: the words of Flickr8k's development photos, and classes by name, each by the cosine path.

Shapes: N pictures, F features of a frozen trunk, D embedding, V words, C classes.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fistful.bow.vocabulary import Vocabulary, read_vocabulary
from fistful.eval.sets.layouts import open_set
from fistful.eval.sets.ready import ImageTally, half_of, ready_images
from fistful.eval.tasks.tagging import by_frequency, word_precision
from fistful.training.model.export import Exported, read_model
from fistful.training.model.model import normalise
from fistful.training.model.tower_encoders import TowerEncoder, encoder_of

from .evidence_data import bags_in
from .photos_data import eval_sets, read_samples

ENOUGH = 5
"""Captions that a class's rarest word has, for the class to count as covered (PROBE: fewer leave it near chance)."""
PASS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What every run of a size of pictures is measured on."""

    seen: dict[str, torch.Tensor]
    """Of `dev` and each evaluation set: (N, F) of the frozen trunk that all runs share, or pictures, uint8 (N, H, W, 3)."""
    frozen: bool
    truth_NV: np.ndarray
    """Which words the captions of `dev` have."""
    vocabulary: Vocabulary
    """With df among all photos that may be learnt from."""
    labels: dict[str, np.ndarray]
    is_test: dict[str, np.ndarray]
    """Which pictures belong to the half that is opened once, at the end."""
    names: dict[str, list[str]]
    """Class names."""


def lay_ground(root: Path, dev: Path, everything: Path, run: Path, frozen: bool) -> Ground:
    """Read the pictures as a run's model wants them.

    Args:
        root: FISTFUL_DATA.
        dev: Data folder of the development photos.
        everything: Data folder of all photos that may be learnt from.
        run: Any run of the kind.
        frozen: Whether all runs share this run's trunk.
    """
    exported = read_model(run / "model")
    encoder = encoder_of(exported, run / "model", run.name)
    pixels, labels, is_test, names = {"dev": _pictures_of(dev, encoder)}, {}, {}, {}
    for name, spec in eval_sets(root, root, small=False).items():
        found = open_set(spec, None)
        images = list(ready_images(found.read(), encoder.prepare, "all", ImageTally()))
        pixels[name] = np.stack([image.pixels for image in images])
        labels[name] = np.array([image.label for image in images])
        is_test[name] = np.array([half_of(image.sha256) == "test" for image in images])
        names[name] = [one.name for one in found.classes]
    vocabulary = read_vocabulary(everything)
    bags = bags_in(dev)
    truth_NV = np.zeros((len(bags), len(vocabulary)), bool)
    truth_NV[bags.rows(), bags.values] = True
    seen = {name: _trunk_features(exported, encoder, part) if frozen else torch.from_numpy(part) for name, part in pixels.items()}
    return Ground(seen, frozen, truth_NV, vocabulary, labels, is_test, names)


def _pictures_of(folder: Path, encoder: TowerEncoder) -> np.ndarray:
    """Return the pictures of a data folder in the order of its index."""
    shards = sorted((folder / "shards").glob("*.tar"))
    return np.stack([encoder.prepare(Image.open(io.BytesIO(s["jpg"])).convert("RGB")) for path in shards for s in read_samples(path)])


@torch.inference_mode()
def _trunk_features(exported: Exported, encoder: TowerEncoder, pixels: np.ndarray) -> torch.Tensor:
    mean, std = encoder.preprocess["mean"], encoder.preprocess["std"]
    parts = torch.from_numpy(pixels).split(PASS)
    return torch.cat([exported.model.frozen_features(normalise(part, mean, std)) for part in parts])


def score(run: Path, ground: Ground) -> dict[str, Any]:
    """Return a run's figures, 0 to 1: average precision of words by both paths, and top-1 of both halves of each set."""
    exported = read_model(run / "model")
    encoder = encoder_of(exported, run / "model", run.name)
    image_ND, logits_NV = _see(exported, encoder, ground, "dev")
    words_VD = encoder.embed_texts(ground.vocabulary.words)
    figures: dict[str, Any] = {"cosine": _tags(image_ND @ words_VD.T, ground)}
    if logits_NV is not None:
        figures["head"] = _tags(logits_NV, ground)
    for name in ground.labels:
        image_ND, _ = _see(exported, encoder, ground, name)
        figures[name] = _zero_shot(image_ND @ encoder.embed_texts(ground.names[name]).T, ground, name)
    return figures


@torch.inference_mode()
def _see(exported: Exported, encoder: TowerEncoder, ground: Ground, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return embeddings of length 1, and the head's logits of the development photos."""
    model, mean, std = exported.model, encoder.preprocess["mean"], encoder.preprocess["std"]
    images, logits = [], []
    for part in ground.seen[name].split(PASS):
        channels_BC, image_BD = model.finish(part) if ground.frozen else model.image_both(normalise(part, mean, std))
        images.append(image_BD)
        if model.head is not None and name == "dev":
            logits.append(model.head(channels_BC))
    return torch.cat(images).numpy(), torch.cat(logits).numpy() if logits else None


def _tags(scores_NV: np.ndarray, ground: Ground) -> dict[str, Any]:
    precision_V = word_precision(scores_NV, ground.truth_NV)
    return by_frequency(precision_V, ground.vocabulary.df)


def _zero_shot(scores_NC: np.ndarray, ground: Ground, name: str) -> dict[str, Any]:
    right_N = scores_NC.argmax(axis=1) == ground.labels[name]
    covered_N = covered(ground, name)[ground.labels[name]]
    figures = {}
    for half, mask in (("dev", ~ground.is_test[name]), ("test", ground.is_test[name])):
        figures[half] = float(right_N[mask].mean())
        figures[f"{half}_covered"] = float(right_N[mask & covered_N].mean()) if (mask & covered_N).any() else None
    return figures


def covered(ground: Ground, name: str) -> np.ndarray:
    """Return which classes have a name all of whose words are in ENOUGH captions, bool (C,)."""
    df = dict(zip(ground.vocabulary.words, ground.vocabulary.df.tolist(), strict=True))
    return np.array([all(df.get(word, 0) >= ENOUGH for word in one.lower().split()) for one in ground.names[name]])
