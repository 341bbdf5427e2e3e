"""`fistful distill`: exact n-grams of real captions, a student near its teacher, the same bytes however it runs or is stopped."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fistful
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.store.shard import tar_bytes
from fistful.bow.words import Analyzer, WordOptions
from fistful.cli import run
from fistful.errors import DataError, UsageError
from fistful.job_texts import next_with_student
from fistful.pipelines.distill import DistillConfig, distill
from fistful.pipelines.embed import EmbedConfig, embed
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.sources import SourceOptions
from fistful.training.model.load import load_encoder
from fistful.training.student_options import StudentOptions
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.pipelines.test_vectors import captions_of
from tests.support.data_folder import make_data
from tests.support.folders import contents, environment, rows
from tests.support.job import PLAN, SOURCE, make_inputs
from tests.support.pictures import picture
from tests.support.squares import SQUARES, make_squares, square

QUIET = Running(progress=False)
COLOURS = "tests.support.colours:ColourEncoder"
SWAPPED = 'tests.support.colours:ColourEncoder {"swapped": true}'
SMALL = {"table": 300, "hashed": 32, "dim": 8, "epochs": 3.0, "batch_size": 64, "lr": 0.002, "threads": 1, "device": "cpu"}


def config(running: Running = QUIET, source: SourceOptions | None = None, **options: Any) -> DistillConfig:
    return DistillConfig(plan=PLAN, source=source or SOURCE, student=StudentOptions(**{**SMALL, **options}), running=running)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> list[str]:
    """Real captions in a dozen units, some rows of them bad."""
    return [str(path) for path in make_inputs(tmp_path_factory.mktemp("distill") / "in", data_root)]


@pytest.fixture(scope="module")
def made(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker in this process makes of them."""
    return distill(COLOURS, *inputs, out=tmp_path_factory.mktemp("made") / "student", config=config())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions of colours, beside a student that has learnt them."""
    folder = tmp_path_factory.mktemp("drawn")
    names = ["red", "green", "blue"]
    lines = [f"{i}\ta {names[i % 3]} ball and {'another' if i % 2 else names[i // 3 % 3]} one\n" for i in range(300)]
    (folder / "captions.tsv").write_text("id\tcaption\n" + "".join(lines))
    options = config(source=SourceOptions(), epochs=40.0, dim=16, batch_size=32)
    distill(COLOURS, str(folder / "captions.tsv"), out=folder / "student", config=options)
    return folder


def test_a_student_says_of_texts_what_its_teacher_does(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = fistful.load(drawn / "student")
    found = student.embed_texts(["a red ball and another one", "a blue ball and green one", "?!"])
    teacher = fistful.load(COLOURS).embed_texts(["red", "blue green"])
    assert (found[:2] * teacher).sum(axis=1).min() > 0.98
    assert not found[2].any()

    options = (
        "--table 300 --hashed 32 --dim 16 --epochs 40 --batch-size 32 --lr 0.002 --threads 1 --device cpu --unit-mb 0.02 --no-progress"
    )
    assert run(["distill", COLOURS, str(drawn / "captions.tsv"), "--out", str(drawn / "student"), *options.split()]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "done already: 300 rows read, 300 kept; refused: none"
    assert said[1].endswith(" in 300 captions: 56 with an embedding of their own (100.0% of what was read), the other 0 share 32")
    assert re.fullmatch(r"student and teacher have a cosine of (1\.0|0\.9)\d\d, the mean of \d+ captions that were held out", said[-2])
    assert said[-1].endswith("+tests.support.colours:ColourEncoder is the model")
    assert run(["verify", str(drawn / "student")]) == 0
    assert run(["doctor", str(drawn / "student"), "--no-progress"]) == 0
    assert "student of fistful distill" in capsys.readouterr().out


def test_the_table_has_the_most_frequent_ngrams_of_an_exact_count(inputs: list[str], made: Path) -> None:
    analyzer, counts = Analyzer(WordOptions(stop_words=True, alphabetic=False)), Counter()
    for caption in (caption for path in inputs for caption in captions_of(path)):
        words = [word for word, fault in analyzer.explain(caption) if not fault]
        counts.update(" ".join(words[i : i + n]) for i in range(len(words)) for n in range(1, 5) if i + n <= len(words))
    table = pq.read_table(made / "model" / "ngrams.parquet").to_pydict()
    assert {name: counts[name] for name in table["ngram"]} == dict(zip(table["ngram"], table["n"], strict=True))
    assert table["n"] == sorted(counts.values(), reverse=True)[:300]

    stats = read_json(made / "logs" / "ngrams" / "stats.json")
    assert (stats["ngrams"], stats["ngrams_read"], stats["table"]) == (len(counts), sum(counts.values()), 300)
    assert stats["rows"] == stats["kept"] + sum(stats["refused"].values())
    assert stats["refused"] == dict(Counter(row["reason"] for row in rows(made / "logs" / "ngrams", "dead_letters")))
    assert stats["hashed_colliding"] > 0.99 * (len(counts) - 300)
    assert manifest.verify(made) == []


def test_memory_is_flat_for_parts_are_put_aside(inputs: list[str], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fistful.pipelines.sorted_counter.AT_ONCE", 500)
    monkeypatch.setattr("fistful.pipelines.ngrams.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("fistful.bow.ngrams.ROW_GROUP", 256)
    out = distill(COLOURS, *inputs, out=tmp_path / "student", config=config())
    assert contents(out) == contents(made)


@pytest.mark.parametrize("running", [Running(progress=False, workers=2), Running(progress=False, engine="portable")])
def test_workers_and_engines_change_no_byte(inputs: list[str], made: Path, tmp_path: Path, running: Running) -> None:
    assert contents(distill(COLOURS, *inputs, out=tmp_path / "student", config=config(running))) == contents(made)


def test_embeddings_made_before_are_used_again_and_change_no_byte(inputs: list[str], made: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(made / "logs" / "teacher", tmp_path / "embeddings")
    before = (elsewhere / "manifest.json").stat().st_mtime_ns
    out = distill(COLOURS, *inputs, out=tmp_path / "student", config=config(embeddings=str(elsewhere), checkpoint_every=7))
    assert contents(out) == contents(made)
    assert not (out / "logs" / "teacher").exists()
    assert (elsewhere / "manifest.json").stat().st_mtime_ns == before

    with pytest.raises(UsageError, match="belongs to another configuration"):
        distill(SWAPPED, *inputs, out=tmp_path / "other", config=config(embeddings=str(elsewhere)))


KILLED = """
import os, signal, sys
from fistful.training import learn_student as training
from tests.pipelines.test_distill import COLOURS, config
from fistful.pipelines.distill import distill

