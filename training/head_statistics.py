"""How the word head's logits lie on training pictures, so that scores of different words can be compared."""

from __future__ import annotations

import numpy as np
import torch

from .model.model import normalise
from .model.places import see_frozen
from .trainer import Trainer

N_SAMPLES, ROWS = 2_048, 64


def head_statistics(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return mean and standard deviation of each word's logit over training pictures; None without a head."""
    if trainer.model.head is None:
        return None
    members = np.sort(np.concatenate([trainer.job.order.real.members, trainer.job.order.pseudo.members]))
    rows = members[np.linspace(0, len(members) - 1, min(N_SAMPLES, len(members)), dtype=np.int64)]
    trainer.model.eval()
    logits = torch.cat([_logits(trainer, rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]).double()
    return logits.mean(0).float(), logits.std(0, correction=0).clamp_min(1e-6).float()


@torch.inference_mode()
def _logits(trainer: Trainer, rows: np.ndarray) -> torch.Tensor:
    model, loader, device = trainer.model, trainer.loader, trainer.setting.device
    assert model.head is not None
    if loader.features is not None:
        channels_BC = see_frozen(model, torch.from_numpy(loader.features.take(rows)[1]).to(device).float())[1]
    else:
        images = torch.from_numpy(np.stack([loader.pictures.plain(int(row)) for row in rows])).to(device)
        channels_BC = model.channels(normalise(images, trainer.job.preprocess["mean"], trainer.job.preprocess["std"]))
    return model.head(channels_BC).cpu()
