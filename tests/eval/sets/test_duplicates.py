"""Near-duplicates between training and evaluation images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from fistful.bow.store.images import decode_image
from fistful.bow.store.index import INDEX_SCHEMA
from fistful.bow.store.shard import tar_bytes
from fistful.bow.store.tables import write_table
from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results
from fistful.eval.sets.duplicates import near, phash, training_hashes

IMAGEHASH_4_3_2 = "8b072a2f695ed394"
"""What imagehash.phash says of the picture below."""


def photos(data_root: Path, n: int) -> list[Image.Image]:
    found = []
    with tarfile.open(data_root / "eval" / "tiny-imagenet" / "val.tar.gz") as tar:
        for member in tar:
            if member.isfile():
                file = tar.extractfile(member)
                assert file is not None
                found.append(decode_image(file.read()))
                if len(found) == n:
                    return found
    return found


def recompressed(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    buffer = io.BytesIO()
    ImageEnhance.Brightness(image.resize(size, Image.Resampling.LANCZOS)).enhance(1.05).save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def test_a_resized_and_recompressed_photo_is_found_and_others_are_not(data_root):
    pictures = photos(data_root, 400)
    hashes = np.array([phash(p) for p in pictures], np.uint64)
    changed = np.array([phash(recompressed(p, (90, 90))) for p in pictures], np.uint64)
    assert near(changed, hashes).mean() > 0.98
    assert near(changed[:200], hashes[200:]).mean() < 0.02


def test_plain_pictures_are_near_nothing_and_the_hash_is_that_of_imagehash():
    for colour in ("white", "black", "#7f7f80"):
        plain = np.array([phash(Image.new("RGB", (40, 30), colour))], np.uint64)
        assert not near(plain, plain).any()
    rows = np.add.outer(np.arange(32) ** 2, 5 * np.arange(32)) % 251
    assert f"{phash(Image.fromarray(rows.astype(np.uint8))):016x}" == IMAGEHASH_4_3_2


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.lists(st.integers(0, 63), max_size=8))
def test_blocks_find_exactly_what_comparing_all_finds(known, flips):
    flipped = known[0]
    for bit in flips:
        flipped ^= 1 << bit
    distance = min(bin(flipped ^ k).count("1") for k in known)
    telling = 8 <= bin(flipped).count("1") <= 56
    assert near(np.array([flipped], np.uint64), np.array(known, np.uint64)).tolist() == [telling and distance <= 6]


def test_evaluate_counts_images_that_are_near_duplicates_of_training_images(data_root, colours, tmp_path):
    pictures = photos(data_root, 12)
    for i, picture in enumerate(pictures):
        folder = tmp_path / "set" / ("red" if i % 2 else "blue")
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{i}.png")
    buffer = io.BytesIO()
    recompressed(pictures[3], (80, 80)).save(buffer, "JPEG")
    data = buffer.getvalue()
    (tmp_path / "train" / "shards").mkdir(parents=True)
    (tmp_path / "train" / "shards" / "00000.tar").write_bytes(tar_bytes({"00000_0000000.jpg": data}))
    row = dict.fromkeys(INDEX_SCHEMA.names) | {"key": "00000_0000000", "image_offset": 512, "image_size": len(data)}
    write_table(tmp_path / "train", "index/00000.parquet", pa.Table.from_pylist([row], schema=INDEX_SCHEMA))
    (tmp_path / "train" / "manifest.json").write_text('{"digest": "d"}')
    assert len(training_hashes([tmp_path / "train"])) == 1
    config = EvaluateConfig(prompts=("name",), progress=False, trained_on=(str(tmp_path / "train"),))
    (result,) = read_results(evaluate(colours(), data=(str(tmp_path / "set"),), out=tmp_path / "r", config=config))
    assert result["near_duplicates"] == 1
    assert "1 of 12 images are near-duplicates of training images, the first red/3.png" in result["warnings"]
