"""What labels are worth on pictures whose captions were hidden: `python -m benchmarks.label_precision LABELLED... --truth T --like L...`

Each LABELLED is a folder of `fistful label`; --truth has the captions of its pictures, under the same source keys, and --like
the captioned folders that it was labelled like. Of the lab (`make evidence`), whose hidden photos have captions in bags/all:

    python -m benchmarks.label_precision OUT/small/labelled/*/mean --truth OUT/small/bags/all --like OUT/small/bags/*/fifth

For each folder and for all together: how often the likeliest words are right beside as many words of the nearest captioned
picture, with the interval of the difference; and how often the words given are right where labels say how often they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.embeddings import read_embeddings
from fistful.bow.metrics import ratio_interval, told_apart
from fistful.bow.pseudo import Candidates, are_right, stacked
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.index import LIKELY, read_index, read_likely
from fistful.bow.vocabulary import read_vocabulary
from fistful.errors import FistfulError, UsageError
from fistful.pipelines.pseudo.calibrate import EDGES, beside_nearest
from fistful.pipelines.pseudo.captioned import read_like
from fistful.pipelines.pseudo.label import CAPTIONED, IMAGES
from fistful.pipelines.pseudo.sources import copied_words
from fistful.training.neighbours import Keys

from .measure import RESULTS, write_results

ENOUGH = 2_000
"""Words given behind a share of right ones, at least."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """Labels of n pictures beside their captions."""

    likely: Candidates
    given: Candidates
    """The bags that were written."""
    copied: Ragged
    """Words of the nearest captioned picture that is no copy."""
    truth: Ragged
    photos: np.ndarray
    """Their numbers among the pictures of --truth: another folder may have the same ones."""


def judge(labelled: Path, truth: Path, likes: Sequence[Path]) -> Judged:
    """Put the labels of a folder beside the captions of its pictures; a picture that got no label has no words.

    Raises:
        UsageError: If the folders do not belong together.
    """
    config = manifest.read_config(labelled)
    if config["verb"] != "label" or not (labelled / IMAGES).is_dir():
        raise UsageError(f"{labelled}: expected a folder that fistful label wrote, with its {manifest.STAGES}/")
    done = [folder for folder in likes if (folder / manifest.MANIFEST).exists()]  # a lab may still be at work on others
    like = next((folder for folder in done if manifest.fingerprint(folder) == config["inputs"]["like"]), None)
    if like is None:
        raise UsageError(f"{labelled}: was labelled like none of the finished folders of --like")
    if read_vocabulary(labelled).words != read_vocabulary(truth).words:
        raise UsageError(f"{truth}: has other words than {labelled}; make both from the same counts")
    place = {key: row for row, key in enumerate(read_index(truth)["source_key"].to_pylist())}
    images = read_embeddings(sorted((labelled / IMAGES / "embeddings").glob("*.parquet"), key=lambda path: int(path.stem)))
    known = np.flatnonzero([key in place for key in images.source_keys])
    if not len(known):
        raise UsageError(f"{truth}: has captions of no picture of {labelled}; --truth takes those of the same source keys")
    images = images.take(known)
    captioned = read_like(labelled / CAPTIONED, like)
    photos = np.array([place[key] for key in images.source_keys])
    return Judged(
        *_labels(labelled, images.keys),
        copied_words(images.features, Keys(captioned.embeddings.features), captioned.bags),
        Ragged.of_lists(read_index(truth)["words"].combine_chunks()).pick(photos),
        photos,
    )


def _labels(labelled: Path, keys: Sequence[str]) -> tuple[Candidates, Candidates]:
    """Return the likely words and the bags of pictures by KEY."""
    index, likely = read_index(labelled), read_likely(labelled)
    if likely is None:
        raise UsageError(f"{labelled}: has no {LIKELY[0]} words, as earlier versions wrote it; label again")
    bags = Candidates(Ragged.of_lists(index["words"].combine_chunks()), index["scores"].combine_chunks().flatten().to_numpy())
    place = {key: row for row, key in enumerate(index["key"].to_pylist())}
    nothing = Ragged(np.zeros(2, np.int64), np.zeros(0, np.int64))
    rows = np.array([place.get(key, len(place)) for key in keys])
    both = (Candidates(Ragged.stack([of.words, nothing]), of.scores).pick(rows) for of in (Candidates(*likely), bags))
    return tuple(both)  # pyright: ignore[reportReturnType]


def together(parts: Sequence[Judged]) -> Judged:
    """Return the labels of several folders."""
    return Judged(
        stacked([part.likely for part in parts]),
        stacked([part.given for part in parts]),
        Ragged.stack([part.copied for part in parts]),
        Ragged.stack([part.truth for part in parts]),
        np.concatenate([part.photos for part in parts]),
    )


def figures(found: Judged) -> dict[str, Any]:
    """Return what labels are worth; intervals are over photos, each one of them however often it was labelled."""
    photos = np.unique(found.photos, return_inverse=True)[1]
    nearest = beside_nearest(found.likely, found.copied, found.truth, photos)
    return {
        "pictures": len(photos),
        "photos": int(photos.max()) + 1,
        "labelled": int((found.given.words.lengths() > 0).sum()),
        "nearest": {**nearest, "told_apart": told_apart(nearest["low"], nearest["high"])},
        "given": _buckets(found.given, found.truth, photos),
    }


def _buckets(given: Candidates, truth: Ragged, photos: np.ndarray) -> list[dict[str, Any]]:
    """Return predicted and achieved shares of right words, by predicted share."""
    right, images, found = are_right(given, truth), photos[given.words.rows()], []
    for low, high in wide_enough(given.scores):
        own = (given.scores >= low) & ((given.scores < high) | (high == EDGES[-1]))
        ends = ratio_interval(np.bincount(images[own], weights=right[own]), np.bincount(images[own]))
        shares = {"predicted": given.scores[own].mean(), "achieved": right[own].mean(), "low": ends[0], "high": ends[1]}
        found.append({"from": low, "to": high, "n": int(own.sum()), **{name: round(float(value), 4) for name, value in shares.items()}})
    return found


def wide_enough(scores: np.ndarray) -> list[tuple[float, float]]:
    """Return parts of EDGES' range that hold ENOUGH scores each, from below; none if there are fewer in all.

    >>> wide_enough(np.repeat([0.15, 0.25, 0.95], [500, 3_000, 2_500]))
    [(0.0, 0.3), (0.3, 1.0)]
    """
    found, high = [], len(EDGES) - 1
    n_each = np.histogram(scores, EDGES)[0]
    for low in range(len(n_each) - 1, -1, -1):
        if n_each[low:high].sum() >= ENOUGH and (n_each[:low].sum() >= ENOUGH or not low):
            found.insert(0, (EDGES[low], EDGES[high]))
            high = low
    return found


def lines(name: str, row: dict[str, Any]) -> list[str]:
    """Return a folder's figures as they are printed."""
    nearest = row["nearest"]
    found = [
        f"{name}: {row['pictures']:,} pictures, {row['labelled']:,} labelled",
        f"  at as many words as the nearest captioned picture has ({nearest['words']:,}): labels {nearest['labels']:.1%} right, copied "
        f"{nearest['precision']:.1%} (difference {nearest['low']:+.1%} to {nearest['high']:+.1%})",
    ]
    told = "  {from:.2f} to {to:.2f}: {n:,} words given, {predicted:.1%} predicted, {achieved:.1%} right ({low:.1%} to {high:.1%})"
    return found + [told.format(**part) for part in row["given"]]


def main() -> None:
    """Judge, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", nargs="+", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--like", nargs="+", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for label-precision-DATE.json")
    asked = parser.parse_args()
    try:
        parts = {"/".join(folder.parts[-2:]): judge(folder, asked.truth, asked.like) for folder in asked.labelled}
    except FistfulError as error:
        sys.exit(str(error))
    rows = {name: figures(part) for name, part in parts.items()}
    if len(parts) > 1:
        rows["all"] = figures(together(list(parts.values())))
    for name, row in rows.items():
        print("\n".join(lines(name, row)))
    print(write_results("label-precision", rows, asked.results))


if __name__ == "__main__":
    main()
