"""Encoders of a user's own: each fault is named as theirs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fistful.errors import UsageError
from fistful.training.model.load import load_encoder
from fistful.training.model.own import checked
from tests.support.colours import ColourEncoder

PICTURES = np.full((2, 8, 8, 3), 9, np.uint8)


def raising(*_):
    raise KeyError("a fault")


def ask_everything(encoder):
    encoder.prepare(Image.new("RGB", (8, 8)))
    encoder.embed_images(PICTURES)
    encoder.embed_texts(["red", "blue"])
    encoder.word_scores(PICTURES)
    encoder.n_cut(["red"])


def test_what_an_encoder_leaves_out_is_filled_in():
    encoder = checked(ColourEncoder(), "colours")
    assert (encoder.warnings, encoder.trained_on, encoder.word_options, encoder.preprocess, encoder.device) == ((), (), None, {}, "cpu")
    assert encoder.embed_images(PICTURES).shape == encoder.embed_texts(["red", "blue"]).shape == (2, 3)


def test_a_head_is_words_and_their_scores_together():
    half = ColourEncoder()
    half.word_scores = half.embed_images
    assert checked(half, "colours").word_scores is None
    whole = checked(ColourEncoder(head=True), "colours")
    assert whole.words == ["red", "green", "blue"]
    np.testing.assert_allclose(whole.word_shares(PICTURES), 1 / 3, rtol=1e-6)  # grey: the softmax of equal scores


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "builtins:dict",
            "builtins:dict: returned dict, which lacks name, fingerprint, image_size, prepare, embed_images, embed_texts, n_cut",
        ),
        ('tests.support.colours:ColourEncoder {"name": 3}', "tests.support.colours:ColourEncoder: its name is 3, expected str"),
    ],
)
def test_what_is_no_encoder_is_refused_when_it_is_loaded(spec, message):
    with pytest.raises(UsageError) as error:
        load_encoder(spec)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("method", "fault", "message"),
    [
        ("embed_images", raising, "embed_images: KeyError: 'a fault' (raised by this encoder of yours)"),
        ("embed_images", lambda _: [[1.0]], "embed_images returned list for 2, expected a numpy array of floats (2, d)"),
        ("embed_images", lambda _: np.ones(3), "embed_images returned float64 (3,) for 2, expected a numpy array of floats (2, d)"),
        ("embed_images", lambda _: np.ones((1, 3)), "embed_images returned float64 (1, 3) for 2, expected a numpy array of floats (2, d)"),
        (
            "embed_texts",
            lambda _: np.ones((2, 4)),
            "embed_texts returned float64 (2, 4), expected (2, 3), as many columns as it gave before: images and texts share them",
        ),
        ("word_scores", lambda _: np.ones((2, 1)), "word_scores returned float64 (2, 1), expected (2, 3), a column for each of its words"),
        ("prepare", lambda _: np.ones((8, 8)), "prepare returned float64 (8, 8), expected uint8 (8, 8, 3): its image_size is 8"),
        ("n_cut", raising, "n_cut: KeyError: 'a fault' (raised by this encoder of yours)"),
    ],
)
def test_what_its_methods_do_wrong_is_named_as_theirs(method, fault, message):
    own = ColourEncoder(head=True)
    setattr(own, method, fault)
    with pytest.raises(UsageError) as error:
        ask_everything(checked(own, "mine:make {}"))
    assert str(error.value) == f"mine:make: {message}"
