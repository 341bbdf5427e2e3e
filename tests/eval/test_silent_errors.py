"""Every silent error, provoked once: a line in the printed output and in the JSON, or an end with the right code."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fistful.bow.store.shard import tar_bytes
from fistful.cli import run
from fistful.eval.results import read_results
from tests.support.clip_encoder import save_tiny_clip
from tests.support.squares import SQUARES, square

MODEL = "tests.support.colours:ColourEncoder"


def folders(root: Path, n: int = 3, names: tuple[str, ...] = tuple(SQUARES)) -> Path:
    """Write class folders of noisy squares, each image its own."""
    for c, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{i}.png").write_bytes(square(list(SQUARES.values())[c % 3], 100 * c + i))
    return root


def layout(root: Path, shards: list[int], n_shards: int | None) -> Path:
    """Write CLIP_benchmark's layout with some shards of one image each."""
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text("red\ngreen\nblue\n")
    for i in shards:
        files = {f"{i}.png": square(list(SQUARES.values())[i % 3], i), f"{i}.cls": str(i % 3).encode()}
        (root / "test" / f"{i}.tar").write_bytes(tar_bytes(files))
    if n_shards is not None:
        (root / "test" / "nshards.txt").write_text(str(n_shards))
    return root


def parquet(path: Path) -> None:
    """Write one part of a hub's set."""
    rows = {"image": [{"bytes": square(colour, i)} for i, colour in enumerate(SQUARES.values())], "label": list(SQUARES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path)


def missing_shards(here: Path) -> list[str]:
    root = layout(here / "set", [0, 1, 3], None)
    for shard in (root / "test").iterdir():
        shard.rename(root / shard.name)
    return [MODEL, "--data", str(root)]


def missing_parts(here: Path) -> list[str]:
    parquet(here / "set" / "val-00001-of-00003.parquet")
    return [MODEL, "--data", str(here / "set")]


def an_empty_shard(here: Path) -> list[str]:
    root = layout(here / "set", [0, 1, 2], 4)
    (root / "test" / "3.tar").write_bytes(b"")
    return [MODEL, "--data", str(root)]


def a_shard_without_images(here: Path) -> list[str]:
    root = layout(here / "set", [0, 1, 2], 4)
    (root / "test" / "3.tar").write_bytes(tar_bytes({"3.txt": b"red"}))
    return [MODEL, "--data", str(root)]


def a_class_without_images(here: Path) -> list[str]:
    (folders(here / "set") / "grey").mkdir()
    return [MODEL, "--data", str(here / "set")]


def fewer_images_in_a_class(here: Path) -> list[str]:
    folders(here / "set", names=tuple(f"red {i}" for i in range(20)))
    (here / "set" / "red 7" / "1.png").unlink()
    return [MODEL, "--data", str(here / "set")]


def fewer_images_than_names(here: Path) -> list[str]:
    root = layout(here / "set", [0, 1, 2], 3)
    (root / "test" / "2.tar").write_bytes(
        tar_bytes({"a.png": square(SQUARES["red"]), "a.jpg": square(SQUARES["red"], 9, "JPEG"), "a.cls": b"0"})
    )
    return [MODEL, "--data", str(root)]


def duplicate_names(here: Path) -> list[str]:
    folders(here / "set")
    (here / "names.tsv").write_text("folder\tname\nred\tred\ngreen\tred\nblue\tblue\n")
    return [MODEL, "--data", str(here / "set"), "--names", str(here / "names.tsv")]


def copied_images(here: Path) -> list[str]:
    root = folders(here / "set")
    shutil.copy(root / "red" / "0.png", root / "red" / "copy.png")
    shutil.copy(root / "red" / "0.png", root / "blue" / "torn.png")
    return [MODEL, "--data", str(root)]


def unsaid_normalisation(here: Path) -> list[str]:
    return [str(save_tiny_clip(here / "clip")), "--data", str(folders(here / "set"))]


def normalisation_in_bytes(here: Path) -> list[str]:
    model = save_tiny_clip(here / "clip")
    config = json.loads((model / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}
    (model / "open_clip_config.json").write_text(json.dumps(config))
    return [str(model), "--data", str(folders(here / "set"))]


def near_duplicates(here: Path) -> list[str]:
    from fistful.pipelines.bags import bags
    from fistful.pipelines.count import count

    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8))
    seen, again = io.BytesIO(), io.BytesIO()
    coarse.resize((90, 80), Image.Resampling.BICUBIC).save(seen, "PNG")
    coarse.resize((72, 64), Image.Resampling.BICUBIC).save(again, "JPEG", quality=80)
    files = {"a.png": seen.getvalue(), "b.png": square((99, 99, 99), 777), "c.png": square((99, 99, 99), 778)}
    texts = {name.replace("png", "txt"): b"a red thing" for name in files}
    (here / "train.tar").write_bytes(tar_bytes(dict(sorted((files | texts).items()))))
    counts = count(str(here / "train.tar"), out=here / "counts")
    data = bags(str(here / "train.tar"), counts=counts, out=here / "trained")
    (folders(here / "set") / "red" / "again.jpg").write_bytes(again.getvalue())
    return [MODEL, "--data", str(here / "set"), "--trained-on", str(data)]


def seen_labels(here: Path) -> list[str]:
    return [MODEL + ' {"saw_imagenet_labels": true}', "--data", str(folders(here / "set"))]


def cut_prompts(here: Path) -> list[str]:
    return [MODEL + ' {"context_length": 3}', "--data", str(folders(here / "set")), "--prompts", "simple7"]


