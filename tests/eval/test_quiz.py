"""`quiz`: models in, what their text towers can tell apart out."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fistful.bow.lexicon import make_lexicon
from fistful.bow.relations import read_relations
from fistful.bow.sequences import sequences
from fistful.bow.store.files import read_json
from fistful.bow.store.manifest import verify
from fistful.bow.store.shard import tar_bytes
from fistful.bow.tasks import TextTask, atoms
from fistful.bow.tokens import import_spacy
from fistful.cli import run
from fistful.errors import DataError, UsageError
from fistful.eval.quiz import quiz as module
from fistful.eval.quiz.ask import FIGURES_SCHEMA, ask, embed, random_vectors
from fistful.eval.quiz.quiz import quiz
from fistful.eval.quiz.quiz_config import QuizConfig
from fistful.eval.quiz.results import TASKS_SCHEMA, not_told, quiz_table
from fistful.eval.quiz.trials import make_quiz
from fistful.training.model.load import load_encoder
from tests.support.folders import contents
from tests.support.pictures import picture
from tests.support.quiz_words import common_words, make_vocabulary

STOP_WORDS = import_spacy().blank("en").Defaults.stop_words
BAGS = "tests.support.quiz_words:WordEncoder"
ORDERED = f'{BAGS} {{"name": "ordered", "ordered": true}}'
BLIND = f'{BAGS} {{"name": "blind", "knows": false}}'


class OneAxis:
    """A model that knows in which half of the alphabet a text begins, and hardly anything else."""

    name, fingerprint, image_size = "axis", "a" * 64, 0

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        found = 0.01 * random_vectors(texts)
        found[:, 0] = [-1.0 if text[0] > "m" else 1.0 for text in texts]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def n_cut(self, texts: list[str]) -> int:
        return 0

    def prepare(self, image: object) -> np.ndarray:
        raise AssertionError("texts alone")

    embed_images = prepare


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vocabulary(tmp_path_factory.mktemp("quiz") / "counts", common_words(800))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, vocabulary: Path) -> Path:
    """Two models that know words, one of which sees their order."""
    out = tmp_path_factory.mktemp("quiz") / "out"
    return quiz(BAGS, ORDERED, out=out, config=QuizConfig(vocabulary=str(vocabulary), progress=False))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of nouns, of which every other has a mark, which no model can know."""
    nouns = [w for w in common_words(1_500) if (r := read_relations().read(w)) and r.pos == "n" and w not in STOP_WORDS][:120]
    rows = [f"{word}\t{'first' if i < 60 else 'second'}|all\t{'even' if i % 2 else ''}" for i, word in enumerate(nouns)]
    (tmp_path / "own.tsv").write_text("word\thalf\tmark\n" + "\n".join(rows) + "\n")
    return tmp_path / "own.tsv"


def figure(folder: Path, kind: str, model: str, k: int = 64) -> dict[str, float]:
    """The row of a kind, by the linear procedure."""
    wanted = (kind, model, "linear", k)
    return next(r for r in read_json(folder / "quiz.json")["kinds"] if (r["kind"], r["model"], r["procedure"], r["k"]) == wanted)


def test_a_quiz_says_what_each_model_can_tell_apart(asked: Path) -> None:
    assert verify(asked) == []
    model = "bags"
    found = figure(asked, "predicate", model, 16)
    assert 0.6 < found["score_low"] < found["score"] < found["score_high"]
    assert found["above_permuted"] is True
    assert figure(asked, "bag of words", model, 256)["score"] > 0.6
    order = figure(asked, "word order", model)
    assert (order["score"], order["score_low"], order["permuted"], order["above_permuted"]) == (0.5, None, 0.5, False)
    assert figure(asked, "word order", "ordered", 256)["score_low"] > 0.5
    assert abs(figure(asked, "predicate", "(random vectors)")["score"] - 0.5) < 0.05


