"""`fistful label --complete`: pictures that have some of their words get the missing ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fistful.bow.pseudo import Candidates
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.store.index import read_index, read_likely
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import read_vocabulary
from fistful.bow.words import WordOptions
from fistful.cli import run as command
from fistful.errors import DataError, UsageError
from fistful.job_texts import labels_text
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.completing import keep_half, known_words, with_known
from fistful.pipelines.count import count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.folders import contents
from tests.support.pictures import picture

COLOURS = {"red": (225, 20, 20), "green": (20, 225, 20), "blue": (20, 20, 225)}
PAIRS = (("sky", "cloud"), ("beach", "wave"), ("street", "car"))
"""Words that stand together, and that no picture shows."""
QUIET = Running(progress=False)


def write(folder: Path, numbers: range, words: Any) -> str:
    """Write pictures of a colour each, no two alike, with a file of keywords beside each."""
    folder.mkdir(parents=True)
    files: dict[str, bytes] = {}
    for i in numbers:
        r, g, b = COLOURS[list(COLOURS)[i % 3]]
        files[f"{i:04d}.png"] = picture((r + i % 20, g + i // 20 % 20, b + i // 400))
        if text := words(i):
            files[f"{i:04d}.txt"] = text.encode()
    (folder / "0.tar").write_bytes(tar_bytes(files))
    return str(folder)


def all_words(i: int) -> str:
    return f"{list(COLOURS)[i % 3]} {' '.join(PAIRS[i // 3 % 3])}"


def some_words(i: int) -> str:
    """One of two words that stand together; every tenth picture has none."""
    return "" if i % 10 == 0 else PAIRS[i // 3 % 3][i % 2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pictures with all of their keywords, a model that learnt from them, and pictures with some."""
    root = tmp_path_factory.mktemp("complete")
    full = write(root / "full", range(360), all_words)
    counts = count(full, out=root / "counts")
    data = bags(full, counts=counts, out=root / "bags", config=BagsConfig(running=QUIET))
    options = {"text": "bag", "text_tower": "words", "batch_size": 64, "steps": 100, "warmup": 5, "threads": 1, "progress": False}
    model = train(str(data), out=root / "run", config=train_config(**options, mask_rate=0.5, holdout=0.3, lr=3e-3, image_size=32))
    return {"root": root, "like": data, "model": str(model), "images": write(root / "some", range(400, 440), some_words)}


def complete(world: dict[str, Any], out: Path, **more: Any) -> Path:
    config = LabelConfig(label=LabelOptions(complete=True, **more), running=QUIET)
    return label(world["images"], model=more.pop("model", world["model"]), like=world["like"], out=out, config=config)


def test_where_no_word_is_known_the_share_is_said_to_be_of_something_else() -> None:
    stats: dict[str, Any] = {
        "refused": {},
        "held_out_nearest": dict.fromkeys(("labels", "precision", "low", "high"), 0.5),
        "words_in_bags": 8,
        "kept": 4,
    }
    stats |= {f"held_out_{name}": 0.5 for name in ("images", "precision", "precision_low", "precision_high", "precision_by_chance")}
    assert "! no picture has a word" in labels_text({**stats, "words_known": 0})
    assert "! no picture has a word" not in labels_text({**stats, "words_known": 3})
    assert "no_label" not in labels_text({**stats, "words_known": 3})
    assert "! 2 pictures without a known word got none either" in labels_text({**stats, "words_known": 3, "refused": {"no_label": 2}})


