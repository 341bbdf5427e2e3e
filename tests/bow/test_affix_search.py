"""The searches find what spaCy's find, for the rules of every language and for rules that are odd."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from typing import Any

import pytest
import spacy.lang
from hypothesis import given
from hypothesis import strategies as st
from spacy.util import compile_infix_regex, compile_prefix_regex, compile_suffix_regex, get_lang_class

from fistful.bow.affix_search import infix_finditer, prefix_search, suffix_search

LANGUAGES = sorted(module.name for module in pkgutil.iter_modules(spacy.lang.__path__) if module.ispkg)
RULES = get_lang_class("en").Defaults

WALKED = [chr(i) for i in (*range(0x3100), *range(0xFE00, 0xFFFE), *range(0x1F000, 0x1FB00))]
"""Where the marks, units, currencies and symbols of spaCy's rules are."""
FORMS = ("{}", "a{}", "A{}", "5{}", "{}a", "{}5", "a{}b", "a{}B", "5{}5", "a{}{}b", "AB{}", "°C{}", "US{}")
LIKELY = st.sampled_from(
    [*"aZ5.,-–'’\"()/:=<>+*^$%€°…~_#&™é犬я", "..", "--", "US$", "km", "km²", "m/s", "'s", "’S", "°C", "5m", "\U0001f600"]
)


def span(match: re.Match[str] | None) -> tuple[int, int] | None:
    return match and match.span()


def spans(matches: Any) -> list[tuple[int, int]]:
    return [match.span() for match in matches]


def pairs(rules: Any) -> list[tuple[Callable[[str], Any], Callable[[str], Any]]]:
    """Return what our searches find and what spaCy's do, for prefixes, suffixes and infixes, as far as a language has rules."""
    made = [
        (prefix_search(tuple(rules.prefixes or ())), compile_prefix_regex(rules.prefixes or ()).search, span),
        (suffix_search(tuple(rules.suffixes or ())), compile_suffix_regex(rules.suffixes or ()).search, span),
        (infix_finditer(tuple(rules.infixes or ())), compile_infix_regex(rules.infixes or ()).finditer, spans),
    ]
    return [(_then(ours, told), _then(theirs, told)) for ours, theirs, told in made if ours]


def _then(find: Callable[[str], Any], told: Callable[[Any], Any]) -> Callable[[str], Any]:
    return lambda text: told(find(text))


ENGLISH = pairs(RULES)


def test_a_suffix_is_found_where_its_rule_says() -> None:
    find = suffix_search((r"\)", r"(?<=[0-9])(?:km|m)", r"\.\.+"))
    assert find is not None
    assert [span(find(text)) for text in ("10km", "room", "room)", "wait...", "", "km")] == [(2, 4), None, (4, 5), (4, 7), None, None]


def test_every_character_in_every_place_is_as_spacy_has_it() -> None:
    texts = [form.replace("{}", character) for form in FORMS for character in WALKED]
    assert [text for ours, theirs in ENGLISH for text in texts if ours(text) != theirs(text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_rules_of_every_language_are_understood_or_tried_as_they_are(language: str) -> None:
    characters = [*map(chr, range(33, 0x250)), *"яЖ犬のกक\u0301\u0591\u060c\u066a\u3002\uff01\u2026\u20ac\U0001f600"]
    texts = [form.replace("{}", character) for form in FORMS for character in characters[:: 1 if language == "en" else 3]]
    assert [text for ours, theirs in pairs(get_lang_class(language).Defaults) for text in texts if ours(text) != theirs(text)] == []


@given(st.lists(st.one_of(LIKELY, st.text(max_size=2)), max_size=8).map("".join))
def test_any_text_is_as_spacy_has_it(text: str) -> None:
    assert [ours(text) for ours, _ in ENGLISH] == [theirs(text) for _, theirs in ENGLISH]


ODD = [
    ("a|b",),
    ("(?i:km)", "x"),
    (r"\d+", r"\w(?<=x)"),
    ("[^a-y]", "a?"),
    (r"(?<=a)(?=b)", "-"),
    ("(a)(?:b|c?)", r"(?:xy){2,3}", "x*?y"),
    ("ab|ac", "[a-c]b{1}"),
    ("(?>ab|a)", "a++"),
    ("^b", "a$"),
    ("", "  ", "c"),
]


@pytest.mark.parametrize("rules", ODD, ids=str)
@given(text=st.text("abcdkmKMxy1-", max_size=7))
def test_odd_rules_match_as_they_do_in_spacy(rules: tuple[str, ...], text: str) -> None:
    prefix, suffix, infix = prefix_search(rules), suffix_search(rules), infix_finditer(rules)
    assert prefix
    assert suffix
    assert infix
    assert span(prefix(text)) == span(compile_prefix_regex(rules).search(text))
    assert span(suffix(text)) == span(compile_suffix_regex(rules).search(text))
    assert spans(infix(text)) == spans(compile_infix_regex(rules).finditer(text))


def test_no_rules_are_no_search() -> None:
    assert (prefix_search(()), suffix_search((" ",)), infix_finditer(())) == (None, None, None)
