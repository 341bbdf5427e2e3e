"""`fistful embed`: images or captions in, what a model makes of them out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fistful
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.store.shard import tar_bytes
from fistful.cli import run as run_fistful
from fistful.errors import DataError, UsageError
from fistful.pipelines.embed import EmbedConfig, EmbedOptions, embed
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data
from tests.support.folders import contents, environment, rows
from tests.support.object_store import contents_of, empty_bucket, put_all
from tests.support.pictures import picture

QUIET = Running(progress=False)
COLOUR_MODEL = "tests.support.colours:ColourEncoder"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A tar and another: red, green and blue in turn with two captions each; the second tar also holds what is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for part in (0, 1):
        files: dict[str, bytes] = {}
        for i in range(part, 12, 2):
            name = list(COLOURS)[i % 3]
            files[f"{i:03d}.png"] = picture(COLOURS[name])
            files[f"{i:03d}.json"] = json.dumps({"captions": [f"a {name} thing", "a thing"]}).encode()
        if part:
            files["999.png"], files["999.json"] = b"no picture", b'{"captions": ["red"]}'
        (folder / f"{part}.tar").write_bytes(tar_bytes(files))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, whose text tower is a transformer."""
    root = tmp_path_factory.mktemp("trained")
    return train(
        make_data(root / "data"), out=root / "run", config=train_config(steps=2, batch_size=8, warmup=1, threads=1, progress=False)
    )


def config(what: Any = "auto", running: Running = QUIET, **source: Any) -> EmbedConfig:
    return EmbedConfig(embed=EmbedOptions(what=what, device="cpu"), source=SourceOptions(**source), running=running)


def test_images_become_rows_with_their_keys_and_the_same_rows_as_a_numpy_file(photos: Path, tmp_path: Path) -> None:
    out = embed(str(photos), model=COLOUR_MODEL, out=tmp_path / "e", config=config())
    table = pq.read_table(out / "embeddings/00001.parquet")
    assert table.schema.names == ["key", "source_key", "extra", "embedding"]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[3]"
    assert (table["key"][0].as_py(), table["source_key"].to_pylist()) == ("00001_0000000", ["001", "003", "005", "007", "009", "011"])
    vectors = np.load(out / "embeddings/00001.npy", mmap_mode="r")
    assert (vectors.dtype, vectors.shape) == (np.float32, (6, 3))
    assert vectors.tolist() == table["embedding"].to_pylist()
    assert vectors[0].tolist() == [0, 1, 0]  # 001 is green
    stats = read_json(out / "stats.json")
    assert (stats["rows"], stats["kept"], stats["refused"], stats["embeddings"], stats["dim"]) == (13, 12, {"bad_image": 1}, 12, 3)
    assert [row["place"] for row in rows(out, "dead_letters")] == ["999"]
    assert manifest.verify(out) == []


def test_each_caption_of_a_tar_is_a_row_with_its_samples_key(photos: Path, tmp_path: Path) -> None:
    out = embed(str(photos), model=COLOUR_MODEL, out=tmp_path / "e", config=config("captions"))
    found = rows(out, "embeddings")
    assert [(row["key"], row["source_key"], row["caption"]) for row in found[:3]] == [
        ("00000_0000000", "000", "a red thing"),
        ("00000_0000000", "000", "a thing"),
        ("00000_0000001", "002", "a blue thing"),
    ]
    assert [row["embedding"] for row in found[:3]] == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    stats = read_json(out / "stats.json")
    assert (stats["rows"], stats["kept"], stats["embeddings"], stats["zeros"]) == (13, 13, 25, 12)


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet"])
def test_captions_come_from_every_kind_of_table(kind: str, tmp_path: Path) -> None:
    import pyarrow as pa

    source, texts = tmp_path / f"a.{kind}", ["red", "", "a blue thing"]
    if kind == "parquet":
        pq.write_table(pa.table({"caption": texts}), source)
    else:
        lines = [json.dumps({"caption": text}) if kind == "jsonl" else f"{text}{',' if kind == 'csv' else chr(9)}1" for text in texts]
        lines = lines if kind == "jsonl" else [f"caption{',' if kind == 'csv' else chr(9)}n", *lines]
        source.write_text("\n".join(lines) + "\n")
    running = Running(progress=False, max_bad_fraction=0.5)
    out = embed(str(source), model=COLOUR_MODEL, out=tmp_path / "e", config=config(running=running))
    assert [(row["key"][-1], row["caption"], row["embedding"]) for row in rows(out, "embeddings")] == [
        ("0", "red", [1, 0, 0]),
        ("2", "a blue thing", [0, 0, 1]),
    ]
    assert [row["reason"] for row in rows(out, "dead_letters")] == ["no_caption"]


