"""Our perceptual hash beside the package imagehash, and small pictures: `python -m benchmarks.near_duplicates` (decisions 0014, 0031).

How many changed copies of photos each finds at which distance, how many unrelated photos it takes for copies,
and how long a picture and a search take.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.measure import CACHE, RESULTS, write_results
from fistful.bow.near_copies import IS, coarse, thumbnail
from fistful.eval.sets.duplicates import MAX_DISTANCE, near, phash, popcount
from fistful.pipelines.pseudo.held_out import LIKELIEST, near_pairs

PACKAGE = "imagehash==4.3.2"
SOURCES = {"flickr8k": 1_500, "corel5k": 1_000, "coco": 250, "bing": 250}
DISTANCES = (4, 6, 8, 10, 12)


def photos(data: Path, sources: dict[str, int]) -> list[Image.Image]:
    """Return so many photos of some sources, decoded."""
    found = []
    for name, n in sources.items():
        with tarfile.open(data / f"photos/captioned/{name}-00000.tar.gz") as tar:
            pictures = (tar.extractfile(member) for member in tar if member.name.endswith(".jpg"))
            for _, file in zip(range(n), pictures, strict=False):
                assert file is not None
                found.append(Image.open(io.BytesIO(file.read())).convert("RGB"))
    return found


def saved(image: Image.Image, quality: int) -> Image.Image:
    """Return an image as it comes back from a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def changes() -> dict[str, Callable[[Image.Image], Image.Image]]:
    """Return ways in which a copy may differ."""
    return {
        "resized, brightened, quality 60": lambda i: saved(
            ImageEnhance.Brightness(i.resize((i.width * 3 // 5, i.height * 3 // 5))).enhance(1.15), 60
        ),
        "4 % cut from each side": lambda i: i.crop((i.width // 25, i.height // 25, i.width * 24 // 25, i.height * 24 // 25)),
        "grey, quality 30": lambda i: saved(i.convert("L"), 30),
        "2 of some 80 pixels cut from two sides, quality 90": lambda i: saved(i.crop((2, 2, i.width, i.height)), 90),
        "2 of some 80 pixels cut from all sides": lambda i: i.crop((2, 2, i.width - 2, i.height - 2)),
    }


def measure(data: Path, hashes: dict[str, Callable[[Image.Image], int]]) -> dict[str, Any]:
    """Return the figures of each hash."""
    images, shop = photos(data, SOURCES), photos(data, {"fashion": 3_000})
    copies = {name: [change(image) for image in images] for name, change in changes().items()}
    rows = {}
    for name, function in hashes.items():
        start = time.process_time()
        plain = np.array([function(image) for image in images], np.uint64)
        row: dict[str, Any] = {"us_an_image": round(1e6 * (time.process_time() - start) / len(images))}
        for change, changed in copies.items():
            distances = popcount(np.array([function(image) for image in changed], np.uint64) ^ plain)
            row[change] = {d: round(float((distances <= d).mean()), 4) for d in DISTANCES}
        row["unrelated photos taken for copies"] = taken(plain)
        row["unrelated shop photos taken for copies"] = taken(np.array([function(image) for image in shop], np.uint64))
        rows[name] = row
    return rows


def small_pictures(data: Path) -> dict[str, Any]:
    """Return the figures of small pictures, at the cosine that is asked for."""
    images, shop = photos(data, SOURCES), photos(data, {"fashion": 3_000})
    start = time.process_time()
    plain = np.stack([thumbnail(image) for image in images])
    row: dict[str, Any] = {"us_an_image": round(1e6 * (time.process_time() - start) / len(images)), "cosine": IS}
    for name, change in changes().items():
        changed = np.stack([thumbnail(change(image)) for image in images])
        pairs = near_pairs(plain, coarse(plain), changed, LIKELIEST)
        row[name] = round(float((pairs[:, 0] == pairs[:, 1]).sum() / len(images)), 4)
    for name, grey in (("photos", plain), ("shop photos", np.stack([thumbnail(image) for image in shop]))):
        half = len(grey) // 2
        found = near_pairs(grey[half:], coarse(grey[half:]), grey[:half], LIKELIEST)
        row[f"unrelated {name} taken for copies"] = round(len(np.unique(found[:, 0])) / half, 4)
    start = time.process_time()
    near_pairs(plain, coarse(plain), plain, LIKELIEST + 1)
    row[f"seconds to look for {len(plain):,} among themselves"] = round(time.process_time() - start, 2)
    return row


def taken(hashes: np.ndarray) -> dict[int, float]:
    """Return how many of the first half of some pictures are as near to one of the other half, by distance."""
    half = len(hashes) // 2
    others = np.stack([popcount(hashes[half:] ^ one).min() for one in hashes[:half]])
    return {d: round(float((others <= d).mean()), 4) for d in DISTANCES}


def search_seconds(imagehash: Any) -> dict[str, float]:
    """Return how long 1,000 hashes take to be looked for among 20,000: by us, and with the package's own difference."""
    rng = np.random.default_rng(0)
    known, asked = (rng.integers(0, 1 << 63, n, dtype=np.uint64) for n in (20_000, 1_000))
    start = time.process_time()
    near(asked, known)
    ours = time.process_time() - start
    asked_bits, bits = (
        [imagehash.ImageHash(np.unpackbits(one.view(np.uint8)).reshape(8, 8).astype(bool)) for one in several[:, None]]
        for several in (asked[:10], known)
    )
    start = time.process_time()
    for one in asked_bits:
        any(one - other <= MAX_DISTANCE for other in bits)
    return {"ours": round(ours, 3), "imagehash": round(100 * (time.process_time() - start), 1)}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("FISTFUL_DATA") or RESULTS.parents[2] / "shared" / "data")
    data = Path(parser.parse_args().data)
    folder = CACHE / "imagehash"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as part:
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", f"{part}/x", PACKAGE], check=True)
            os.replace(f"{part}/x", folder)
    sys.path.append(str(folder))
    import imagehash  # pyright: ignore[reportMissingImports]

    def number(found: Any) -> int:
        return int.from_bytes(np.packbits(found.hash).tobytes(), "big")

    hashes: dict[str, Callable[[Image.Image], int]] = {
        "ours": phash,
        "imagehash.dhash": lambda image: number(imagehash.dhash(image)),
        "imagehash.phash": lambda image: number(imagehash.phash(image)),
    }
    images = photos(data, SOURCES)
    same = sum(phash(image) == number(imagehash.phash(image)) for image in images) / len(images)
    rows: dict[str, Any] = {
        **measure(data, hashes),
        "share of photos with imagehash's own bits": same,
        "seconds to look for 1,000 among 20,000": search_seconds(imagehash),
        "small pictures": small_pictures(data),
    }
    for name, row in rows.items():
        print(name, row)
    print(write_results("near-duplicates", rows))


if __name__ == "__main__":
    main()
