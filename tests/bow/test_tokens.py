"""Many chunks at a time have the tokens that each has alone."""

from __future__ import annotations

import pkgutil
from itertools import islice
from pathlib import Path

import pytest
import spacy
import spacy.lang
from hypothesis import given
from hypothesis import strategies as st
from spacy.attrs import IS_ALPHA, IS_STOP, LOWER
from spacy.util import get_lang_class

from benchmarks.generate import CLEAN, WEB, real_captions
from fistful.bow.long_chunks import LONG_CHUNK, MAX_CHUNK
from fistful.bow.tokens import BETWEEN, ChunkTokenizer, check_language
from fistful.errors import UsageError
from tests.support.strategies import ODD, WORDS

LANGUAGES = sorted(module.name for module in pkgutil.iter_modules(spacy.lang.__path__) if module.ispkg)
NLP = spacy.blank("en")
TOKENIZER = ChunkTokenizer("en")
"""One for all examples: what it remembers from one may not change the next."""
EXCEPTIONS = sorted(chunk for chunk in TOKENIZER.exceptions if len(chunk.split()) == 1 and chunk.split() == [chunk])


def one_by_one(chunks: list[str]) -> list[tuple[str, list[str]]]:
    return [(chunk, [token.text for token in NLP.make_doc(chunk)]) for chunk in chunks]


def test_each_chunk_comes_with_its_tokens() -> None:
    assert list(TOKENIZER.split(["(dogs)", "can't", "U.S."])) == [
        ("(dogs)", ["(", "dogs", ")"]),
        ("can't", ["ca", "n't"]),
        ("U.S.", ["U.S."]),
    ]
    assert list(TOKENIZER.split([])) == []


PIECES = st.one_of(
    st.sampled_from([word for word in (*WORDS, *ODD) if word.split() == [word]]),
    st.sampled_from(EXCEPTIONS),
    st.text("abZ59.,:;-'\"()/<>=+~*^$%_#@&", max_size=6),
    st.text(max_size=4),
)
CHUNKS = st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join), max_size=8).map(
    lambda texts: [chunk for text in texts for chunk in text.split()]
)


@given(CHUNKS)
def test_many_chunks_have_the_tokens_that_spacy_finds_in_each_alone(chunks: list[str]) -> None:
    assert list(TOKENIZER.split(chunks)) == one_by_one(chunks)


def test_a_chunk_has_the_same_tokens_whatever_stands_beside_it() -> None:
    """With a blank between chunks spaCy would see ":((" in the middle, cut ":(" and "(o:" up, and find the word "o"."""
    assert list(TOKENIZER.split(["x:(", "(o:y"])) == [("x:(", ["x", ":("]), ("(o:y", ["(o:", "y"])]
    assert [token.text for token in NLP("x:( (o:y")] == ["x", ":", "(", "(", "o", ":", "y"]


def test_every_two_exceptions_that_are_neighbours_are_as_spacy_has_them() -> None:
    marks = [chunk for chunk in EXCEPTIONS if not chunk.isalnum()]
    chunks = [text for i, chunk in enumerate(marks) for text in (f"x{chunk}", f"{marks[i * 7 % len(marks)]}y", chunk)]
    assert list(TOKENIZER.split(chunks)) == one_by_one(chunks)


def test_how_many_are_tokenized_at_a_time_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = ["(red", "dog)", "a" * LONG_CHUNK + "!", "can't", "x" * (MAX_CHUNK + 1), "b" * (LONG_CHUNK - 1), "e-mail", "犬。"]
    expected = [(chunk, tokens if len(chunk) <= MAX_CHUNK else []) for chunk, tokens in one_by_one(chunks)]
    for size in (0, 1, 10, 1_000):
        monkeypatch.setattr("fistful.bow.tokens.AT_ONCE", size)
        assert list(TOKENIZER.split(chunks)) == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_has_a_rule_or_an_attribute_that_this_does_not_know(language: str) -> None:
    rules = get_lang_class(language).Defaults
    assert not any(BETWEEN in chunk for chunk in rules.tokenizer_exceptions)
    assert not {LOWER, IS_ALPHA, IS_STOP} & set(rules.lex_attr_getters)  # then lower(), isalpha() and the stop words say it


@pytest.mark.parametrize("language", ["cs", "de", "fr", "it", "pt", "ru", "xx"])
def test_other_languages_have_their_own_tokens(language: str, data_root: Path) -> None:
    captions = real_captions(data_root / "captions", {"multi30k-en-de-fr-cs.tsv.gz": 2 if language == "fr" else 1})
    chunks = list(dict.fromkeys(chunk for text in islice(captions, 0, None, 20) for chunk in text.split()))
    nlp = spacy.blank(language)
    chunks += ["l'eau", "aujourd'hui", "dell'arte", "z.B.", "guarda-chuva", "т.е.", "10км.", "(čau)", "50%"]
    assert list(ChunkTokenizer(language).split(chunks)) == [(chunk, [token.text for token in nlp.make_doc(chunk)]) for chunk in chunks]


@pytest.mark.parametrize("files", [WEB, CLEAN], ids=["web", "clean"])
def test_chunks_of_real_captions_have_the_tokens_that_spacy_finds_in_each_alone(files: dict[str, int], data_root: Path) -> None:
    captions = real_captions(data_root / "captions", files)
    chunks = list(dict.fromkeys(chunk for text in islice(captions, 0, None, 1 if files is WEB else 20) for chunk in text.split()))
    assert list(TOKENIZER.split(chunks)) == one_by_one(chunks)


def test_a_language_that_spacy_does_not_tokenize_by_rules_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        check_language("ko")
    assert str(error.value) == "--language ko: spaCy's tokenizer for it does not go chunk by chunk, which is not supported"
