"""What labels are measured on: nothing that the model, or a picture that votes, is a near copy of."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fistful.bow.draw import mix_all
from fistful.bow.store.files import read_json
from fistful.bow.store.identity import sha256_hex
from fistful.bow.store.index import read_index
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import read_vocabulary
from fistful.cli import run as fistful
from fistful.errors import DataError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.pseudo.held_out import hold_out, joined
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label

QUIET = Running(progress=False)
WORDS = ["apple", "boat", "cat", "dog", "egg", "fish", "goat", "hat", "ink", "jar", "kite", "lamp"]
ENCODER = "tests.support.label_encoder:Seer"


def photo(number: int) -> Image.Image:
    """A picture of its own, 80 pixels wide: soft spots."""
    spots = (mix_all(number, np.arange(100)) >> np.uint64(56)).astype(np.uint8).reshape(10, 10)
    return Image.fromarray(spots).resize((80, 80), Image.Resampling.BICUBIC)


def as_file(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def caption(number: int) -> str:
    """Words that nobody can see."""
    return " ".join(sorted({WORDS[int(drawn) % 12] for drawn in mix_all(number, 7, np.arange(3))}))


def write_photos(root: Path, n: int, copied: int) -> Path:
    """Write bags of n photos of which the first few are there three times: as they are, two pixels less, and saved anew."""
    files: dict[str, bytes] = {}
    for i in range(n):
        image = photo(i)
        copies = [as_file(image, 95), as_file(image.crop((2, 2, 80, 80)), 90), as_file(image, 70)]
        for j, data in enumerate(copies if i < copied else copies[:1]):
            files[f"{j}{i:04d}.jpg"], files[f"{j}{i:04d}.txt"] = data, caption(i).encode()
    (root / "photos").mkdir(parents=True)
    (root / "photos/0.tar").write_bytes(tar_bytes(dict(sorted(files.items()))))
    counts = count(str(root / "photos"), out=root / "counts")
    return bags(str(root / "photos"), counts=counts, out=root / "bags", config=BagsConfig(running=QUIET))


@pytest.fixture(scope="module")
def three_of_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred photos, each three times."""
    return write_photos(tmp_path_factory.mktemp("three"), 400, copied=400)


def labelled(like: Path, out: Path, encoder: str = ENCODER, **options: Any) -> Path:
    config = LabelConfig(label=LabelOptions(min_precision=0.0, **options), running=QUIET)
    return label(str(like / "shards"), model=encoder, like=like, out=out, config=config)


def test_near_copies_do_not_make_labels_look_right(three_of_each: Path, tmp_path: Path) -> None:
    stats = read_json(labelled(three_of_each, tmp_path / "labels", by="knn", k=5) / "stats.json")
    assert stats["held_out_precision"] == pytest.approx(stats["held_out_precision_by_chance"], abs=0.05)  # was .97: copies voted
    near = stats["held_out_near_copies"]
    assert near["kept_from_voting"] > 150
    assert near["images"] >= 2 * near["pictures"] > 0
    assert near["learnt_from"] == 0


def photo_of(like: Path) -> np.ndarray:
    """Which photo each sample is of."""
    return np.array([int(key[1:]) for key in read_index(like)["source_key"].to_pylist()])


def test_copies_that_are_measured_on_are_one_picture_and_none_of_them_votes(three_of_each: Path, tmp_path: Path) -> None:
    found, photos = hold_out(three_of_each, 0.1, (), 0, tmp_path), photo_of(three_of_each)
    held, votes = (photos[of] for of in (found.measured_N, found.voters_N))
    assert not set(held.tolist()) & set(votes.tolist())
    assert len(np.unique(found.pictures_N[found.measured_N])) == len(np.unique(held)) < len(held)
    assert all(len(np.unique(found.pictures_N[found.measured_N & (photos == one)])) == 1 for one in np.unique(held))
    again = hold_out(three_of_each, 0.1, (), 0, tmp_path)
    assert all((getattr(found, name) == getattr(again, name)).all() for name in ("measured_N", "voters_N", "pictures_N"))


def test_a_model_that_learnt_from_copies_is_not_measured_on_them(three_of_each: Path, tmp_path: Path) -> None:
    head = f"{ENCODER} {json.dumps({'words': read_vocabulary(three_of_each).words})}"
    with pytest.raises(DataError) as error:
        labelled(three_of_each, tmp_path / "labels", head, by="head")
    names = tmp_path / "labels/logs/near-copies.txt"
    assert str(error.value).startswith("calibration: ")
    assert str(error.value).endswith(
        "more are near copies (the same photo saved anew, or cut) of images that the model learnt from; "
        f"a model trained with --exclude {names} did not learn from these"
    )
    # a model that was trained so learnt from none
    learnt_without = sha256_hex("\n".join(names.read_text().split()).encode())
    found = hold_out(three_of_each, 0.1, (learnt_without,), 0, tmp_path)
    assert (found.left_out, found.mute) == (0, len(names.read_text().split()))
    with pytest.raises(DataError, match="near copies"):
        hold_out(three_of_each, 0.1, (learnt_without, ""), 0, tmp_path)


def test_the_name_of_what_a_run_excluded_stands_in_its_model(three_of_each: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("00000_0000001\n\n00000_0000002\n")
    options = ["--steps", "1", "--batch-size", "8", "--warmup", "0", "--threads", "1", "--text", "bag", "--no-progress"]
    assert fistful(["train", str(three_of_each), "--out", str(tmp_path / "run"), "--exclude", str(keys), *options]) == 0
    lineage = json.loads((tmp_path / "run/model/fistful.json").read_text())["lineage"]
    assert lineage["exclude"] == sha256_hex(b"00000_0000001\n00000_0000002")


def test_the_others_are_measured_on_and_a_line_says_how_many_were_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    like = write_photos(tmp_path, 700, copied=150)
    head = f"{ENCODER} {json.dumps({'words': read_vocabulary(like).words})}"
    images = str(like / "shards")
    options = ["--by", "mean", "--min-precision", "0", "--no-progress"]
    assert fistful(["label", images, "--model", head, "--like", str(like), "--out", str(tmp_path / "labels"), *options]) == 0
    near = read_json(tmp_path / "labels/stats.json")["held_out_near_copies"]
    assert near["learnt_from"] > 20
    said = f"near copies (the same photo saved anew, or cut): {near['learnt_from']} held-out images were left out, as the model learnt"
    assert said in capsys.readouterr().out


def test_groups_join_what_either_numbering_joins() -> None:
    found = joined(np.array([9, 3, 1, 3, 0]), np.array([8, 7, 7, 2, 4]))
    assert sorted(np.flatnonzero(found == one).tolist() for one in np.unique(found)) == [[0], [1, 2, 3], [4]]
