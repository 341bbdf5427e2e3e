"""Phrases: names of several words become one word, the longest first; lists are known by what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.phrases import Phrases, inline
from fistful.bow.words import Analyzer, WordOptions
from fistful.errors import UsageError
from tests.support.strategies import make_ragged


def words_of(options: WordOptions, *texts: str) -> list[list[str]]:
    analyzer = Analyzer(options)
    return [[analyzer.words[i] for i in row] for row in analyzer.analyse(pa.array(texts, pa.string()))]


LIST = "great white shark\nwhite shark\nbird of prey\ngreat white\nblack-footed ferret\nfire engine\ndog\n"


def test_names_of_several_words_become_one_word_the_longest_first() -> None:
    options = WordOptions(phrases=LIST)
    assert words_of(options, "A Great White  Shark!", "the white shark, a great white", "great white sharks") == [
        ["great white shark"],
        ["white shark", "great white"],
        ["great white", "sharks"],
    ]


def test_phrases_are_found_before_words_are_left_out_and_across_chunks() -> None:
    options = WordOptions(phrases=LIST)
    assert words_of(options, "a bird of prey", "birds of prey", "the black-footed ferret", "fire. engine", "a dog") == [
        ["bird of prey"],
        ["birds", "prey"],
        ["black-footed ferret"],
        ["fire", "engine"],
        ["dog"],
    ]


def test_without_phrases_nothing_changes_and_with_phrases_that_never_occur_nothing_does() -> None:
    texts = ("Two dogs (one brown) chase the 3 cats!", "it's a 1990s e-mail", "", "U.S.A.")
    assert words_of(WordOptions(), *texts) == words_of(WordOptions(phrases="never seen\n"), *texts)


def test_phrases_do_not_reach_from_one_caption_into_the_next() -> None:
    assert words_of(WordOptions(phrases=LIST), "a great white", "shark") == [["great white"], ["shark"]]


def test_words_on_the_deny_list_are_dropped_phrases_with_all_their_words() -> None:
    assert words_of(WordOptions(deny="Photo\nstock\n"), "Stock photo of a photographer") == [["photographer"]]
    assert words_of(WordOptions(phrases=LIST, deny="great white\nwhite\n"), "a great white on white sand") == [["sand"]]


def test_without_alphabetic_a_letter_or_digit_is_enough() -> None:
    assert words_of(WordOptions(alphabetic=False), "3D e-mail, 2 dogs & a cat!") == [["3d", "e", "mail", "2", "dogs", "cat"]]


def test_imagenets_names_are_known() -> None:
    assert words_of(WordOptions(phrases="imagenet1k"), "a golden retriever beside a fire truck")[0][0] == "golden retriever"
    names = inline("phrases", "imagenet1k").splitlines()
    assert len([name for name in names if " " in name]) > 500


def test_a_list_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("Stock Photo\n\nimage  \nimage\n")
    second.write_text("image\r\nstock   photo", newline="")
    text = "image\nstock photo\n"
    assert inline("deny", str(first)) == inline("deny", str(second)) == inline("deny", text) == text
    first.write_text("\ufeffStock Photo\nimage\n", "utf-8")
    assert inline("deny", str(first)) == text
    assert inline("deny", "") == ""
    assert WordOptions(deny=str(first)).inlined() == WordOptions(deny=str(second)).inlined()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "--deny {path}: no such file; expected a word or name a line, or imagenet1k"),
        (
            b"caf\xe9",
            "--deny {path}: not UTF-8 (unexpected end of data at byte 3); expected a word or name a line, or imagenet1k, "
            "in UTF-8: iconv -f cp1252 -t utf-8 {path} > NEW, if it is Windows-1252 or Latin-1",
        ),
        (
            "image\n".encode("utf-16"),
            "--deny {path}: not UTF-8 but UTF-16; expected a word or name a line, or imagenet1k, "
            "in UTF-8: iconv -f UTF-16 -t utf-8 {path} > NEW",
        ),
        (b"\n \n", "--deny {path}: holds no word"),
    ],
)
def test_lists_that_cannot_be_read_are_told(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "deny.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError) as error:
        inline("deny", str(path))
    assert str(error.value) == message.format(path=path)


def plain_loop(row: list[int], phrases: dict[tuple[int, ...], int]) -> list[tuple[int, int, int]]:
    found, place = [], 0
    while place < len(row):
        lengths = [n for n in range(len(row) - place, 1, -1) if tuple(row[place : place + n]) in phrases]
        if lengths:
            found.append((place, lengths[0], phrases[tuple(row[place : place + lengths[0]])]))
        place += lengths[0] if lengths else 1
    return found


PHRASES = st.dictionaries(st.lists(st.integers(0, 3), min_size=2, max_size=4).map(tuple), st.integers(0, 99), max_size=6)


@given(PHRASES, st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=6))
def test_found_phrases_equal_a_plain_loop(phrases: dict[tuple[int, ...], int], rows: list[list[int]]) -> None:
    tokens = make_ragged(rows)
    found = Phrases(phrases).find(tokens.offsets, tokens.values.astype(np.int32))
    starts = tokens.offsets.tolist()
    expected = [(start + place, n, k) for start, row in zip(starts, rows, strict=False) for place, n, k in plain_loop(row, phrases)]
    assert found == expected


def test_a_row_of_nothing_but_phrases_is_not_copied_for_each_of_them() -> None:
    n = 200_000  # copies of the rest of the row would be 160 GB
    found = Phrases({(5, 6): 90}).find(np.array([0, 2 * n]), np.tile(np.array([5, 6]), n))
    assert (len(found), found[-1]) == (n, (2 * n - 2, 2, 90))
