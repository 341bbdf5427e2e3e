"""Words before and after balancing: how steep they fall, and which ones were cut most."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.balance import effective_words, kept_fraction
from fistful.bow.vocabulary import Vocabulary

from . import figures
from .figures import Figure
from .inputs import DataFolder, Material
from .page_text import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FOLDERS = 4
MOST_CUT = 20
RANKS = 300
"""Ranks drawn, evenly on a logarithmic axis."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """A word that balancing thinned out."""

    word: str
    df: str
    keep: str
    after: str


@dataclasses.dataclass(frozen=True, slots=True)
class FolderWords:
    """The words of a data folder."""

    name: str
    figure: Figure
    facts: tuple[tuple[str, str], ...]
    most_cut: tuple[Cut, ...]
    note: str


def words_of(material: Material) -> tuple[FolderWords, ...]:
    """Build the section, a part a data folder."""
    return tuple(
        _part(data, data.vocabulary) for data in material.data[:MAX_FOLDERS] if data.vocabulary is not None and len(data.vocabulary)
    )


def _part(data: DataFolder, vocabulary: Vocabulary) -> FolderWords:
    df, keep = vocabulary.df, vocabulary.keep
    plain = vocabulary.balance.by_word
    after = df * keep if plain else None
    facts = [
        ("rule", rule_of(vocabulary)),
        ("samples", number(_kept(data, vocabulary))),
        ("words of the vocabulary", number(len(vocabulary))),
    ]
    if plain:
        facts += [
            ("kept of all words in bags, expected", f"{percent(kept_fraction(df, keep))}\u00a0%"),
            ("effective vocabulary, before", number(round(effective_words(df, np.ones(len(df)))))),
            ("effective vocabulary, after", number(round(effective_words(df, keep)))),
        ]
    realised = {"kept_fraction_realised": "kept of all words in bags, as drawn"}
    facts += [(text, f"{percent(data.stats[name])}\u00a0%") for name, text in realised.items() if data.stats.get(name) is not None]
    if data.stats.get("bags_emptied") is not None:
        facts.append(("bags that would have been emptied and kept a word", number(data.stats["bags_emptied"])))
    return FolderWords(data.name, _draw(vocabulary, after), tuple(facts), _most_cut(vocabulary) if plain else (), _note(vocabulary))


def _kept(data: DataFolder, vocabulary: Vocabulary) -> Any:
    return data.stats.get("kept", vocabulary.n_samples)


def rule_of(vocabulary: Vocabulary) -> str:
    """Return the balancing rule in a few words."""
    rule = vocabulary.balance
    options = {"threshold": rule.threshold, "kept": rule.kept, "alpha": rule.alpha, "words a bag": rule.n_words}
    said = [f"{name} {number(value)}" for name, value in options.items() if value is not None]
    return ", ".join([rule.rule, *said, *(["whole samples"] if rule.level == "pair" else [])])


def _note(vocabulary: Vocabulary) -> str:
    if vocabulary.balance.rule == "none":
        return "This folder's words are not balanced; its runs may have thinned them out by a rule of their own."
    if not vocabulary.balance.by_word:
        return "This rule has no keep probability for a single word, so only the words before it are drawn."
    return "A run can balance by a rule of its own (--rule); these are the probabilities of the data folder."


def _most_cut(vocabulary: Vocabulary) -> tuple[Cut, ...]:
    lost = vocabulary.df * (1.0 - vocabulary.keep)
    order = np.argsort(-lost, kind="stable")[:MOST_CUT]
    return tuple(
        Cut(
            vocabulary.words[i],
            number(int(vocabulary.df[i])),
            f"{vocabulary.keep[i]:.3f}",
            number(round(float(vocabulary.df[i] * vocabulary.keep[i]), 1)),
        )
        for i in order
        if lost[i] > 0
    )


def _draw(vocabulary: Vocabulary, after: np.ndarray | None) -> Figure:
    ranks = np.unique(np.geomspace(1, len(vocabulary), RANKS).round().astype(np.int64))
    lines = [("before", vocabulary.df.astype(float), figures.MUTED)]
    if after is not None and vocabulary.balance.rule != "none":
        lines.append(("after", np.sort(after)[::-1], figures.ACCENT))

    def paint(axes: Axes) -> None:
        for name, values, tint in lines:
            y = values[ranks - 1]
            seen = y > 0
            axes.loglog(ranks[seen], y[seen], color=tint, linewidth=2)
            if seen.any():
                axes.annotate(name, (ranks[seen][0], y[seen][0]), xytext=(4, 7), textcoords="offset points", color=tint)
        axes.set_xlim(0.9, len(vocabulary) * 1.1)
        axes.margins(y=0.12)
        axes.grid(which="major")
        figures.plain_ticks(axes.xaxis)
        figures.plain_ticks(axes.yaxis)
        axes.set_xlabel("rank of the word, logarithmic")

    df = vocabulary.df
    alt = f"Samples with a word by its rank, both logarithmic. Before balancing from {number(int(df[0]))} down to {number(int(df[-1]))}"
    alt += f"; after it from {number(round(float(lines[1][1][0])))} in expectation." if len(lines) > 1 else "."
    return figures.draw(
        paint, title="Words by rank", unit="samples with the word (df), logarithmic", alt=alt, height=300, width=figures.HALF
    )
