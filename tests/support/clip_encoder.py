"""open_clip itself behind the encoder protocol, written apart from fistful.training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

TINY = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {},
}


def save_tiny_clip(folder: Path, seed: int = 0) -> Path:
    """Write an untrained open_clip model as a local folder with weights; its batch norms have seen pictures, so that its answers differ."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = None
    with torch.no_grad():
        coarse = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        model.train().encode_image(torch.nn.functional.interpolate(coarse, size=32, mode="bilinear"))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


class OpenClipEncoder:
    """A local folder of open_clip's as an encoder."""

    words = None
    word_scores = None
    saw_imagenet_labels = False

    def __init__(self, folder: str) -> None:
        import open_clip

        self.name = Path(folder).name
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", require_pretrained=True)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self.fingerprint = hashlib.sha256((Path(folder) / "open_clip_model.safetensors").read_bytes()).hexdigest()
        self.image_size = TINY["model_cfg"]["vision_cfg"]["image_size"]
        self.context_length = TINY["model_cfg"]["text_cfg"]["context_length"]

    def prepare(self, image: Image.Image) -> np.ndarray:
        size = self.preprocess.transforms[:2]  # resize and centre crop; the rest makes floats
        for transform in size:
            image = transform(image)
        return np.asarray(image.convert("RGB"))

    @torch.inference_mode()
    def embed_images(self, images: np.ndarray) -> np.ndarray:
        rest = self.preprocess.transforms[2:]
        rows = []
        for pixels in images:
            tensor = Image.fromarray(pixels)
            for transform in rest:
                tensor = transform(tensor)
            rows.append(tensor)
        return self.model.encode_image(torch.stack(rows), normalize=True).numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: list[str]) -> np.ndarray:
        parts = [self.model.encode_text(self.tokenizer(texts[i : i + 256]), normalize=True) for i in range(0, len(texts), 256)]
        return torch.cat(parts).numpy()

    def n_cut(self, texts: list[str]) -> int:
        return sum(len(self.tokenizer.encode(text)) + 2 > self.context_length for text in texts)
