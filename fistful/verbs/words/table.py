"""What `fistful words` found, as plain text for a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fistful.bow.long_chunks import MAX_CHUNK

from ...terminal import show_in_line
from ...wording import counted, table

if TYPE_CHECKING:
    from fistful.bow.balance import Balance
    from fistful.bow.lookup import WordFact
    from fistful.eval.tasks.coverage import ClassCover

    from .look_up import SampleBag, Tried, WordReport

N_CLASSES = 12
"""Classes shown of each kind; --json has all."""
CAPTION_WIDTH = 110


def words_json(word_report: WordReport) -> str:
    """Return everything as JSON."""
    value = dataclasses.asdict(word_report)
    for entry, cover in zip(value["classes"], word_report.classes, strict=True):
        entry |= {"cover": cover.cover, "source": cover.source}
    return json.dumps(value, ensure_ascii=False, indent=1)


def words_text(word_report: WordReport) -> str:
    """Return everything worth reading as lines."""
    asked = bool(word_report.facts or word_report.classes)
    parts = [_head(word_report)]
    if word_report.facts:
        parts.append(_facts(word_report))
    if word_report.classes:
        parts.append(_classes(word_report.classes))
    if not asked:
        parts.append(["most frequent words", *_table(word_report.frequent, word_report)])
    if word_report.tried is not None:
        parts.append(_tried(word_report.tried, word_report))
    return "\n\n".join("\n".join(map(show_in_line, lines)) for lines in parts)


def rule_text(rule: Balance) -> str:
    """Return a rule as it would be typed: --rule cap --kept 0.5."""
    options = [(f.name, getattr(rule, f.name)) for f in dataclasses.fields(rule) if f.name != "rule"]
    more = [f"--{name.replace('_', '-')} {value:g}" for name, value in options if isinstance(value, float | int)]
    return " ".join([f"--rule {rule.rule}", *more, *(["--level pair"] if rule.level == "pair" else [])])


def _head(word_report: WordReport) -> list[str]:
    of = f" of {word_report.n_counted:,} counted" if word_report.verb == "count" else ""
    least = f" (--min-count {word_report.min_count})" if word_report.min_count is not None else ""
    lines = [f"{word_report.folder}: {word_report.n_words:,} words{of}{least}, from {word_report.n_samples:,} samples"]
    rule = rule_text(word_report.balance)
    if word_report.effective_after is None or word_report.kept_expected is None:
        way = "" if word_report.tried is not None else "; --sample FILE shows it"
        lines.append(f"{rule}: what is kept depends on the bags, not on the counts alone{way}")
    elif word_report.balance.rule == "none":
        lines.append(f"{rule}: every word is kept; effective vocabulary {word_report.effective_before:,.0f} words")
    else:
        lines.append(
            f"{rule}: keeps {word_report.kept_expected:.1%} of the words in bags; "
            f"effective vocabulary {word_report.effective_before:,.0f} words before, {word_report.effective_after:,.0f} after"
        )
    return lines


def _facts(word_report: WordReport) -> list[str]:
    there = [fact for fact in word_report.facts if fact.rank is not None]
    gone = [fact for fact in word_report.facts if fact.rank is None]
    return _table(there, word_report) + [f"{_asked(fact)}: {_why(fact, word_report)}" for fact in gone]


def _table(facts: Sequence[WordFact], word_report: WordReport) -> list[str]:
    if not facts:
        return []
    last = "weight" if word_report.balance.n_words is not None else "keep" if word_report.balance.by_word else "draw"
    rows = [("word", "tf", "df", "of samples", "rank", last, "")]
    for fact in facts:
        share = f"{fact.df / max(1, word_report.n_samples):.2%}"
        note = "dropped by this rule" if fact.status == "dropped" else f'from "{fact.asked}"' if fact.asked != fact.word else ""
        rows.append((fact.word, f"{fact.tf:,}", f"{fact.df:,}", share, f"{fact.rank:,}", f"{fact.keep:.4g}", note))
    return table(rows, left=(0, 6))


def _asked(fact: WordFact) -> str:
    return fact.word if fact.asked == fact.word else f'{fact.word} (from "{fact.asked}")'


def _why(fact: WordFact, word_report: WordReport) -> str:
    near = f"; spelt alike: {', '.join(fact.nearest)}" if fact.nearest else ""
    if fact.status == "never_seen" and word_report.verb != "count":
        least = f", or in fewer than {word_report.min_count} samples" if word_report.min_count else ""
        return f"not in the vocabulary: never counted{least}{near}"
    return {
        "too_rare": f"counted {_times(fact)}, below --min-count {word_report.min_count}",
        "beyond_max": f"counted {_times(fact)}, beyond --max-words {word_report.n_words:,}",
        "stop_word": "a stop word, left out when counting; fistful count --stop-words keeps them",
        "not_alphabetic": "not only letters, so no word",
        "too_long": f"longer than {MAX_CHUNK:,} characters without white space, so no word",
        "too_short": "shorter than --min-length of fistful count",
    }.get(fact.status, f"never seen in the captions{near}")


def _times(fact: WordFact) -> str:
    return f"{counted(fact.tf, 'time')} in {counted(fact.df, 'sample')}"


def _classes(classes: Sequence[ClassCover]) -> list[str]:
    by = {kind: [c for c in classes if c.cover == kind] for kind in ("all", "some", "none")}
    n_all, n_some, n_none = (f"{len(by[kind]):,}" for kind in ("all", "some", "none"))
    lines = [f"{len(classes):,} classes: of {n_all} all words are learnt, of {n_some} some, of {n_none} none"]
    lines += _listed("no word is learnt of", [f"{c.name} ({_lost(c)})" for c in by["none"]])
    lines += _listed("only some words are learnt of", [f"{c.name} ({_lost(c)})" for c in by["some"]])
    if any(c.source for c in classes):
        lines += _sources(classes)
    shared = [c for c in classes if c.shared]
    twins = [c for c in classes if c.twins and not c.shared]
    lines += _listed("names of the same words, which no bag tells apart", _groups((c, c.shared) for c in shared))
    lines += _listed("told apart only by words that are not learnt", _groups((c, c.twins) for c in twins))
    return lines


def _sources(classes: Sequence[ClassCover]) -> list[str]:
    """Say what the classes can be learnt from."""
    by = {source: [c for c in classes if c.source == source] for source in ("pictures", "text", "neither")}
    n_pictures, n_text, n_neither = (f"{len(found):,}" for found in by.values())
    lines = [f"{n_pictures} are covered by pictures, {n_text} by text alone, {n_neither} not at all"]
    return lines + _listed("covered by text alone", [c.name for c in by["text"]])


def _groups(members: Iterable[tuple[ClassCover, tuple[str, ...]]]) -> list[str]:
    return list(dict.fromkeys(" = ".join(sorted((f"{c.name} ({c.folder})", *others))) for c, others in members))


def _lost(cover: ClassCover) -> str:
    missing = [f"{', '.join(cover.missing)} missing"] if cover.missing else []
    dropped = [f"{', '.join(cover.dropped)} dropped"] if cover.dropped else []
    return "; ".join(missing + dropped) or "has no word: only stop words or signs"


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = [f"  and {len(names) - N_CLASSES:,} more; --json has all"] if len(names) > N_CLASSES else []
    return [f"{what}:", *(f"  {name}" for name in names[:N_CLASSES]), *more]


def _tried(tried: Tried, word_report: WordReport) -> list[str]:
    emptied = f"; {tried.n_emptied:,} emptied bags kept one word each" if tried.n_emptied else ""
    lines = [
        f"tried on {tried.n_samples:,} samples: {tried.mean_bag:.1f} words a bag before, {tried.mean_balanced:.1f} after "
        f"(kept {tried.kept_fraction:.1%}){emptied}"
    ]
    if tried.n_wordless:
        lines.append(f"{tried.n_wordless:,} of them have no word of the vocabulary; fistful bags refuses such samples")
    if word_report.balance.level == "pair":
        lines.append(f"{tried.n_out:,} of them are left out whole by --level pair")
    for bag in tried.shown:
        lines += ["", *_bag(bag)]
    return lines


def _bag(bag: SampleBag) -> list[str]:
    caption = " / ".join(bag.captions)
    shown = caption if len(caption) <= CAPTION_WIDTH else caption[: CAPTION_WIDTH - 3] + "..."
    after = " ".join(bag.balanced) if bag.stays else "(left out)"
    note = "  (emptied: one word stays)" if bag.emptied else ""
    return [f"  caption   {shown}", f"  bag       {' '.join(bag.bag) or '(no word)'}", f"  balanced  {after or '(no word)'}{note}"]
