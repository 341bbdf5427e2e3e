"""What an image tower sees at each place of its last map, beside its embedding. Shapes: B samples, N places, C channels, D embedding.

Of a frozen tower, places and features are kept side by side, (B, N * C + F), where the head that reads places is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

from fistful.errors import UsageError

from .towers import image_size, splits

if TYPE_CHECKING:
    from .model import Model

Sight = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Places (B, N, C), channels (B, C), embeddings of length 1 (B, D)."""


def see(model: Model, image_BCHW: torch.Tensor) -> Sight:
    """Return places, channels and embeddings of pictures, in one pass."""
    tower = model.image_tower
    if splits(tower):
        map_ = tower.trunk.forward_features(image_BCHW)
        return as_places(map_, model.n_channels), *model.finish(tower.trunk.forward_head(map_))
    out = tower.forward_intermediates(image_BCHW, indices=1, normalize_intermediates=True)
    map_ = out["image_intermediates"][-1]
    return as_places(map_, model.n_channels), map_.mean(dim=(2, 3)), normalize(out["image_features"], dim=-1)


def frozen_features(model: Model, image_BCHW: torch.Tensor) -> torch.Tensor:
    """Return what is kept of a frozen tower: its features, and before them, if they are read, its places, (B, N * C + F)."""
    if model.fusion is None:
        return model.frozen_features(image_BCHW)
    tower = model.image_tower
    if splits(tower):
        map_ = tower.trunk.forward_features(image_BCHW)
        return torch.cat([as_places(map_, model.n_channels).flatten(1), tower.trunk.forward_head(map_)], dim=1)
    places_BNC, channels_BC, image_BD = see(model, image_BCHW)
    return torch.cat([places_BNC.flatten(1), channels_BC, image_BD], dim=1)


def see_frozen(model: Model, frozen_BF: torch.Tensor) -> Sight:
    """Return places, channels and embeddings from what `frozen_features` made; no places where no head reads them."""
    n, channels = (0, model.n_channels) if model.fusion is None else (model.fusion.shape.n_places, model.fusion.shape.channels)
    return frozen_BF[:, : n * channels].unflatten(1, (n, channels)), *model.finish(frozen_BF[:, n * channels :])


def as_places(map_: torch.Tensor, n_channels: int) -> torch.Tensor:
    """Return (B, N, C) of a map (B, C, H, W) or (B, H, W, C), or of tokens (B, N, C).

    Raises:
        UsageError: If it is none of these.
    """
    if map_.ndim == 4 and map_.shape[1] == n_channels:
        return map_.flatten(2).transpose(1, 2)
    if map_.ndim in (3, 4) and map_.shape[-1] == n_channels:
        return map_.flatten(1, -2)
    raise UsageError(
        f"--mask-rate, --match-weight: the image tower's last layer gives {tuple(map_.shape[1:])}, expected a map or tokens of "
        f"{n_channels} channels; use another --model"
    )


def count_places(model: Model) -> int:
    """Return how many places the last map has, by looking at one picture; no state changes."""
    tower: Any = model.image_tower
    training, image = tower.training, torch.zeros(1, 3, *image_size(tower))
    tower.eval()
    with torch.no_grad():
        found = see(model, image)[0]
    tower.train(training)
    return int(found.shape[1])