def test_the_files_have_every_figure_and_every_task(asked: Path) -> None:
    summary = read_json(asked / "quiz.json")
    table = pq.read_table(asked / "tasks.parquet", schema=TASKS_SCHEMA).to_pylist()
    assert len(table) == summary["n_tasks"] > 100
    assert {row["kind"] for row in table} == {row["kind"] for row in summary["kinds"]}
    member = next(row for row in table if row["name"] == "is{form=plural}")
    assert member["members"]
    assert all(text["label"] in (1, -1) for row in table for text in row["texts"])
    figures = pq.read_table(asked / "figures" / "ordered.parquet")
    assert figures.schema.names == FIGURES_SCHEMA.names
    of_one = [r["score"] for r in figures.to_pylist() if (r["task"], r["k"], r["procedure"]) == (0, 16, "linear")]
    said = next(
        r for r in summary["tasks"] if (r["model"], r["task"], r["k"], r["procedure"]) == ("ordered", table[0]["name"], 16, "linear")
    )
    assert len(of_one) == 5
    assert said["score"] == pytest.approx(np.mean(of_one))


def test_the_table_is_by_kind_with_intervals_controls_and_differences(asked: Path) -> None:
    text = quiz_table(asked)
    head, _, first, *_ = text.splitlines()
    assert head.split("  ")[0] == "kind"
    assert [word in head for word in ("K = 16 [95 %]", "K = 64 [95 %]", "K = 256 [95 %]", "permuted", "guessing")] == [True] * 5
    assert first.startswith("predicate ")
    assert "(random vectors)" in text
    assert "the tasks where they differ most" in text
    assert "ordered - bags on word order" in text
    assert "! bags: not above its own permuted labels on " in text
    assert "fewer than 200 tasks: the words give only " in text


def test_the_same_command_again_is_done_already_and_another_one_is_refused(own: Path, tmp_path: Path) -> None:
    quiz(BAGS, ORDERED, out=tmp_path / "r", config=QuizConfig(tasks=str(own), progress=False))
    before = contents(tmp_path / "r")
    quiz(BAGS, ORDERED, out=tmp_path / "r", config=QuizConfig(tasks=str(own), progress=True))
    assert contents(tmp_path / "r") == before
    with pytest.raises(UsageError, match=r"belongs to another configuration \(seed: 0 there, 1 asked\); choose another --out"):
        quiz(BAGS, ORDERED, out=tmp_path / "r", config=QuizConfig(tasks=str(own), seed=1, progress=False))


