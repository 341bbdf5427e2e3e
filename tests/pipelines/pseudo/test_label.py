"""`fistful label`: images without captions in, shards of pseudo-bags out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fistful.bow.balance import Balance
from fistful.bow.calibration import Calibrator
from fistful.bow.draw import mix_all
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json, write_json
from fistful.bow.store.index import LABELLED_SCHEMA, read_index, read_likely
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import read_vocabulary, write_vocabulary
from fistful.errors import DataError, UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import count
from fistful.pipelines.embedding import EmbedJob, encoder_of_this_thread
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.pseudo import give
from fistful.pipelines.pseudo.give import LabelJob
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label
from fistful.pipelines.pseudo.sources import Neighbours
from fistful.training import neighbours
from tests.support.folders import contents, environment
from tests.support.object_store import contents_of, empty_bucket, put_all
from tests.support.pictures import picture

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
ENCODERS = "tests.support.label_encoder"
QUIET = Running(progress=False, max_bad_fraction=0.6)
PAIR = Running(workers=2, progress=False, max_bad_fraction=0.6)


def write_tars(folder: Path, n: int, named: bool, broken: bool = False, caption: Callable[[int], str] | None = None) -> str:
    """Pictures in three colours, in two tars; every third is called by its colour and "thing", or as `caption` says."""
    folder.mkdir(parents=True)
    for part in (0, 1):
        files: dict[str, bytes] = {}
        for i in range(part, n, 2):
            colour = list(COLOURS)[i // 2 % 3]
            r, g, b = COLOURS[colour]  # each picture another shade, so that none is a copy of another
            files[f"{i:04d}.png"] = picture((r + i % 20, g + i // 20 % 20, b + i // 400))
            if named:
                files[f"{i:04d}.txt"] = (caption(i) if caption else f"a {colour} thing").encode()
        if broken:
            files["9999.png"] = b"no picture"
        (folder / f"{part}.tar").write_bytes(tar_bytes(files))
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Captioned images as a data folder, uncaptioned ones, and an encoder that knows the vocabulary."""
    root = tmp_path_factory.mktemp("label")
    captioned = write_tars(root / "captioned", 900, named=True)
    counts = count(captioned, out=root / "counts")
    data = bags(captioned, counts=counts, out=root / "bags", config=BagsConfig(running=QUIET))
    images = write_tars(root / "images", 60, named=False, broken=True)
    return {"like": data, "images": images, "model": labeller(data), "root": root}


def labeller(data: Path) -> str:
    """The encoder whose head has the words of a data folder."""
    return f"tests.support.label_encoder:Labeller {json.dumps({'words': read_vocabulary(data).words})}"


def run(world: dict[str, Any], out: Path | str, running: Running = QUIET, **options: Any) -> Path:
    config = LabelConfig(label=LabelOptions(**options), running=running)
    return label(world["images"], model=world["model"], like=world["like"], out=out, config=config)


