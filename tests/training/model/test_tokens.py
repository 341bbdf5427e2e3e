"""Texts in passes no longer than they are, against open_clip's own at full length."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fistful.training.model.tokens import TokenTexts, find_causal

TEXT = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
TOKENIZER = open_clip.SimpleTokenizer(context_length=40)
TEXTS = ["", "a dog", "a photo of a golden retriever.", "x " * 60, "caf\u00e9 &amp; \u96ea", "a dog", "one two three"]


def build(**text):
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if text.pop("custom", False) else open_clip.CLIP
    return kind(embed_dim=16, vision_cfg=VISION, text_cfg={**TEXT, **text}).eval()


def plain(model, texts):
    with torch.inference_mode():
        return model.encode_text(TOKENIZER(texts), normalize=True).numpy()


@pytest.mark.parametrize(
    "text", [{}, {"custom": True}, {"pool_type": "eos", "eos_id": 49407}, {"proj_bias": True, "proj_type": "linear"}], ids=str
)
def test_causal_towers_give_the_features_of_a_full_pass_from_short_ones(text):
    model = build(**text)
    assert find_causal(model) is not None
    found = TokenTexts(model, TOKENIZER, 40, 16)(TEXTS)
    np.testing.assert_allclose(found, plain(model, TEXTS), atol=1e-6)
    assert found[1].tobytes() == found[5].tobytes()


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"custom": True, "embed_cls": True}], ids=str)
def test_towers_that_read_what_follows_the_text_get_full_passes(text):
    model = build(**text)
    assert find_causal(model) is None
    np.testing.assert_allclose(TokenTexts(model, TOKENIZER, 40, 16)(TEXTS), plain(model, TEXTS), atol=1e-6)


def test_a_text_of_no_known_end_is_read_where_open_clip_reads_it():
    model = build(pool_type="eos", eos_id=7)
    np.testing.assert_allclose(TokenTexts(model, TOKENIZER, 40, 16)(TEXTS), plain(model, TEXTS), atol=1e-6)


def test_features_do_not_depend_on_what_else_is_asked():
    encode = TokenTexts(build(), TOKENIZER, 40, 16)
    many = [f"a photo of a thing {'very ' * (i % 9)}{i}" for i in range(150)]
    together = encode(many)
    assert all(encode([text])[0].tobytes() == row.tobytes() for text, row in zip(many[::7], together[::7], strict=True))
    assert encode([]).shape == (0, 16)


@settings(max_examples=150)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_tokens_and_cuts_are_those_of_the_tokenizer(texts):
    encode = TokenTexts(None, TOKENIZER, 40, 16)
    assert encode.tokens(texts).equal(TOKENIZER(texts))
    assert encode.n_cut(texts) == sum(len(TOKENIZER.encode(text)) + 2 > 40 for text in texts)


def test_other_tokenizers_are_called_as_they_are():
    class Reversed:
        def __call__(self, texts, context_length):
            return TOKENIZER([text[::-1] for text in texts], context_length)

    encode = TokenTexts(build(), Reversed(), 40, 16)
    np.testing.assert_allclose(encode(["dog"]), plain(build(), ["god"]), atol=1e-6)
    assert encode.n_cut(["x " * 99]) == 0