def test_the_words_that_are_there_stay_and_those_that_belong_to_them_come_in(
    world: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [world["images"], "--model", world["model"], "--like", str(world["like"]), "--out", str(tmp_path / "out"), "--no-progress"]
    assert command(["label", *asked, "--complete"]) == 0
    said = capsys.readouterr().out
    assert "36 words were known and are kept\n" in said
    assert "are right" in said
    index, words = read_index(tmp_path / "out"), read_vocabulary(world["like"]).words
    found = {key: [words[w] for w in row] for key, row in zip(index["source_key"].to_pylist(), index["words"].to_pylist(), strict=True)}
    partner = {word: other for pair in PAIRS for word, other in (pair, pair[::-1])}
    scores = index["scores"].to_pylist()
    known = {f"{i:04d}": some_words(i) for i in range(400, 440) if some_words(i)}
    for place, (key, row) in enumerate(found.items()):
        assert len(row) == len({*row}), key
        if key in known:
            assert row[0] == known[key]
            assert scores[place][0] == 1.0
    assert {*known} <= {*found}
    assert np.mean([{*found[key]} <= {*all_words(int(key)).split()} for key in known]) > 0.8  # half of three words: one more is given
    likely = read_likely(tmp_path / "out")
    assert likely is not None
    nearest = {key: [words[w] for w in row[:3]] for key, row in zip(found, likely[0], strict=True)}
    assert np.mean([partner[known[key]] in nearest[key] for key in known]) > 0.8  # which the picture cannot show
    stats = read_json(tmp_path / "out" / "stats.json")
    assert stats["words_known"] == len(known)
    assert stats["held_out_precision"] > 0.6  # of hidden words: by chance a third
    assert manifest.verify(tmp_path / "out") == []


def test_no_known_word_is_measured_and_shares_say_how_often_they_are_right(world: dict[str, Any], tmp_path: Path) -> None:
    stats = read_json(complete(world, tmp_path / "out") / "stats.json")
    likely = read_likely(tmp_path / "out")
    assert likely is not None
    first = likely[1][likely[0].offsets[:-1]]
    assert (first == 1.0).sum() == stats["words_known"]
    assert abs(stats["held_out_precision_predicted"] - stats["held_out_precision"]) < 0.15
    assert stats["held_out_images"] <= round(0.4 * 360)


def test_the_same_pictures_give_the_same_bytes(world: dict[str, Any], tmp_path: Path) -> None:
    first, again = (contents(complete(world, tmp_path / name)) for name in ("a", "b"))
    assert first == again
    assert manifest.read_config(tmp_path / "a")["config"]["complete"] is True


def test_what_cannot_be_completed_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--by knn: --complete asks the head that finds hidden words; leave --by out"):
        LabelOptions(complete=True, by="knn")
    options = {"text": "bag", "text_tower": "words", "batch_size": 64, "steps": 2, "threads": 1, "progress": False, "holdout": 0.3}
    plain = train(str(world["like"]), out=tmp_path / "plain", config=train_config(**options, image_size=32, objective="joint"))
    alone = train(str(world["like"]), out=tmp_path / "alone", config=train_config(**options, image_size=32, mask_rate=1.0))
    config = LabelConfig(label=LabelOptions(complete=True), running=QUIET)
    for model in (plain, alone):
        with pytest.raises(UsageError) as error:
            label(world["images"], model=str(model), like=world["like"], out=tmp_path / "out", config=config)
        said = f"--complete: {model} has not learnt to add to known words; train with --text-tower words --mask-rate 0.5"
        assert str(error.value) == said
    with pytest.raises(UsageError, match="--complete: asks one model, found 2; give one --model"):
        label(world["images"], model=(world["model"], str(plain)), like=world["like"], out=tmp_path / "out", config=config)


def test_a_label_without_it_is_named_as_by_earlier_versions(world: dict[str, Any], tmp_path: Path) -> None:
    config = LabelConfig(label=LabelOptions(by="knn", min_precision=0.0), running=QUIET)
    try:
        out = label(world["images"], model=world["model"], like=world["like"], out=tmp_path / "out", config=config)
    except DataError as error:  # pragma: no cover - the pictures are too alike for neighbours
        raise AssertionError(str(error)) from error
    assert "complete" not in manifest.read_config(out)["config"]


# The pure part


def test_half_of_the_words_stay_known_another_half_by_seed_and_picture() -> None:
    bags = Ragged(
        np.cumsum([0, *[5] * 200, *[4] * 200, 1, 0]), np.concatenate([np.tile(np.arange(5), 200), np.tile(np.arange(4), 200), [3]])
    )
    samples = np.arange(402, dtype=np.uint64)
    known = keep_half(bags, samples, 0)
    assert np.bincount(bags.rows()[known], minlength=402).tolist() == [3] * 200 + [2] * 200 + [1, 0]
    assert abs(known[: 5 * 200].reshape(200, 5).mean(axis=0) - 0.6).max() < 0.12
    assert not np.array_equal(known, keep_half(bags, samples, 1))
    alone = keep_half(bags.pick(np.array([7])), samples[7:8], 0)
    assert alone.tolist() == known[35:40].tolist()


def test_known_words_are_those_of_all_captions_that_the_vocabulary_has() -> None:
    found = known_words([["a red dog", "The dog runs"], [], ["zebra"]], ("dog", "red", "cat"), WordOptions())
    assert [row.tolist() for row in found] == [[1, 0], [], []]


def test_known_words_stand_before_the_others_of_their_picture() -> None:
    found = Candidates(Ragged(np.array([0, 2, 2, 3]), np.array([5, 6, 7])), np.array([0.5, 0.25, 0.125]))
    both = with_known(found, Ragged(np.array([0, 1, 2, 2]), np.array([1, 2])))
    assert [row.tolist() for row in both.words] == [[1, 5, 6], [2], [7]]
    assert both.scores.tolist() == [1.0, 0.5, 0.25, 1.0, 0.125]
