"""`fistful words`: what a folder's vocabulary knows, before anything is trained.

Looks words up, says which evaluation classes have words that are missing, dropped or shared, and shows
bags under a balancing rule. Reads only; fistful/verbs/words/table.py says it in plain text.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fistful.bow.balance import Balance, effective_words, kept_fraction
from fistful.bow.draw import draw_pairs, mix_all, number_of_key, sample_number
from fistful.bow.lookup import WordFact, look_up, make_lookup
from fistful.bow.ragged import Ragged
from fistful.bow.store.folders import folder_at, local_file, parquet_source
from fistful.bow.store.identity import check_numbers, execution, semantic
from fistful.bow.store.index import read_index
from fistful.bow.store.manifest import CONFIG, fingerprint, read_config
from fistful.bow.vocabulary import FILE, Limits, Vocabulary, choose_words, counts_of, read_vocabulary
from fistful.bow.word_vectors import VECTORS
from fistful.bow.words import Analyzer, WordOptions, first_appearances
from fistful.eval.tasks.coverage import ClassCover, cover_classes, read_word_options

from ...errors import UsageError

if TYPE_CHECKING:
    from fistful.eval.sets.class_names import ClassName
    from fistful.pipelines.read.sources import SourceOptions

SAMPLE_ROWS = 500
"""Samples on which a rule is tried: enough for a kept fraction to two points."""
N_EXTREMES = 12
"""Most frequent and most cut words of the overview."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WordsConfig:
    """Options of `fistful words`."""

    classes: str | None = semantic(None)
    """Classes whose names to look up: imagenet1k, a file of names (a name a line, or a TSV with a column name), or an evaluation set."""
    pictures: tuple[str, ...] = semantic(())
    """--classes: data folder of fistful bags or label; says which classes its pictures cover, which the text of FOLDER alone.
    Give it again for each folder."""
    sample: tuple[str, ...] = semantic(())
    """Caption file, tar or folder to show bags of, given again for each; without it, the samples of a folder that fistful bags
    wrote."""
    caption: str | None = semantic(None)
    """--sample: name of the caption column, or its number, from 1; as fistful count was told if not given."""
    show: int = semantic(5)
    """How many sample bags to show; 0 for none."""
    balance: Balance | None = semantic(None)
    """A rule to try in place of the folder's own."""
    limits: Limits | None = semantic(None)
    """Which counted words become the vocabulary, in a folder that fistful count wrote; as for fistful bags."""
    json: bool = execution(False)
    """Print JSON."""

    def __post_init__(self) -> None:
        if self.show < 0:
            raise UsageError(f"--show {self.show}: expected 0 or more")
        if self.pictures and self.classes is None:
            raise UsageError(f"--pictures {self.pictures[0]}: says what covers classes; give --classes too")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, slots=True)
class SampleBag:
    """A sample before and after balancing."""

    key: str
    captions: tuple[str, ...]
    bag: tuple[str, ...]
    balanced: tuple[str, ...]
    """() also for a sample that --level pair leaves out."""
    stays: bool
    emptied: bool
    """Whether balancing left nothing, so that one word was kept (`bow.draw.draw_bags`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tried:
    """A rule tried on some samples."""

    n_samples: int
    n_out: int
    """Samples that --level pair leaves out."""
    n_emptied: int
    n_wordless: int
    """Captions without one word of the vocabulary."""
    mean_bag: float
    mean_balanced: float
    """Over the samples that stay."""
    kept_fraction: float
    shown: tuple[SampleBag, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class WordReport:
    """What `fistful words` found."""

    folder: str
    verb: str
    """Which verb wrote the folder; "" for a model's."""
    n_samples: int
    n_counted: int
    """Different words counted."""
    n_words: int
    """Words of the vocabulary."""
    min_count: int | None
    """Smallest df of a word of the vocabulary; None where the folder does not say."""
    balance: Balance
    kept_expected: float | None
    """Share of (sample, word) pairs that is kept in expectation; None for rules that counts alone do not tell."""
    effective_before: float
    effective_after: float | None
    frequent: tuple[WordFact, ...]
    """The most frequent words."""
    facts: tuple[WordFact, ...]
    """What was asked for, token by token."""
    classes: tuple[ClassCover, ...]
    tried: Tried | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Folder:
    """A folder as `words` sees it."""

    path: Path
    verb: str
    config: dict[str, object]
    options: WordOptions
    counted: Vocabulary


