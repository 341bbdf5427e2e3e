"""Whether a change of the code changed a result: bytes of data jobs, losses of training, digits of evaluation.

Goes a short way through every verb by the command line alone, so that it can be run on two states of the code,
and notes what came out. A redesign shows that it changed nothing:

    git checkout BEFORE && python -m benchmarks.same_results --write before.json
    git checkout AFTER && python -m benchmarks.same_results --against before.json

Digests hold on one machine with one set of installed versions; some two minutes on two cores.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fistful.cli import run

SOURCES = ("tuxpaint", "coco", "bing")
"""Captioned photos: short phrases, five captions each, loose prose."""
TRAININGS = {
    "clip": "--model tiny-vit --text caption",
    "bags": "--model tiny-resnet --text bag --bank 32 --ema 0.9",
    "balanced": "--model tiny-vit --text balanced --rule random --kept 0.5 --intact 0.3 --accumulation 2",
    "joint": "--model tiny-resnet --objective joint --text-tower words --augment crop --holdout 0.1",
    "words": "--model tiny-vit --objective words --captions one --augment resized",
    "sigmoid": "--model tiny-rn --objective joint-sigmoid --optimizer sgd --clip-norm 1",
    "frozen": "--init fistful-run --train-image none --text-tower words --objective joint",
}
"""Each objective, tower and crop once."""
STEPS = ("--steps", "6", "--batch-size", "32", "--threads", "1")
N_IMAGES = 200


def same_results(data: Path, place: Path) -> dict[str, str]:
    """Go the way in a folder, and return what came out by name."""
    photos = [str(data / f"photos/captioned/{name}-00000.tar.gz") for name in SOURCES]
    found: dict[str, str] = {}
    call("count", *photos, "--out", place / "counts")
    for name, table in (("tsv", "coco-val2017.tsv.gz"), ("csv", "laion-alttext.csv.gz")):
        call("count", data / "captions" / table, "--out", place / f"counts-{name}")
    for name, more in (
        ("bags", "--rule w2v --kept 0.5"),
        ("pairs", "--rule cap --threshold 20 --level pair"),
        ("budget", "--rule budget --n-words 3 --txt balanced"),
    ):
        call("bags", *photos, "--counts", place / "counts", "--out", place / name, *more.split())
    for name, more in TRAININGS.items():
        options = [str(place / "run-joint") if word == "fistful-run" else word for word in more.split()]
        call("train", place / "bags", "--out", place / f"run-{name}", *STEPS, *options)
        found |= losses(place / f"run-{name}", name)
    unlabelled = few_images(data / "photos/uncaptioned/00000.tar.gz", place / "images.tar")
    for by in ("head", "knn"):
        given = ("--model", place / "run-joint", "--like", place / "bags", "--by", by, "--min-precision", 0)
        call("label", unlabelled, *given, "--out", place / f"labels-{by}")
    classes = few_classes(data / "eval/cifar10/test.tar.gz", place / "classes")
    prompts = ("--prompts", "name", "--prompts", "bag", "--prompts", "openai80", "--vocabulary", place / "bags")
    call("evaluate", place / "run-clip", place / "run-joint", "--data", classes, *prompts, "--out", place / "scores")
    call("evaluate", place / "run-joint", "--data", classes, "--prompts", "head", "--data", place / "pairs", "--out", place / "head-scores")
    (place / "names.txt").write_text("airplane\ndog\nship\n")
    call("classify", place / "run-joint", classes / "dog", "--names", place / "names.txt", "--out", place / "answers.csv")
    for name in ("counts", "counts-tsv", "counts-csv", "bags", "pairs", "budget", "labels-head", "labels-knn"):
        found |= {f"{name}/{path}": digest for path, digest in bytes_of(place / name)}
    for name in ("scores", "head-scores"):
        found |= digits(place / name, name)
    found["answers.csv"] = (place / "answers.csv").read_text().replace(str(place), "")
    return found


def call(*words: Any) -> None:
    """Call a verb, which must end well."""
    code = run([*map(str, words), "--no-progress"])
    if code:
        raise SystemExit(f"{' '.join(map(str, words))}: ended with {code}")


def bytes_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the content's hash of every file outside logs/."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and "logs" not in name.parts:
            yield str(name), hashlib.sha256(path.read_bytes()).hexdigest()


def losses(folder: Path, name: str) -> dict[str, str]:
    """Return the losses of each step, and the weights of the last one."""
    weights = {f"{name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "model").glob("*.safetensors")}
    return {f"{name}/losses": (folder / "metrics.jsonl").read_text(), **weights}


def digits(folder: Path, name: str) -> dict[str, str]:
    """Return the figures of each result but intervals' names, and the predictions behind them."""
    found = {}
    for path in sorted((folder / "results").glob("*.json")):
        metrics = json.loads(path.read_text())["metrics"]
        found[f"{name}/{path.name}"] = json.dumps(metrics, sort_keys=True)
    for kind in ("predictions", "classes", "words"):
        for path in sorted((folder / kind).glob("*.parquet")):
            found[f"{name}/{kind}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def few_images(archive: Path, out: Path) -> Path:
    """Copy the first members of an archive."""
    with tarfile.open(archive) as theirs, tarfile.open(out, "w") as ours:
        for member in list(theirs)[:N_IMAGES]:
            data = theirs.extractfile(member)
            if data is not None:
                ours.addfile(member, io.BytesIO(data.read()))
    return out


def few_classes(archive: Path, out: Path) -> Path:
    """Unpack the first ten images of each class."""
    taken: dict[str, int] = {}
    with gzip.open(archive) as packed, tarfile.open(fileobj=packed) as theirs:
        for member in theirs:
            *_, label, name = member.name.split("/")
            data = theirs.extractfile(member)
            if data is None or taken.get(label, 0) >= 10:
                continue
            taken[label] = taken.get(label, 0) + 1
            (out / label).mkdir(parents=True, exist_ok=True)
            (out / label / name).write_bytes(data.read())
    return out


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return a line for each result that is not what it was."""
    lines = [f"only before: {name}" for name in sorted(before.keys() - after.keys())]
    lines += [f"only after: {name}" for name in sorted(after.keys() - before.keys())]
    return lines + [f"differs: {name}" for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]


def main() -> None:
    """Read the options and go."""
    parser = argparse.ArgumentParser(description="Note what the verbs give, or compare it with what was noted.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FISTFUL_DATA", "../shared/data")))
    parser.add_argument("--write", type=Path, help="file for what was found")
    parser.add_argument("--against", type=Path, help="file of an earlier --write")
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="same-"))
    try:
        found = same_results(asked.data.absolute(), place)
    finally:
        shutil.rmtree(place)
    if asked.write:
        asked.write.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if asked.against:
        lines = differences(json.loads(asked.against.read_text()), found)
        print("\n".join(lines) or f"{len(found)} results, all equal")
        sys.exit(bool(lines))


if __name__ == "__main__":
    main()
