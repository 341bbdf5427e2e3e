"""Encoders: what labels and evaluates, whatever made it.

An encoder is named by a spec: a run folder, its model/ folder, an open_clip local folder, or
`package.module:function` with optional JSON arguments after a space.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from fistful.bow.store.files import parse_json, read_json
from fistful.bow.store.manifest import CONFIG
from fistful.errors import FistfulError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


@runtime_checkable
class Encoder(Protocol):
    """A model as the other rooms see it: pictures and texts in, vectors out."""

    name: str
    """What the user called it."""
    fingerprint: str
    """SHA-256 over its files; equal weights and configuration, equal fingerprint."""
    image_size: int
    """Side, in pixels, of the pictures that `prepare` returns."""
    context_length: int | None
    """Positions of the text tower; None where texts have no limit."""
    saw_imagenet_labels: bool | None
    """Whether the image tower was trained with ImageNet's labels; None where nobody knows."""
    words: list[str] | None
    """The words that `word_scores` has columns for; None without a word head."""
    word_scores: Callable[[np.ndarray], np.ndarray] | None
    """uint8 (n, H, W, 3) -> float32 (n, V), the head's logits standardised per word; None without a word head."""

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture to uint8 (H, W, 3), as open_clip does for evaluation."""
        ...

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (n, d) of length 1 for uint8 (n, H, W, 3)."""
        ...

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, d) of length 1; of length 0 for a text without one known word (words tower)."""
        ...

    def n_cut(self, texts: list[str]) -> int:
        """Return how many of the texts are longer than the context and lose their end."""
        ...


Device = Literal["auto", "cpu", "cuda"]


def choose_device(asked: str) -> str:
    """Return cpu or cuda; auto is a GPU if there is one.

    Raises:
        UsageError: If a GPU is asked for and there is none, or something else.
    """
    import torch

    if asked not in get_args(Device):
        raise UsageError(f"--device {asked}: expected {', '.join(get_args(Device))}")
    if asked != "cpu" and torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UsageError("--device cuda: found no GPU that torch can use; use --device cpu")
    return "cpu"


def device_named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a result, with its (chosen) device only where it is a GPU, whose last digits are others than a CPU's."""
    return {name: value for name, value in values.items() if (name, value) != ("device", "cpu")}


def load_encoder(spec: str, device: str = "auto") -> Encoder:
    """Load the encoder that a spec names.

    Args:
        spec: A run folder, its model/ folder, an open_clip folder, or module:function of one's own.
        device: auto, cpu or cuda; a function of one's own decides by itself.

    Raises:
        UsageError: If there is nothing of that name, a folder without weights, or no such device.
        DataError: If a folder's files do not fit each other.
    """
    folder = find_folder(spec)
    if folder is None:
        return call_factory(spec)
    from . import towers

    load = towers.own_encoder if (folder / OWN_FILE).exists() else towers.open_clip_encoder
    return load(folder, spec, choose_device(device))


OWN_FILE, OPEN_CLIP_FILE = "fistful.json", "open_clip_config.json"


def find_folder(spec: str) -> Path | None:
    """Return the folder of a model that a spec names, None if it names a function.

    Raises:
        UsageError: If it is a folder without a model, or a run that is not finished.
    """
    path = Path(spec.removeprefix("local-dir:"))
    for folder in (path / "model", path):
        if (folder / OWN_FILE).exists() or (folder / OPEN_CLIP_FILE).exists():
            whole = (folder / OWN_FILE).exists() or not (folder.parent / "metrics.jsonl").exists()  # a run writes this file last
            if folder.name == "model" and not whole and not (folder.parent / "manifest.json").exists():
                raise UsageError(f"{spec}: training is not finished (its model is not whole); the same fistful train goes on")
            return folder
    config = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    if isinstance(config, dict) and config.get("verb") == "train":
        raise UsageError(f"{spec}: training is not finished (no model yet); the same fistful train goes on")
    if path.exists():
        raise UsageError(f"{spec}: has no model (neither {OWN_FILE} nor {OPEN_CLIP_FILE}); expected a run folder or an open_clip folder")
    if ":" not in spec.partition(" ")[0]:
        raise UsageError(f"{spec}: no such folder; expected a run folder, an open_clip folder, or package.module:function")
    return None


def call_factory(spec: str) -> Any:
    """Return what `package.module:function` returns, called with the JSON object after the space.

    Raises:
        UsageError: If there is no such function, its arguments are no JSON object, or it raises an error.
    """
    place, _, arguments = spec.partition(" ")
    module_name, _, function_name = place.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{place}: {error}; expected package.module:function") from None
    try:
        keywords = parse_json(arguments or "{}")
    except ValueError as error:
        raise UsageError(f"{spec}: arguments are not JSON ({error})") from None
    if not isinstance(keywords, dict):
        raise UsageError(f"{spec}: arguments are {arguments}, expected a JSON object")
    try:
        return function(**keywords)
    except (FistfulError, ModuleNotFoundError, OSError, MemoryError):  # the command line knows what to say of these
        raise
    except Exception as error:
        raise UsageError(f"{place}: {type(error).__name__}: {error} (raised by this function of yours)") from error
