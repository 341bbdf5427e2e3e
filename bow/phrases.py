"""Lists of words that users give, and phrases: names of several words that count as one.

>>> import numpy as np
>>> table = Phrases({(5, 6): 90, (5, 6, 7): 91})
>>> table.find(np.array([0, 6, 8]), np.array([1, 5, 6, 7, 5, 6, 2, 5]))
[(1, 3, 91), (4, 2, 90)]
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fistful.errors import UsageError

from .store.plain_text import read_lines

IMAGENET = "imagenet1k"
"""Names the class list that open_clip carries."""


def inline(option: str, given: str) -> str:
    """Return a list of words as text, a word a line, sorted: what decides the output is in it, and not where it lies.

    Args:
        option: Name of the option, for errors.
        given: A file, "imagenet1k", "" for none, or such a text itself, which has line breaks.

    Raises:
        UsageError: If there is no such file, or no word in it.
    """
    if not given:
        return ""
    if "\n" in given:
        lines = given.split("\n")
    elif given == IMAGENET:
        lines = _imagenet_names()
    else:
        lines = read_lines(given, f"--{option} {given}", f"a word or name a line, or {IMAGENET}")
    lines = sorted({" ".join(line.lower().split()) for line in lines} - {""})
    if not lines:
        raise UsageError(f"--{option} {given}: holds no word")
    return "".join(f"{line}\n" for line in lines)


def _imagenet_names() -> list[str]:
    """Read open_clip's names of ImageNet's classes without importing it, which would load torch."""
    package = importlib.util.find_spec("open_clip")
    places = [Path(place) / "zero_shot_metadata.py" for place in (package.submodule_search_locations or [])] if package else []
    spec = importlib.util.spec_from_file_location("zero_shot_metadata", places[0]) if places else None
    if spec is None or spec.loader is None:
        raise UsageError(f"--phrases {IMAGENET}: needs a package that is not installed; pip install 'fistful[models]'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.IMAGENET_CLASSNAMES)


class Phrases:
    """Finds phrases in rows of token numbers: from left to right, of those that begin at a token the longest.

    Args:
        phrases: Number of each phrase, by the numbers of its tokens; two tokens or more.
    """

    def __init__(self, phrases: Mapping[tuple[int, ...], int]) -> None:
        self._phrases = dict(phrases)
        self._longest: dict[tuple[int, int], list[int]] = {}
        for tokens in sorted(phrases, key=len, reverse=True):
            lengths = self._longest.setdefault(tokens[:2], [])
            if len(tokens) not in lengths:
                lengths.append(len(tokens))
        self._most = max(map(len, phrases), default=0)
        self._begins = np.unique(np.array([_pair(*begin) for begin in self._longest], np.int64))

    def find(self, offsets: np.ndarray, tokens: np.ndarray) -> list[tuple[int, int, int]]:
        """Return the place, the length and the number of each phrase, none overlapping another.

        Args:
            offsets: Row i is tokens[offsets[i]:offsets[i + 1]].
            tokens: Token numbers.
        """
        pairs = _pair(tokens[:-1].astype(np.int64), tokens[1:].astype(np.int64)) if len(tokens) > 1 else np.zeros(0, np.int64)
        places = np.flatnonzero(np.isin(pairs, self._begins))  # few: the loop below is over these alone
        ends = offsets[np.searchsorted(offsets, places, side="right")]
        found, free = [], 0
        for place, end in zip(places.tolist(), ends.tolist(), strict=True):
            if place < free:
                continue
            window = tuple(tokens[place : min(end, place + self._most)].tolist())
            for length in self._longest[window[:2]] if len(window) > 1 else ():
                if (number := self._phrases.get(window[:length])) is not None and length <= len(window):
                    found.append((place, length, number))
                    free = place + length
                    break
        return found


def _pair(first: np.ndarray | int, second: np.ndarray | int) -> np.ndarray:
    return (np.asarray(first, np.int64) << 32) | np.asarray(second, np.int64)