def test_an_interrupted_quiz_goes_on_with_the_next_model(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = QuizConfig(tasks=str(own), progress=False)
    whole = contents(quiz(BAGS, ORDERED, out=tmp_path / "whole", config=config))
    real, asked = module.ask, []

    def stops(*args: object) -> object:
        asked.append(args)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(module, "ask", stops)
    with pytest.raises(KeyboardInterrupt):
        quiz(BAGS, ORDERED, out=tmp_path / "r", config=config)
    assert not (tmp_path / "r" / "manifest.json").exists()
    quiz(BAGS, ORDERED, out=tmp_path / "r", config=config)
    assert len(asked) == 4  # two at first, then the second model and random vectors
    assert contents(tmp_path / "r") == whole


def test_what_a_context_cuts_is_said(own: Path, tmp_path: Path) -> None:
    out = quiz(f'{BAGS} {{"context_length": 0}}', out=tmp_path / "r", config=QuizConfig(tasks=str(own), progress=False))
    assert "! bags: 120 of 120 texts are cut off by its context of 0" in quiz_table(out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A words tower and a transformer, both hardly trained, on captions that have 400 words five times each."""
    root = tmp_path_factory.mktemp("runs")
    words = common_words(400)
    files = {}
    for i in range(100):
        files[f"{i:03d}.png"] = picture((i * 2, 90, 200 - i))
        files[f"{i:03d}.txt"] = " ".join(words[(i * 20 + j) % 400] for j in range(20)).encode()
    (root / "captioned.tar").write_bytes(tar_bytes(files))
    common = f"--out {root}/words --text-tower words --text bag", f"--out {root}/transformer --text caption"
    short = "--model tiny-vit --steps 3 --batch-size 16 --warmup 1 --threads 1 --no-progress"
    commands = [f"count {root}/captioned.tar --out {root}/counts --no-progress"]
    commands += [f"bags {root}/captioned.tar --counts {root}/counts --out {root}/bags --no-progress"]
    commands += [f"train {root}/bags {options} {short}" for options in common]
    assert [run(shlex.split(command)) for command in commands] == [0] * 4
    return root


def test_our_words_tower_is_right_on_half_of_the_order_tasks_to_the_digit(runs: Path) -> None:
    lexicon = make_lexicon(common_words(400), read_relations())
    tasks = [task for task in sequences(atoms(lexicon, seed=0), seed=0) if task.kind == "word order"]
    rules = {task.rule: task for task in tasks if isinstance(task, TextTask)}
    assert {*rules} == {"first", "before", "swapped"}
    order = make_quiz(lexicon.words, lexicon.groups, [*rules.values()], seed=0)
    scores = {}
    for name in ("words", "transformer"):
        vectors, _ = embed(load_encoder(str(runs / name), "cpu"), order.texts, lambda _: None)
        scores[name] = ask(order, vectors, 0, lambda: None)["score"].to_pylist()
    assert {*scores["words"]} == {0.5}
    assert len({*scores["transformer"]}) > 1


def test_the_vocabulary_is_by_default_that_of_the_first_model(runs: Path, tmp_path: Path, own: Path) -> None:
    with pytest.raises(UsageError, match=r"with \d+ of \d+\); \d+ words are not in the vocabulary and left out: .*; add words, or join"):
        quiz(str(runs / "words"), BAGS, out=tmp_path / "r", config=QuizConfig(tasks=str(own), progress=False))


def test_a_model_without_a_text_tower_is_refused_before_another_is_asked(runs: Path, tmp_path: Path) -> None:
    short = "--model tiny-vit --steps 2 --batch-size 16 --warmup 1 --threads 1 --no-progress"
    assert run(shlex.split(f"train {runs}/bags --out {tmp_path}/head --objective words {short}")) == 0
    with pytest.raises(UsageError, match=r"head: has no text tower .*; leave it out: a quiz asks text towers"):
        quiz(str(runs / "words"), str(tmp_path / "head"), out=tmp_path / "r", config=QuizConfig(progress=False))
    assert not (tmp_path / "r").exists()


def test_a_table_of_ones_own_gives_predicates_and_what_is_composed_of_them(own: Path, tmp_path: Path) -> None:
    out = quiz(BLIND, out=tmp_path / "r", config=QuizConfig(tasks=str(own), progress=False))
    names = {row["name"] for row in pq.read_table(out / "tasks.parquet").to_pylist()}
    assert names >= {"is{half=first}", "is{mark=even}"}
    assert "is{half=all}" not in names  # true of all
    assert {"predicate", "predicates composed"} >= {row["kind"] for row in read_json(out / "quiz.json")["kinds"]}
    assert "is{mark=even}" in not_told(read_json(out / "quiz.json"))["blind"]
    assert "! blind cannot make " in quiz_table(out)


def test_a_model_of_which_one_axis_says_nearly_all_is_believed(tmp_path: Path) -> None:
    """Learnt from permuted labels, true labels would be right on it for all words of a split or for none."""
    words = [word for word in common_words(1_500) if word not in STOP_WORDS][:600]
    (tmp_path / "t.tsv").write_text("word\tearly\n" + "".join(f"{word}\t{'no' if word[0] > 'm' else 'yes'}\n" for word in words))
    for seed in range(3):
        config = QuizConfig(tasks=str(tmp_path / "t.tsv"), progress=False, seed=seed)
        out = quiz(f"{__name__}:OneAxis", out=tmp_path / str(seed), config=config)
        (row,) = (
            row for row in read_json(out / "quiz.json")["tasks"] if (row["model"], row["procedure"], row["k"]) == ("axis", "linear", 64)
        )
        assert row["score"] > 0.99
        assert row["above_permuted"]
        assert "no vocabulary to look its words up in" in quiz_table(out)


def test_a_word_in_two_cases_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("word\talive\nman\tyes\nMAN\tno\n")
    with pytest.raises(DataError, match="row 3: the word 'MAN' is there twice"):
        quiz(BLIND, out=tmp_path / "r", config=QuizConfig(tasks=str(tmp_path / "t.tsv"), progress=False))


def test_words_of_a_table_that_the_vocabulary_lacks_are_counted_and_left_out(own: Path, tmp_path: Path) -> None:
    vocabulary = make_vocabulary(tmp_path / "counts", [line.split("\t")[0] for line in own.read_text().splitlines()[1:]])
    own.write_text(own.read_text() + "qwertz\tfirst\t\nasdf\tfirst\t\n")
    out = quiz(BLIND, out=tmp_path / "r", config=QuizConfig(tasks=str(own), vocabulary=str(vocabulary), progress=False))
    assert f"{own}: 2 words are not in the vocabulary and left out: 'qwertz', 'asdf'" in quiz_table(out)


def test_a_table_of_which_the_vocabulary_knows_no_word_is_refused_as_that(own: Path, tmp_path: Path) -> None:
    vocabulary = make_vocabulary(tmp_path / "counts", ["qwertz"])
    with pytest.raises(UsageError, match=r"none of its 120 words is in the vocabulary, .* and 117 more; give --vocabulary FOLDER of"):
        quiz(BLIND, out=tmp_path / "r", config=QuizConfig(tasks=str(own), vocabulary=str(vocabulary), progress=False))


def test_a_property_and_its_contrary_are_one_task(tmp_path: Path) -> None:
    rows = [f"{word}\t{('no', 'yes')[i % 2]}\n" for i, word in enumerate(common_words(120))]
    (tmp_path / "t.tsv").write_text("word\talive\n" + "".join(rows))
    out = quiz(BLIND, out=tmp_path / "r", config=QuizConfig(tasks=str(tmp_path / "t.tsv"), progress=False))
    assert pq.read_table(out / "tasks.parquet").column("name").to_pylist() == ["is{alive=no}"]


def test_errors_are_one_line_that_says_what_to_type(tmp_path: Path) -> None:
    def message(error: type[Exception] = UsageError, *models: str, **options: str) -> str:
        with pytest.raises(error) as found:
            quiz(*(models or (BLIND,)), out=tmp_path / "r", config=QuizConfig(progress=False, **options))  # pyright: ignore[reportArgumentType]
        assert "\n" not in str(found.value)
        return str(found.value)

    def table(text: str) -> str:
        (tmp_path / "t.tsv").write_text(text)
        return str(tmp_path / "t.tsv")

    expected = "a TSV with the columns word and at least one property"
    with pytest.raises(UsageError, match=r"^quiz: no MODEL given; expected run folders, model folders, or package.module:function$"):
        quiz(out=tmp_path / "r")
    assert message() == f"quiz: {BLIND} has no vocabulary of its own; give --vocabulary FOLDER, which fistful count or bags wrote"
    assert message(vocabulary=str(tmp_path)).startswith(f"--vocabulary {tmp_path}: has no vocabulary.parquet; expected a folder")
    few = make_vocabulary(tmp_path / "few", ["dog", "cat", "qwertz"])
    assert message(vocabulary=str(few)) == (
        f"quiz: WordNet's table knows 2 of the 3 words of {few} that 5 or more samples have, too few for a task, which takes 40 that have "
        "a property among 100; give --vocabulary FOLDER of more captions, or words of your own with --tasks TABLE.tsv"
    )
    assert message(tasks="no.tsv") == f"--tasks no.tsv: no such file; expected wordnet, or {expected}"
    t = table("dog,animal\ncat,animal\n")
    assert message(tasks=t) == f"--tasks {t}: its first row has no tab, so it is no TSV; expected {expected}, parted by tabs"
    assert message(tasks=table("name\tkind\n")) == f"--tasks {t}: its first row has the columns 'name', 'kind'; expected {expected}"
    assert message(DataError, tasks=table("word\tkind\ndog\tanimal\tx\n")) == f"{t} row 2: found 3 cells, expected 2 as in the first row"
    assert message(DataError, tasks=table("word\tkind\n\tanimal\n")) == f"{t} row 2: has no word; expected one in the column word"
    twice = message(DataError, tasks=table("word\tkind\ndog\ta\ndog\tb\n"))
    assert twice == f"{t} row 3: the word 'dog' is there twice; several values are parted by |"
    assert message(tasks=table("word\tkind\ndog\tanimal\ncar\tthing\n")) == (
        f"--tasks {t}: no value of a property is had by 32 of its words and lacked by 32 (the nearest is is{{kind=animal}} with 1 of 2); "
        "add words, or join values"
    )
    assert message(tasks=table("word\tkind\n")) == (
        f"--tasks {t}: no value of a property is had by 32 of its words and lacked by 32 (it has none); add words, or join values"
    )
    assert not (tmp_path / "r").exists()
