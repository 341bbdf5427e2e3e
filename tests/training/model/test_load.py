"""Encoders: what was trained, read again."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import torch

from fistful.bow.store.images import decode_image
from fistful.bow.vocabulary import read_vocabulary
from fistful.errors import DataError, UsageError
from fistful.training.model.encoder import Encoder, features_and_shares
from fistful.training.model.export import read_model
from fistful.training.model.load import load_encoder
from fistful.training.model.model import normalise
from fistful.training.model.preprocess import preprocess_of
from fistful.training.model.pretrained import load_pretrained
from fistful.training.model.towers import model_config
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import picture_bytes

QUICK = {"steps": 3, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}


@pytest.fixture(scope="module", params=["tiny-resnet", "tiny-vit", "tiny-rn"])
def joint_run(request, data, tmp_path_factory):
    config = train_config(**QUICK, model=request.param, objective="joint", text="bag")
    return train(data, out=tmp_path_factory.mktemp("run") / "run", config=config)


@pytest.fixture(scope="module")
def words_run(data, tmp_path_factory):
    return train(data, out=tmp_path_factory.mktemp("run") / "run", config=train_config(**QUICK, text_tower="words", text="bag"))


def pictures(n):
    return [decode_image(picture_bytes(i)) for i in range(n)]


def test_an_encoder_turns_pictures_and_texts_into_vectors_of_length_one(joint_run):
    encoder = load_encoder(str(joint_run))
    assert isinstance(encoder, Encoder)
    images = np.stack([encoder.prepare(image) for image in pictures(5)])
    assert images.shape == (5, 64, 64, 3)
    embedded = encoder.embed_images(images)
    texts = encoder.embed_texts(["red square", "blue bar", ""])
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-6)
    assert embedded.shape[1] == texts.shape[1]


def test_open_clip_loads_a_run_and_gives_the_same_features_bit_for_bit(joint_run):
    encoder = load_encoder(str(joint_run))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{joint_run / 'model'}")
    model.eval()
    images = pictures(32)
    texts = [f"red bar {i}" for i in range(32)]
    with torch.inference_mode():
        theirs = model.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
        tokens = open_clip.get_tokenizer(f"local-dir:{joint_run / 'model'}")(texts)
        their_texts = model.encode_text(tokens, normalize=True)
        our_texts = read_model(joint_run / "model").model.encode_text((tokens,))
    ours = encoder.embed_images(np.stack([encoder.prepare(image) for image in images]))
    assert theirs.numpy().tobytes() == ours.tobytes()
    assert their_texts.numpy().tobytes() == our_texts.numpy().tobytes()
    np.testing.assert_allclose(encoder.embed_texts(texts), their_texts.numpy(), atol=1e-6)  # shorter passes round in another way


def test_the_run_and_its_open_clip_half_embed_alike(joint_run, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (folder / name).write_bytes((joint_run / "model" / name).read_bytes())
    ours, plain = load_encoder(str(joint_run)), load_encoder(f"local-dir:{folder}")
    images = np.stack([ours.prepare(image) for image in pictures(3)])
    assert ours.embed_images(images).tobytes() == plain.embed_images(images).tobytes()
    assert plain.saw_imagenet_labels is None
    assert ours.saw_imagenet_labels is False
    assert plain.word_scores is None


def test_vectors_do_not_depend_on_the_batch(joint_run):
    encoder = load_encoder(str(joint_run))
    images = np.stack([encoder.prepare(image) for image in pictures(40)])
    assert encoder.embed_images(images)[35:].tobytes() == encoder.embed_images(images[35:]).tobytes()
    assert encoder.embed_images(images[:0]).shape[0] == 0


def test_word_scores_are_standardised_over_training_pictures(joint_run):
    encoder = load_encoder(str(joint_run))
    images = np.stack([encoder.prepare(image) for image in pictures(48)])
    scores = encoder.word_scores(images)
    assert scores.shape == (48, 7)
    assert set(encoder.words) == {"red", "green", "blue", "yellow", "square", "bar", "stripe"}
    np.testing.assert_allclose(scores.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(scores.std(0), 1, atol=2e-2)


def test_a_words_share_of_a_bag_is_its_probability_by_what_it_weighs(joint_run):
    encoder = load_encoder(str(joint_run))
    images = np.stack([encoder.prepare(image) for image in pictures(5)])
    model, vocabulary = read_model(joint_run / "model").model, read_vocabulary(joint_run / "model")
    with torch.inference_mode():
        logits = model.head(
            model.channels(normalise(torch.from_numpy(images), encoder.preprocess["mean"], encoder.preprocess["std"]))
        ).numpy()
    weight = np.maximum(np.log(vocabulary.n_samples / (1 + vocabulary.df)), 0.1)
    expected = np.exp(logits) / weight
    shares = encoder.word_shares(images)
    np.testing.assert_allclose(shares, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)
    features, again = features_and_shares(encoder, images)
    np.testing.assert_allclose(again, shares, rtol=1e-5)
    np.testing.assert_allclose(features, encoder.embed_images(images), atol=1e-6)


def test_prepare_gives_what_open_clip_feeds_its_models(joint_run):
    encoder = load_encoder(str(joint_run))
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{joint_run / 'model'}")
    for size in [(64, 64), (65, 64), (63, 200), (301, 77), (20, 31)]:
        image = pictures(1)[0].resize(size)
        theirs = preprocess(image)
        back = theirs * torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1) + torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
        assert np.array_equal(encoder.prepare(image), (back * 255).round().byte().permute(1, 2, 0).numpy())


def test_the_words_tower_skips_unknown_words_and_knows_nothing_of_a_text_without_known_ones(words_run):
    encoder = load_encoder(str(words_run / "model"))
    texts = encoder.embed_texts(["A photo of a red bar.", "red bar", "bar RED red", "zebra", ""])
    assert texts[0].tobytes() == texts[1].tobytes()
    np.testing.assert_allclose(texts[2], texts[1], atol=1e-6)
    assert not texts[3:].any()
    assert encoder.context_length is None


def test_open_clip_refuses_a_model_that_it_cannot_express(words_run):
    with pytest.raises(Exception, match="config"):
        open_clip.create_model(f"local-dir:{words_run / 'model'}")


def test_a_model_without_a_text_tower_says_so(data, tmp_path):
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK, objective="words", text="bag"))
    encoder = load_encoder(str(run))
    images = np.stack([encoder.prepare(image) for image in pictures(2)])
    assert encoder.embed_images(images).shape[0] == 2
    with pytest.raises(UsageError, match="has no text tower"):
        encoder.embed_texts(["red"])


def test_texts_past_the_context_are_counted(joint_run):
    encoder = load_encoder(str(joint_run))
    assert encoder.context_length == 16
    assert encoder.n_cut(["red", "red " * 14, "red " * 15]) == 1


def test_a_folder_without_weights_is_refused(joint_run, tmp_path):
    (tmp_path / "open_clip_config.json").write_bytes((joint_run / "model" / "open_clip_config.json").read_bytes())
    with pytest.raises(UsageError, match=r"but no weights; expected open_clip_model.safetensors beside it"):
        load_encoder(str(tmp_path))


VISION = {"embed_dim": 8, "vision_cfg": {}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "has no model_cfg, expected an open_clip configuration"),
        ({"preprocess_cfg": {}}, "has no model_cfg, expected an open_clip configuration"),
        ({"model_cfg": {"embed_dim": 8}}, "its model_cfg has no vision_cfg, or no embed_dim; expected an open_clip configuration"),
        ({"model_cfg": VISION, "preprocess_cfg": [1]}, "its preprocess_cfg is no object, expected an open_clip configuration"),
    ],
)
def test_what_others_wrote_in_place_of_open_clips_configuration_is_refused(tmp_path, config, message):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    for read in (model_config, load_encoder, lambda folder: preprocess_of(train_config(model=folder), None)):
        with pytest.raises(DataError, match=rf"open_clip_config.json: {message}"):
            read(str(tmp_path))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=rf"open_clip_config.json: {message}"):
        load_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "nowhere: no such folder; expected a run folder, an open_clip folder, or package.module:function"),
        ("json:nothing", "json:nothing: module 'json' has no attribute 'nothing'; expected package.module:function"),
        (
            "no_such:f",
            "no_such:f: No module named 'no_such'; expected package.module:function; PYTHONPATH=. finds modules of this folder",
        ),
        (
            "json:loads {",
            "json:loads {: arguments are not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        ),
        ("json:loads []", "json:loads []: arguments are [], expected a JSON object"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(spec, message):
    with pytest.raises(UsageError) as error:
        load_encoder(spec)
    assert message == str(error.value)


def test_a_factory_is_called_with_its_arguments():
    assert load_encoder('tests.support.colours:ColourEncoder {"name": "mine"}').name == "mine"


def test_equal_files_have_equal_fingerprints(joint_run, words_run):
    assert load_encoder(str(joint_run)).fingerprint == load_encoder(str(joint_run / "model")).fingerprint
    assert load_encoder(str(joint_run)).fingerprint != load_encoder(str(words_run)).fingerprint


def test_an_encoder_says_where_it_computes(data, tmp_path):
    config = train_config(steps=1, batch_size=8, warmup=1, threads=1, progress=False, objective="joint", text_tower="words")
    assert load_encoder(str(train(data, out=tmp_path / "run", config=config)), "cpu").device == "cpu"