def test_columns_asked_for_stand_beside_the_embeddings_of_pictures_and_of_captions(tmp_path: Path) -> None:
    import pyarrow as pa

    pictures = [picture(COLOURS[name]) for name in ("red", "blue")]
    pq.write_table(pa.table({"key": ["a", "b"], "jpg": pictures, "caption": ["red", "blue"], "n": [1, 2]}), tmp_path / "a.parquet")
    for what in ("images", "captions"):
        out = embed(str(tmp_path / "a.parquet"), model=COLOUR_MODEL, out=tmp_path / what, config=config(what, columns="key,n"))
        assert [row["extra"] for row in rows(out, "embeddings")] == ['{"key":"a","n":1}', '{"key":"b","n":2}']


def test_more_captions_than_a_pass_and_a_row_group_hold_stay_in_order(tmp_path: Path) -> None:
    texts = [f"{list(COLOURS)[i % 3]} {i}" for i in range(10_000)]
    (tmp_path / "a.tsv").write_text("\n".join(texts) + "\n")
    out = embed(str(tmp_path / "a.tsv"), model=COLOUR_MODEL, out=tmp_path / "e", config=config(caption="1"))
    file = pq.ParquetFile(out / "embeddings/00000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4_096, 4_096, 1_808]
    assert file.read()["caption"].to_pylist() == texts
    assert np.load(out / "embeddings/00000.npy").argmax(axis=1).tolist() == [i % 3 for i in range(10_000)]


def test_a_unit_without_one_picture_is_a_file_without_rows(photos: Path, tmp_path: Path) -> None:
    (photos / "2.tar").write_bytes(tar_bytes({"a.png": b"none", "a.txt": b"red"}))
    out = embed(str(photos), model=COLOUR_MODEL, out=tmp_path / "e", config=config())
    assert pq.read_table(out / "embeddings/00002.parquet").num_rows == 0
    assert np.load(out / "embeddings/00002.npy", mmap_mode="r").shape == (0, 3)


@pytest.mark.slow  # tests/pipelines/pseudo/test_label.py has two workers that embed images
@pytest.mark.parametrize("what", ["images", "captions"])
def test_two_workers_write_the_bytes_that_one_writes(photos: Path, trained: Path, tmp_path: Path, what: str) -> None:
    one = embed(str(photos), model=str(trained), out=tmp_path / "one", config=config(what))
    two = embed(str(photos), model=str(trained), out=tmp_path / "two", config=config(what, Running(workers=2, progress=False)))
    assert contents(one) == contents(two)


@pytest.mark.parametrize("what", ["images", "captions"])
def test_a_store_holds_the_bytes_of_a_local_folder_by_a_model_that_lies_in_one_too(
    photos: Path, trained: Path, tmp_path: Path, what: str
) -> None:
    bucket = empty_bucket("embeddings")
    put_all(trained, f"{bucket}/run")
    here = embed(str(photos), model=str(trained), out=tmp_path / "e", config=config(what))
    embed(str(photos), model=f"{bucket}/run", out=f"{bucket}/e", config=config(what))
    assert contents_of(f"{bucket}/e") == contents(here)


@pytest.mark.parametrize("what", ["images", "captions"])
def test_the_number_of_torchs_threads_changes_no_byte(photos: Path, trained: Path, tmp_path: Path, what: str) -> None:
    """What a worker, which has one thread, could do otherwise."""
    import torch

    before, made = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            made.append(contents(embed(str(photos), model=str(trained), out=tmp_path / str(n_threads), config=config(what))))
    finally:
        torch.set_num_threads(before)
    assert made[0] == made[1]


SCRIPT = """
import sys
from pathlib import Path
from tests.support.job import die_at_write
from tests.pipelines.test_embed import COLOUR_MODEL, config
from fistful.pipelines.embed import embed
die_at_write(int(sys.argv[3]), after=False)
embed(sys.argv[1], model=COLOUR_MODEL, out=sys.argv[2], config=config())
"""


@pytest.mark.parametrize("write", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(9, marks=pytest.mark.slow)])
def test_killed_at_a_write_and_run_again_it_ends_with_the_same_bytes(photos: Path, tmp_path: Path, write: int) -> None:
    whole = contents(embed(str(photos), model=COLOUR_MODEL, out=tmp_path / "whole", config=config()))
    command = [sys.executable, "-c", SCRIPT, str(photos), str(tmp_path / "killed"), str(write)]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    embed(str(photos), model=COLOUR_MODEL, out=tmp_path / "killed", config=config())
    assert contents(tmp_path / "killed") == whole


