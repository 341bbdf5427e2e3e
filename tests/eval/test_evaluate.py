"""Evaluating a model: the files, the figures, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fistful.bow.balance import Balance
from fistful.bow.store.manifest import verify
from fistful.bow.vocabulary import Limits, choose_words, count_table, write_vocabulary
from fistful.errors import DataError, UsageError
from fistful.eval.evaluate import evaluate, model_name
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, results_table
from tests.support.squares import SQUARES, square

QUIET = {"progress": False}


def config(**fields: object) -> EvaluateConfig:
    return EvaluateConfig(**{"prompts": ("name",), "progress": False, **fields})


def save_vocabulary(folder: Path, df: dict[str, int]) -> None:
    counts = np.array(list(df.values()))
    folder.mkdir()
    write_vocabulary(folder, choose_words(count_table(list(df), counts, counts), 10, Limits(min_count=1), Balance()))


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "logs" not in p.parts}


def test_evaluate_writes_figures_predictions_and_a_table(squares, colours, tmp_path):
    out = evaluate(colours(), data=(str(squares),), out=tmp_path / "results", config=config(prompts=("name", "simple7")))
    first, second = read_results(out)
    assert (first["dataset"], first["model"], first["prompts"], second["prompts"]) == ("squares", "colours", "name", "simple7")
    figures = first["metrics"]
    assert (figures["acc1"], figures["acc5"], figures["mean_per_class_recall"], figures["n"]) == (11 / 12, None, 11 / 12, 12)
    assert figures["chance1"] == 1 / 3
    assert (first["n_texts"], second["n_texts"]) == (3, 21)
    assert verify(out) == []
    predictions = pq.read_table(out / "predictions" / "colours--squares--name.parquet").to_pylist()
    wrong = [row["image"] for row in predictions if row["rank"] > 0]
    assert wrong == ["blue/0.png"]
    assert [row["top"][0] for row in predictions] == [2, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    classes = pq.read_table(out / "classes" / "colours--squares--name.parquet").to_pylist()
    assert [(c["name"], c["n"], c["recall1"]) for c in classes] == [("blue", 4, 0.75), ("green", 4, 1.0), ("red", 4, 1.0)]
    assert results_table(out).splitlines()[2].split() == ["colours", "squares", "name", "91.7", "[64.6,", "98.5]", "-", "33.3", "12", "0"]


def test_the_same_command_again_is_done_already_and_another_one_is_refused(squares, colours, tmp_path):
    evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config())
    before = files_of(tmp_path / "r")
    (squares / "red" / "0.png").touch()
    evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(batch_size=5, progress=True))
    assert files_of(tmp_path / "r") == before
    with pytest.raises(UsageError, match=r"belongs to another configuration .synonyms: False there, True asked.; choose another --out"):
        evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(synonyms=True))


def test_a_set_whose_files_have_other_content_of_the_same_size_is_another_set(squares, colours, tmp_path):
    evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config())
    image, times = squares / "red" / "0.png", (squares / "red" / "0.png").stat()
    data = bytearray(image.read_bytes())
    data[-1] ^= 1  # in the end mark, which no decoder looks at
    image.write_bytes(data)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UsageError, match=r"belongs to another configuration \(other inputs: data\); choose another --out"):
        evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config())


def test_a_set_that_is_probed_is_known_by_its_content_too(squares, colours, tmp_path):
    shutil.copytree(squares, tmp_path / "known")
    shutil.copytree(squares / "red", tmp_path / "known" / "red" / "more")
    shutil.copytree(squares / "blue", tmp_path / "known" / "blue" / "more")
    shutil.copytree(squares / "green", tmp_path / "known" / "green" / "more")
    probed = {"data": (str(squares),), "out": tmp_path / "r", "config": config(probe=(str(tmp_path / "known"),))}
    evaluate(colours(), **probed)
    (tmp_path / "known" / "red" / "0.png").write_bytes((squares / "red" / "1.png").read_bytes())
    with pytest.raises(UsageError, match="other inputs"):
        evaluate(colours(), **probed)


def test_batches_and_the_place_of_files_change_no_byte(squares, colours, tmp_path):
    evaluate(colours(), data=(str(squares),), out=tmp_path / "a", config=config(prompts=("name", "openai80")))
    evaluate(colours(), data=(str(squares) + "/",), out=tmp_path / "b" / "c", config=config(prompts=("name", "openai80"), batch_size=5))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b" / "c")


def test_an_interrupted_evaluation_goes_on_to_the_same_bytes(squares, colours, tmp_path):
    whole = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(prompts=("name", "bag")))
    before = files_of(whole)
    for gone in ("manifest.json", "results.json", "results/colours--squares--bag.json"):
        (whole / gone).unlink()
    assert files_of(evaluate(colours(), data=(str(squares),), out=whole, config=config(prompts=("name", "bag")))) == before


def test_a_broken_image_is_refused_by_name_and_rows_add_up(squares, colours, tmp_path):
    (squares / "green" / "broken.jpg").write_bytes(b"not an image")
    (result,) = read_results(evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config()))
    assert result["refused"] == {"bad_image": 1}
    assert result["refused_images"] == ["green/broken.jpg"]
    assert result["n_in"] == result["metrics"]["n"] + 1 == 13
    said = "1 of 13 images refused, the first green/broken.jpg (bad_image: not a JPEG, PNG, WEBP image"
    assert [line for line in result["warnings"] if line.startswith(said)]
    letters = pq.read_table(tmp_path / "r" / "dead_letters" / "colours--squares--name.parquet").to_pylist()
    assert [(letter["reason"], letter["place"], letter["raw"]) for letter in letters] == [
        ("bad_image", "green/broken.jpg", b"not an image")
    ]


def test_images_whose_names_are_not_utf8_are_refused_by_name(squares, colours, tmp_path):
    image = next(squares.rglob("*.png"))
    os.mkdir(os.fsencode(squares) + b"/r\xe9d")
    for name in (b"red/caf\xe9.png", b"loose\xe9.png", b"r\xe9d/1.png"):
        shutil.copy(image, os.fsencode(squares) + b"/" + name)
    with tarfile.open(tmp_path / "packed.tar", "w") as tar:
        tar.add(squares, ".")
    data = (str(squares), str(tmp_path / "packed.tar"))
    out = evaluate(colours(), data=data, out=tmp_path / "r", config=config(max_bad_fraction=0.5))
    for result in read_results(out):
        assert (result["metrics"]["n"], result["metrics"]["n_classes"], result["refused"]) == (12, 3, {"bad_name": 3})
        assert sorted(result["refused_images"]) == [r"loose\udce9.png", r"r\udce9d/1.png", r"red/caf\udce9.png"]
    letters = pq.read_table(out / "dead_letters" / "colours--squares--name.parquet").to_pylist()
    assert {letter["detail"] for letter in letters} == {"name is not UTF-8"}


def test_too_many_broken_images_end_the_evaluation(squares, colours, tmp_path):
    for i in range(3):
        (squares / "green" / f"x{i}.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"squares: 3 of 15 images refused, the first green/x0.jpg .* at most 10%; --max-bad-fraction allows more"
    ):
        evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config())
    more = config(max_bad_fraction=0.3)  # as the message says
    assert read_results(evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=more))[0]["metrics"]["n"] == 12


def test_what_img2dataset_did_not_fetch_is_no_bad_image(colours, tmp_path):
    images = [square(SQUARES["red"], i) if i % 2 else None for i in range(8)]
    states = ["success" if image else "failed_to_download" for image in images]
    pq.write_table(pa.table({"jpg": images, "label": ["red", "blue"] * 4, "status": states}), tmp_path / "labels.parquet")
    pq.write_table(pa.table({"jpg": images, "caption": ["a red square"] * 8, "status": states}), tmp_path / "texts.parquet")
    data = (str(tmp_path / "labels.parquet"), str(tmp_path / "texts.parquet"))
    for result in read_results(evaluate(colours(), data=data, out=tmp_path / "r", config=config())):
        assert (result["metrics"]["n"], result["refused"]) == (4, {"not_fetched": 4})


def test_the_limit_on_broken_images_is_a_share_of_the_half_that_is_looked_at(squares, colours, tmp_path):
    n_used = read_results(evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(half="test")))[0]["metrics"]["n"]
    (squares / "green" / "x.jpg").write_bytes(b"")  # an empty file belongs to the half test
    limit = 1.5 / (n_used + 1)
    for allowed, ends in ((limit, False), (limit / 2, True)):
        with pytest.raises(DataError, match=rf"squares: 1 of {n_used + 1} images refused") if ends else nullcontext():
            evaluate(colours(), data=(str(squares),), out=tmp_path / f"{allowed}", config=config(half="test", max_bad_fraction=allowed))


@pytest.mark.parametrize(
    ("broken", "found"), [("nan", "of length nan, expected 1"), ("length", "expected 1; the model or its encoder is broken")]
)
def test_features_that_are_not_numbers_or_not_normalised_name_the_image(squares, colours, tmp_path, broken, found):
    with pytest.raises(DataError, match=f"'blue/0.png': colours gives features .*{found}"):
        evaluate(colours(broken=broken), data=(str(squares),), out=tmp_path / "r", config=config())


def test_halves_share_no_image_and_miss_none(squares, colours, tmp_path):
    seen = {}
    for half in ("dev", "test"):
        out = evaluate(colours(), data=(str(squares),), out=tmp_path / half, config=config(half=half))
        (result,) = read_results(out)
        seen[half] = set(pq.read_table(out / "predictions" / "colours--squares--name.parquet")["image"].to_pylist())
        assert (result["half"], result["other_half"] + result["metrics"]["n"]) == (half, 12)
        assert json.loads((out / "logs" / "colours--squares.json").read_text())["half"] == half
    assert not seen["dev"] & seen["test"]
    assert len(seen["dev"] | seen["test"]) == 12


def test_a_vocabulary_adds_figures_for_the_classes_it_can_speak_of(squares, colours, tmp_path):
    save_vocabulary(tmp_path / "v", {"red": 9, "green": 5})
    out = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(vocabulary=str(tmp_path / "v")))
    (result,) = read_results(out)
    figures = result["metrics"]
    assert (figures["covered_n"], figures["covered_n_classes"], figures["covered_acc1"], figures["covered_chance1"]) == (8, 2, 1.0, 0.5)
    classes = pq.read_table(out / "classes" / "colours--squares--name.parquet").to_pylist()
    assert [(c["name"], c["covered"], c["df"]) for c in classes] == [("blue", False, 0), ("green", True, 5), ("red", True, 9)]


def test_a_vocabulary_that_can_speak_of_no_class_is_warned_of(squares, colours, tmp_path):
    save_vocabulary(tmp_path / "v", {"dog": 9, "cat": 5})
    out = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(vocabulary=str(tmp_path / "v")))
    (result,) = read_results(out)
    covered = {name: value for name, value in result["metrics"].items() if name.startswith("covered_")}
    assert covered == {"covered_n": 0, "covered_n_classes": 0}
    assert any(line.startswith("the vocabulary lacks words of 3 of 3 classes") for line in result["warnings"])
    assert "colours  squares" in results_table(out)


def test_what_should_be_known_of_a_score_stands_beside_it(squares, colours, tmp_path):
    for i in range(20):  # many classes of equal size, so that a smaller one stands out
        (squares / f"red {i}").mkdir()
        for j in range(3 if i == 7 else 4):
            (squares / f"red {i}" / f"{j}.png").write_bytes((squares / "red" / f"{j}.png").read_bytes())
    (squares / "grey").mkdir()
    (squares / "red" / "more.gif").write_bytes(b"GIF89a")
    spec = colours(context_length=1, saw_imagenet_labels=True)
    (result,) = read_results(evaluate(spec, data=(str(squares),), out=tmp_path / "r", config=config()))
    assert result["warnings"] == [
        "class 'grey' has no image",
        "1 .gif files are not read",
        "80 of 91 images repeat an earlier one byte for byte, 80 of them under another class",
        "2 classes have fewer images than the others' 4: 'grey' (0), 'red 7' (3)",
        "prompts name: 20 of 24 are cut off by the context of 1",
        "prompts name: the model knows no word of 1 class, so never chooses them: grey",
        "the image tower was trained with ImageNet's labels: on ImageNet's classes this is not zero-shot",
    ]
    assert "! colours on squares: class 'grey' has no image" in results_table(tmp_path / "r")


def test_equal_names_of_models_and_sets_are_told_apart(squares, colours, tmp_path):
    out = evaluate(colours(), colours(), data=(str(squares), str(squares)), out=tmp_path / "r", config=config())
    assert [(r["model"], r["dataset"]) for r in read_results(out)] == [
        ("colours", "squares"),
        ("colours", "squares-2"),
        ("colours-2", "squares"),
        ("colours-2", "squares-2"),
    ]


def test_models_and_sets_of_which_no_letter_is_ascii_keep_scores_of_their_own(squares, colours, tmp_path):
    shutil.copytree(squares, tmp_path / "甲")
    shutil.move(squares, tmp_path / "乙")
    shutil.rmtree(tmp_path / "乙" / "green")
    models = (colours(name="模型"), colours(name="跑步", swapped=True))
    out = evaluate(*models, data=(str(tmp_path / "甲"), str(tmp_path / "乙")), out=tmp_path / "r", config=config())
    assert [(r["model"], r["dataset"], r["model_fingerprint"][0], r["metrics"]["n"], r["metrics"]["acc1"]) for r in read_results(out)] == [
        ("模型", "甲", "c", 12, 11 / 12),
        ("模型", "乙", "c", 8, 7 / 8),
        ("跑步", "甲", "d", 12, 5 / 12),
        ("跑步", "乙", "d", 8, 1 / 8),
    ]
    assert [c["acc1_difference"] for c in json.loads((out / "results.json").read_text())["comparisons"]] == [-1 / 2, -3 / 4]


def test_a_model_that_is_called_as_another_becomes_keeps_scores_of_its_own(squares, colours, tmp_path):
    models = (colours(name="a/r"), colours(name="b/R"), colours(name="c/r-2", swapped=True))  # the second r would be r-2
    found = read_results(evaluate(*models, data=(str(squares),), out=tmp_path / "r", config=config()))
    assert [(r["model"], r["metrics"]["acc1"]) for r in found] == [("r", 11 / 12), ("R-3", 11 / 12), ("r-2", 5 / 12)]


def test_the_best_step_of_a_run_is_called_by_its_run():
    assert [model_name(spec) for spec in ("runs/bags/best", "bags/best/", "runs/x/../bags/model", "local-dir:/m/vit")] == [
        "bags-best",
        "bags-best",
        "bags",
        "vit",
    ]


def test_a_folder_with_spaces_in_its_name_is_called_by_its_own(tmp_path):
    (tmp_path / "my runs" / "a b").mkdir(parents=True)
    assert model_name(str(tmp_path / "my runs" / "a b")) == "a b"
    assert model_name('some.package:function {"path": "a/b"}') == "some.package:function"


def test_a_result_of_another_model_is_not_taken_over(squares, colours, tmp_path):
    whole = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config())
    before = files_of(whole)
    path = whole / "results" / "colours--squares--name.json"
    path.write_bytes(path.read_bytes().replace(b"c" * 64, b"d" * 64))
    (whole / "manifest.json").unlink()
    assert files_of(evaluate(colours(), data=(str(squares),), out=whole, config=config())) == before


def test_a_file_of_prompts_that_is_called_as_a_prompt_set_is_told_from_it(squares, colours, tmp_path):
    (tmp_path / "head.txt").write_text("{c}\n")
    (tmp_path / "Name.txt").write_text("no {c}\n")
    prompts = ("name", str(tmp_path / "Name.txt"), str(tmp_path / "head.txt"))
    out = evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(prompts=prompts))
    assert [(r["prompts"], r["n_texts"]) for r in read_results(out)] == [("name", 3), ("Name (file)", 3), ("head (file)", 3)]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "Head.md").write_text("{c}\n")
    with pytest.raises(UsageError, match="expected each set once, and files that are called by different names"):
        config(prompts=(str(tmp_path / "head.txt"), str(tmp_path / "other" / "Head.md")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": ()}, "--prompts: expected one or more of name, bag, openai80, simple7, set, head or a file of templates"),
        (
            {"prompts": ("opnai80",)},
            "--prompts opnai80: expected one of name, bag, openai80, simple7, set, head, or a file of templates such as",
        ),
        ({"prompts": ("name", "name")}, "--prompts name name: expected each set once"),
        ({"half": "both"}, "--half both: expected all, dev or test"),
        ({"batch_size": 0}, "--batch-size 0: expected 1 or more"),
        ({"max_bad_fraction": 2.0}, "--max-bad-fraction 2.0: expected 0 to 1"),
    ],
)
def test_options_at_fault_are_refused(fields, message):
    with pytest.raises(UsageError) as error:
        config(**fields)
    assert str(error.value).startswith(message)


def test_a_call_without_models_sets_or_paths_says_what_is_missing(squares, colours, tmp_path):
    with pytest.raises(UsageError, match="at least one model"):
        evaluate(data=(str(squares),), out=tmp_path / "r")
    with pytest.raises(UsageError, match="--data nowhere: no such file or folder"):
        evaluate(colours(), data=("nowhere",), out=tmp_path / "r", config=config())
    with pytest.raises(UsageError, match="--names: found 2 tables for 1 data sets, expected one, or one each"):
        evaluate(colours(), data=(str(squares),), out=tmp_path / "r", config=config(names=("a", "b")))


def test_the_word_head_classifies_without_the_text_tower(squares, colours, tmp_path):
    out = evaluate(colours(head=True), data=(str(squares),), out=tmp_path / "r", config=config(prompts=("head", "name")))
    head, name = read_results(out)
    assert (head["metrics"]["acc1"], name["metrics"]["acc1"]) == (11 / 12, 11 / 12)
    with pytest.raises(UsageError, match="colours: has no word head, which --prompts head asks; train with --objective joint or words"):
        evaluate(colours(), data=(str(squares),), out=tmp_path / "s", config=config(prompts=("head",)))


def without_text_tower():
    from fistful.training.model.tower_encoders import _refuse_texts
    from tests.support.colours import ColourEncoder

    encoder = ColourEncoder(head=True, name="silent")
    encoder.embed_texts = lambda texts: _refuse_texts("silent", texts)
    return encoder


def test_a_model_without_a_text_tower_is_refused_before_another_is_evaluated(squares, colours, tmp_path):
    models = (colours(head=True), "tests.eval.test_evaluate:without_text_tower")
    with pytest.raises(UsageError, match=r"silent: has no text tower .*; give it by itself, with --prompts head"):
        evaluate(*models, data=(str(squares),), out=tmp_path / "r", config=config(prompts=("head", "name")))
    assert not (tmp_path / "r").exists()
    assert len(read_results(evaluate(*models, data=(str(squares),), out=tmp_path / "r", config=config(prompts=("head",))))) == 2
    captions = tmp_path / "captions"
    captions.mkdir()
    for place in (squares / "red").iterdir():
        (captions / place.name).write_bytes(place.read_bytes())
        (captions / place.name).with_suffix(".txt").write_text("red")
    with pytest.raises(UsageError, match=r"images alone; captions are found by it; class folders can be asked with --prompts head"):
        evaluate(models[1], data=(str(captions),), out=tmp_path / "c", config=config(prompts=("head",)))


def test_figures_by_frequency_split_the_covered_classes_in_three():
    from fistful.eval.tasks.zeroshot import by_frequency, by_source

    ranks, labels = np.array([0, 0, 1, 0, 3]), np.array([0, 0, 1, 2, 3])
    parts = by_frequency(ranks, labels, np.array([7, 90, 20, 0]))
    assert [(p["part"], p["n_classes"], p["df_from"], p["n"], p["acc1"]) for p in parts] == [
        ("head", 1, 90, 1, 0.0),
        ("middle", 1, 20, 1, 1.0),
        ("tail", 1, 7, 2, 1.0),
    ]
    assert {k: (v["n"], v["acc1"]) for k, v in by_source(ranks, ["a", "b", "a", "b", "a"]).items()} == {"a": (3, 1 / 3), "b": (2, 1.0)}
    assert by_source(ranks, ["a"] * 5) == {}


def test_every_option_says_whether_it_decides_the_output_and_does_as_it_says(squares, colours, tmp_path):
    from fistful.bow.store.identity import walk_fields

    (tmp_path / "n.tsv").write_text("folder\tname\nred\tred\ngreen\tgreen\nblue\tblue\n")
    save_vocabulary(tmp_path / "v", {"red": 3})
    base = evaluate(colours(), data=(str(squares),), out=tmp_path / "base", config=config())
    other = {
        "prompts": ("bag",),
        "names": (str(tmp_path / "n.tsv"),),
        "synonyms": True,
        "vocabulary": str(tmp_path / "v"),
        "half": "dev",
        "max_bad_fraction": 0.5,
        "images_root": str(tmp_path),
        "batch_size": 7,
        "cache": str(tmp_path / "kept"),
        "progress": True,
    }
    roles = {name: role for name, role, _ in walk_fields(config())}
    assert roles.keys() == other.keys() | {
        "trained_on",
        "probe",
        "device",
        "split",
        "rerank",
        "caption",
        "image",
        "label",
        "delimiter",
    }  # of these: test_duplicates, test_probe, test_device, test_table_set, test_reranking
    for name, value in other.items():
        if roles[name] == "execution":
            assert evaluate(colours(), data=(str(squares),), out=base, config=config(**{name: value})) == base
            out = evaluate(colours(), data=(str(squares),), out=tmp_path / name, config=config(**{name: value}))
            assert files_of(out) == files_of(base)
        else:
            with pytest.raises(UsageError, match="belongs to another configuration"):
                evaluate(colours(), data=(str(squares),), out=base, config=config(**{name: value}))
