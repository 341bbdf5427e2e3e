"""What the text tower reads."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest

from fistful.bow.balance import Balance
from fistful.bow.draw import draw_bags
from fistful.bow.ragged import Ragged
from fistful.errors import UsageError
from fistful.training.data.reading import read_samples
from fistful.training.data.texts import BagTokens, CaptionTokens, TextLengths, bags_of, captions_of, measure_texts, reads_caption
from fistful.training.job import settle_by_data
from fistful.training.model.weights import Pretrained
from fistful.training.train import train
from fistful.training.train_config import TrainConfig, train_config
from tests.support.data_folder import change_column, make_data


def test_a_word_of_a_million_letters_is_tokenized_by_its_beginning():
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    blob = "A1b2+" * 200_000
    (short, long) = CaptionTokens(tokenizer, 16)(["red fox " + blob[:1_000], "red fox " + blob])
    assert long.tolist() == short.tolist() == tokenizer(["red fox " + blob[:2_000]])[0].tolist()
    bags = BagTokens(tokenizer, ["z" * 1_000_000, "fox"], 16)(Ragged(np.array([0, 2]), np.array([1, 0])))
    assert tokenizer.decode(bags[0].tolist()).startswith("<start_of_text>fox ")


@pytest.fixture(scope="module")
def samples(data):
    return read_samples((data,))


def words_of(samples, bags):
    return [[samples.vocabulary.words[i] for i in bag] for bag in bags]


def test_a_full_bag_has_all_words_in_the_order_of_first_appearance(samples):
    bags = bags_of(train_config(text="bag"), samples, samples.vocabulary, np.array([0, 1]), np.array([0, 0]))
    assert words_of(samples, bags) == [["red", "square"], ["blue", "square"]]


def test_balanced_bags_are_drawn_anew_each_epoch_and_as_the_bags_job_draws_them(samples):
    rows, config, half = np.arange(48), train_config(seed=5), samples.vocabulary.balanced(Balance(rule="random", kept=0.5))
    drawn = [bags_of(config, samples, half, rows, np.full(48, epoch)) for epoch in (0, 1)]
    assert words_of(samples, drawn[0]) != words_of(samples, drawn[1])
    expected, _ = draw_bags(samples.bags, samples.number, half.keep_u32, 5, 1, blind=True)
    assert words_of(samples, expected) == words_of(samples, drawn[1])


def test_a_batch_over_the_end_of_an_epoch_draws_each_part_for_its_own(samples):
    config, half = TrainConfig(), samples.vocabulary.balanced(Balance(rule="random", kept=0.5))
    both = bags_of(config, samples, half, np.array([3, 4, 3, 4]), np.array([0, 0, 1, 1]))
    parts = [bags_of(config, samples, half, np.array([3, 4]), np.full(2, epoch)) for epoch in (0, 1)]
    assert words_of(samples, both) == words_of(samples, parts[0]) + words_of(samples, parts[1])


def test_one_of_several_captions_is_drawn_each_epoch(samples):
    seen = [captions_of(samples, np.array([0]), np.array([epoch]), 0)[0] for epoch in range(20)]
    assert set(seen) == {"A red square.", "This square is red."}


def test_bags_become_the_tokens_of_their_words_cut_at_whole_words():
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    words = ["red", "antidisestablishmentarianism", "bar"]
    tokens = BagTokens(tokenizer, words, 8)(Ragged(np.array([0, 2, 4, 4]), np.array([0, 2, 2, 1])))
    assert tokens[0].tolist() == tokenizer(["red bar"])[0].tolist()
    assert tokens[1].tolist() == tokenizer(["bar"])[0].tolist()  # the long word needs 6 of the 5 places left
    assert tokens[2].tolist() == tokenizer([""])[0].tolist()


QUICK = {"steps": 1, "batch_size": 8, "warmup": 1, "threads": 1, "progress": False, "model": "tiny-vit"}
LONG = [f"strangeword{i}" for i in range(12)]
"""Words of several tokens each."""


@pytest.fixture(scope="module")
def long_data(tmp_path_factory):
    """24 samples, of which a half have the bag of all 19 words."""
    folder = make_data(tmp_path_factory.mktemp("long") / "bags", n=24, units=1, words=LONG)
    return change_column(folder, "words", lambda row, bag: list(range(19)) if row % 2 else bag)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [([], 16), ([4, 9], 16), ([17], 24), ([24] * 3, 24), ([25], 32), ([10] * 99 + [90], 16), ([10] * 98 + [90] * 2, 77), ([73], 77)],
)
def test_the_context_is_the_smallest_multiple_of_8_that_holds_99_of_100_texts(tokens, expected):
    assert TextLengths(np.array(tokens, np.int64)).fitting() == expected


@pytest.mark.parametrize(
    "options",
    [{"text": "bag"}, {"text": "balanced", "rule": "random", "kept": 0.5}, {"text": "caption"}, {"text": "bag", "intact": 0.5}],
)
def test_a_text_is_as_long_as_its_tokens(samples, options):
    tokenizer, rows, first = open_clip.SimpleTokenizer(), np.arange(48), np.zeros(48, np.int64)
    config = train_config(**options)
    rule = config.text.balance()
    vocabulary = samples.vocabulary if rule is None else samples.vocabulary.balanced(rule)
    bags = [" ".join(words) for words in words_of(samples, bags_of(config, samples, vocabulary, rows, first))]
    captioned = reads_caption(config, samples, rows)
    texts = [caption if is_one else bag for caption, is_one, bag in zip(captions_of(samples, rows, first, 0), captioned, bags, strict=True)]
    expected = [len(tokenizer.encode(text)) + 2 for text in texts]
    assert measure_texts(config, samples, vocabulary, tokenizer, rows).tokens.tolist() == expected


def test_the_context_is_chosen_from_the_data_and_nothing_of_it_is_cut(long_data, tmp_path, capsys):
    run = train(long_data, out=tmp_path / "run", config=train_config(**QUICK, text="bag"))
    tokenizer, words = open_clip.SimpleTokenizer(), read_samples((long_data,)).vocabulary.words
    longest = 2 + len(tokenizer.encode(" ".join(words)))
    assert longest > 16
    chosen = json.loads((run / "config.json").read_text())["config"]["context_length"]
    assert chosen == -(-longest // 8) * 8
    told = json.loads((run / "logs" / "texts.json").read_text())
    assert (told["texts"], told["texts_cut"], told["tokens_cut"], told["context_length"]) == (24, 0, 0, chosen)
    assert capsys.readouterr().err == ""


def test_what_a_given_context_cuts_off_is_counted_and_said(long_data, tmp_path, capsys):
    run = train(long_data, out=tmp_path / "run", config=train_config(**QUICK, text="bag", context_length=16))
    told = json.loads((run / "logs" / "texts.json").read_text())
    assert (told["texts"], told["texts_cut"], told["context_length"]) == (24, 12, 16)
    longest = told["tokens_cut"] // 12 + 16
    share = told["tokens_cut"] / told["tokens"]
    said = f"train: 16 text positions cut 50.00% of the texts, {share:.2%} of their tokens; --context-length {longest} would hold all\n"
    assert capsys.readouterr().err == said


def test_with_captions_pseudo_labelled_samples_are_read_by_their_bag_and_that_is_said(data, write_data, tmp_path, capsys, seen):
    labelled = _captionless(write_data(tmp_path / "labelled", n=24, units=1, pseudo=True))
    train(data, labelled, out=tmp_path / "run", config=train_config(**{**QUICK, "steps": 9}, text="caption", pseudo="fixed"))
    assert capsys.readouterr().err == "train: 24 of 72 samples have no caption: their bag is their text\n"
    shown = [tokens for batch in seen for row, tokens in zip(batch.rows, batch.text[0], strict=True) if row >= 48]
    texts = [open_clip.SimpleTokenizer().decode(tokens[tokens > 0].tolist()) for tokens in shown]
    read = [text.removeprefix("<start_of_text>").removesuffix("<end_of_text>").strip() for text in texts]
    assert read
    assert all(set(text.split()) & {"red", "green", "blue", "yellow"} for text in read)


def _captionless(folder):
    return change_column(folder, "captions", lambda row, captions: [])


def test_captions_that_nobody_has_are_refused(write_data, tmp_path):
    labelled = _captionless(write_data(tmp_path / "labelled", n=24, units=1, pseudo=True))
    with pytest.raises(UsageError) as error:
        train(labelled, out=tmp_path / "run", config=train_config(**QUICK, text="caption", pseudo_share=1))
    assert str(error.value) == (
        "--text caption: found no sample with a caption; use --text bag or balanced, or add a folder that has captions"
    )


def test_empty_texts_are_said(write_data, tmp_path, capsys):
    wordless = write_data(tmp_path / "data", n=24, wordless=[3, 5])
    train(wordless, out=tmp_path / "run", config=train_config(**QUICK, text="bag"))
    assert capsys.readouterr().err == "train: 2 of 24 samples have no word: their text is empty; --exclude leaves them out\n"


def test_a_text_tower_that_is_taken_over_bounds_the_context():
    config, found = train_config(init="x", init_towers="both"), Pretrained(image={}, model_cfg={"text_cfg": {"context_length": 20}})
    lengths, order = TextLengths(np.array([50])), None
    assert settle_by_data(config, order, lengths, found).model.context_length == 20
    assert settle_by_data(train_config(init="x"), order, lengths, found).model.context_length == 56
