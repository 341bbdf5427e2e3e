"""What the text tower reads."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest

from fistful.bow.balance import Balance
from fistful.bow.draw import draw_bags
from fistful.bow.words import Ragged
from fistful.training.config import TrainConfig
from fistful.training.data import read_samples
from fistful.training.text import BagTokens, CaptionTokens, bags_of, captions_of


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
    bags = bags_of(TrainConfig(text="bag"), samples, samples.vocabulary, np.array([0, 1]), np.array([0, 0]))
    assert words_of(samples, bags) == [["red", "square"], ["blue", "square"]]


def test_balanced_bags_are_drawn_anew_each_epoch_and_as_the_bags_job_draws_them(samples):
    rows, config, half = np.arange(48), TrainConfig(seed=5), samples.vocabulary.balanced(Balance(rule="random", kept=0.5))
    drawn = [bags_of(config, samples, half, rows, np.full(48, epoch)) for epoch in (0, 1)]
    assert words_of(samples, drawn[0]) != words_of(samples, drawn[1])
    expected, _ = draw_bags(samples.bags, samples.number, half.keep_u32, 5, 1)
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
