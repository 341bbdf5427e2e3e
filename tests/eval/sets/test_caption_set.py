"""Captioned pictures as they lie, as sets for retrieval."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fistful.bow.store.shard import tar_bytes
from fistful.errors import DataError, UsageError
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, results_table
from fistful.eval.sets.caption_set import NO_WORDS, is_captioned, open_source
from fistful.eval.sets.evaluation_set import Sample
from fistful.eval.sets.set_options import SetOptions
from tests.support.evaluation_sets import clip_benchmark_set, make
from tests.support.pictures import picture
from tests.support.shapes import SHAPES, Pictures, coco, kaggle, karpathy, real_pictures, text_files
from tests.support.squares import SQUARES, square

QUIET = EvaluateConfig(progress=False, prompts=("name",))


def colour_pictures(n: int = 12) -> Pictures:
    """Squares of three colours, each with two captions that name its own."""
    names = [list(SQUARES)[i % 3] for i in range(n)]
    return {f"{i:03d}": (square(SQUARES[name], i, "JPEG"), [f"a {name} square", f"{name}!"]) for i, name in enumerate(names)}


def test_captioned_pictures_are_evaluated_for_retrieval_as_they_lie(colours, tmp_path):
    coco(tmp_path, colour_pictures())
    out = evaluate(colours(), data=(str(tmp_path),), out=tmp_path / "r", config=QUIET)
    (result,) = read_results(out)
    assert (result["task"], result["n_in"], result["n_captions"], result["tags_by"]) == ("zeroshot_retrieval", 12, 24, None)
    assert result["metrics"]["text_retrieval_recall@5"] == 1.0
    assert [name for name in result["metrics"] if name.startswith("tags")] == []
    assert not (out / "words").exists()
    assert result["warnings"][0] == NO_WORDS
    assert f"{tmp_path.name}: annotations/captions_val2017.json: COCO captions: 12 pictures, 24 captions" in results_table(out)
    assert evaluate(colours(), data=(str(tmp_path),), out=out, config=QUIET) == out
    (tmp_path / "val2017/000.jpg").write_bytes(square((1, 2, 3), kind="JPEG"))
    with pytest.raises(UsageError, match="other inputs"):
        evaluate(colours(), data=(str(tmp_path),), out=out, config=QUIET)


@pytest.mark.parametrize("write", SHAPES, ids=lambda shape: shape.__name__)
def test_every_shape_of_the_same_pictures_is_the_same_set(data_root, tmp_path, write: Callable[[Path, Pictures], None]):
    pictures = real_pictures(data_root / "photos/captioned/coco-00000.tar.gz", 12)
    root = tmp_path / "set"
    root.mkdir()
    write(root, pictures)
    assert is_captioned(root)
    opened = open_source(str(root))
    found = {s.data: sorted(opened.captions[s.label]) for s in opened.read() if isinstance(s, Sample)}
    assert found == {image: sorted(captions) for image, captions in pictures.values()}


@pytest.mark.parametrize(("write", "file"), [(coco, "annotations/captions_val2017.json"), (kaggle, "captions.txt")])
def test_the_file_itself_may_be_named(tmp_path, write, file):
    write(tmp_path, colour_pictures(3))
    assert is_captioned(tmp_path / file)
    assert len(open_source(str(tmp_path / file)).captions) == 3


def test_clip_benchmarks_layout_has_a_caption_a_line(colours, tmp_path):
    shards = [{f"{stem}.jpg": image, f"{stem}.txt": "\n".join(texts).encode()} for stem, (image, texts) in colour_pictures(4).items()]
    root = clip_benchmark_set(tmp_path / "set", shards)
    (root / "dataset_type.txt").write_text("retrieval\n")
    for spec in (root, root / "test"):
        assert is_captioned(spec)
        assert open_source(str(spec)).captions[1] == ["a green square", "green!"]
    (result,) = read_results(evaluate(colours(), data=(str(root),), out=tmp_path / "r", config=QUIET))
    assert (result["dataset"], result["n_captions"]) == ("set", 8)
    (root / "test" / "2.tar").unlink()
    with pytest.raises(DataError, match=r"1 of 4 shards are missing \(2.tar\)"):
        open_source(str(root))


def test_a_split_is_taken_where_the_document_says_it(tmp_path):
    karpathy(tmp_path, colour_pictures(4))
    document = json.loads((tmp_path / "dataset.json").read_text())
    document["images"][2]["split"] = "test"
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    assert open_source(str(tmp_path), SetOptions(split="test")).captions == [["a blue square", "blue!"]]
    assert open_source(str(tmp_path)).taken == [
        "dataset.json: Karpathy's captions (splits test, train together; --split takes one): 4 pictures, 8 captions"
    ]


def test_what_has_labels_or_class_folders_is_no_set_of_captions(tmp_path):
    for name in ("red", "green"):
        (tmp_path / "both" / name).mkdir(parents=True)
        text_files(tmp_path / "both" / name, colour_pictures(2))
    assert not is_captioned(tmp_path / "both")
    make(tmp_path / "labelled", "a.png", "b.png")
    with (tmp_path / "labelled" / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption", "label"], ["a.png", "a cat", "cat"], ["b.png", "a dog", "dog"]])
    assert not is_captioned(tmp_path / "labelled")
    assert not is_captioned(tmp_path / "labelled" / "t.csv")
    (tmp_path / "classes.tar").write_bytes(tar_bytes({f"{c}/{i}.{e}": b"" for c in "ab" for i in "12" for e in ("jpg", "txt")}))
    assert not is_captioned(tmp_path / "classes.tar")


def test_pictures_that_cannot_be_read_are_refused_and_shift_no_caption(tmp_path, colours):
    kaggle(tmp_path, colour_pictures())
    opened = open_source(str(tmp_path))
    (tmp_path / "Images/001.jpg").unlink()
    captions = {one.name: opened.captions[one.label] for one in opened.read() if isinstance(one, Sample)}
    assert captions == {stem: texts for stem, (_, texts) in colour_pictures().items() if stem != "001"}
    (result,) = read_results(evaluate(colours(), data=(str(tmp_path),), out=tmp_path / "r", config=QUIET))
    assert (result["refused"], result["metrics"]["n"], result["n_in"]) == ({"no_image": 1}, 11, 12)


def test_a_set_without_one_row_that_can_be_read_says_why(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_bytes(b"image,caption\na.png,caf\xe9\n")
    why = "not UTF-8 (unexpected end of data at byte 3): iconv -f cp1252 -t utf-8"
    for source, said in ((tmp_path, f"t.csv row 1: {why} FILE > NEW"), (tmp_path / "t.csv", f"row 1: {why} {tmp_path}/t.csv > NEW")):
        with pytest.raises(UsageError) as error:
            open_source(str(source))
        assert str(error.value) == (f"--data {source}: none of its rows can be read; the first: {said}, if it is Windows-1252 or Latin-1")


def test_captions_without_pictures_say_what_was_looked_for(tmp_path, colours):
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,a cat\n")
    with pytest.raises(UsageError) as error:
        evaluate(colours(), data=(str(tmp_path / "t.csv"),), out=tmp_path / "r", config=QUIET)
    assert str(error.value) == (
        f"--data {tmp_path}/t.csv: has captions and no pictures that can be found; t.csv: captions alone; its column image names pictures "
        "such as a.jpg, and none of the first 1 lies in its folder or beside it; --images-root FOLDER says where they lie"
    )


def test_the_caption_column_is_called_as_one_says_and_wins_over_labels(colours, tmp_path):
    make(tmp_path, "a.png", "b.png")
    path = tmp_path / "t.csv"
    path.write_text("Bild;Text 1;Beschreibung;label\na.png;x;a cat;cat\nb.png;x;a dog;dog\n")
    options = SetOptions(caption="Beschreibung", image="Bild", delimiter="semicolon")
    for spec in (path, tmp_path):
        assert is_captioned(spec, options)
        assert not is_captioned(spec, SetOptions(label="label"))
        assert open_source(str(spec), options).captions == [["a cat"], ["a dog"]]
    with pytest.raises(UsageError, match="Beschribung"):
        evaluate(colours(), data=(str(path),), out=tmp_path / "r", config=EvaluateConfig(progress=False, caption="Beschribung"))


def test_folders_that_img2dataset_wrote_are_no_classes(tmp_path):
    for number in ("00000", "00001"):
        (tmp_path / number).mkdir()
        text_files(tmp_path / number, colour_pictures(2))
        (tmp_path / f"{number}_stats.json").write_text("{}")
        (tmp_path / f"{number}.parquet").write_bytes(b"its metadata")
    assert is_captioned(tmp_path)
    assert len(open_source(str(tmp_path)).captions) == 4
    (tmp_path / "00001_stats.json").unlink()
    assert not is_captioned(tmp_path)


def test_captions_none_of_whose_pictures_can_be_used_name_the_first(colours, tmp_path):
    kaggle(tmp_path, colour_pictures(2))
    for place in (tmp_path / "Images").iterdir():
        place.write_bytes(b"broken")
    config = EvaluateConfig(progress=False, max_bad_fraction=1.0)
    with pytest.raises(DataError, match=r"no captioned image that can be used \(2 refused; the first .*000\.?\w*: not a JPEG"):
        evaluate(colours(), data=(str(tmp_path),), out=tmp_path / "r", config=config)
