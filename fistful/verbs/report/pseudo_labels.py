"""Pseudo-labels: which words pictures got, what they are worth, which are wrong, and which pictures got none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.draw import mix_all, number_of_key
from fistful.bow.vocabulary import Vocabulary
from fistful.bow.words import WordOptions
from fistful.pipelines.cards import GIVEN_BY

from . import figures
from .figures import Figure
from .inputs import DataFolder, Material
from .page_text import number, percent
from .refused import Refusals, refused_of
from .report_config import ReportConfig
from .sample_pictures import SALT, ShownSample, Word, draw_rows, index_files, open_index, sample_of
from .truth import LabelPrecision, most_frequent, precision, read_precision, read_truth, true_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FOLDERS = 4
MAX_CHECKED = 20_000
"""Pictures checked against the truth; from more of them the share would hardly differ."""
BINS = 8
FEW = 30
"""Words below which a share is not drawn."""
MAX_LIKELY, LEAST_LIKELY = 8, 0.05
"""Words shown of a distribution: as many as two lines of a card hold, and none that is wrong 19 times of 20."""
COLUMNS = ["key", "source_key", "captions", "words", "scores", "image", "image_offset", "image_size"]


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """Pseudo-labelled pictures whose true words are known."""

    rows: list[dict[str, Any]]
    truth: list[set[int]]

    def right(self) -> np.ndarray:
        """Return how many words of each picture are right."""
        return np.array([len(words & set(row["words"])) for row, words in zip(self.rows, self.truth, strict=True)], np.int64)

    def given(self) -> np.ndarray:
        """Return how many words each picture got."""
        return np.array([len(row["words"]) for row in self.rows], np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class Labelled:
    """A sample with its likeliest words, and what it really is if that is known."""

    sample: ShownSample
    name: str | None
    bag: tuple[str, ...] | None
    """The vocabulary's words of the name; None where that is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledSamples:
    """What turns a row of the index into a labelled sample."""

    folder: Path
    vocabulary: Vocabulary
    names: dict[str, str]
    """True names by source key."""
    words: dict[str, set[int]]
    """Their words."""

    def of(self, row: dict[str, Any]) -> Labelled:
        """Return a sample with its picture, its words and what it really is."""
        true = self.words.get(row["source_key"])
        said = zip(row["words"], row["scores"], strict=True)
        if "likely" in row:
            both = zip(row["likely"][:MAX_LIKELY], row["likely_shares"][:MAX_LIKELY], strict=True)
            said = [(i, share) for i, share in both if share >= LEAST_LIKELY]
        words = tuple(Word(self.vocabulary.words[i], share=share, right=None if true is None else i in true) for i, share in said)
        bag = None if true is None else tuple(self.vocabulary.words[i] for i in sorted(true))
        return Labelled(sample_of(self.folder, row, words), self.names.get(row["source_key"]), bag)


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """The pseudo-labels of a folder."""

    name: str
    facts: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    measured: tuple[LabelPrecision, ...]
    finding: str
    """What the shares of right words say, in a sentence."""
    n_checked: int
    accepted: tuple[Labelled, ...]
    wrong: tuple[Labelled, ...]
    refusals: Refusals


def labels_of(material: Material, config: ReportConfig) -> tuple[Labels, ...]:
    """Build the section, a part a folder of pseudo-labels."""
    truth = read_truth(config.truth) if config.truth else {}
    others = read_precision(config.precision) if config.precision else []
    found = [(data, data.vocabulary) for data in material.labels[:MAX_FOLDERS]]
    return tuple(_part(data, vocabulary, truth, others, config) for data, vocabulary in found if vocabulary is not None)


def _part(
    data: DataFolder, vocabulary: Vocabulary, truth: dict[str, str], others: Sequence[LabelPrecision], config: ReportConfig
) -> Labels:
    drawn = draw_rows(data.path, config.samples, config.seed)
    rows = _rows_with_truth(data.path, truth, config.seed) if truth else []
    names = {row["source_key"]: truth[row["source_key"]] for row in (*drawn, *rows) if row["source_key"] in truth}
    words = dict(zip(names, true_words(list(names.values()), vocabulary, _word_options(data)), strict=True)) if names else {}
    checked = Checked(rows, [words[row["source_key"]] for row in rows]) if rows else None
    cards = LabelledSamples(data.path, vocabulary, names, words)
    measured = _measured(checked, others)
    return Labels(
        name=data.name,
        facts=tuple(_facts(data)),
        figures=tuple(_figures(data.stats, checked)),
        measured=tuple(measured),
        finding=finding(measured) if checked else "",
        n_checked=len(rows),
        accepted=tuple(cards.of(row) for row in drawn),
        wrong=tuple(cards.of(row) for row in surely_wrong(checked, config.samples, config.seed)) if checked else (),
        refusals=refused_of(data, truth, config),
    )


def _word_options(data: DataFolder) -> WordOptions:
    return WordOptions(**data.config["inputs"].get("word_options", {}))


