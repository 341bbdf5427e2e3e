"""Words of captions equal what spaCy finds in the whole text, whatever the text."""

from __future__ import annotations

import csv
import gzip
import io
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from fistful.bow.long_chunks import MAX_CHUNK, WINDOW, _at_end, tokenizer_of_long
from fistful.bow.ragged import Ragged
from fistful.bow.tokens import check_language
from fistful.bow.words import Analyzer, WordOptions, first_appearances
from fistful.errors import UsageError
from tests.support.strategies import WHITE, captions, make_ragged, rows_of

NLP = spacy.blank("en")
LONG_TOKENIZER = tokenizer_of_long(NLP.tokenizer)
SHARED = Analyzer(WordOptions())
"""One analyzer for all examples: what it remembers from one may not change the next."""


def words_of(analyzer: Analyzer, texts: list[str]) -> list[list[str]]:
    return [[analyzer.words[i] for i in row] for row in analyzer.analyse(pa.array(texts, pa.string()))]


def whole_text(text: str) -> list[str]:
    return [token.lower_ for token in NLP(text) if token.is_alpha and not token.is_stop]


def test_a_caption_becomes_lower_case_alphabetic_words_without_stop_words() -> None:
    analyzer = Analyzer(WordOptions())
    assert words_of(analyzer, ["Two dogs (one brown) chase the 3 cats!", "", "the"]) == [["dogs", "brown", "chase", "cats"], [], []]


def test_every_step_is_an_option() -> None:
    assert words_of(Analyzer(WordOptions(stop_words=True)), ["The dog is a dog"]) == [["the", "dog", "is", "a", "dog"]]
    assert words_of(Analyzer(WordOptions(min_length=4)), ["brown dog runs"]) == [["brown", "runs"]]
    assert words_of(Analyzer(WordOptions(language="de")), ["Der Hund und die Straße"]) == [["hund", "straße"]]


def test_no_captions_give_no_rows() -> None:
    assert len(Analyzer(WordOptions()).analyse(pa.array([], pa.string()))) == 0


def test_a_slice_of_an_array_gives_its_own_rows() -> None:
    texts = pa.array(["red dog", "blue cat", "green tree"], pa.string())
    analyzer = Analyzer(WordOptions())
    assert [[analyzer.words[i] for i in row] for row in analyzer.analyse(texts.slice(1, 1))] == [["blue", "cat"]]


@given(captions())
def test_any_text_gives_the_words_of_spacys_whole_text(text: str) -> None:
    assert words_of(SHARED, [text]) == [whole_text(text)]


@given(st.lists(captions(), max_size=6))
def test_a_batch_gives_what_its_captions_give_alone(texts: list[str]) -> None:
    assert words_of(SHARED, texts) == [words_of(SHARED, [text])[0] for text in texts]


@pytest.mark.parametrize("between", WHITE, ids=lambda c: f"U+{ord(c):04X}")
def test_every_white_space_of_unicode_parts_words(between: str) -> None:
    text = f"{between}red{between}dog runs{between}{between}home{between}"
    assert words_of(SHARED, [text]) == [["red", "dog", "runs", "home"]] == [whole_text(text)]


def test_no_other_character_parts_what_spacy_keeps_together() -> None:
    others = [chr(i) for i in range(0x3000) if not chr(i).isspace() and not 0xD800 <= i < 0xE000]
    texts = [f"red{c}dog runs" for c in others]
    assert words_of(Analyzer(WordOptions()), texts) == [whole_text(text) for text in texts]


RULES = sorted(rule for rule in NLP.tokenizer.rules if not any(map(str.isspace, rule)))  # pyright: ignore[reportOptionalIterable]
MARKS = ["", ",", ".", ":", ";", "!", "?", ")", '"', "'s", "\u2019s", "'", "..", ".,", "-", "("]
LETTERS = st.text("abcdefgsxyzABDXUZ", min_size=1, max_size=6)


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "", "(", '"', "-"]), st.one_of(LETTERS, st.sampled_from(RULES)), st.sampled_from(MARKS)), max_size=6
    )
)
def test_chunks_whose_tokens_are_known_without_spacy_are_as_spacy_has_them(parts: list[tuple[str, str, str]]) -> None:
    text = " ".join("".join(part) for part in parts)
    assert words_of(Analyzer(WordOptions()), [text]) == [whole_text(text)]


def test_every_exception_of_spacys_with_every_mark_behind_it_is_as_spacy_has_it() -> None:
    texts = [f"{rule}{mark}" for rule in RULES for mark in MARKS]
    texts += [f"{rule[:cut]}{mark}" for rule in RULES for mark in MARKS for cut in (1, 2, -1) if rule[:cut]]
    texts = list(dict.fromkeys(texts))
    different = [text for text, words in zip(texts, words_of(Analyzer(WordOptions()), texts), strict=True) if words != whole_text(text)]
    assert different == []