def test_what_cannot_be_embedded_is_said_in_a_line_before_any_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\tn\nred\t1\n")
    with pytest.raises(UsageError) as error:
        embed(str(tmp_path / "a.tsv"), model=COLOUR_MODEL, out=tmp_path / "e", config=config("images"))
    assert str(error.value) == (
        f"{tmp_path}/a.tsv: holds captions alone, expected tars, folders of images, or a table that names pictures or holds them "
        "(--image COLUMN, --images-root FOLDER); --what captions embeds the captions of all sources"
    )
    with pytest.raises(UsageError, match=r"a\.tsv: holds captions alone, expected tars.*; --what captions"):
        embed(str(tmp_path / "a.tsv"), str(photos), model=COLOUR_MODEL, out=tmp_path / "e", config=config())
    (tmp_path / "b.tsv").write_text("prose\tn\nred\t1\n")
    with pytest.raises(UsageError, match=r"no column 'caption' in its first line"):
        embed(str(tmp_path / "b.tsv"), model=COLOUR_MODEL, out=tmp_path / "e", config=config())
    with pytest.raises(DataError, match=r"'000': colours gives features of length nan, expected 1"):
        embed(str(photos), model=f'{COLOUR_MODEL} {{"broken": "nan"}}', out=tmp_path / "f", config=config())
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone/a.jpg", "its column image names pictures such as gone/a.jpg, and none of the first 1 lies in its folder or beside it"),
        ("http://x.org/a.jpg", "its column image names pictures on the web, which are not fetched here"),
    ],
)
def test_a_table_whose_pictures_cannot_be_read_says_why(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "a.tsv").write_text(f"n\timage\n1\t{name}\n")
    for what in ("auto", "images"):
        with pytest.raises(UsageError) as error:
            embed(str(tmp_path / "a.tsv"), model=COLOUR_MODEL, out=tmp_path / "e", config=config(what))
        assert str(error.value).startswith(f"{tmp_path}/a.tsv: {why}")
    with pytest.raises(UsageError, match="no column 'caption'"):
        embed(str(tmp_path / "a.tsv"), model=COLOUR_MODEL, out=tmp_path / "e", config=config("captions"))