def words(folder: str | Path, *asked: str, config: WordsConfig | None = None) -> WordReport:
    """Look words up in what fistful count or bags wrote.

    Args:
        folder: Folder of fistful count, bags or label, or a run's.
        asked: Words, as they stand in captions.
        config: Options.

    Raises:
        UsageError: If the folder has no vocabulary, an option does not fit it, or a word is no word but a folder.
    """
    config = config or WordsConfig()
    _check_asked(folder, asked, config)
    opened = _open(folder_at(folder))
    chosen, min_count = _choose(opened, config)
    analyzer = Analyzer(opened.options)
    lookup = make_lookup(opened.counted, chosen, min_count or 1)
    rule = chosen.balance
    ones = np.ones(len(chosen))
    return WordReport(
        folder=str(folder),
        verb=opened.verb,
        n_samples=chosen.n_samples,
        n_counted=len(opened.counted),
        n_words=len(chosen),
        min_count=min_count,
        balance=rule,
        kept_expected=kept_fraction(chosen.df, chosen.keep) if rule.by_word else None,
        effective_before=effective_words(chosen.df, ones),
        effective_after=effective_words(chosen.df, chosen.keep) if rule.by_word else None,
        frequent=tuple(lookup.fact(word, word, None) for word in chosen.words[:N_EXTREMES]),
        facts=tuple(look_up(asked, lookup, analyzer)),
        classes=_cover(opened, chosen, config),
        tried=_try_rule(opened, chosen, analyzer, config, bool(asked) or config.classes is not None),
    )


def _check_asked(folder: str | Path, asked: Sequence[str], config: WordsConfig) -> None:
    """Refuse what was meant as one more folder or file: options take one value each time they are given."""
    for name in asked:
        path = Path(name)
        ours = any((path / file).exists() for file in (CONFIG, FILE, "index"))
        if not ours and not (config.sample and path.exists()):
            continue
        option, given = ("--pictures", config.pictures) if config.pictures else ("--sample", config.sample)
        again = (
            " ".join(f"{option} {one}" for one in (*given, name)) if given else f"fistful words {name}, for words looks into one at a time"
        )
        raise UsageError(
            f"{name}: is a {'folder' if path.is_dir() else 'file'}, and was taken for a word to look up in {folder}; type {again}"
        )


def _open(path: Path) -> _Folder:
    if not (path / FILE).is_file() and (path / "model" / FILE).is_file():
        path = path / "model"
    if not (path / FILE).is_file():
        raise UsageError(f"{path}: has no {FILE}; expected a folder that fistful count or bags wrote")
    described = read_config(path) if (path / CONFIG).is_file() else {"verb": "", "config": {}}
    return _Folder(path, described["verb"], described["config"], read_word_options(path), read_vocabulary(path))


def _choose(opened: _Folder, config: WordsConfig) -> tuple[Vocabulary, int | None]:
    """Return the vocabulary, as fistful bags would choose it or has chosen it, and its smallest df."""
    if opened.verb == "count":
        limits = config.limits or Limits()
        chosen = choose_words(counts_of(opened.counted), opened.counted.n_samples, limits, config.balance or Balance())
        return chosen, limits.min_count
    if config.limits is not None:
        raise UsageError(
            f"--min-count and --max-words: {opened.path} has its vocabulary already; expected a folder that fistful count wrote"
        )
    own = opened.config.get("min_count")
    chosen = opened.counted if config.balance is None else opened.counted.balanced(config.balance)
    return chosen, own if isinstance(own, int) else None


