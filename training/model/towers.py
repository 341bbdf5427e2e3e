"""Image and text towers: those that can be asked for by name, our mean of words, and how to look into open_clip's and timm's.

Shapes: B samples, P words of all of them, D embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding_bag, normalize

from fistful.bow.store.model_folder import CONFIG_FILE, read_open_clip_config
from fistful.errors import UsageError

DEFAULT_MODEL = "tiny-resnet"
FIRST_STD = 0.02
"""Of the words' vectors, before anything is learnt: CLIP's (Radford et al. 2021). Longer ones are noise that a short training does not
get rid of: with 0.5 a tower on 1,218 photos had 10.0 instead of 10.9 points of average precision, of rare words 1.6 instead of 2.6."""
MATRIX_STD = 0.1
"""Of the matrix behind fixed vectors of length 1: five times as long as random rows, so that they lead (12.3 points against 12.1)."""
SMALL_TEXT = {"vocab_size": 49408, "width": 128, "heads": 2, "layers": 2}


def _timm_vision(name: str) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}


MODELS: dict[str, dict[str, Any]] = {
    "tiny-resnet": {"embed_dim": 256, "vision_cfg": _timm_vision("test_resnet"), "text_cfg": SMALL_TEXT},
    "tiny-vit": {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "head_width": 64, "layers": 4},
        "text_cfg": SMALL_TEXT,
    },
    "tiny-rn": {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "head_width": 64},
        "text_cfg": SMALL_TEXT,
    },
}
"""Towers for 64 pixels and a few cores, as open_clip writes them down."""


def model_config(name: str) -> dict[str, Any]:
    """Return the model_cfg of a small model of ours, a timm tower, an open_clip model, or a folder.

    Raises:
        UsageError: If there is none of that name, or the folder has weights (which would be left unused).
        DataError: If the folder's configuration is none.
    """
    if name in MODELS:
        return MODELS[name]
    if name.startswith("timm:"):
        return _timm_model(name)
    if (of_folder := folder_config(name)) is not None:
        return of_folder
    import open_clip

    found = None if Path(name).exists() else open_clip.get_model_config(name)
    if found is None:
        known = ", ".join(MODELS)
        raise UsageError(
            f"--model {name}: found no such model, expected {known}, timm:NAME, an open_clip name, or a folder with {CONFIG_FILE}"
        )
    return found


def folder_config(name: str) -> dict[str, Any] | None:
    """Return the model_cfg of a folder with an open_clip configuration; None if that is not what the name names.

    Raises:
        UsageError: If the folder has weights (which would be left unused).
        DataError: If its configuration is none.
    """
    folder = Path(name)
    if name in MODELS or not (folder / CONFIG_FILE).exists():
        return None
    if [p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".pth")]:
        raise UsageError(f"--model {name}: the folder has weights, which --model leaves unused; use --init {name}")
    return read_open_clip_config(folder)["model_cfg"]


def _timm_model(name: str) -> dict[str, Any]:
    import timm

    architecture = name.removeprefix("timm:")
    if not timm.is_model(architecture):
        raise UsageError(f"--model {name}: timm has no such model; timm.list_models() names them")
    size = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    vision = {**_timm_vision(architecture), "image_size": size.input_size[-1] if size else 224}
    return {"embed_dim": 256, "vision_cfg": vision, "text_cfg": SMALL_TEXT}


class WordsTower(nn.Module):
    """The mean of the words' vectors, then a projection. No words give the zero vector.

    In training a word's vector may be the sum of a fixed one times a learned matrix and of a learned row (`start_from`).
    """

    def __init__(self, n_words: int, width: int, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(n_words, width, mode="mean")
        self.projection = nn.Linear(width, embed_dim, bias=False)
        nn.init.normal_(self.embedding.weight, std=FIRST_STD)
        self.vectors: nn.Parameter | None = None
        self.matrix: nn.Linear | None = None
        self.bias: nn.Parameter | None = None

    def start_from(self, vectors_VE: torch.Tensor) -> None:
        """Let each word's vector be its fixed one times a learned matrix, plus a learned row that starts at 0.

        A word whose fixed vector is 0 keeps its random row, made as long as the others are: where all is 0 there is no direction, and
        nothing to learn from.
        Fixed ones are a parameter without gradient, not a buffer: nothing copies or averages them step by step.
        """
        self.vectors = nn.Parameter(vectors_VE, requires_grad=False)
        self.matrix = nn.Linear(vectors_VE.shape[1], self.embedding.embedding_dim, bias=False)
        nn.init.normal_(self.matrix.weight, std=MATRIX_STD)
        with torch.no_grad():
            self.embedding.weight.mul_(MATRIX_STD / FIRST_STD)[vectors_VE.any(dim=1)] = 0

    def add_bias(self) -> None:
        """Give each word a bias of its own, for the word loss of the tower."""
        self.bias = nn.Parameter(torch.zeros(self.embedding.num_embeddings))

    def forward(self, words_P: torch.Tensor, offsets_B: torch.Tensor) -> torch.Tensor:
        """Return (B, D) of word ids, and of where each sample's words start."""
        mean_BW = self.embedding(words_P, offsets_B)
        if self.vectors is not None and self.matrix is not None:
            mean_BW = mean_BW + self.matrix(embedding_bag(words_P, self.vectors, offsets_B, mode="mean"))
        return self.projection(mean_BW)

    def words(self) -> torch.Tensor:
        """Return each word's vector before the projection, (V, W)."""
        learned_VW = self.embedding.weight
        return learned_VW if self.vectors is None or self.matrix is None else learned_VW + self.matrix(self.vectors)

    def embedded_words(self) -> torch.Tensor:
        """Return the embedding of each word by itself, (V, D), of length 1."""
        return normalize(self.projection(self.words()), dim=-1)

    def plain_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the same tower as one without fixed vectors, and without what only training needs."""
        with torch.no_grad():
            return {"embedding.weight": self.words(), "projection.weight": self.projection.weight}


def is_timm(tower: Any) -> bool:
    """Tell whether an image tower is one of timm's."""
    from open_clip.timm_model import TimmModel

    return isinstance(tower, TimmModel)


