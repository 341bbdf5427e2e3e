r"""spaCy's searches for where a chunk is cut, with only the rules that can match: the same matches, in a third of the time.

spaCy tries every rule at every character, which is most of what it does with a new chunk. A rule's parse tree says
in which characters its matches begin and end; of a rule that is not understood, every character is taken to.

>>> find = suffix_search((r"\)", r"(?<=[0-9])(?:km|m)"))
>>> find("(10km").start(), find("room"), find("room)").start()
(3, None, 4)
>>> [match.span() for match in infix_finditer(("-", r"(?<=[a-z])\.(?=[A-Z])"))("co-op.The.end")]
[(2, 3), (5, 6)]
"""

from __future__ import annotations

import functools
import re
import re._parser as parser  # pyright: ignore[reportMissingImports] # in every Python since 3.11
import sys
from collections.abc import Callable, Iterable
from typing import Any

Match = re.Match[str]
Search = Callable[[str], Match | None]
Ranges = set[tuple[int, int]]
"""First and last code of ranges of characters."""

BMP = 0xFFFF
ANY = {(0, sys.maxunicode)}
WITHOUT_WIDTH = frozenset({parser.AT, parser.ASSERT, parser.ASSERT_NOT})
REPEATS = frozenset({parser.MAX_REPEAT, parser.MIN_REPEAT, parser.POSSESSIVE_REPEAT})
IGNORING_CASE = re.compile(r"\(\?[a-zA-Z]*i")


@functools.lru_cache(maxsize=8)  # what is made depends on the rules alone, and each analyzer asks for it
def prefix_search(rules: tuple[str, ...]) -> Search | None:
    """Return what finds a prefix as `search` of spaCy's compile_prefix_regex does; None without rules.

    Args:
        rules: Regular expressions, as spaCy's languages have them.
    """
    trees = {f"^{rule}": parser.parse(f"^{rule}") for rule in rules if rule.strip()}
    alike = all(tree[0] == (parser.AT, parser.AT_BEGINNING) for tree in trees.values())
    return _search(trees, 0, alike) if trees else None


@functools.lru_cache(maxsize=8)
def suffix_search(rules: tuple[str, ...]) -> Search | None:
    """Return what finds a suffix as `search` of spaCy's compile_suffix_regex does; None without rules.

    Args:
        rules: Regular expressions, as spaCy's languages have them.
    """
    trees = {f"{rule}$": parser.parse(f"{rule}$") for rule in rules if rule.strip()}
    alike = all(tree[-1] == (parser.AT, parser.AT_END) for tree in trees.values())
    return _search(trees, -1, alike) if trees else None


def _search(trees: dict[str, Any], place: int, alike: bool) -> Search:
    """Search with those rules alone whose matches may have a text's first (place 0) or last (-1) character there.

    Args:
        trees: Rules and their parse trees, in order.
        place: Where all matches are.
        alike: Whether they are; a rule such as "a|b" leaves "a" anywhere.
    """
    search_all = re.compile("|".join(trees)).search
    if not alike:
        return search_all
    edges = [(rule, *span) for rule, tree in trees.items() for span in _edges(rule, tree, place)]
    by_rules: dict[tuple[str, ...], Search | None] = {(): None}
    by_character: dict[str, Search | None] = {"\n": search_all}  # "$" is before a line break too

    def choose(character: str) -> Search | None:
        code = ord(character)
        fit = tuple(dict.fromkeys(rule for rule, first, last in edges if first <= code <= last))
        if fit not in by_rules:
            by_rules[fit] = re.compile("|".join(fit)).search
        return by_rules[fit]

    def find(text: str) -> Match | None:
        if not text:
            return search_all(text)
        character = text[place]
        try:
            search = by_character[character]
        except KeyError:
            search = by_character[character] = choose(character)
        return search(text) if search else None

    return find


@functools.lru_cache(maxsize=8)
def infix_finditer(rules: tuple[str, ...]) -> Callable[[str], Iterable[Match]] | None:
    """Return what finds the infixes that `finditer` of spaCy's compile_infix_regex does; None without rules.

    Args:
        rules: Regular expressions, as spaCy's languages have them.
    """
    rules = tuple(rule for rule in rules if rule.strip())
    if not rules:
        return None
    pattern = re.compile("|".join(rules))
    begins = set().union(*(_edges(rule, parser.parse(rule), 0) for rule in rules))
    if begins >= ANY:  # perhaps a rule that matches nothing between two characters
        return pattern.finditer
    match = pattern.match
    few = {(first, last) for first, last in begins if first <= BMP} | {(BMP + 1, sys.maxunicode)}  # as ranges past it are slow
    look_at = re.compile("[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in sorted(few)) + "]").search

    def find(text: str) -> list[Match]:
        found: list[Match] = []
        start = 0
        while place := look_at(text, start):
            start = place.start()
            if infix := match(text, start):
                found.append(infix)
                start = infix.end()
            else:
                start += 1
        return found

    return find


def _edges(rule: str, tree: Any, place: int) -> Ranges:
    return ANY if IGNORING_CASE.search(rule) else _edges_of(tree, place)


def _edges_of(tree: Any, place: int) -> Ranges:
    """Return the characters that a match may begin (place 0) or end (-1) with; all where the tree does not say."""
    for kind, value in list(tree)[:: 1 if place == 0 else -1]:
        if kind in WITHOUT_WIDTH:
            continue
        if kind is parser.LITERAL:
            return {(value, value)}
        if kind is parser.RANGE:
            return {value}
        if kind is parser.IN:
            return set().union(*(_edges_of([part], place) for part in value))
        if kind is parser.BRANCH:
            return set().union(*(_edges_of(branch, place) for branch in value[1]))
        if kind is parser.SUBPATTERN:
            return _edges_of(value[3], place)
        return _edges_of(value[2], place) if kind in REPEATS and value[0] else ANY
    return ANY