def test_neighbours_label_images_with_the_words_of_their_colour(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo", by="knn", k=5)
    words, index = read_vocabulary(folder).words, read_index(folder)
    for row in index.to_pylist():
        colour = list(COLOURS)[int(row["source_key"]) // 2 % 3]
        assert {words[i] for i in row["words"]} <= {colour, "thing"}
        assert (row["pseudo"], row["captions"], len(row["scores"])) == (True, [], len(row["words"]))
    stats = read_json(folder / "stats.json")
    assert (stats["rows"], stats["kept"], stats["refused"], stats["held_out_precision"]) == (62, 60, {"bad_image": 2}, 1.0)
    assert manifest.verify(folder) == []


def test_the_index_has_each_pictures_distribution_beside_its_bag(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo", by="mean")
    found = read_likely(folder)
    assert found is not None
    likely, shares = found
    words, index = read_vocabulary(folder).words, read_index(folder)
    assert (index.schema.names, len(likely)) == (LABELLED_SCHEMA.names[:-2], index.num_rows)
    for row, ids, of in zip(index.to_pylist(), likely, np.split(shares, likely.offsets[1:-1]), strict=True):
        colour = list(COLOURS)[int(row["source_key"]) // 2 % 3]
        assert row["words"] == ids[: len(row["words"])].tolist()
        assert row["scores"] == pytest.approx(of[: len(row["words"])], abs=1e-3)
        assert (of > 0).all()
        assert (np.diff(of) <= 0).all()
        assert {words[i] for i in ids[of > 0.8]} == {colour, "thing"}
    assert read_likely(world["like"]) is None


def test_a_distribution_has_as_many_words_as_asked_for(world: dict[str, Any], tmp_path: Path) -> None:
    many, one = (read_likely(run(world, tmp_path / str(n), by="head", likely=n, min_precision=0.0)) for n in (9, 1))
    assert many is not None
    assert one is not None
    assert (many[0].lengths().min(), set(one[0].lengths().tolist())) == (2, {1})
    assert [ids[:1].tolist() for ids in many[0]] == [ids.tolist() for ids in one[0]]
    with pytest.raises(UsageError, match=r"--likely 0: expected from 1 to 512 words"):
        LabelOptions(likely=0)


def test_what_is_measured_are_bags_as_short_as_those_given(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo", by="knn", likely=1, min_precision=0.0)
    stats = read_json(folder / "stats.json")
    assert (stats["words_in_bags"], stats["kept"], stats["held_out_recall"]) == (60, 60, 0.5)  # a captioned picture has two words


def test_what_a_thread_keeps_is_read_again_once_it_has_changed(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo", by="knn")
    place, images = folder / "stages" / "calibration", (folder / "stages" / "images",)
    job = LabelJob(("knn",), Neighbours(1, 1.0), 8, 0.0, Calibrator(()), np.ones(1, np.int64), 0, images, folder, place, folder)
    vocabulary, known = give._shared(job)
    assert give._shared(job)[1] is known
    write_json(place, give.MEASURED, read_json(place / give.MEASURED))
    assert give._shared(job)[1] is not known
    write_vocabulary(folder, vocabulary.balanced(Balance(rule="random", kept=0.1)))
    assert give._shared(job)[0].balance.rule == "random"

    embedders = [encoder_of_this_thread(EmbedJob(world["model"], fingerprint)) for fingerprint in ("old", "old", "new")]
    assert embedders[0] is embedders[1]
    assert embedders[1] is not embedders[2]


@pytest.mark.parametrize("by", ["head", "prompts", "mean"])
def test_every_source_gives_a_picture_its_colour_and_says_how_sure_it_is(world: dict[str, Any], tmp_path: Path, by: str) -> None:
    folder = run(world, tmp_path / "pseudo", by=by)
    words, index = read_vocabulary(folder).words, read_index(folder)
    given = [(words[i], list(COLOURS)[int(row["source_key"]) // 2 % 3]) for row in index.to_pylist() for i in row["words"]]
    assert np.mean([word in (colour, "thing") for word, colour in given]) > 0.9
    stats = read_json(folder / "stats.json")
    assert stats["held_out_precision_by_chance"] < 0.7 < stats["held_out_precision_low"]
    assert stats["held_out_precision_predicted"] == pytest.approx(stats["held_out_precision"], abs=0.2)  # some hundred candidates
    assert {*stats["held_out_nearest"]} == {"words", "precision", "labels", "difference", "low", "high"}


def test_a_model_with_a_word_head_labels_by_it_and_by_neighbours(world: dict[str, Any], tmp_path: Path) -> None:
    folder = run(world, tmp_path / "pseudo")
    assert manifest.read_config(folder)["config"]["by"] == "mean"
    assert run(world, tmp_path / "pseudo", by="mean") == folder
    headless = run({**world, "model": f'{ENCODERS}:Headless {{"words": []}}'}, tmp_path / "headless")
    assert manifest.read_config(headless)["config"]["by"] == "knn"


def test_among_many_an_index_says_which_are_near(world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = run(world, tmp_path / "exact", by="knn", k=5)
    monkeypatch.setattr(neighbours, "EXACT", 100)
    folder = run(world, tmp_path / "pseudo", by="knn", k=5)
    assert (folder / "stages/neighbours/neighbours-0.faiss").exists()
    found = [read_json(place / "stats.json")["neighbours_found"] for place in (exact, folder)]
    assert found[0] == 1.0
    assert 0.95 <= found[1] <= 1.0
    agree = [a == b for a, b in zip(*(read_index(place)["words"].to_pylist() for place in (exact, folder)), strict=True)]
    assert np.mean(agree) > 0.9
    assert contents(run(world, tmp_path / "again", by="knn", k=5)) == contents(folder)


def test_models_of_several_seeds_label_as_one(world: dict[str, Any], tmp_path: Path) -> None:
    words = json.dumps(read_vocabulary(world["like"]).words)
    other = f'{ENCODERS}:Labeller {{"words": {words}, "fingerprint": "d"}}'
    folder = run({**world, "model": [world["model"], other]}, tmp_path / "two")
    assert manifest.verify(folder) == []
    inputs = manifest.read_config(folder)["inputs"]
    assert (inputs["encoder"], inputs["more_encoders"]) == ("c" * 64, ["d" * 64])
    with pytest.raises(UsageError, match="names a model twice"):
        run({**world, "model": [world["model"]] * 2}, tmp_path / "same")


def test_two_workers_write_the_bytes_that_one_writes_and_the_same_call_finds_it_done(
    world: dict[str, Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    two = run(world, tmp_path / "two", PAIR, by="knn")
    assert contents(two) == whole
    assert contents(run(world, two, by="knn")) == whole


def test_a_head_of_another_vocabulary_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    other = {**world, "model": 'tests.support.label_encoder:Labeller {"words": ["red"]}'}
    with pytest.raises(DataError, match="its word head has other words than"):
        run(other, tmp_path / "pseudo", by="head")


def test_a_model_without_a_head_is_told_of_the_other_way(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        run({**world, "model": "tests.support.colours:ColourEncoder"}, tmp_path / "pseudo", by="head")
    assert (
        str(error.value) == "tests.support.colours:ColourEncoder: has no word head; label with --by knn, or with a run of --objective joint"
    )


def test_a_model_without_a_text_tower_is_told_of_the_ways_that_it_has_before_any_work(world: dict[str, Any], tmp_path: Path) -> None:
    from fistful.training.train import train
    from fistful.training.train_config import train_config

    options = train_config(steps=2, batch_size=8, warmup=1, threads=1, progress=False, objective="words", holdout=0.1)
    model = train(str(world["like"]), out=tmp_path / "run", config=options)
    with pytest.raises(UsageError) as error:
        run({**world, "model": str(model)}, tmp_path / "pseudo", by="prompts")
    assert str(error.value) == (
        f"{model}: has no text tower (it was trained with --objective words), so that it embeds images alone; "
        "label with --by head, or with --by mean for its neighbours too"
    )
    assert not (tmp_path / "pseudo").exists()


def test_captions_are_no_images(world: dict[str, Any], tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_text("a red thing\n")
    with pytest.raises(UsageError, match="holds captions alone, expected tars"):
        run({**world, "images": str(table)}, tmp_path / "pseudo", by="knn")
    table.write_text("n\timage\n1\tgone/a.jpg\n")
    with pytest.raises(UsageError, match=r"a\.tsv: its column image names pictures such as gone/a\.jpg, and none of the first 1 lies in"):
        run({**world, "images": str(table)}, tmp_path / "pseudo", by="knn")
    assert not (tmp_path / "pseudo").exists()


SCRIPT = """
import os, signal, sys, json
from tests.support.job import die_at_write
from tests.pipelines.pseudo.test_label import QUIET, run
from collections.abc import Callable
from pathlib import Path
die_at_write(int(sys.argv[3]), after=False)
run(json.loads(sys.argv[1]), Path(sys.argv[2]), by="knn")
"""


@pytest.fixture(scope="module")
def whole(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nothing disturbed writes."""
    return contents(run(world, tmp_path_factory.mktemp("whole") / "pseudo", by="knn"))


def test_labels_in_a_store_like_data_in_a_store_are_the_same_bytes(world: dict[str, Any], whole: dict[str, bytes]) -> None:
    bucket = empty_bucket("labels")
    like = put_all(world["like"], f"{bucket}/bags")
    for _ in range(2):  # the second finds it done
        run({**world, "like": like}, f"{bucket}/pseudo", by="knn")
        assert contents_of(f"{bucket}/pseudo") == whole


@pytest.mark.parametrize("write", [pytest.param(3, marks=pytest.mark.slow), 9, 17])
def test_killed_at_a_write_and_run_again_it_ends_with_the_same_bytes(
    world: dict[str, Any], whole: dict[str, bytes], tmp_path: Path, write: int
) -> None:
    given = json.dumps({name: str(value) for name, value in world.items()})
    command = [sys.executable, "-c", SCRIPT, given, str(tmp_path / "killed"), str(write)]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert contents(run(world, tmp_path / "killed", by="knn")) == whole


def test_where_no_score_is_worth_enough_the_folder_is_free_for_other_options(world: dict[str, Any], tmp_path: Path) -> None:
    captioned = write_tars(
        tmp_path / "captioned", 900, named=True, caption=lambda i: list(COLOURS)[int(mix_all(i) % np.uint64(3))]
    )  # whatever is seen
    counts = count(captioned, out=tmp_path / "counts")
    data = bags(captioned, counts=counts, out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    unlike = {**world, "like": data, "model": labeller(data)}
    with pytest.raises(DataError, match=r"the best has 0\.[34]\d\d; a smaller --min-precision helps"):
        run(unlike, tmp_path / "pseudo", by="knn", min_precision=0.6)
    embedded = (tmp_path / "pseudo/stages/images/manifest.json").stat().st_mtime_ns
    folder = run(unlike, tmp_path / "pseudo", by="head", min_precision=0)
    assert (folder / "stages/images/manifest.json").stat().st_mtime_ns == embedded
    assert contents(folder) == contents(run(unlike, tmp_path / "other", by="head", min_precision=0))


def test_too_few_held_out_pictures_are_said_before_any_work(world: dict[str, Any], tmp_path: Path) -> None:
    few = write_tars(tmp_path / "few", 30, named=True)
    data = bags(few, counts=world["root"] / "counts", out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    with pytest.raises(DataError, match="held-out captioned images, expected 30 or more"):
        run({**world, "like": data}, tmp_path / "pseudo", by="knn")
    assert not (tmp_path / "pseudo").exists()


def test_captioned_pictures_that_are_lost_are_told_and_not_left_out_of_what_is_measured(world: dict[str, Any], tmp_path: Path) -> None:
    like = shutil.copytree(world["like"], tmp_path / "like")
    shard = next((like / "shards").glob("*.tar"))
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(DataError, match=rf"{shard.name}: has [0-9,]+ bytes, expected [0-9,]+ bytes as manifest.json says"):
        run({**world, "like": like}, tmp_path / "pseudo", by="knn")


def test_copies_of_one_picture_are_one_picture_held_out(world: dict[str, Any], tmp_path: Path) -> None:
    """A row a caption: each picture under 20 keys. None may vote on its own copies, and few pictures stay few."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for copy in range(20):
        files: dict[str, bytes] = {}
        for i in range(45):
            files[f"{i:02d}_{copy:02d}.png"] = picture((20 * (i % 3), i * 5, 255 - i * 5))
            files[f"{i:02d}_{copy:02d}.txt"] = f"a {list(COLOURS)[i % 3]} thing".encode()
        (folder / f"{copy}.tar").write_bytes(tar_bytes(files))
    data = bags(str(folder), counts=world["root"] / "counts", out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    with pytest.raises(DataError, match=r"calibration: \d held-out captioned images, expected 30 or more"):
        run({**world, "like": data}, tmp_path / "pseudo", by="knn")  # some 90 rows, which are 4 or 5 pictures


def held_out(data: str, out: Path, share: float = 0.1) -> Path:
    """A run of ours, and the share of the samples that it held out."""
    from fistful.training.train import train
    from fistful.training.train_config import train_config

    base = {"steps": 2, "batch_size": 8, "objective": "joint", "progress": False, "threads": 1, "context_length": 8}
    return train(data, out=out, config=train_config(**base, holdout=share))


def test_a_model_of_ours_must_have_learnt_from_the_data_and_held_some_out(world: dict[str, Any], tmp_path: Path) -> None:
    data = str(world["like"])
    everything = held_out(data, tmp_path / "everything", 0.0)
    with pytest.raises(UsageError) as error:
        run({**world, "model": str(everything)}, tmp_path / "p1", by="head")
    assert str(error.value) == f"{everything}: held no captioned images out, so nothing can be measured; train with --holdout 0.1"

    some = held_out(data, tmp_path / "some")
    assert manifest.verify(run({**world, "model": str(some)}, tmp_path / "one", by="head", min_precision=0.0)) == []

    about = some / "model" / "fistful.json"
    earlier = json.loads(about.read_text())
    earlier["lineage"].pop("holdout_by")
    about.write_text(json.dumps(earlier))
    with pytest.raises(DataError, match="an earlier version trained it, which held samples out and may have shown it copies"):
        run({**world, "model": str(some)}, tmp_path / "p3", by="head")

    other = write_tars(tmp_path / "captioned", 60, named=True)
    counts = count(other, out=tmp_path / "counts")
    elsewhere = bags(other, counts=counts, out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    with pytest.raises(DataError, match=r"was not trained on .* --like must name a folder that it learnt from"):
        run({**world, "model": str(some), "like": elsewhere}, tmp_path / "p2", by="head")


@pytest.mark.slow
def test_two_workers_label_with_a_model_of_ours_as_one_does(world: dict[str, Any], tmp_path: Path) -> None:
    """Torch, faiss and two worker processes, one thread each: test_embed.py has torch in two workers, above is all but torch."""
    model = {**world, "model": str(held_out(str(world["like"]), tmp_path / "run"))}
    one, two = (run(model, tmp_path / name, running, by="head", min_precision=0.0) for name, running in (("one", QUIET), ("two", PAIR)))
    assert contents(one) == contents(two)


PAIR = Running(workers=2, progress=False, max_bad_fraction=0.6)
