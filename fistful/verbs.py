"""The verbs as the command line calls them: each calls one function of a room and says what came of it."""

from __future__ import annotations

from pathlib import Path

from cyclopts import Parameter

from fistful.bow.balance import Balance
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.vocabulary import Limits
from fistful.bow.words import WordOptions
from fistful.errors import DataError
from fistful.pipelines.bags import BagOptions, BagsConfig
from fistful.pipelines.count import CountConfig
from fistful.pipelines.sources import SourceOptions
from fistful.pipelines.stage import Running
from fistful.pipelines.units import PlanOptions

for options in (PlanOptions, SourceOptions, WordOptions, Limits, Balance, BagOptions, Running, CountConfig, BagsConfig):
    Parameter(name="*")(options)  # their fields become options of their own, without a prefix


def count(*sources: str, out: str, config: CountConfig = CountConfig()) -> None:
    """Count in how many captions and samples each word occurs.

    Args:
        sources: Files (TSV, CSV, tar, each also with .gz) or folders of them or of images.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.count import count as run

    done = _finished(out)
    folder = run(*sources, out=out, config=config)
    stats = read_json(folder / "stats.json")
    print(f"{done}{_rows(stats)}\n{stats['words']:,} words in {out}/vocabulary.parquet, most frequent first")
    print(f"next: fistful bags {' '.join(sources)} --counts {out} --out DATA --rule cap --kept 0.5")


def bags(*sources: str, counts: str, out: str, config: BagsConfig = BagsConfig()) -> None:
    """Turn captions into word-balanced bags, in webdataset shards with an index.

    Args:
        sources: Files (TSV, CSV, tar, each also with .gz) or folders of them or of images.
        counts: Folder that fistful count wrote.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.bags import bags as run

    done = _finished(out)
    folder = run(*sources, counts=counts, out=out, config=config)
    stats = read_json(folder / "stats.json")
    print(done + _rows(stats))
    print(
        f"{stats['words_in_bags']:,} words in bags, {stats['words_balanced']:,} after balancing "
        f"(kept {stats['kept_fraction_realised']:.1%}, expected {stats['kept_fraction_expected']:.1%}); "
        f"{stats['bags_emptied']:,} emptied bags kept their rarest word"
    )
    print(f"effective vocabulary {stats['effective_words_before']:,.0f} words before, {stats['effective_words_after']:,.0f} after")
    print(f"{stats['units']} shards in {out}/shards\nnext: fistful train {out} --out RUN")


def _finished(out: str) -> str:
    return "done already: " if (Path(out) / manifest.MANIFEST).exists() else ""


def _rows(stats: dict) -> str:
    refused = ", ".join(f"{reason} {n:,}" for reason, n in sorted(stats["refused"].items())) or "none"
    return f"{stats['rows']:,} rows read, {stats['kept']:,} kept; refused: {refused}"


def verify(*folders: str) -> None:
    """Check that not one byte of finished folders has changed.

    Args:
        folders: Folders that fistful wrote.
    """
    from fistful.errors import UsageError

    if not folders:
        raise UsageError("no FOLDER given; expected folders that fistful wrote")
    problems = [problem for folder in folders for problem in manifest.verify(Path(folder))]
    for problem in problems[:20]:
        print(problem)
    if problems:
        raise DataError(f"{len(problems)} differences found; delete the folder and run the command that wrote it again")
    for folder in folders:
        print(f"{folder}: every byte as written")
