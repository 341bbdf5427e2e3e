"""`fistful vectors`: exact pairs of real captions, vectors in which like words are near, the same bytes however it runs."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.vocabulary import Limits, read_vocabulary
from fistful.bow.words import Analyzer, WordOptions
from fistful.cli import run
from fistful.errors import DataError, UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import plan_units
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.vectors import VectorOptions, VectorsConfig, VectorsJob, pair_unit, vectors
from tests.support.folders import contents, environment, rows
from tests.support.job import PLAN, SOURCE, make_inputs
from tests.support.object_store import contents_of, empty_bucket, put_all

QUIET = Running(progress=False)
FIRST = SourceOptions(caption="1")


def config(dim: int, running: Running = QUIET, source: SourceOptions = SOURCE, **limits: int) -> VectorsConfig:
    return VectorsConfig(plan=PLAN, source=source, limits=Limits(**limits), vectors=VectorOptions(dim=dim), running=running)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> list[str]:
    """Real captions in a dozen units, some rows of them bad."""
    return [str(path) for path in make_inputs(tmp_path_factory.mktemp("vectors") / "in", data_root)]


@pytest.fixture(scope="module")
def counts(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return count(*inputs, out=tmp_path_factory.mktemp("counted") / "counts", config=CountConfig(plan=PLAN, source=SOURCE, running=QUIET))


@pytest.fixture(scope="module")
def made(inputs: list[str], counts: Path) -> Path:
    """What one worker in this process makes of them."""
    return vectors(*inputs, counts=counts, out=counts.parent / "vectors", config=config(24))


def pairs_in(folder: Path) -> dict[tuple[str, str], int]:
    words, table = read_vocabulary(folder).words, pq.read_table(folder / "pairs.parquet").to_pydict()
    return {(words[first], words[second]): n for first, second, n in zip(*table.values(), strict=True)}


def nearest(folder: Path, word: str, n: int) -> list[str]:
    found, vocabulary = np.load(folder / "vectors.npy"), read_vocabulary(folder)
    order = np.argsort(-(found @ found[vocabulary.ids()[word]]), kind="stable")
    return [vocabulary.words[i] for i in order[1 : n + 1]]


def captions_of(path: str) -> list[str]:
    """The captions that can be read, of a file of `make_inputs`."""
    data = gzip.decompress(Path(path).read_bytes()) if path.endswith(".gz") else Path(path).read_bytes()
    text = data.decode("latin-1")
    lines = csv.reader(io.StringIO(text)) if path.endswith(".csv") else (line.split("\t") for line in text.splitlines())
    return [columns[1] for columns in lines if len(columns) == 2 and columns[1].strip() and columns[1].isascii()]


# What comes out


def test_words_that_are_alike_are_near(data_root: Path, tmp_path: Path) -> None:
    with gzip.open(data_root / "captions/flickr30k.token.gz") as file:
        (tmp_path / "a.tsv").write_bytes(b"".join(islice(file, 60_000)))
    source, options = str(tmp_path / "a.tsv"), SourceOptions(caption="2")
    counts = count(source, out=tmp_path / "counts", config=CountConfig(source=options, running=QUIET))
    made = vectors(
        source, counts=counts, out=tmp_path / "v", config=VectorsConfig(source=options, vectors=VectorOptions(dim=64), running=QUIET)
    )
    found = np.load(made / "vectors.npy")
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float32, (len(read_vocabulary(made)), 64), True)
    assert {"dogs", "leash"} & {*nearest(made, "dog", 10)}
    assert "dog" in nearest(made, "puppy", 40)
    assert {"groom", "wedding"} & {*nearest(made, "bride", 5)}
    assert {"acoustic", "singing", "plays", "musician"} & {*nearest(made, "guitar", 8)}
    ids = read_vocabulary(made).ids()
    assert found[ids["dog"]] @ found[ids["puppy"]] > found[ids["dog"]] @ found[ids["guitar"]] + 0.3


def test_pairs_of_real_captions_are_exact(inputs: list[str], made: Path, counts: Path) -> None:
    analyzer, words = Analyzer(WordOptions()), {*read_vocabulary(made).words}
    expected: Counter[frozenset[str]] = Counter()
    captions = [caption for path in inputs for caption in captions_of(path)]
    for caption in captions:
        bag = {word for word, fault in analyzer.explain(caption) if fault is None} & words
        expected.update(frozenset(pair) for pair in combinations(bag, 2))
        expected.update(frozenset([word]) for word in bag)
    found = {frozenset(pair): n for pair, n in pairs_in(made).items()}
    assert found == expected
    stats = read_json(made / "stats.json")
    n_pairs = sum(n for pair, n in expected.items() if len(pair) == 2)
    assert (stats["captions"], stats["pairs_counted"], stats["pairs"]) == (len(captions), n_pairs, sum(len(pair) == 2 for pair in expected))


def test_words_stand_together_in_a_caption_not_in_another_of_the_same_picture(tmp_path: Path) -> None:
    lines = [{"captions": ["red dog", "dog cat"]}, {"captions": ["red fox red fox"]}, {"captions": ["cat fox", "owl"]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = count(str(tmp_path / "a.jsonl"), out=tmp_path / "counts", config=CountConfig(running=QUIET))
    made = vectors(str(tmp_path / "a.jsonl"), counts=counts, out=tmp_path / "v", config=config(2, source=SourceOptions(), min_count=1))
    found = {frozenset(pair): n for pair, n in pairs_in(made).items()}
    alone = {"red": 2, "dog": 2, "cat": 2, "fox": 2, "owl": 1}
    together = {frozenset(pair.split()): 1 for pair in ("red dog", "dog cat", "red fox", "cat fox")}
    assert found == {**{frozenset([word]): n for word, n in alone.items()}, **together}
    stats = read_json(made / "stats.json")
    assert (stats["words"], stats["words_with_vector"], stats["words_without_vector"]) == (5, 4, 1)
    assert not np.load(made / "vectors.npy")[read_vocabulary(made).ids()["owl"]].any()


def test_units_without_a_known_word_add_nothing_and_nothing_at_all_is_said(tmp_path: Path) -> None:
    for name, lines in {"a": ["red dog", "red dog", "blue cat", "blue cat"], "none": ["zzz qqq"], "empty": []}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"caption": line}) + "\n" for line in lines))
    a, none, empty = (str(tmp_path / f"{name}.jsonl") for name in ("a", "none", "empty"))
    counts = count(a, out=tmp_path / "counts", config=CountConfig(running=QUIET))
    asked = config(2, source=SourceOptions(), min_count=1)
    made, alone = (vectors(*given, counts=counts, out=tmp_path / out, config=asked) for given, out in (([a, none, empty], "v"), ([a], "w")))
    assert (made / "vectors.npy").read_bytes() == (alone / "vectors.npy").read_bytes()
    with pytest.raises(DataError, match="no two words stand together"):
        vectors(none, counts=counts, out=tmp_path / "nothing", config=asked)


def test_the_vocabulary_is_that_of_bags_with_the_same_limits(inputs: list[str], counts: Path, tmp_path: Path) -> None:
    limits = Limits(min_count=4, max_words=150)
    bagged = bags(*inputs, counts=counts, out=tmp_path / "bags", config=BagsConfig(plan=PLAN, source=SOURCE, limits=limits, running=QUIET))
    made = vectors(*inputs, counts=counts, out=tmp_path / "v", config=config(5, min_count=4, max_words=150))
    assert read_vocabulary(made).words == read_vocabulary(bagged).words
    assert len(np.load(made / "vectors.npy")) == 150


def test_no_row_is_lost(made: Path) -> None:
    stats = read_json(made / "stats.json")
    assert stats["refused"] == {"bad_row": 1, "no_caption": 1, "bad_caption": 1}
    assert (stats["rows"], stats["kept"]) == (2_400, 2_397)
    assert Counter(letter["reason"] for letter in rows(made, "dead_letters")) == stats["refused"]


# However it runs


@pytest.mark.parametrize("running", [{"workers": 2}, {"workers": 2, "engine": "dask"}], ids=["two workers", "dask"])
def test_other_engines_write_the_same_bytes(inputs: list[str], counts: Path, made: Path, tmp_path: Path, running: dict[str, Any]) -> None:
    again = vectors(*reversed(inputs), counts=counts, out=tmp_path / "v", config=config(24, Running(progress=False, **running)))
    assert contents(again) == contents(made)
    assert manifest.verify(again) == []


def test_units_put_aside_and_merged_as_a_tree_write_the_same_bytes(
    inputs: list[str], counts: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fistful.pipelines.sorted_counter.AT_ONCE", 300)
    monkeypatch.setattr("fistful.pipelines.vectors.MERGED_AT_ONCE", 3)
    monkeypatch.setattr("fistful.pipelines.engine.merge.MERGED_AT_ONCE", 2)
    again = vectors(*inputs, counts=counts, out=tmp_path / "v", config=config(24))
    assert contents(again) == contents(made)
    assert len([*(tmp_path / "v/logs/merge").iterdir()]) > 1
    assert [*(tmp_path / "v/logs/tmp").iterdir()] == []


KILLED = """
import sys
from pathlib import Path
from tests.pipelines.test_vectors import config
from tests.support.job import die_at_write
from fistful.pipelines.vectors import vectors
counts, out, n, *inputs = sys.argv[1:]
die_at_write(int(n), False)
vectors(*inputs, counts=counts, out=out, config=config(24))
"""


@pytest.mark.parametrize("write", [10, -1, pytest.param(-2, marks=pytest.mark.slow), pytest.param(-4, marks=pytest.mark.slow)])
def test_killed_at_a_write_and_run_again_it_ends_with_the_same_bytes(
    inputs: list[str], counts: Path, made: Path, tmp_path: Path, write: int
) -> None:
    n_writes = len(contents(made))
    command = [sys.executable, "-c", KILLED, counts, tmp_path / "v", write if write > 0 else n_writes + 2 + write, *inputs]
    assert subprocess.run([*map(str, command)], env=environment(), check=False).returncode == -signal.SIGKILL
    assert 3 < len(contents(tmp_path / "v")) < n_writes
    assert contents(vectors(*inputs, counts=counts, out=tmp_path / "v", config=config(24))) == contents(made)


def test_a_store_holds_the_bytes_of_a_local_folder(inputs: list[str], counts: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = empty_bucket("vectors")
    put_all(counts, f"{bucket}/counts")
    monkeypatch.setattr("fistful.pipelines.engine.merge.MERGED_AT_ONCE", 4)  # sums lie in the store too
    vectors(*inputs, counts=f"{bucket}/counts", out=f"{bucket}/vectors", config=config(24))
    assert contents_of(f"{bucket}/vectors") == contents(made)


def test_a_unit_may_be_done_any_number_of_times_and_a_finished_folder_is_done_already(inputs: list[str], counts: Path, made: Path) -> None:
    before = contents(made)
    for unit in plan_units(tuple(inputs), PLAN)[0][3:5] * 2:
        pair_unit(unit, made, VectorsJob(SOURCE, WordOptions(), made))
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    vectors(*inputs, counts=counts, out=made, config=config(24))
    assert contents(made) == before
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == times


# The command line


def test_the_command_line_says_what_came_of_it_and_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.tsv").write_text("caption\tid\n" + "red dog\t1\nred cat\t2\nblue fish\t3\nblue bird and owls\t4\nzebra\t5\n" * 2)
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    command = ["vectors", "a.tsv", "--counts", "counts", "--out", "v", "--dim", "3", "--min-count", "1", "--no-progress"]
    capsys.readouterr()
    assert run([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("dry run, nothing is written: 1 unit, 0.0 MB to read\n")
    assert not Path("v").exists()
    for done in ("", "done already: "):
        assert run(command) == 0
        assert re.sub(r"; [\d.,]+ s, .* MB/s\n", "\n", capsys.readouterr().out) == (
            f"{done}10 rows read, 10 kept; refused: none\n"
            "12 pairs of words in 10 captions, 6 different ones\n"
            "7 words with a vector of 3 numbers in v/vectors.npy\n"
            "1 more stand beside no other word more often than by chance; their vectors are zeros\n"
            "next: fistful train DATA --out RUN --text-tower words --word-vectors v\n"
        )
    assert run(["verify", "v"]) == run(["words", "v", "dog"]) == run(["doctor", "v"]) == 0


def test_long_texts_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"w{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghijk"]
    Path("a.tsv").write_text(" ".join(words) + "\n" + " ".join(words[:20]) + "\n")
    assert run(["count", "a.tsv", "--caption", "1", "--out", "c", "--no-progress"]) == 0
    assert (
        run(["vectors", "a.tsv", "--caption", "1", "--counts", "c", "--out", "v", "--min-count", "1", "--dim", "2", "--no-progress"]) == 0
    )
    assert "1 caption has more than 1,000 words; the first were paired\n" in capsys.readouterr().out
    assert read_json(Path("v/stats.json"))["pairs_counted"] == 1_000 * 999 // 2 + 190


def test_a_call_at_fault_says_what_to_do_before_anything_is_written(counts: Path, made: Path, inputs: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        vectors(*inputs, counts=counts, out=tmp_path / "v", config=config(150, max_words=150))
    assert str(error.value) == "--dim 150: the vocabulary has 150 words (--min-count 3), expected a --dim below that"
    with pytest.raises(UsageError) as error:
        VectorOptions(dim=1)
    assert str(error.value) == (
        "--dim 1: expected 2 or more, such as 256; of vectors of length 1, one number is but a sign, "
        "so that any two words would be the same or opposites"
    )
    with pytest.raises(
        UsageError, match=r"counts: the vocabulary has 2 words \(--min-count 3\), expected more than 2; a smaller --min-count"
    ):
        vectors(*inputs, counts=counts, out=tmp_path / "v", config=config(2, max_words=2))
    with pytest.raises(UsageError, match=r"was written by fistful vectors, expected a folder that fistful count wrote"):
        vectors(*inputs, counts=made, out=tmp_path / "v", config=config(24))
    with pytest.raises(DataError, match="no word reaches --min-count 9999"):
        vectors(*inputs, counts=counts, out=tmp_path / "v", config=config(24, min_count=9_999))
    assert not (tmp_path / "v").exists()


def test_captions_of_one_word_each_have_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("dog\ncat\nfox\n" * 3)
    counts = count(str(tmp_path / "a.tsv"), out=tmp_path / "counts", config=CountConfig(source=FIRST, running=QUIET))
    with pytest.raises(DataError, match="no two words stand together more often than by chance; more captions help"):
        vectors(str(tmp_path / "a.tsv"), counts=counts, out=tmp_path / "v", config=config(2, source=FIRST))
