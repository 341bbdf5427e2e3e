"""The folders that the commands of README and docs are about, small: coloured squares whose captions name the colour."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

from fistful.bow.store.shard import tar_bytes
from fistful.cli import run
from tests.support.pictures import picture
from tests.support.quiz_words import common_words

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
SIZES = ("large", "large|heavy")
SHORT = {"--steps": "2", "--batch-size": "16", "--warmup": "1", "--threads": "1", "--model": "tiny-vit"}
"""How the tests train: options in the place of those that a page gives."""
LONG = {**SHORT, "--steps": "20", "--lr": "0.003", "--warmup": "5", "--text-tower": "words"}
"""Where words must be learnt, since a model that learnt none labels nothing."""


def square(i: int) -> tuple[str, bytes]:
    """The name of a colour, and a picture of it; no two are equal."""
    name = list(COLOURS)[i % 3]
    red, green, blue = COLOURS[name]
    return name, picture((red - i % 20, green - i // 20 % 20, blue - i // 400), size=(48, 40))


def write_tar(path: Path, numbers: range, captions: bool | str = True) -> None:
    files: dict[str, bytes] = {}
    for i in numbers:
        name, files[f"{i:04d}.png"] = square(i)
        if captions:
            files[f"{i:04d}.txt"] = (captions if isinstance(captions, str) else f"The {name} square is a square of paper.").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(files))


def write_classes(root: Path, numbers: range) -> None:
    for i in numbers:
        name, image = square(i)
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{i}.png").write_bytes(image)


def make_world(root: Path) -> None:
    """Write everything that a page takes for granted; `root` is the folder that we stand in."""
    write_tar(root / "captioned/00000.tar", range(300))
    write_tar(root / "photos/00000.tar", range(48))
    write_tar(root / "heldout/00000.tar", range(400, 424))
    write_tar(root / "uncaptioned/00000.tar", range(424, 470), captions=False)
    write_tar(root / "coco-00000.tar", range(48))
    write_tar(root / "tars/00000.tar", range(48))
    write_tar(root / "half-captioned/00000.tar", range(470, 500), captions="square")
    write_classes(root / "my-classes", range(500, 536))
    write_classes(root / "my-pictures", range(560, 590))
    labels = "".join(f"{square(i)[0]}/{i}.png,{square(i)[0]}\n" for i in range(560, 590))
    (root / "my-pictures/labels.csv").write_text("image,label\n" + labels)
    (root / "my-captions").mkdir()
    for i in range(590, 614):
        name, image = square(i)
        (root / f"my-captions/{i}.png").write_bytes(image)
        (root / f"my-captions/{i}.txt").write_text(f"a {name} square\n")
    table = "".join(f"{i}\ta {square(i)[0]} square\n" for i in range(100))
    (root / "coco.tsv").write_text("image_id\tcaption\n" + table)
    (root / "captions.tsv").write_text("image_id\tcaption\n" + table)
    (root / "test-photos.txt").write_text("3\n7\n")
    (root / "labels.tsv").write_text("text\tlabel\n" + "".join(f"a {square(i)[0]} square {i}\t{square(i)[0]}\n" for i in range(30)))
    (root / "captions").mkdir()
    (root / "captions/a.tsv").write_text("image_id\tcaption\n" + table)
    for i in range(48):
        (root / "my-set/pics").mkdir(parents=True, exist_ok=True)
        (root / f"my-set/pics/{i}.png").write_bytes(square(i)[1])
    named = "".join(f"pics/{i}.png,a {square(i)[0]} square\n" for i in range(48))
    (root / "my-set/data.csv").write_text("image_path,caption\n" + named)
    (root / "names.txt").write_text("red\ngreen\nblue\n")
    for path in (root / "my-photos/a.png", root / "a.jpg", root / "b.jpg"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(format="PNG" if path.suffix == ".png" else "JPEG"))
    (root / "classes.tsv").write_text("folder\tname\n" + "".join(f"{name}\t{name} thing\n" for name in COLOURS))
    with tarfile.open(root / "test.tar.gz", "w:gz") as tar:
        for path in sorted((root / "my-classes").rglob("*.png")):
            info = tarfile.TarInfo(f"test/{path.parent.name}/{path.name}")
            info.size = path.stat().st_size
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    assert run(["count", "photos/", "--out", "counts", "--no-progress"]) == 0
    assert run(["bags", "photos/", "--counts", "counts", "--out", "bags", "--rule", "cap", "--kept", "0.5", "--no-progress"]) == 0
    short = [text for option in SHORT.items() for text in option]
    assert run(["train", "bags", "--out", "run", "--objective", "joint", *short, "--no-progress"]) == 0
    make_clip(root)
    make_demo(root)
    make_words(root)


def make_clip(root: Path) -> None:
    """Write what others call a pretrained CLIP, an open_clip folder that knows our words, and the same as a tower of one's own."""
    learning = {**LONG, "--text-tower": "transformer", "--text": "bag"}
    options = [text for option in learning.items() for text in option]
    assert run(["train", "bags", "--out", "clip-run", *options, "--no-progress"]) == 0
    for name in ("my-clip", "my-tower"):
        (root / name).mkdir()
        for file in ("open_clip_config.json", "open_clip_model.safetensors"):
            shutil.copy(root / "clip-run/model" / file, root / name / file)
    shutil.rmtree(root / "clip-run")


def make_demo(root: Path) -> None:
    """Write what the tutorial needs of `make demo`, whose drawings and five models would take minutes."""
    demo = root / "demo-out"
    shutil.copytree(root / "photos", demo / "data/captioned")
    shutil.copytree(root / "my-classes", demo / "data/eval/unseen")
    shutil.copy(root / "classes.tsv", demo / "data/eval/unseen/classes.tsv")
    shutil.copytree(root / "counts", demo / "counts")
    shutil.copytree(root / "run", demo / "runs/balanced")


def make_words(root: Path) -> None:
    """Write what the page about text towers takes for granted: counts of many words, another model, and a table of words."""
    words = common_words(300)
    lines = [" ".join(words[(i * 10 + j) % len(words)] for j in range(10)) for i in range(150)]
    (root / "word-captions.tsv").write_text("image_id\tcaption\n" + "".join(f"{i}\t{line}\n" for i, line in enumerate(lines)))
    assert run(["count", "word-captions.tsv", "--out", "word-counts", "--no-progress"]) == 0
    shutil.copytree(root / "my-clip", root / "clip-model")
    (root / "my-words.tsv").write_text(
        "word\tthing\tsize\n" + "".join(f"{name} {i}\t{name}\t{SIZES[i % 2]}\n" for name in COLOURS for i in range(40))
    )
