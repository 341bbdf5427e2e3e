"""Hidden words: which ones are drawn, what is learnt from them, and that a run says no to what it cannot do."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.cli import run as command
from fistful.errors import UsageError
from fistful.training.data.reading import read_samples
from fistful.training.data.readings import Reader, Readings, padded, token_texts
from fistful.training.losses import Seen, WordLoss, idf
from fistful.training.masked_losses import MaskedTokens, MaskedWords, Match, masked_tokens, wrong_partners
from fistful.training.masking import Masking, content_tokens, draw_hidden, draw_matches
from fistful.training.model.export import read_model
from fistful.training.model.fusion import Fusion, FusionShape, text_places, token_states
from fistful.training.model.model import Model, Shape
from fistful.training.model.places import as_places, see
from fistful.training.model.towers import MODELS
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data

QUICK = {"steps": 4, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False}


# Which places are hidden


def texts_of(*lengths: int) -> Ragged:
    return Ragged(np.cumsum([0, *lengths]), np.concatenate([np.arange(n) for n in lengths]))


def hide(texts: Ragged, rate: float, content: np.ndarray | None = None, rule: str = "uniform", seed: int = 0, epoch: int = 0) -> np.ndarray:
    numbers, epochs = np.arange(len(texts), dtype=np.uint64), np.full(len(texts), epoch)
    content = np.ones(len(texts.values), bool) if content is None else content
    return draw_hidden(texts, content, numbers, epochs, Masking(rate, rule, seed))


@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_as_large_a_share_is_hidden_as_asked_and_another_one_each_epoch_and_seed(rate: float) -> None:
    texts = texts_of(*[20] * 500)
    hidden = hide(texts, rate)
    assert abs(hidden.mean() - max(rate, 1 / 20)) < 0.02
    assert np.array_equal(hidden, hide(texts, rate))
    for other in (hide(texts, rate, epoch=1), hide(texts, rate, seed=1)):
        assert abs((hidden & other).mean() - rate**2) < 0.02


def test_at_least_one_place_is_hidden_of_each_text_that_has_any_and_all_at_rate_1() -> None:
    texts = texts_of(*[1, 0, 3, 9] * 50)
    hidden = hide(texts, 0.01)
    assert np.bincount(texts.rows()[hidden], minlength=200).tolist() == [1, 0, 1, 1] * 50
    assert hide(texts, 1.0).all()


def test_a_draw_depends_on_its_own_sample_alone() -> None:
    texts = texts_of(7, 5, 9)
    whole = np.split(hide(texts, 0.4), texts.offsets[1:-1])
    alone = draw_hidden(Ragged(np.array([0, 5]), np.arange(5)), np.ones(5, bool), np.array([1]), np.array([0]), Masking(0.4, "uniform", 0))
    assert alone.tolist() == whole[1].tolist()


def test_content_hides_content_words_alone_as_many_where_there_are_enough() -> None:
    texts = texts_of(*[20] * 500)
    content = np.tile(np.arange(20) < 12, 500)  # 60 % of the words
    hidden = hide(texts, 0.3, content, "content")
    assert not hidden[~content].any()
    assert abs(hidden.mean() - 0.3) < 0.02
    assert abs(hide(texts, 0.75, content, "content").mean() - 0.6) < 1e-9  # all there are
    bare = hide(texts, 0.3, np.zeros(len(content), bool), "content")  # nothing but stop words: as uniform
    assert abs(bare.mean() - 0.3) < 0.02


def test_tokens_of_stop_words_and_marks_are_no_content() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=24)
    tell = content_tokens(token_texts(tokenizer), frozenset({"a", "the", "on", "is", "do"}))
    tokens = tokenizer(["A dog's on the surfboarda , it is naïve."]).numpy()
    names = [tokenizer.decoder[token] for token in tokens[0].tolist()]
    assert [name for name, is_content in zip(names, tell(tokens)[0], strict=True) if is_content] == [
        "dog</w>", "surf", "boar", "da</w>", "it</w>", "na", "Ã¯", "ve</w>",
    ]  # fmt: skip


# What the words tower learns


BAGS = [[0, 3], [], [5], [1, 2, 3], [8], [0, 8]]


def seen_words(rate: float, channels: int = 7) -> Seen:
    """Return what a batch of BAGS was made of, with readings at a rate."""
    torch.manual_seed(0)
    bags = Ragged(np.cumsum([0, *map(len, BAGS)]), np.concatenate([np.array(bag, np.int64) for bag in BAGS]))
    hidden_P = draw_hidden(bags, np.ones(9, bool), np.arange(6), np.zeros(6, np.int64), Masking(rate, "uniform", 0))
    hidden = bags.take(hidden_P)
    none = torch.zeros(6, 0, dtype=torch.bool)
    readings = Readings(
        torch.from_numpy(padded(bags)), torch.from_numpy(bags.lengths()), none, torch.from_numpy(padded(bags.take(~hidden_P))),
        torch.from_numpy(hidden.rows()), torch.from_numpy(hidden.values), torch.ones(len(hidden.values)), hidden.offsets,
        torch.from_numpy(draw_matches(0, 0, 6)),
    )  # fmt: skip
    return Seen(
        number_B=torch.arange(6),
        weight_B=torch.tensor([1.0, 1.0, 0.5, 2.0, 0.0, 1.0]),
        image_BD=normalize(torch.randn(6, 16), dim=1),
        text_BD=normalize(torch.randn(6, 16), dim=1),
        channels_BC=torch.randn(6, channels).requires_grad_(),
        bag_rows=torch.from_numpy(bags.rows()),
        bag_words=torch.from_numpy(bags.values),
        bag_weights=torch.ones(9),
        bag_starts=bags.offsets,
        places_BNC=torch.randn(6, 4, channels),
        readings=readings,
    )


class WithWords(torch.nn.Module):
    """As much of a model with the words tower as its objectives look at."""

    def __init__(self, match: bool = True) -> None:
        super().__init__()
        from fistful.training.model.towers import WordsTower

        torch.manual_seed(1)
        self.words, self.clip = WordsTower(9, 12, 16), None
        self.fusion = Fusion(FusionShape(reads="words", channels=7, n_places=4, text_width=12, width=16, n_answers=9, match=match))
        self.head = torch.nn.Linear(7, 9)
        self.head.load_state_dict(self.fusion.predictor.state_dict())
        self.scale_parameter = torch.nn.Parameter(torch.tensor(math.log(10.0)))


def test_hiding_all_words_is_the_word_loss_to_the_bit_with_its_gradients() -> None:
    idf_V = torch.from_numpy(idf(np.array([50, 20, 10, 5, 2, 1, 1, 1, 1]), 100))
    model, masked, plain = WithWords(), seen_words(1.0), seen_words(1.0)
    loss = MaskedWords(idf_V)(model, masked)
    loss.backward()
    expected = WordLoss(idf_V)(model, plain)
    expected.backward()
    assert loss.item() == expected.item()
    assert torch.equal(masked.channels_BC.grad, plain.channels_BC.grad)
    assert torch.equal(model.fusion.predictor.weight.grad, model.head.weight.grad)


def test_the_words_that_are_left_change_what_is_said_of_hidden_ones_and_only_of_their_own_sample() -> None:
    idf_V = torch.ones(9)
    model, seen = WithWords(), seen_words(0.5)
    loss = MaskedWords(idf_V)(model, seen)
    rest = seen.readings.rest_BL.clone()
    assert (rest[1] == -1).all()  # an empty bag
    rows = [row for row in range(6) if (rest[row] >= 0).any()]
    rest[rows[0]] = torch.where(rest[rows[0]] >= 0, 7, -1)
    changed = dataclasses.replace(seen, readings=dataclasses.replace(seen.readings, rest_BL=rest))
    assert MaskedWords(idf_V)(model, changed).item() != loss.item()
    alone = dataclasses.replace(changed, weight_B=torch.tensor([float(row != rows[0]) for row in range(6)]))
    before = dataclasses.replace(seen, weight_B=alone.weight_B)
    assert MaskedWords(idf_V)(model, alone).item() == MaskedWords(idf_V)(model, before).item()


def test_wrong_partners_are_drawn_by_likeness_and_are_neither_the_sample_nor_its_text_again() -> None:
    model, seen = WithWords(), seen_words(0.5)
    counts = np.zeros((6, 6))
    for step in range(400):
        seen.readings = dataclasses.replace(seen.readings, draws_B2=torch.from_numpy(draw_matches(0, step, 6)))
        other, has = wrong_partners(model, seen)
        counts[np.arange(6), other[:, 0].numpy()] += 1
    assert has.all()
    assert not counts.diagonal().any()
    odds = 10 * seen.text_BD @ seen.image_BD.T
    odds = odds.fill_diagonal_(-torch.inf).softmax(dim=1).numpy()
    np.testing.assert_allclose(counts / 400, odds, atol=0.08)
    whole = seen.readings.whole_BL.clone()
    whole[:] = whole[0]
    seen.readings = dataclasses.replace(seen.readings, whole_BL=whole)
    assert not wrong_partners(model, seen)[1].any()  # all texts are equal
    assert math.isfinite(Match()(model, seen).item())


# What the transformer learns


def transformer(n_answers: int = 5) -> Model:
    torch.manual_seed(0)
    cfg = {**MODELS["tiny-resnet"], "text_cfg": {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1, "context_length": 16}}
    model = Model(Shape(model_cfg=cfg, text_tower="transformer", n_words=0, head=False))
    model.fusion = Fusion(
        FusionShape(reads="tokens", channels=96, n_places=4, text_width=32, width=64, n_answers=n_answers, match=True),
        torch.tensor([320, 1929, 2866, 4558, 10000])[:n_answers],
    )
    return model.eval()


def seen_tokens(model: Model) -> Seen:
    texts = ["a dog", "", "a red dog", "dog"]
    tokens = open_clip.SimpleTokenizer(context_length=16)(texts)
    end = tokens.argmax(dim=1)
    tokens = tokens[:, : int(end.max()) + 1]
    place = torch.arange(tokens.shape[1])
    hidden = (place == end[:, None] - 1) & (end[:, None] > 1)
    empty = torch.zeros(0, dtype=torch.int64)
    readings = Readings(tokens, end, hidden, empty, empty, empty, empty, np.zeros(5, np.int64), torch.from_numpy(draw_matches(0, 0, 4)))
    generator = torch.Generator().manual_seed(3)
    places, channels, image = see(model, torch.randn(4, 3, 64, 64, generator=generator))
    text = model.encode_text((open_clip.SimpleTokenizer(context_length=16)(texts),))
    return Seen(
        torch.arange(4), torch.ones(4), image, text, channels, empty, empty, torch.zeros(0), np.zeros(5, np.int64), places, readings
    )


def test_the_head_reads_the_states_that_open_clip_pools() -> None:
    model = transformer()
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a dog on grass", "cat"])
    end = tokens.argmax(dim=1)
    states = token_states(model, tokens[:, : int(end.max()) + 1])
    pooled = normalize(states[torch.arange(2), end] @ model.clip.text_projection, dim=1)
    torch.testing.assert_close(pooled, model.encode_text((tokens,)))


def test_a_hidden_token_is_not_read_and_others_after_it_and_before_it_are() -> None:
    model, seen = transformer(), None
    seen = seen_tokens(model)
    logits, answers, rows = masked_tokens(model, seen)
    assert rows.tolist() == [0, 2, 3]
    assert answers.tolist() == [1, 1, 1]  # dog is 1929
    other = seen.readings.whole_BL.clone()
    other[0, 2] = 2866  # the hidden one: what is said of it must not change
    there = torch.tensor([320, 1929, 2866, 4558, 10000])
    seen.readings = dataclasses.replace(seen.readings, whole_BL=other)
    again, answers, _ = masked_tokens(model, seen)
    assert torch.equal(again[0], logits[0])
    assert there[answers].tolist() == [2866, 1929, 1929]
    other[0, 1] = 4558  # one that is not hidden
    seen.readings = dataclasses.replace(seen.readings, whole_BL=other)
    assert not torch.equal(masked_tokens(model, seen)[0][0], logits[0])


def test_the_picture_changes_what_is_said_of_hidden_tokens() -> None:
    model = transformer()
    seen = seen_tokens(model)
    before = masked_tokens(model, seen)[0]
    seen.places_BNC = seen.places_BNC.roll(1, 0)
    assert not torch.allclose(masked_tokens(model, seen)[0], before)


def test_every_weight_of_the_head_and_of_both_towers_gets_a_gradient() -> None:
    model = transformer().train()
    seen = seen_tokens(model)
    (MaskedTokens()(model, seen) + Match()(model, seen)).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == ["clip.text_projection", "clip.logit_scale", "clip.visual.head.proj.weight"]  # what only embeddings go through
    still = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
    assert [name for name in still if ".layer" not in name] == []  # a residual branch begins at zero, and what is before it waits
    words = WithWords()
    seen = seen_words(0.5)
    (MaskedWords(torch.ones(9))(words, seen) + Match()(words, seen)).backward()
    bare = [name for name, p in words.named_parameters() if p.grad is None or not p.grad.any()]
    assert bare == ["scale_parameter", "words.projection.weight", "head.weight", "head.bias"]


def test_padding_after_a_text_is_not_read() -> None:
    model = transformer()
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a dog"])
    image = model.fusion.from_image(torch.randn(1, 4, 96))
    text, there = text_places(model, tokens[:, :4])
    short = model.fusion.fuse(text, there, image)
    text, there = text_places(model, tokens)
    torch.testing.assert_close(model.fusion.fuse(text, there, image)[:, :4], short)


def test_maps_of_either_layout_become_places() -> None:
    map_ = torch.randn(2, 5, 3, 4)
    assert torch.equal(as_places(map_, 5), as_places(map_.permute(0, 2, 3, 1), 5))
    assert as_places(map_.flatten(2).transpose(1, 2), 5).shape == (2, 12, 5)
    with pytest.raises(UsageError, match=r"the image tower's last layer gives \(5, 3, 4\), expected a map or tokens of 7 channels"):
        as_places(map_, 7)


# Runs


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "options",
    [
        {"text": "caption", "mask_rate": 0.5, "match_weight": 1.0},
        {"text": "bag", "text_tower": "words", "mask_rate": 0.5, "match_weight": 0.5, "objective": "joint"},
        {"text": "bag", "model": "tiny-vit", "mask_rate": 0.3, "mask_rule": "content"},
        {"text": "balanced", "captions": "one", "text_tower": "words", "mask_rate": 1.0},
    ],
    ids=["captions", "words", "vit", "one"],
)
def test_runs_learn_from_hidden_words_and_name_their_losses(data: str, tmp_path: Path, options: dict) -> None:
    run = train(data, out=tmp_path / "run", config=train_config(**{**QUICK, **options}))
    named = {"masked": "mask_rate" in options, "match": "match_weight" in options}
    for line in lines(run):
        assert {name: name in line for name in named} == named
    exported = read_model(run / "model")
    assert exported.model.fusion is not None
    assert exported.model.fusion.shape.match == named["match"]
    assert manifest.verify(run) == []
    if options.get("text_tower") != "words":  # what is left is open_clip's own
        theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{run / 'model'}")
        assert theirs.state_dict().keys() == exported.model.clip.state_dict().keys()


def test_a_frozen_tower_keeps_the_places_of_its_map(data: str, tmp_path: Path) -> None:
    first = train(data, out=tmp_path / "first", config=train_config(**QUICK, text="caption"))
    frozen = {**QUICK, "init": str(first), "train_image": "none", "text": "caption", "features": str(tmp_path / "features")}
    plain = train(data, out=tmp_path / "plain", config=train_config(**frozen))
    run = train(data, out=tmp_path / "run", config=train_config(**frozen, mask_rate=0.5, match_weight=1.0))
    assert "masked" in lines(run)[0]
    shapes = sorted(np.load(path).shape for path in (tmp_path / "features").rglob("*.npy"))
    assert shapes == [(24, 96), (24, 96), (24, 96 + 4 * 96), (24, 96 + 4 * 96)]
    trunk = {name: tensor for name, tensor in read_model(run / "model").model.state_dict().items() if ".trunk." in name}
    assert all(torch.equal(tensor, read_model(plain / "model").model.state_dict()[name]) for name, tensor in trunk.items())


@pytest.mark.parametrize("tower", ["words", "transformer"])
def test_the_head_goes_with_the_running_mean_with_bf16_and_with_evaluation_and_its_run_can_be_started_from(
    data: str, tmp_path: Path, tower: str
) -> None:
    options = {**QUICK, "text": "bag", "text_tower": tower, "mask_rate": 0.5, "match_weight": 0.5}
    seen = []

    def evaluate(encoder: object) -> dict[str, float]:
        seen.append(encoder.matcher is not None)  # pyright: ignore[reportAttributeAccessIssue]
        return {"score": 0.5}

    more = {"ema": 0.9, "evaluate_every": 2, "precision": "bf16", "force": True}
    run = train(data, out=tmp_path / "run", config=train_config(**options, **more), evaluate=evaluate)
    assert seen == [True] * len(seen) != []
    assert {line["masked"] > 0 for line in lines(run) if "masked" in line} == {True}
    assert read_model(run / "best").model.fusion is not None
    further = train(data, out=tmp_path / "further", config=train_config(**QUICK, text="bag", init=str(run), text_tower=tower))
    assert read_model(further / "model").model.fusion is None


def test_a_run_that_hides_nothing_is_named_as_by_earlier_versions(data: str, tmp_path: Path) -> None:
    run = train(data, out=tmp_path / "run", config=train_config(**QUICK))
    assert not {"mask_rate", "mask_rule", "match_weight"} & manifest.read_config(run)["config"].keys()
    assert "fusion" not in json.loads((run / "model" / "fistful.json").read_text())
    masked = train(data, out=tmp_path / "masked", config=train_config(**QUICK, mask_rate=0.5))
    assert manifest.read_config(masked)["config"]["mask_rate"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_rate": 1.5}, "--mask-rate 1.5: expected 0 to 1"),
        ({"match_weight": -1.0}, "--match-weight -1.0: expected 0 or more"),
        ({"mask_rule": "content"}, "--mask-rule content: says which words are hidden, and none are; give --mask-rate too"),
        (
            {"mask_rate": 0.5, "objective": "words"},
            "--mask-rate 0.5: reads texts, and --objective words has no text tower; use --objective joint. Without a text all words "
            "are hidden, which is what --objective words learns",
        ),
        (
            {"match_weight": 1.0, "accumulation": 2},
            "--match-weight 1.0: looks at more than embeddings, which --accumulation keeps alone; use --accumulation 1",
        ),
        ({"mask_rate": 0.5, "compile": True}, "--mask-rate 0.5: reads the text tower layer by layer, past --compile; leave --compile out"),
        ({"mask_rate": 0.5, "world_size": 2}, "--mask-rate 0.5: learns in one process, found 2; start one"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError) as error:
        train_config(**options)
    assert str(error.value) == message


def test_the_command_line_takes_the_options(data: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    asked = ["--mask-rate", "0.4", "--mask-rule", "content", "--match-weight", "0.5", "--text", "caption"]
    assert command(["train", data, "--out", out, *asked, "--steps", "2", "--batch-size", "8", "--no-progress"]) == 0
    config = manifest.read_config(tmp_path / "run")["config"]
    assert [config[name] for name in ("mask_rate", "mask_rule", "match_weight")] == [0.4, "content", 0.5]


def test_a_language_without_stop_words_has_no_content_words(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    samples = read_samples((data,))
    samples = dataclasses.replace(samples, word_options={**samples.word_options, "language": "xx"})
    with pytest.raises(UsageError, match="--mask-rule content: spaCy has no stop words of the data's language, xx; use --mask-rule unif"):
        Reader(train_config(mask_rate=0.5, mask_rule="content"), samples, open_clip.SimpleTokenizer())