def refused_images(here: Path) -> list[str]:
    (folders(here / "set", 12) / "red" / "broken.png").write_bytes(b"no picture")
    return [MODEL, "--data", str(here / "set")]


LOUD: list[tuple[Callable[[Path], list[str]], str]] = [
    (missing_shards, "1 of 4 shards are missing by their numbers: 2.tar"),
    (missing_parts, "2 of 3 parts are missing: val-00000-of-00003.parquet, val-00002-of-00003.parquet"),
    (an_empty_shard, "test/3.tar is an empty file"),
    (a_shard_without_images, "test/3.tar has no image"),
    (a_class_without_images, "class 'grey' has no image"),
    (fewer_images_in_a_class, "1 class has fewer images than the others' 3: 'red 7' (2)"),
    (fewer_images_than_names, "3 images came of the 4 that the names in the set promise"),
    (duplicate_names, "the name 'red' is shared by the classes green, red"),
    (copied_images, "2 of 11 images repeat an earlier one byte for byte, 2 of them under another class"),
    (
        unsaid_normalisation,
        "open_clip_config.json does not say the mean and std of its pixels; "
        "CLIP's ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]) are taken",
    ),
    (normalisation_in_bytes, "which gives -1.98 ± 0.00611 here, expected about 0 ± 1: is its preprocess_cfg right?"),
    (near_duplicates, "1 of 10 images are near-duplicates of training images, the first red/again.jpg"),
    (seen_labels, "the image tower was trained with ImageNet's labels: on ImageNet's classes this is not zero-shot"),
    (cut_prompts, "prompts simple7: 18 of 21 are cut off by the context of 3"),
    (refused_images, "1 of 37 images refused, the first red/broken.png (bad_image: not a JPEG, PNG, WEBP image"),
]


@pytest.mark.parametrize(("provoke", "line"), LOUD, ids=[provoke.__name__ for provoke, _ in LOUD])
def test_it_is_said_where_the_score_is_printed_and_in_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], provoke: Callable[[Path], list[str]], line: str
) -> None:
    out = tmp_path / "results"
    command = provoke(tmp_path)
    prompts = [] if "--prompts" in command else ["--prompts", "name"]
    assert run(["evaluate", *command, *prompts, "--out", str(out), "--no-progress"]) == 0
    (printed,) = [one for one in capsys.readouterr().out.splitlines() if line in one]
    assert printed.startswith("! ")
    (result,) = read_results(out)
    assert [one for one in result["warnings"] if line in one]
    (single,) = (out / "results").glob("*.json")
    assert json.loads(single.read_text())["warnings"] == result["warnings"]


def a_shard_fewer_than_said(here: Path) -> list[str]:
    return [MODEL, "--data", str(layout(here / "set", [0, 2], 3))]


def a_model_without_weights(here: Path) -> list[str]:
    model = save_tiny_clip(here / "clip")
    (model / "open_clip_model.safetensors").unlink()
    return [f"local-dir:{model}", "--data", str(folders(here / "set"))]


def features_of_another_length(here: Path) -> list[str]:
    return [MODEL + ' {"broken": "length"}', "--data", str(folders(here / "set"))]


def features_that_are_no_numbers(here: Path) -> list[str]:
    return [MODEL + ' {"broken": "nan"}', "--data", str(folders(here / "set"))]


def a_shard_of_captions_gone(here: Path) -> list[str]:
    from fistful.pipelines.bags import bags
    from fistful.pipelines.count import count

    files = {f"{i}.{kind}": data for i in range(3) for kind, data in (("png", square((9, 9, 9), i)), ("txt", b"a red thing"))}
    (here / "a.tar").write_bytes(tar_bytes(files))
    data = bags(str(here / "a.tar"), counts=count(str(here / "a.tar"), out=here / "counts"), out=here / "data")
    (data / "shards" / "00000.tar").unlink()
    return [MODEL, "--data", str(data)]


FATAL: list[tuple[Callable[[Path], list[str]], int, str]] = [
    (a_shard_fewer_than_said, 3, "{here}/set/test: 1 of 3 shards are missing (1.tar); nshards.txt says how many there are"),
    (
        a_model_without_weights,
        2,
        "local-dir:{here}/clip: has open_clip_config.json but no weights; expected open_clip_model.safetensors beside it",
    ),
    (features_of_another_length, 3, "expected 1; the model or its encoder is broken"),
    (features_that_are_no_numbers, 3, "colours gives features of length nan, expected 1; the model or its encoder is broken"),
    (
        a_shard_of_captions_gone,
        3,
        "{here}/data/shards/00000.tar: missing, though the index names it; fistful verify {here}/data tells what else changed",
    ),
]


@pytest.mark.parametrize(("provoke", "code", "message"), FATAL, ids=[provoke.__name__ for provoke, _, _ in FATAL])
def test_what_leaves_no_score_worth_having_ends_the_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], provoke: Callable[[Path], list[str]], code: int, message: str
) -> None:
    assert run(["evaluate", *provoke(tmp_path), "--out", str(tmp_path / "results"), "--no-progress"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("fistful: ")
    assert captured.err.endswith(message.format(here=tmp_path) + "\n")
    assert not (tmp_path / "results" / "results.json").exists()


def test_a_set_without_faults_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", MODEL, "--data", str(folders(tmp_path / "set")), "--prompts", "name", "--out", str(tmp_path / "r")]) == 0
    (result,) = read_results(tmp_path / "r")
    assert result["warnings"] == []
    assert "!" not in capsys.readouterr().out
