"""Weights to start from, made by factories as a user writes them."""

from __future__ import annotations

import dataclasses

import timm
import torch

from fistful.training.model.weights import Pretrained


def small(**changes) -> Pretrained:
    """A factory of a user's own: an image tower whose weights are no random ones."""
    torch.manual_seed(3)
    vision = {"timm_model_name": "test_efficientnet", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "mlp"}
    trunk = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    image = {f"trunk.{name}": tensor for name, tensor in trunk.items()}
    return Pretrained(image=image, vision_cfg={**vision, "image_size": 64}, saw_imagenet_labels=True, **changes)


def no_numbers() -> Pretrained:
    """Weights with which every loss is no number."""
    found = small()
    return dataclasses.replace(found, image={name: tensor * torch.nan for name, tensor in found.image.items()})