out, what, when, inputs = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
learn, replace, seen = training.Learner.learn, os.replace, []

def die_in_step(self, queue):
    if what == "step" and self.step == when:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, queue)

def die_at_write(source, target):
    seen.append(target)
    if what == "write" and len(seen) == when:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

training.Learner.learn, os.replace = die_in_step, die_at_write
distill(COLOURS, *inputs, out=out, config=config(checkpoint_every=4))
print(len(seen))
"""


@pytest.mark.parametrize(("what", "when"), [("step", 9), ("write", 20), pytest.param("write", -8, marks=pytest.mark.slow), ("write", -2)])
def test_killed_anywhere_the_same_command_ends_with_the_same_bytes(
    inputs: list[str], made: Path, tmp_path: Path, what: str, when: int
) -> None:
    def call(what: str, when: int, out: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / out), what, str(when), *inputs]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    if when < 0:  # counted from the end
        when += int(call("", 0, "whole").stdout) + 1
    assert call(what, when, "student").returncode == -signal.SIGKILL
    assert not (tmp_path / "student" / "manifest.json").exists()
    out = distill(COLOURS, *inputs, out=tmp_path / "student", config=config())
    assert contents(out) == contents(made)


def test_captions_of_photos_are_left_out_by_photo_not_by_text(tmp_path: Path) -> None:
    captions = tmp_path / "captions.tsv"
    captions.write_text(
        "image\tcaption\n" + "".join(f"{i}.jpg#{k}\t{('a red ball', f'green thing {i}')[k]}\n" for i in range(200) for k in (0, 1))
    )
    (tmp_path / "test-photos.txt").write_text("7\nphotos/199.jpg\n")
    options = config(source=SourceOptions(image="none"), exclude=str(tmp_path / "test-photos.txt"), photo="image", table=10_000)
    out = distill(COLOURS, str(captions), out=tmp_path / "student", config=options)
    table = dict(zip(*(pq.read_table(out / "model" / "ngrams.parquet")[name].to_pylist() for name in ("ngram", "n")), strict=True))
    assert (table["a red ball"], "thing 7" in table, "thing 8" in table) == (198, False, True)
    assert read_json(out / "logs" / "ngrams" / "stats.json")["excluded"] == 4
    n_held_out = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["scores"]["held_out_captions"]
    assert f"| captions | {396 - n_held_out} |" in (out / "model" / "README.md").read_text()

    (tmp_path / "test-photos.txt").write_text("other\n")
    with pytest.raises(DataError, match=r"^--exclude: none of its 1 photo, such as 'other', is in the column image$"):
        distill(COLOURS, str(captions), out=tmp_path / "other", config=options)
    with pytest.raises(UsageError, match=r"^--photo image: says which column --exclude FILE looks in; give both$"):
        config(photo="image")


def test_of_tars_the_key_names_the_photo(tmp_path: Path) -> None:
    files = {f"{i:03d}.txt": f"a {('red', 'blue')[i % 2]} ball {i}".encode() for i in range(100)}
    files |= {f"{i:03d}.png": picture((10, 20, 30)) for i in range(100)}
    (tmp_path / "a.tar").write_bytes(tar_bytes(dict(sorted(files.items()))))
    (tmp_path / "out.txt").write_text("003\n004\n")
    out = distill(
        COLOURS, str(tmp_path / "a.tar"), out=tmp_path / "student", config=config(source=SourceOptions(), exclude=str(tmp_path / "out.txt"))
    )
    assert read_json(out / "logs" / "ngrams" / "stats.json")["excluded"] == 2
    assert {"ball 3", "ball 4", "ball 5"} & {*pq.read_table(out / "model" / "ngrams.parquet")["ngram"].to_pylist()} == {"ball 5"}


# The student as an encoder


def test_embed_takes_a_student_whatever_the_engine(drawn: Path, inputs: list[str], tmp_path: Path) -> None:
    model = str(drawn / "student")
    plain = embed(*inputs, model=model, out=tmp_path / "0", config=EmbedConfig(plan=PLAN, source=SOURCE, running=QUIET))
    for n, more in enumerate((Running(progress=False, workers=2), Running(progress=False, engine="portable")), start=1):
        other = embed(*inputs, model=model, out=tmp_path / str(n), config=EmbedConfig(plan=PLAN, source=SOURCE, running=more))
        assert contents(other) == contents(plain)
    vectors = np.concatenate([np.load(path) for path in sorted((plain / "embeddings").glob("*.npy"))])
    texts = [row["caption"] for row in rows(plain, "embeddings")]
    assert np.array_equal(np.round(load_encoder(model).embed_texts(texts), 5), vectors)


WITHOUT_TORCH = """
import sys
for name in ("torch", "open_clip", "timm", "faiss", "sklearn", "scipy", "webdataset", "matplotlib"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError, as where it is not installed
import fistful
from fistful.cli import run
print(fistful.load(sys.argv[1]).embed_texts(["a red ball"]).tolist())
sys.exit(run(["embed", sys.argv[2], "--model", sys.argv[1], "--out", sys.argv[3], "--no-progress", "--workers", "2"]))
"""


def test_a_student_needs_no_torch(drawn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(drawn / "student"), str(drawn / "captions.tsv"), str(tmp_path / "e")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == fistful.load(drawn / "student").embed_texts(["a red ball"]).tolist()
    assert read_json(tmp_path / "e" / "stats.json")["embeddings"] == 300


def test_evaluate_classify_and_label_take_it_beside_its_teacher(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn)
    pair, squares = f"student+{COLOURS}", make_squares(tmp_path / "squares")
    out = fistful.evaluate(pair, COLOURS, data=(str(squares),), out=tmp_path / "results")
    by_model = {result["model"]: result for result in read_json(out / "results.json")["results"]}
    assert by_model["student"]["metrics"]["acc1"] == by_model["colours"]["metrics"]["acc1"] == 11 / 12
    assert by_model["student"]["model_fingerprint"] != by_model["colours"]["model_fingerprint"]

    (answer,) = fistful.load(pair).classify([squares / "green" / "0.png"], ["red", "green", "blue"])
    assert answer.name == "green"

    files = {f"{i:03d}.png": square(list(SQUARES.values())[i % 3], i) for i in range(600)}
    files |= {f"{i:03d}.txt": f"a {list(SQUARES)[i % 3]} square".encode() for i in range(600)}
    (tmp_path / "photos.tar").write_bytes(tar_bytes(dict(sorted(files.items()))))
    counts = fistful.count(str(tmp_path / "photos.tar"), out=tmp_path / "counts")
    like = fistful.bags(str(tmp_path / "photos.tar"), counts=counts, out=tmp_path / "like")
    options = ["--by", "prompts", "--device", "cpu", "--no-progress", "--min-precision", "0"]
    assert run(["label", str(squares), "--model", pair, "--like", str(like), "--out", str(tmp_path / "labelled"), *options]) == 0
    bags = {row["source_key"]: row["words"] for row in rows(tmp_path / "labelled", "index")}
    named = dict(enumerate(pq.read_table(like / "vocabulary.parquet")["word"].to_pylist()))
    assert "green" in [named[word] for word in bags["green/1"]]


def test_a_run_of_ours_is_the_teacher_and_its_pictures_are_searched_by_the_student(tmp_path: Path) -> None:
    """From training to a student: the text tower of a run is replaced, its image tower stays."""
    data = make_data(tmp_path / "data")
    options = train_config(steps=2, batch_size=8, warmup=1, threads=1, progress=False)
    teacher = str(train(data, out=tmp_path / "run", config=options))
    texts = [f"a {colour} {shape} {i}\n" for i in range(60) for colour in ("red", "blue") for shape in ("square", "bar")]
    (tmp_path / "captions.tsv").write_text("".join(texts))
    options = config(source=SourceOptions(caption="1"))
    student = str(distill(teacher, str(tmp_path / "captions.tsv"), out=tmp_path / "student", config=options))
    both = load_encoder(f"{student}+{teacher}")
    image = np.array(load_encoder(teacher).prepare(_image()))[None]
    assert np.array_equal(both.embed_images(image), load_encoder(teacher).embed_images(image))
    assert (both.image_size, both.embed_texts(["red"]).shape[1]) == (64, both.embed_images(image).shape[1])


def _image() -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(picture((200, 30, 30)))).convert("RGB")


# A classifier


def test_a_classifier_learns_what_a_head_on_the_teacher_says(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = "".join(
        f"the {colour} thing {i}\t{'warm' if colour == 'red' else 'cold'}\n" for i in range(20) for colour in ("red", "green", "blue")
    )
    (tmp_path / "labels.tsv").write_text("text\tlabel\n" + labelled)
    options = config(source=SourceOptions(), epochs=60.0, dim=16, batch_size=32, labels=str(tmp_path / "labels.tsv"))
    out = distill(COLOURS, str(drawn / "captions.tsv"), out=tmp_path / "student", config=options)
    model = fistful.load(out)
    red, blue = model.label_texts(["a red ball and another one", "a blue ball and another one"])
    assert red["warm"] > 0.7 > 0.3 > blue["warm"]
    assert red["warm"] + red["cold"] == pytest.approx(1)
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["scores"]["held_out_agreement"] > 0.9

    with pytest.raises(
        UsageError, match=r"student: is a classifier of 2 labels, which embeds no texts; fistful\.load\(STUDENT\)\.label_texts"
    ):
        model.embed_texts(["red"])
    with pytest.raises(UsageError, match=r"student: embeds texts and knows no labels; fistful distill --labels TSV makes a classifier$"):
        fistful.load(drawn / "student").label_texts(["red"])
    with pytest.raises(UsageError, match=r"^colours: knows no labels of texts; "):
        fistful.load(COLOURS).label_texts(["red"])
    assert run(["doctor", str(out), "--no-progress"]) == 0

    again = distill(COLOURS, str(drawn / "captions.tsv"), out=tmp_path / "again", config=options)
    assert contents(again) == contents(out)


def test_what_a_student_learnt_from_and_can_do_is_said(drawn: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tsv"
    labels.write_text("red ball\twarm\nred car\twarm\nblue\tcold\n")
    said, following = next_with_student("made", COLOURS, str(labels)).splitlines()
    assert said == "3 labelled texts, 2 labels: the commonest 'warm' on 66.7% of them, the rarest 'cold' on 1 text; one of them each"
    assert following == "next, in Python: fistful.load('made').label_texts(['...'])"
    labels.write_text(labels.read_text() + "green\t\n")
    assert "; 0 of the texts have several and 1 none: each label is by itself\n" in next_with_student("made", COLOURS, str(labels))
    student = "next: fistful embed CAPTIONS --model made --out E"
    assert next_with_student("made", COLOURS, "") == f"{student}; for pictures 'made+{COLOURS}' is the model".replace("'", "")
    assert next_with_student("made", str(drawn / "student"), "") == student  # which knows no pictures


def test_a_text_may_have_several_labels_or_none(drawn: Path, tmp_path: Path) -> None:
    texts = {"red ball": "warm|round", "red": "warm", "green": "", "blue": "cold", "blue ball": "cold|round", "green one": ""}
    (tmp_path / "labels.tsv").write_text("".join(f"{text} {i}\t{labels}\n" for i in range(10) for text, labels in texts.items()))
    options = config(source=SourceOptions(), epochs=60.0, dim=16, batch_size=32, labels=str(tmp_path / "labels.tsv"))
    out = distill(COLOURS, str(drawn / "captions.tsv"), out=tmp_path / "student", config=options)
    red, green = fistful.load(out).label_texts(["a red ball and another one", "a green ball and another one"])
    assert red["warm"] > 0.7
    assert green["warm"] < 0.4
    assert [*red] == ["cold", "round", "warm"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red\twarm\nblue\twarm\n", "found 1 label, expected two or more"),
        ("red\twarm\nblue\n", "line 2: found 1 columns, expected a text, a tab, and labels with | between"),
        (
            "red\twarm|round\nblue\tround\n",
            "--labels: every text has the label 'round', so that nothing tells when it is right; leave it out",
        ),
    ],
)
def test_labels_that_teach_nothing_are_refused(drawn: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(DataError) as error:
        distill(
            COLOURS,
            str(drawn / "captions.tsv"),
            out=tmp_path / "s",
            config=config(source=SourceOptions(), labels=str(tmp_path / "labels.tsv")),
        )
    assert str(error.value).endswith(message)


# What is at fault


def test_what_is_wrong_is_said_in_one_line_with_what_to_do(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions, student = str(drawn / "captions.tsv"), str(drawn / "student")

    def said(*arguments: str) -> tuple[int, str]:
        code = run([*arguments, "--no-progress"])
        return code, capsys.readouterr().err.strip()

    words = str(
        train(
            make_data(tmp_path / "data"),
            out=tmp_path / "words",
            config=train_config(steps=1, batch_size=8, warmup=1, threads=1, progress=False, objective="words"),
        )
    )
    assert said("distill", words, captions, "--out", str(tmp_path / "0"))[1].startswith(f"fistful: {words}: has no text tower")
    (tmp_path / "signs.tsv").write_text("?!\n...\n")
    code, line = said("distill", COLOURS, str(tmp_path / "signs.tsv"), "--caption", "1", "--out", str(tmp_path / "1"))
    assert (code, line.partition(": the table is empty, ")[2]) == (
        3,
        "for none of 2 captions has a word (letters or digits); is --caption right?",
    )
    assert said("distill", COLOURS, captions, "--out", str(tmp_path / "2"), "--units", "0") == (
        2,
        "fistful: --units: distill learns from all captions together, so it cannot be run in parts; use --workers",
    )
    assert said("distill", COLOURS, captions, "--out", str(tmp_path / "2"), "--table", "0") == (2, "fistful: --table 0: expected 1 or more")
    assert said("distill", COLOURS, "--out", str(tmp_path / "2"))[0] == 2
    code, line = said("evaluate", f"{student}+{SWAPPED}", "--data", str(make_squares(tmp_path / "s")), "--out", str(tmp_path / "3"))
    assert (code, line) == (
        3,
        f"fistful: {student}+{SWAPPED}: colours is not the model that {student} learnt from (fingerprint {'d' * 16}, expected {'c' * 16}), "
        "so that its pictures lie elsewhere; give the teacher, or distill this model",
    )
    (tmp_path / "none.tsv").write_text("caption\n")
    code, line = said("distill", COLOURS, str(tmp_path / "none.tsv"), "--out", str(tmp_path / "6"))
    assert (code, line) == (3, f"fistful: {tmp_path / 'none.tsv'}: no rows; is it empty, or a line of column names alone?")
    for verb in (["evaluate", student, "--data"], ["classify", student]):
        more = ["--names", str(tmp_path / "names")] if verb[0] == "classify" else ["--out", str(tmp_path / "3")]
        (tmp_path / "names").write_text("red\nblue\n")
        assert said(*verb, str(tmp_path / "s"), *more) == (
            2,
            f"fistful: {student}: is a student, which embeds texts alone; {student}+TEACHER lets its teacher embed pictures",
        )
    assert said("embed", captions, "--model", student, "--device", "cuda", "--out", str(tmp_path / "4"))[0] == 2
    assert "which has no image tower" in said("train", make_data(tmp_path / "d2"), "--init", student, "--out", str(tmp_path / "5"))[1]


def test_a_pair_that_is_none_says_what_to_type(drawn: Path) -> None:
    student = str(drawn / "student")
    for spec, message in (
        (f"{COLOURS}+{student}", f"{COLOURS}+{student}: the student stands first; {student}+{COLOURS}"),
        (f"{student}+", f"{student}+: has nothing behind +; expected STUDENT+TEACHER, or TUNED+BASE"),
        (f"{student}+{student}", f"{student}+{student}: {student} is a student itself, which embeds no pictures; distill its own teacher"),
    ):
        with pytest.raises(UsageError) as error:
            load_encoder(spec)
        assert str(error.value).removesuffix(" instead") == message


def test_the_ngrams_of_another_student_are_refused(drawn: Path, made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(drawn / "student" / "model", tmp_path / "mixed")
    shutil.copy(made / "model" / "ngrams.parquet", folder)
    with pytest.raises(DataError, match=r"ngrams\.parquet: are not the n-grams that this student learnt; copy the whole folder of one"):
        load_encoder(str(folder))
    (folder / "ngrams.parquet").unlink()
    with pytest.raises(UsageError, match=r"ngrams\.parquet: no such file"):
        load_encoder(str(folder))
    again = shutil.copytree(drawn / "student" / "model", tmp_path / "weights")
    shutil.copy(made / "model" / "student.safetensors", again)
    with pytest.raises(DataError, match=r"weights do not fit ngrams\.parquet \(the table has 332 rows, expected"):
        load_encoder(str(again))
    (again / "student.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="not the weights of a student"):
        load_encoder(str(again))