def _rows_with_truth(folder: Path, truth: dict[str, str], seed: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in index_files(folder, seed):
        rows += [row for row in open_index(path).read(columns=COLUMNS).to_pylist() if row["source_key"] in truth]
        if len(rows) >= MAX_CHECKED:
            break
    return sorted(rows[:MAX_CHECKED], key=lambda row: row["key"])


def _facts(data: DataFolder) -> list[tuple[str, str]]:
    stats, options = data.stats, data.options()
    by = str(options.get("by"))
    facts = [("words come from", GIVEN_BY.get(by, by))]
    counts = {
        "rows": "pictures without a caption",
        "kept": "of them labelled",
        "words_in_bags": "words given",
        "held_out_images": "held-out captioned pictures measured on",
    }
    facts += [(text, number(stats[name])) for name, text in counts.items() if stats.get(name) is not None]
    near = stats.get("held_out_near_copies", {})
    near_counts = {
        "images": "of them near copies of one another, measured as one picture",
        "learnt_from": "held-out pictures left out, as the model learnt from near copies",
        "kept_from_voting": "captioned pictures that do not vote, as near copies are held out",
    }
    facts += [(text, number(near[name])) for name, text in near_counts.items() if near.get(name)]
    shares = {
        "held_out_precision": "right words there",
        "held_out_precision_by_chance": "if the same words went to any pictures",
        "held_out_recall": "of their words found",
    }
    facts += [(text, _share(stats, name)) for name, text in shares.items() if stats.get(name) is not None]
    if nearest := stats.get("held_out_nearest"):
        shares = f"{percent(nearest['precision'])}\u00a0%, of as many labels {percent(nearest['labels'])}\u00a0%"
        facts.append(("right words if those of the nearest captioned picture are copied", shares))
    if options.get("min_precision") is not None:
        facts.append(("least share of right words asked for", f"{percent(options['min_precision'])}\u00a0%"))
    return facts


def _share(stats: dict[str, Any], name: str) -> str:
    low, high = stats.get(f"{name}_low"), stats.get(f"{name}_high")
    between = "" if low is None or high is None else f" (95\u00a0% interval {percent(low)} to {percent(high)})"
    return f"{percent(stats[name])}\u00a0%{between}"


def _measured(checked: Checked | None, others: Sequence[LabelPrecision]) -> list[LabelPrecision]:
    if checked is None:
        return list(others)
    given = checked.given()
    frequent = most_frequent(given.tolist(), checked.truth)
    words = np.array([word for row in checked.rows for word in row["words"]], np.int64)
    most = np.concatenate([np.arange(n) for n in given.tolist()])
    own = [precision(checked.right(), given, words, "these pseudo-labels")]
    own.append(precision(frequent, given, most, "as many of the most frequent words"))
    return own + [other for other in others if other.name not in ("labels", "most frequent words")]


def finding(measured: Sequence[LabelPrecision]) -> str:
    """Say how the labels stand beside as many of the most frequent words, which any counter could give."""
    own, frequent = measured[0], measured[1]
    if own.low is None or own.high is None or frequent.low is None or frequent.high is None:
        return ""
    if own.low > frequent.high:
        return "These words are right more often than as many of the most frequent words would be."
    often = "less often than" if own.high < frequent.low else "about as often as"
    return f"These words are right {often} as many of the most frequent words would be; look at the effective vocabulary too."


def surely_wrong(checked: Checked, n: int, seed: int) -> list[dict[str, Any]]:
    """Return n pictures whose surest word is wrong, surest first, of equals by a draw."""
    surest = [int(np.argmax(row["scores"])) if row["scores"] else -1 for row in checked.rows]
    wrong = [i >= 0 and row["words"][i] not in words for i, row, words in zip(surest, checked.rows, checked.truth, strict=True)]
    sure = np.array([max(row["scores"], default=0.0) for row in checked.rows])
    draw = mix_all(seed, SALT, np.array([number_of_key(row["key"]) for row in checked.rows], np.uint64))
    return [checked.rows[i] for i in np.lexsort((draw, -sure)) if wrong[i]][:n]


def _figures(stats: dict[str, Any], checked: Checked | None) -> list[Figure]:
    found = []
    held_out = [row for row in stats.get("held_out_calibration", ()) if row["words"] == "all" and row["n"] >= FEW]
    if held_out:
        bins = [(row["predicted"], row["achieved"], row["n"]) for row in held_out]
        found.append(_draw_claims(bins, "What a share is worth", "right words on held-out captioned pictures, %"))
    if checked is not None and (bins := claimed_and_found(checked)):
        found.append(_draw_claims(bins, "Is the claim kept?", "right by the true names, %"))
    return found


def claimed_and_found(checked: Checked) -> list[tuple[float, float, int]]:
    """Return (share claimed, share found, words) of pseudo-words, by equal parts of the claim."""
    claims = np.array([share for row in checked.rows for share in row["scores"]])
    right = np.array([word in words for row, words in zip(checked.rows, checked.truth, strict=True) for word in row["words"]])
    place = np.clip((claims * BINS).astype(np.int64), 0, BINS - 1)
    bins = [(place == i) for i in range(BINS)]
    return [(float(claims[own].mean()), float(right[own].mean()), int(own.sum())) for own in bins if own.sum() >= FEW]


def _draw_claims(bins: Sequence[tuple[float, float, int]], title: str, unit: str) -> Figure:
    def paint(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=figures.MUTED, linewidth=1, linestyle=(0, (2, 2)))
        x, y = [100 * claim for claim, _, _ in bins], [100 * share for _, share, _ in bins]
        axes.plot(x, y, "o-", color=figures.ACCENT, linewidth=1.5, markersize=6)
        axes.annotate("as claimed", (80, 98), ha="right", va="top", color=figures.MUTED)  # beside the end of the line, where dots are few
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.grid()
        axes.set_axisbelow(True)
        axes.set_xlabel("share of right words claimed, %")

    said = "; ".join(f"{percent(claim)} claimed, {percent(share)} found, {n:,} words" for claim, share, n in bins)
    return figures.draw(
        paint,
        title=title,
        unit=unit,
        alt=f"Claimed and found shares in percent: {said}.",
        height=300,
        width=figures.HALF,
    )