RUNS = st.lists(
    st.tuples(
        st.sampled_from(
            ["(", "!", "...", "'s", "US$", "\U0001f600", ":", ")", "a", "don't", "e.g.", "5km", "wow", "犬", "/", "-", '"', "x.com"]
        ),
        st.integers(1, 120),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60)
@given(RUNS)
def test_long_chunks_give_the_words_of_spacys_whole_text(runs: list[tuple[str, int]]) -> None:
    text = "".join(piece * n for piece, n in runs)[:1_500]
    assert [token.text for token in LONG_TOKENIZER(text)] == [token.text for token in NLP(text)]
    assert words_of(SHARED, [text]) == [whole_text(text)]


def test_a_run_of_marks_asks_for_no_search_of_the_whole_chunk() -> None:
    """The time grows with the length: what is searched for each mark is as long as the window, not as the chunk."""
    searched: list[int] = []

    def search(text: str, start: int = 0, end: int | None = None) -> re.Match[str] | None:
        searched.append((len(text) if end is None else end) - start)
        return NLP.tokenizer.suffix_search(text, start, len(text) if end is None else end)  # pyright: ignore[reportOptionalCall]

    assert all(_at_end(search)("a" + "!" * n) for n in range(1, 2_000))
    assert max(searched) == WINDOW


@pytest.mark.parametrize("form", ["x{}", "{}x", "A1b2{}", "{}"])
def test_a_chunk_past_the_longest_has_no_words_and_its_caption_keeps_the_others(form: str) -> None:
    blob = form.format("z" * 1_200_000)
    analyzer = Analyzer(WordOptions())
    assert words_of(analyzer, [f"red fox {blob} runs", "blue whale"]) == [["red", "fox", "runs"], ["blue", "whale"]]
    assert analyzer.explain(blob) == [(blob.lower(), "too_long")]
    assert words_of(analyzer, ["z" * MAX_CHUNK, "z" * (MAX_CHUNK + 1)]) == [["z" * MAX_CHUNK], []]


def test_a_phrase_does_not_reach_over_what_is_too_long(tmp_path: Path) -> None:
    analyzer = Analyzer(WordOptions(phrases="great white shark\n"))
    assert words_of(analyzer, [f"great {'z' * 20_000} white shark", "great white shark"]) == [
        ["great", "white", "shark"],
        ["great white shark"],
    ]


def test_long_words_make_the_tables_start_afresh_as_many_words_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fistful.bow.words.MAX_LETTERS", 100)
    analyzer = Analyzer(WordOptions())
    assert words_of(analyzer, ["red " + "x" * 90, "y" * 90, "red dog"]) == [["red", "x" * 90], ["y" * 90], ["red", "dog"]]
    assert analyzer.is_full()
    analyzer.forget()
    assert not analyzer.is_full()


def test_what_is_remembered_may_be_forgotten_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fistful.bow.words.MAX_CHUNKS", 2)
    analyzer = Analyzer(WordOptions())
    texts = ["red dog runs", "blue cat sits", "red dog sits", "blue dog runs"]
    assert [words_of(analyzer, [text])[0] for text in texts] == [text.split() for text in texts]
    assert analyzer.words == ["red", "dog", "runs", "blue", "cat", "sits"]
    assert analyzer.is_full()
    analyzer.forget()
    assert (analyzer.words, analyzer.is_full()) == ([], False)
    assert words_of(analyzer, texts) == [text.split() for text in texts]


def lines(data_root: Path, name: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(gzip.open(data_root / "captions" / name), "utf-8", newline="")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["laion-alttext.csv.gz", "cc3m-val.tsv.gz", "flickr30k.token.gz"])
def test_real_captions_give_the_words_of_spacys_whole_text(data_root: Path, name: str) -> None:
    with lines(data_root, name) as file:
        rows: Iterable[list[str]] = csv.reader(file) if ".csv" in name else (line.rstrip("\n").split("\t") for line in file)
        texts = [row[0 if name.startswith("cc3m") else 1] for row in islice(rows, 0, 6_000, 4)]

    assert words_of(SHARED, texts) == [whole_text(text) for text in texts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "ja"}, "--language ja: its script has no spaces between words, which is not supported"),
        ({"min_length": 0}, "--min-length 0: expected 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        WordOptions(**options)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


WITHOUT_TORCH = """
import sys
from fistful.bow.long_chunks import MAX_CHUNK, WINDOW, _at_end, tokenizer_of_long
from fistful.bow.words import Analyzer, WordOptions
Analyzer(WordOptions())
print("torch" in sys.modules)
import torch
print(torch.__version__ != "")
"""


def test_words_need_no_torch_and_do_not_stand_in_its_way() -> None:
    pytest.importorskip("torch")
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, capture_output=True, text=True)
    assert run.stdout == "False\nTrue\n"


def test_a_language_that_spacy_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--language klingon: spaCy has no such language, or needs another package \(.*\)$"):
        check_language("klingon")


def test_a_bag_is_a_set_in_the_order_of_first_appearance() -> None:
    words = make_ragged([[7, 2, 7, 7, 1, 2], [], [2, 2], [9]])
    assert rows_of(first_appearances(words)) == [[7, 2, 1], [], [2], [9]]


@given(st.lists(st.lists(st.integers(0, 5), max_size=80), max_size=9))
def test_first_appearances_equal_a_plain_loop(rows: list[list[int]]) -> None:
    assert rows_of(first_appearances(make_ragged(rows))) == [list(dict.fromkeys(row)) for row in rows]


def test_rows_can_be_taken_and_joined() -> None:
    words = make_ragged([[1, 2], [], [3]])
    assert rows_of(words.take(np.array([True, False, True]))) == [[1], [], [3]]
    assert rows_of(words.join_rows(np.array([0, 2, 3]))) == [[1, 2], [3]]
    assert words.rows().tolist() == [0, 0, 2]
    assert words.lengths().tolist() == [2, 0, 1]
    assert isinstance(words, Ragged)
