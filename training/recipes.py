"""Recipes: functions that return a configuration. Expectations are those of one seed unless they say otherwise."""

from __future__ import annotations

from fistful.training.config import TrainConfig


def tiny_clip(steps: int = 600, seed: int = 0) -> TrainConfig:
    """Return the baseline for a laptop: CLIP on whole captions, 64 px.

    Source: CLIP (Radford et al. 2021) in small; AdamW and its betas as there, batch and steps for two cores.
    Command: `fistful train DATA --out RUN --recipe tiny_clip`
    """
    return TrainConfig(steps=steps, seed=seed, text="caption")


def tiny_fistful(steps: int = 600, seed: int = 0) -> TrainConfig:
    """Return the same on balanced bags, drawn anew each epoch by the data folder's keep probabilities.

    Source: A Fistful of Words (arXiv 2112.13884): bags in place of captions, words balanced.
    Command: `fistful train DATA --out RUN --recipe tiny_fistful`
    """
    return TrainConfig(steps=steps, seed=seed, text="balanced")


def tiny_joint(steps: int = 600, seed: int = 0) -> TrainConfig:
    """Return the same with a word head beside the contrastive loss, one to one; the head labels pictures.

    Source: SuperCLIP (arXiv 2512.14480) for the joint form and its weight of 1, SuperClass (arXiv 2411.03313) for the loss.
    Command: `fistful train DATA --out RUN --recipe tiny_joint`
    """
    return TrainConfig(steps=steps, seed=seed, text="balanced", objective="joint")
