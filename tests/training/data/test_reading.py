"""Data folders as training sees them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fistful.bow.draw import number_of_key
from fistful.bow.vocabulary import read_vocabulary, write_vocabulary
from fistful.errors import DataError, UsageError
from fistful.training.data.reading import parse_folder, read_samples
from fistful.training.data.samples import read_picture
from fistful.training.recipes import tiny_clip, tiny_fistful, tiny_joint
from tests.support.data_folder import picture_bytes


def test_samples_are_rows_of_the_index_and_bytes_of_the_shards(data):
    samples = read_samples((data,))
    assert len(samples) == 48
    assert [number_of_key(key) for key in samples.keys.to_pylist()] == samples.number.tolist()
    assert read_picture(samples, 30) == picture_bytes(2 * 6 + 1)  # row 30 is row 6 of unit 1, which has the odd samples


def test_several_folders_follow_each_other_with_their_weights(data, write_data, tmp_path):
    other = write_data(tmp_path / "other", n=24, pseudo=True)
    samples = read_samples((data, f"{other}*2.5"))
    assert samples.weights == [1.0, 2.5]
    assert np.bincount(samples.folder).tolist() == [48, 24]
    assert samples.pseudo.tolist() == [False] * 48 + [True] * 24
    assert samples.name(50) == f"{other}: sample 00000_0000002"


@pytest.mark.parametrize(("text", "expected"), [("a/b", (Path("a/b"), 1.0)), ("a*3", (Path("a"), 3.0)), ("a*.5", (Path("a"), 0.5))])
def test_a_folder_may_have_a_weight(text, expected):
    assert parse_folder(text) == expected


@pytest.mark.parametrize("weight", ["", "x", "0", "-1", "nan", "inf"])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(UsageError, match="expected a number above 0, as in a\\*2"):
        parse_folder(f"a*{weight}")


def test_a_word_that_the_vocabulary_lacks_is_noticed(write_data, tmp_path):
    folder = write_data(tmp_path / "data")
    vocabulary = read_vocabulary(Path(folder))
    fewer = dataclasses.replace(
        vocabulary,
        **{name: getattr(vocabulary, name)[:2] for name in ("words", "tf", "df", "keep", "keep_u32")},
    )
    write_vocabulary(Path(folder), fewer)
    with pytest.raises(DataError, match="word id 6 in an index, the vocabulary has 2 words; the folder is damaged"):
        read_samples((folder,))


def test_recipes_differ_in_what_their_names_say():
    assert (tiny_clip().text.text, tiny_fistful().text.text, tiny_joint().loss.objective) == ("caption", "balanced", "joint")
    assert tiny_fistful(seed=3).run.seed == 3
