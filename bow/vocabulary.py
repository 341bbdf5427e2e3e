"""The vocabulary: counted words with their keep probabilities, and the tables that hold them.

Counts are tf (how often a word stands in the captions) and df (in how many samples' bags it is).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.errors import DataError, UsageError

from . import balance
from .balance import Balance
from .draw import draw_bags, draw_some
from .ragged import Ragged
from .store.files import parse_json
from .store.identity import canonical_json, check_numbers, semantic
from .store.tables import read_table, write_table

COUNTS_SCHEMA = pa.schema([("word", pa.string()), ("tf", pa.int64()), ("df", pa.int64())])
VOCABULARY_SCHEMA = pa.schema(
    [
        ("id", pa.uint32()),
        ("word", pa.string()),
        ("tf", pa.int64()),
        ("df", pa.int64()),
        ("keep", pa.float64()),
        ("keep_u32", pa.uint32()),
    ]
)
FILE = "vocabulary.parquet"
ABOUT = b"fistful"
"""Key of the file's metadata: how many samples were counted, and the balancing rule."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Which counted words become the vocabulary."""

    min_count: int = semantic(3)
    """Smallest df of a word of the vocabulary, in samples."""
    max_words: int = semantic(1_000_000)
    """Largest vocabulary, in words; the most frequent stay."""

    def __post_init__(self) -> None:
        if self.min_count < 1 or self.max_words < 1:
            raise UsageError(f"--min-count {self.min_count} --max-words {self.max_words}: expected 1 or more")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words by falling df, then by word; a word's id is its place."""

    words: list[str]
    tf: np.ndarray
    df: np.ndarray
    keep: np.ndarray
    keep_u32: np.ndarray
    n_samples: int
    """Samples that were counted."""
    balance: Balance
    """The rule that `keep` comes from."""

    def __len__(self) -> int:
        return len(self.words)

    def ids(self) -> dict[str, int]:
        """Return the id of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def balanced(self, rule: Balance) -> Vocabulary:
        """Return the same words with the keep probabilities of another rule."""
        keep = rule.keep_probabilities(self.df, self.n_samples)
        return dataclasses.replace(self, keep=keep, keep_u32=balance.keep_as_u32(keep), balance=rule)

    def thin(self, bags: Ragged, samples: np.ndarray, seed: int, epoch: int = 0) -> tuple[Ragged, np.ndarray]:
        """Thin out bags by the vocabulary's rule.

        Args:
            bags: n bags of word ids.
            samples: n sample numbers, uint64.
            seed: The run's seed.
            epoch: The epoch; 0 for bags drawn once.

        Returns:
            The n bags, and a mask of those that would have been emptied. With --level pair bags stay
            whole: it thins out samples (`bow.draw.draw_pairs`).
        """
        if self.balance.level == "pair":
            return bags, np.zeros(len(bags), bool)
        if self.balance.n_words is not None:
            return draw_some(bags, samples, self.keep_u32, self.balance.n_words, seed, epoch), np.zeros(len(bags), bool)
        return draw_bags(bags, samples, self.keep_u32, seed, epoch, blind=self.balance.rule == "random")


def count_table(words: list[str], tf: np.ndarray, df: np.ndarray) -> pa.Table:
    """Return counts as a table by word, without the words that never occurred."""
    seen = tf > 0
    table = pa.table({"word": pa.array(words, pa.string()), "tf": tf, "df": df}, schema=COUNTS_SCHEMA)
    return table.filter(pa.array(seen)).sort_by("word")


def add_counts(tables: list[pa.Table], *, threads: bool = False) -> pa.Table:
    """Add up counts, words in no order: integers only, so that any order of adding gives the same sums."""
    summed = pa.concat_tables(tables).group_by("word", use_threads=threads).aggregate([("tf", "sum"), ("df", "sum")])
    return pa.table({"word": summed["word"], "tf": summed["tf_sum"], "df": summed["df_sum"]}, schema=COUNTS_SCHEMA)


def merge_counts(tables: list[pa.Table]) -> pa.Table:
    """Add up counts, by word."""
    return add_counts(tables).sort_by("word")


def choose_words(counts: pa.Table, n_samples: int, limits: Limits, rule: Balance) -> Vocabulary:
    """Build the vocabulary from the counts of so many samples: drop rare words, cut to size, give keep probabilities."""
    table = counts.filter(pc.greater_equal(counts["df"], limits.min_count))
    table = table.sort_by([("df", "descending"), ("word", "ascending")]).slice(0, limits.max_words)
    ones = np.ones(table.num_rows)
    unbalanced = Vocabulary(
        words=table["word"].to_pylist(),
        tf=table["tf"].to_numpy(),
        df=table["df"].to_numpy(),
        keep=ones,
        keep_u32=balance.keep_as_u32(ones),
        n_samples=n_samples,
        balance=Balance(),
    )
    return unbalanced.balanced(rule)


def counts_of(vocabulary: Vocabulary) -> pa.Table:
    """Return a vocabulary's counts as a table."""
    columns = {"word": pa.array(vocabulary.words, pa.string()), "tf": vocabulary.tf, "df": vocabulary.df}
    return pa.table(columns, schema=COUNTS_SCHEMA)


