"""Counting: in bounded memory, whatever the input, and merged in whatever order."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fistful.bow.store.dead_letters import DeadLetter, Letters
from fistful.bow.store.tables import ROW_GROUP
from fistful.bow.vocabulary import read_counted, read_vocabulary
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running, Watch
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from tests.support.folders import contents

QUIET = Running(progress=False, max_bad_fraction=0.99)
FIRST = SourceOptions(caption="1")


def captions(n: int) -> list[str]:
    words = ["dog", "cat", "tree", "house", "river"]
    return [f"{words[i % 5]} {words[i * i % 5]} word{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}" for i in range(n)]


def run(folder: Path, out: str, unit_bytes: float = 16e6) -> Path:
    config = CountConfig(plan=PlanOptions(unit_mb=unit_bytes / 1e6), source=FIRST, running=QUIET)
    return count(str(folder / "a.tsv"), out=folder / out, config=config)


def counted(folder: Path) -> dict[str, tuple[int, int]]:
    vocabulary = read_vocabulary(folder)
    return {word: (tf, df) for word, tf, df in zip(vocabulary.words, vocabulary.tf.tolist(), vocabulary.df.tolist(), strict=True)}


def by_hand(texts: list[str]) -> dict[str, tuple[int, int]]:
    tf, df = Counter(word for text in texts for word in text.split()), Counter(word for text in texts for word in set(text.split()))
    return {word: (tf[word], df[word]) for word in tf}


def test_counts_are_the_same_when_tables_are_emptied_in_the_middle_of_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{text}\n" for text in captions(900)))
    whole = contents(run(tmp_path, "whole"))
    monkeypatch.setattr("fistful.bow.words.MAX_CHUNKS", 20)
    monkeypatch.setattr("fistful.pipelines.read.lines.BLOCK", 500)
    assert contents(run(tmp_path, "emptied")) == whole
    assert counted(tmp_path / "emptied") == by_hand(captions(900))


def test_many_units_are_merged_as_a_tree_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{text}\n" for text in captions(300)))
    flat = contents(run(tmp_path, "flat", 200))
    monkeypatch.setattr("fistful.pipelines.count.FEW", 3)
    monkeypatch.setattr("fistful.pipelines.engine.merge.MERGED_AT_ONCE", 3)
    assert contents(run(tmp_path, "tree", 200)) == flat
    assert len([*(tmp_path / "tree" / "logs" / "merge").iterdir()]) > 1
    assert counted(tmp_path / "tree") == by_hand(captions(300))
    table, n_samples = read_counted(tmp_path / "tree")
    assert (table.num_rows, n_samples) == (len(by_hand(captions(300))), 300)


def test_dead_letters_are_packed_as_they_come(tmp_path: Path) -> None:
    letters = Letters()
    letters += [DeadLetter("bad_row", "a.tsv", f"row {i + 1}", "1 columns, expected 2", b"x") for i in range(ROW_GROUP + 3)]
    letters.append(DeadLetter("no_caption", "a.tsv", "row 0", "caption is empty or missing", b""))
    record = letters.write(tmp_path, "dead.parquet")
    table = pq.read_table(tmp_path / "dead.parquet")
    assert table["place"].to_pylist() == [*(f"row {i + 1}" for i in range(ROW_GROUP + 3)), "row 0"]
    assert letters.by_reason == {"bad_row": ROW_GROUP + 3, "no_caption": 1}
    assert record["size"] == (tmp_path / "dead.parquet").stat().st_size


def test_the_bar_tells_rate_and_refused_rows_from_stats_files(tmp_path: Path) -> None:
    (tmp_path / "stats").mkdir()
    put = (tmp_path / "stats" / "00001.json").write_text
    put(json.dumps({"rows": 1_000, "refused": {"bad_row": 9}}))
    watch = Watch(tmp_path, {0: 5_000_000, 1: 5_000_000, 2: 5_000_000})
    assert watch.note({1}) == ""  # what an earlier run did is not this run's
    (tmp_path / "stats" / "00002.json").write_text(json.dumps({"rows": 2_000, "refused": {"bad_row": 3, "no_caption": 4}}))
    assert watch.note({1, 2}).endswith("MB/s, 7 refused")
    assert (watch.rows, watch.refused, watch.n_bytes) == (2_000, 7, 5_000_000)


def test_the_log_of_a_run_has_its_rates(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a dog\n \n")
    (log,) = (run(tmp_path, "out") / "logs").glob("run-*.json")
    entry = json.loads(log.read_bytes())
    assert (entry["rows"], entry["refused"], entry["workers"]) == (2, {"no_caption": 1}, 1)
    assert {"seconds", "megabytes", "rows_per_second", "command", "host"} <= entry.keys()