def test_captions_are_embedded_without_a_look_at_their_pictures(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "e"
    source.mkdir()
    (source / "a.png").write_bytes(picture())
    (source / "t.csv").write_text("image,caption\na.png,red\ngone.png,green\n../../b.png,blue\n")
    embed(str(source), model=COLOUR_MODEL, out=out, config=config("captions"))
    assert [(row["source_key"], row["caption"]) for row in rows(out, "embeddings")] == [
        ("a", "red"),
        ("gone", "green"),
        ("../../b", "blue"),
    ]
    before = contents(out)
    (source / "a.png").write_bytes(picture()[:-1] + b"x")  # touched, and of the same size: it was not read
    assert contents(embed(str(source), model=COLOUR_MODEL, out=out, config=config("captions"))) == before


def test_captions_beside_pictures_are_embedded_without_a_look_at_these(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.png").symlink_to(tmp_path / "gone.png")
    (source / "a.txt").write_text("red\n")
    out = embed(str(source), model=COLOUR_MODEL, out=tmp_path / "e", config=config("captions"))
    assert [(row["source_key"], row["caption"]) for row in rows(out, "embeddings")] == [("a", "red")]


def test_a_model_without_a_text_tower_embeds_images_alone(photos: Path, tmp_path: Path) -> None:
    options = train_config(steps=2, batch_size=8, warmup=1, threads=1, progress=False, objective="words")
    run = train(make_data(tmp_path / "data"), out=tmp_path / "run", config=options)
    with pytest.raises(UsageError) as error:
        embed(str(photos), model=str(run), out=tmp_path / "e", config=config("captions"))
    assert str(error.value) == (
        f"{run}: has no text tower (it was trained with --objective words), so that it embeds images alone; --what images embeds those"
    )
    assert read_json(embed(str(photos), model=str(run), out=tmp_path / "e", config=config()) / "stats.json")["embeddings"] == 12


def test_python_gives_what_the_files_hold(photos: Path, trained: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in COLOURS]
    for file in files:
        file.write_bytes(picture(COLOURS[file.stem]))
    model = fistful.load(trained, "cpu")
    images = model.embed_images(files)
    assert (images.dtype, images.shape) == (np.float32, (3, 256))
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)
    assert np.array_equal(model.embed_images([file.read_bytes() for file in files], batch_size=2), images)
    out = embed(str(photos), model=str(trained), out=tmp_path / "e", config=config())
    assert np.abs(np.load(out / "embeddings/00000.npy")[:3] - images[[0, 2, 1]]).max() <= 1e-5  # 000, 002, 004: red, blue, green
    texts = embed(str(photos), model=str(trained), out=tmp_path / "t", config=config("captions"))
    asked = model.embed_texts(["a red thing", "a thing", "a blue thing"])
    assert np.abs(np.load(texts / "embeddings/00000.npy")[:3] - asked).max() <= 1e-5
    for folder in (out, texts):  # five decimals: what lies below differs between equal machines under load
        vectors = np.load(folder / "embeddings/00000.npy")
        assert np.array_equal(vectors, np.round(vectors, 5))


def test_python_says_what_it_cannot_embed(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    model = fistful.load(COLOUR_MODEL)
    with pytest.raises(DataError, match=r"no\.png: cannot be read \(bad_image: "):
        model.embed_images([tmp_path / "no.png"])
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(no_image: no such file\)"):
        model.embed_images([tmp_path / "gone.png"])
    with pytest.raises(DataError, match=r"images\[1\]: cannot be read \(bad_image: "):
        model.embed_images([picture(), b"no picture"])
    for wrong in ("a.png", [], b"bytes"):
        with pytest.raises(UsageError, match="images: "):
            model.embed_images(wrong)
    for wrong in ("a text", [], [1]):
        with pytest.raises(UsageError, match="texts: expected a list of one text or more"):
            model.embed_texts(wrong)  # pyright: ignore[reportArgumentType]


def test_the_command_line_says_what_it_wrote_and_does_units_apart(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["embed", "photos", "--model", COLOUR_MODEL, "--out", "e", "--device", "cpu", "--no-progress"]
    assert run_fistful([*base, "--units", "1"]) == 0
    assert not (tmp_path / "e/manifest.json").exists()
    capsys.readouterr()
    assert run_fistful(base) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0].startswith("13 rows read, 12 kept; refused: bad_image 1")
    assert said.out.splitlines()[-2:] == [
        "12 embeddings of images, 3 numbers each",
        "they lie in e/embeddings: UNIT.parquet with their keys, and the same rows in UNIT.npy for numpy and faiss",
    ]
    assert run_fistful(base) == 0
    assert capsys.readouterr().out.startswith("done already: 13 rows read")
    assert run_fistful([*base, "--what", "captions"]) == 2
    assert "what: 'images' there, 'captions' asked" in capsys.readouterr().err


def test_a_dry_run_writes_nothing_and_says_what_it_will_take(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = Running(progress=False, dry_run=True)
    embed(str(photos), model=COLOUR_MODEL, out=tmp_path / "e", config=config(running=running))
    assert "dry run, nothing is written: 2 units" in capsys.readouterr().out
    assert not (tmp_path / "e").exists()


def test_folders_of_images_are_cut_into_units(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(picture(list(COLOURS.values())[i % 3]))
    cut = EmbedConfig(plan=PlanOptions(unit_files=2), embed=EmbedOptions(device="cpu"), running=QUIET)
    out = embed(str(folder), model=COLOUR_MODEL, out=tmp_path / "e", config=cut)
    assert [np.load(path).shape for path in sorted((out / "embeddings").glob("*.npy"))] == [(2, 3), (2, 3), (1, 3)]