def splits(tower: Any) -> bool:
    """Tell whether a tower is timm's trunk, pooled to (B, F), and a projection after it."""
    return is_timm(tower) and bool({"proj", "mlp"} & tower.head._modules.keys()) and "pool" not in tower.head._modules


def last_group(tower: Any) -> list[nn.Parameter]:
    """Return the parameters of a tower's last group of layers, as timm and open_clip cut them."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer
    from timm.models import group_parameters

    if is_timm(tower):
        groups = group_parameters(tower.trunk, tower.trunk.group_matcher())
        return [tower.trunk.get_parameter(name) for name in groups[max(groups)]]
    if isinstance(tower, VisionTransformer):
        last = [*tower.transformer.resblocks[-1].parameters(), *tower.ln_post.parameters()]
        return last if tower.proj is None else [*last, tower.proj]
    if isinstance(tower, ModifiedResNet):
        return [*tower.layer4.parameters(), *tower.attnpool.parameters()]
    raise UsageError(f"--train-image last: does not know the layers of {type(tower).__name__}; use all or none")


def recompute(tower: Any) -> bool:
    """Let a tower of open_clip's compute its layers again in the backward pass, and tell whether it can."""
    owner = tower.trunk if is_timm(tower) else tower  # open_clip's wrapper of timm only logs that a trunk cannot
    try:
        owner.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):  # what timm's towers raise that cannot
        return False
    return any(getattr(module, "grad_checkpointing", False) for module in owner.modules())


def image_tower(cfg: dict[str, Any]) -> Any:
    """Build open_clip's image tower alone."""
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    return _build_vision_tower(cfg["embed_dim"], CLIPVisionCfg(**cfg["vision_cfg"]), quick_gelu=cfg.get("quick_gelu", False))


def channels_before_projection(tower: Any) -> int:
    """Return how many channels the last feature map has, by looking at one picture; no state changes."""
    training = tower.training
    image = torch.zeros(1, 3, *image_size(tower))
    with torch.no_grad():
        tower.eval()
        if splits(tower):
            channels = tower.trunk(image)
        else:
            channels = tower.forward_intermediates(image, indices=1, intermediates_only=True)["image_intermediates"][-1]
    tower.train(training)
    return int(channels.shape[1])


def image_size(tower: Any) -> tuple[int, int]:
    """Return the height and width that a tower expects."""
    size = tower.image_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