def _cover(opened: _Folder, chosen: Vocabulary, config: WordsConfig) -> tuple[ClassCover, ...]:
    """Say what covers the classes that were asked for."""
    if config.classes is None:
        return ()
    stays = chosen.keep if chosen.balance.by_word else np.ones(len(chosen))  # whole samples bring each of their words along
    if (opened.path / VECTORS).is_file():
        stays = stays * _have_vectors(opened.path)
    keep = dict(zip(chosen.words, stays.tolist(), strict=True))
    pictured = count_pictures(config.pictures, opened.options) if config.pictures else None
    return tuple(cover_classes(read_classes(config.classes), keep, opened.options, pictured))


def _have_vectors(path: Path) -> np.ndarray:
    with local_file(path / VECTORS) as name:
        return np.load(name, mmap_mode="r").any(axis=1)


def count_pictures(folders: Sequence[str], options: WordOptions) -> dict[str, int]:
    """Return how many pictures of data folders have each word in their bags, without those that balancing never keeps.

    Raises:
        UsageError: If a folder is no data folder, not finished, or its captions became words in another way than `options`.
    """
    found: Counter[str] = Counter()
    for folder in folders:
        path = folder_at(folder)
        if not (path / "index").is_dir():
            raise UsageError(f"--pictures {folder}: has no index/; expected a folder that fistful bags or label wrote")
        fingerprint(path)  # of an unfinished folder a part of the pictures would be counted
        if read_word_options(path) != options:
            raise UsageError(f"--pictures {folder}: its captions became words in another way; count and bag them with the same options")
        vocabulary = read_vocabulary(path)
        n = np.zeros(len(vocabulary), np.int64)
        for unit in (path / "index").glob("*.parquet"):
            table = pq.read_table(parquet_source(unit), columns=["words", "image_size"])
            words = table.filter(pc.greater(table["image_size"], 0))["words"].combine_chunks().flatten().to_numpy()
            n += np.bincount(words, minlength=len(vocabulary))
        if vocabulary.balance.by_word:
            n *= vocabulary.keep > 0
        found.update(dict(zip(vocabulary.words, n.tolist(), strict=True)))
    return found


def read_classes(spec: str) -> list[ClassName]:
    """Return the classes that a spec names: imagenet1k, a file of names, or an evaluation set.

    Raises:
        UsageError: If there is no such file or set, or a file has no name in it.
    """
    from fistful.bow.store.kinds import ARCHIVES
    from fistful.eval.sets import class_names as names
    from fistful.eval.sets.layouts import PARQUET, open_set

    if spec == "imagenet1k":
        return names.imagenet1k()
    path = Path(spec)
    if not path.exists():
        raise UsageError(f"--classes {spec}: no such file; expected imagenet1k, a file of names, or an evaluation set")
    if path.is_dir() or path.name.lower().endswith((*ARCHIVES, PARQUET)):
        return open_set(spec, None).classes
    found = names.read_table(path, "--classes").classes
    if not found:
        raise UsageError(f"--classes {spec}: found 0 names, expected one or more, one on each line")
    return found


# Bags under a rule


def _try_rule(opened: _Folder, chosen: Vocabulary, analyzer: Analyzer, config: WordsConfig, asked: bool) -> Tried | None:
    own = (opened.path / "index").is_dir() and not (asked and config.balance is None)
    if not config.show or not (config.sample or own) or not len(chosen):
        return None
    read = _read_sources(opened, chosen, analyzer, config) if config.sample else _read_own(opened)
    keys, captions, samples, bags = read
    seed = opened.config.get("seed")
    return try_rule(chosen, keys, captions, samples, bags, seed=seed if isinstance(seed, int) else 0, show=config.show)


