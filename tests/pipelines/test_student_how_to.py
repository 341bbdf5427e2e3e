"""docs/how-to/texts-without-a-transformer.md finds the near-duplicates that were put in, typed as it stands there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fistful.cli import run
from tests.support.folders import REPOSITORY
from tests.support.pages import blocks, commands

PAGE = REPOSITORY / "docs" / "how-to" / "texts-without-a-transformer.md"
THINGS = ("ball", "car", "dog", "tree", "house", "boat", "chair", "lamp")
COLOURS = ("red", "green", "blue")


class ThingEncoder:
    """A teacher that knows colours and things: a direction for each."""

    name, fingerprint, image_size = "things", "f" * 64, 8

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        known = (*COLOURS, *THINGS)
        rows = np.array([[float(word in text.lower()) for word in known] for text in texts], np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)

    def n_cut(self, texts: list[str]) -> int:
        return 0

    def prepare(self, image: object) -> np.ndarray:
        raise AssertionError("texts alone")

    embed_images = prepare


def test_the_page_drops_captions_that_say_the_same_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    different = [f"a {colour} {thing} beside a {other}" for colour in COLOURS for thing in THINGS for other in THINGS if other != thing]
    order = np.random.default_rng(0).permutation(len(different)).tolist()
    captions = [different[i] for i in order]
    twins = [f"A {text[2:]}!" for text in captions[:9]]  # as sites copy each other: other case, other marks
    twins += [twins[0]] * 40
    monkeypatch.chdir(tmp_path)
    Path("captions.tsv").write_text("image_id\tcaption\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate([*captions, *twins])))
    learn = ["--table", "500", "--hashed", "0", "--dim", "32", "--epochs", "80", "--batch-size", "32", "--lr", "0.002", "--threads", "1"]
    for typed in commands(PAGE):
        if typed[0] == "distill" and "student" in typed:
            assert run(["distill", f"{__name__}:ThingEncoder", *typed[2:], *learn, "--no-progress"]) == 0
        if typed[0] == "embed":
            assert run([*typed, "--no-progress"]) == 0
    (script,) = blocks(PAGE, "python")
    capsys.readouterr()
    exec(compile(script, str(PAGE), "exec"), {})
    dropped = [line.split("\t")[1] for line in Path("dropped.txt").read_text().splitlines()]
    assert {*twins} <= {*dropped}
    assert dropped.count(twins[0]) == 41, "however many copies there are"
    said, n = capsys.readouterr().out.strip(), len(captions) + len(twins)
    assert said == f"{n - len(dropped):,} of {n:,} captions stay; dropped.txt has the others"
    others = [text for text in dropped if text not in twins]  # "a red ball beside a car" and "a red car beside a ball" at most
    assert all(sorted(text.split()) in [sorted(other.split()) for other in captions if other != text] for text in others)