def write_vocabulary(folder: Path, vocabulary: Vocabulary) -> None:
    """Write FOLDER/vocabulary.parquet."""
    columns = {
        "id": np.arange(len(vocabulary), dtype=np.uint32),
        "word": pa.array(vocabulary.words, pa.string()),
        "tf": vocabulary.tf,
        "df": vocabulary.df,
        "keep": vocabulary.keep,
        "keep_u32": vocabulary.keep_u32,
    }
    about = {"balance": dataclasses.asdict(vocabulary.balance), "n_samples": vocabulary.n_samples}
    schema = VOCABULARY_SCHEMA.with_metadata({ABOUT: canonical_json(about)})
    write_table(folder, FILE, pa.table(columns, schema=schema))


def write_counted(folder: Path, counts: pa.Table, n_samples: int) -> int:
    """Write FOLDER/vocabulary.parquet with every counted word, all of them kept; return how many there are.

    The same file as `choose_words` and `write_vocabulary` would make, without an object a word: there may be millions.
    """
    table = counts.sort_by([("df", "descending"), ("word", "ascending")])
    n = table.num_rows
    columns = {
        "id": np.arange(n, dtype=np.uint32),
        "word": table["word"],
        "tf": table["tf"],
        "df": table["df"],
        "keep": np.ones(n),
        "keep_u32": np.full(n, balance.keep_as_u32(np.ones(1))[0]),
    }
    about = {"balance": dataclasses.asdict(Balance()), "n_samples": n_samples}
    schema = VOCABULARY_SCHEMA.with_metadata({ABOUT: canonical_json(about)})
    write_table(folder, FILE, pa.table(columns, schema=schema))
    return n


def read_counted(folder: Path) -> tuple[pa.Table, int]:
    """Read FOLDER/vocabulary.parquet as counts, and how many samples were counted.

    Raises:
        UsageError: If it is missing.
        DataError: If its columns are not a vocabulary's.
    """
    table = read_table(folder / FILE, VOCABULARY_SCHEMA)
    return table.select(COUNTS_SCHEMA.names).replace_schema_metadata(None), _about(table, folder)["n_samples"]


def _about(table: pa.Table, folder: Path) -> dict[str, Any]:
    try:
        return parse_json((table.schema.metadata or {})[ABOUT])
    except (KeyError, ValueError):
        raise DataError(f"{folder / FILE}: does not say how many samples were counted, and by which rule; not one of fistful's") from None


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read FOLDER/vocabulary.parquet.

    Raises:
        UsageError: If it is missing.
        DataError: If its columns are not a vocabulary's.
    """
    table = read_table(folder / FILE, VOCABULARY_SCHEMA)
    about = _about(table, folder)
    return Vocabulary(
        words=table["word"].to_pylist(),
        tf=table["tf"].to_numpy(),
        df=table["df"].to_numpy(),
        keep=table["keep"].to_numpy(),
        keep_u32=table["keep_u32"].to_numpy(),
        n_samples=about["n_samples"],
        balance=Balance(**about["balance"]),
    )