def try_rule(
    vocabulary: Vocabulary, keys: list[str], captions: list[list[str]], samples: np.ndarray, bags: Ragged, *, seed: int, show: int
) -> Tried:
    """Thin out bags by the vocabulary's rule, as fistful bags would.

    Args:
        vocabulary: With the rule.
        keys: Names of n samples.
        captions: Captions of each.
        samples: Sample numbers, uint64 (n,).
        bags: Full bags of word ids.
        seed: Of the draws.
        show: How many to return in full: a blind choice, always the same.
    """
    balanced, emptied = vocabulary.thin(bags, samples, seed)
    pairs = vocabulary.balance.level == "pair"
    stays = draw_pairs(bags, samples, vocabulary.keep_u32, seed) if pairs else np.ones(len(bags), bool)
    chosen = np.sort(np.argsort(mix_all(0x53484F57, samples), kind="stable")[:show])
    full, thinned, word = list(bags), list(balanced), vocabulary.words
    shown = tuple(
        SampleBag(
            keys[i],
            tuple(captions[i]),
            tuple(word[w] for w in full[i]),
            tuple(word[w] for w in thinned[i]) if stays[i] else (),
            bool(stays[i]),
            bool(emptied[i]),
        )
        for i in chosen
    )
    n_before, n_after, n_stays = bags.lengths(), balanced.lengths() * stays, int(stays.sum())
    return Tried(
        n_samples=len(bags),
        n_out=len(bags) - n_stays,
        n_emptied=int(emptied.sum()),
        n_wordless=int((n_before == 0).sum()),
        mean_bag=float(n_before.sum()) / max(1, len(bags)),
        mean_balanced=float(n_after.sum()) / max(1, n_stays),
        kept_fraction=float(n_after.sum()) / max(1, int(n_before.sum())),
        shown=shown,
    )


_Read = tuple[list[str], list[list[str]], np.ndarray, Ragged]


def _read_own(opened: _Folder) -> _Read:
    """Take samples of a data folder from all over it."""
    index = read_index(opened.path)
    every = np.array([number_of_key(key) for key in index["key"].to_pylist()], np.uint64)
    rows = np.sort(np.argsort(mix_all(0x524F5753, every), kind="stable")[:SAMPLE_ROWS])
    table = index.take(pa.array(rows)).combine_chunks()
    bags = Ragged.of_lists(table["words"].combine_chunks())
    return table["key"].to_pylist(), table["captions"].to_pylist(), every[rows], bags


def _read_sources(opened: _Folder, chosen: Vocabulary, analyzer: Analyzer, config: WordsConfig) -> _Read:
    """Read the first rows of sources as fistful bags would, without images."""
    from fistful.pipelines.read.plan import PlanOptions, plan_units
    from fistful.pipelines.read.rows import Row
    from fistful.pipelines.read.sources import check_unit, open_unit

    units, _ = plan_units(config.sample, PlanOptions())
    options = _source_options(opened, config)
    check_unit(units[0], options)
    rows: list[Row] = []
    numbers: list[int] = []
    for unit in units:
        with open_unit(unit, options, with_images=False) as (batches, _):
            while len(rows) < SAMPLE_ROWS and (batch := next(batches, None)):
                taken = batch.rows[: SAMPLE_ROWS - len(rows)]
                rows += taken
                numbers += sample_number(unit.number, np.array([row.number for row in taken], np.uint64)).tolist()
    if not rows:
        raise UsageError(f"--sample {config.sample[0]}: has no row with a caption; --caption says where captions stand")
    tokens = analyzer.analyse(pa.array([caption for row in rows for caption in row.captions], pa.string()))
    groups = np.cumsum([0, *(len(row.captions) for row in rows)])
    ids = chosen.ids()
    table = np.array([ids.get(word, -1) for word in analyzer.words], np.int64)
    of_token = Ragged(tokens.offsets, table[tokens.values]).join_rows(groups)
    bags = first_appearances(of_token.take(of_token.values >= 0))
    return [row.source_key for row in rows], [row.captions for row in rows], np.array(numbers, np.uint64), bags


def _source_options(opened: _Folder, config: WordsConfig) -> SourceOptions:
    from fistful.pipelines.read.sources import SourceOptions

    told = opened.config
    caption = config.caption or told.get("caption")
    header = told.get("header") is True if config.caption is None else False
    return SourceOptions(caption=caption, header=header) if isinstance(caption, str) else SourceOptions()
