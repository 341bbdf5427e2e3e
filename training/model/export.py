"""The model/ folder: what open_clip reads, and beside it what only we can express.

With the transformer, open_clip_config.json and open_clip_model.safetensors are complete for open_clip.
With another text side there is no open_clip_config.json: open_clip then refuses the folder instead of
filling the gap with random numbers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fistful.bow import vocabulary as vocabularies
from fistful.bow.frequency import idf
from fistful.bow.store.files import read_json, write_bytes, write_json
from fistful.bow.store.identity import FORMAT
from fistful.bow.store.model_folder import CARD_FILE, CONFIG_FILE, OWN_FILE, OWN_WEIGHTS_FILE, WEIGHTS_FILE, is_student
from fistful.errors import DataError, UsageError

from .fusion import Fusion, FusionShape
from .model import Model, Shape
from .tune import kept_state, merged_state
from .weights import load_tensors


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """Where a model comes from."""

    config_id: str
    data: list[str]
    """Fingerprints of the data folders."""
    saw_imagenet_labels: bool | None
    vocabulary_sha256: str
    word_options: dict[str, Any]
    holdout: float
    """Share of the captioned pictures that training did not see (bow.draw.held_out says which)."""
    init: str = ""
    """Fingerprint of the weights that it started from; empty: from scratch."""
    train_image: str = "all"
    """Which part of the image tower learnt."""
    holdout_by: str = "key"
    """What the hold-out was drawn by: key, in models of earlier versions, or content."""
    exclude: str = ""
    """SHA-256 of the lines of --exclude; empty: none, or a model of an earlier version."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """A model read back from its folder."""

    model: Model
    lineage: Lineage
    words: list[str]
    idf_V: np.ndarray
    """What each word weighs in the word loss, float32."""
    head_mean: torch.Tensor | None
    head_std: torch.Tensor | None

    def to(self, device: str) -> Exported:
        """Return the same model on a device."""
        stats = [None if tensor is None else tensor.to(device) for tensor in (self.head_mean, self.head_std)]
        return Exported(self.model.to(device), self.lineage, self.words, self.idf_V, *stats)


HeadStats = tuple[torch.Tensor, torch.Tensor]
"""Mean and standard deviation of each word's logit over training pictures."""


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What stands beside a model's weights."""

    lineage: Lineage
    preprocess: dict[str, Any]
    """How its pictures are prepared, as open_clip writes it down."""
    vocabulary: bytes
    """vocabulary.parquet."""
    card: str
    """README.md."""


def write_model(run: Path, folder: str, model: Model, about: About, head_stats: HeadStats | None) -> None:
    """Write RUN/FOLDER/."""
    shape = model.shape
    own = {
        f"{name}.{k}": v for name in ("head", "fusion") if (part := getattr(model, name)) is not None for k, v in part.state_dict().items()
    }
    if head_stats is not None:
        own["head_mean"], own["head_std"] = head_stats
    tuned = None if model.tuning is None or model.tuning.merges else model.tuning
    if tuned is not None:
        own |= kept_state(tuned, model.clip)
    elif model.clip is not None:
        weights = model.clip.state_dict() if model.tuning is None else merged_state(model.tuning, model.clip)
        write_json(run, f"{folder}/{CONFIG_FILE}", {"model_cfg": shape.model_cfg, "preprocess_cfg": about.preprocess})
        write_bytes(run, f"{folder}/{WEIGHTS_FILE}", _safetensors(weights))
    else:
        own |= {k: v for k, v in model.state_dict().items() if not k.startswith(("head.", "words."))}
        own |= {} if model.words is None else {f"words.{k}": v for k, v in model.words.plain_state().items()}
    if own:
        write_bytes(run, f"{folder}/{OWN_WEIGHTS_FILE}", _safetensors(own))
    if shape.n_words:
        write_bytes(run, f"{folder}/{vocabularies.FILE}", about.vocabulary)
    write_bytes(run, f"{folder}/{CARD_FILE}", about.card.encode())
    own_about = {
        "format": FORMAT,
        "shape": dataclasses.asdict(shape),
        "preprocess_cfg": about.preprocess,
        "lineage": dataclasses.asdict(about.lineage),
        **({} if model.fusion is None else {"fusion": dataclasses.asdict(model.fusion.shape)}),
        **({} if tuned is None else {"tuned": dataclasses.asdict(tuned.how), "gates": tuned.gates()}),
    }
    write_json(run, f"{folder}/{OWN_FILE}", own_about)


def _safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}, metadata={"format": "pt"})


def read_model(folder: Path) -> Exported:
    """Read a model/ folder.

    Raises:
        UsageError: If it is none of ours, or of a newer version.
        DataError: If its files do not fit each other.
    """
    about = read_json(folder / OWN_FILE)
    if about["format"] > FORMAT:
        raise UsageError(f"{folder}: has format {about['format']}, this version reads up to {FORMAT}; upgrade fistful")
    if "tuned" in about:
        raise UsageError(
            f"{folder}: has what a model was tuned by, and not its weights; expected a whole model (of --tune lora, --merge writes one)"
        )
    if is_student(folder):
        raise UsageError(f"{folder}: is a student (fistful distill), which has no image tower; expected a model that fistful train wrote")
    shape, lineage = Shape(**about["shape"]), Lineage(**about["lineage"])
    model = Model(shape)
    if "fusion" in about:
        model.fusion = Fusion(FusionShape(**about["fusion"]))
    has_own = shape.head or not shape.for_open_clip or model.fusion is not None
    tensors = load_tensors(folder / OWN_WEIGHTS_FILE) if has_own else {}
    if shape.for_open_clip:
        tensors |= {f"clip.{k}": v for k, v in load_tensors(folder / WEIGHTS_FILE).items()}
    stats = tensors.pop("head_mean", None), tensors.pop("head_std", None)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{folder}: weights do not fit {OWN_FILE} ({str(error).splitlines()[-1].strip()})") from None
    return Exported(model.eval(), lineage, *read_words(folder, shape, lineage), *stats)


def read_words(folder: Path, shape: Shape, lineage: Lineage) -> tuple[list[str], np.ndarray]:
    """Return the words of a model, and what each weighs in the word loss, float32.

    Raises:
        DataError: If the folder's vocabulary is not the one that the model was trained with.
    """
    from fistful.bow.store.files import hash_file

    if not shape.n_words:
        return [], np.zeros(0, np.float32)
    if hash_file(folder / vocabularies.FILE)["sha256"] != lineage.vocabulary_sha256:
        raise DataError(f"{folder / vocabularies.FILE}: is not the vocabulary that this model was trained with")
    vocabulary = vocabularies.read_vocabulary(folder)
    if len(vocabulary) != shape.n_words:
        raise DataError(f"{folder}: model has {shape.n_words} words, its vocabulary {len(vocabulary)}")
    return vocabulary.words, idf(vocabulary.df, vocabulary.n_samples)
