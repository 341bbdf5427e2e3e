"""Classifiers kept by hash: a second evaluation shows no text to the text tower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fistful.bow.words import WordOptions
from fistful.eval.sets.class_names import ClassName
from fistful.eval.tasks.classifier import Classifier, build_classifiers
from fistful.eval.tasks.kept_classifiers import Kept, read_weights, write_weights
from fistful.eval.tasks.prompts import build_prompts
from fistful.training.model.own import checked
from tests.support.colours import ColourEncoder

CLASSES = [ClassName(name, name) for name in ("red", "green", "blue")]


class Counting(ColourEncoder):
    """Says how many texts it was shown."""

    shown = 0

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        self.shown += len(texts)
        return super().embed_texts(texts)


def build(encoder: ColourEncoder, cache: Path | None, *names: str, classes: list[ClassName] = CLASSES) -> list[Classifier]:
    sets = [build_prompts(name, classes, own=[], options=WordOptions(), synonyms=False) for name in names]
    return build_classifiers(checked(encoder, "counting"), sets, classes, cache)


def same(first: list[Classifier], second: list[Classifier]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(
        np.array_equal(a.weights, b.weights) and (a.prompts, a.n_texts, a.n_cut) == (b.prompts, b.n_texts, b.n_cut) for a, b in pairs
    )


def test_a_second_evaluation_of_the_same_model_and_names_builds_no_texts(tmp_path):
    first, second = Counting(context_length=3), Counting(context_length=3)
    built = build(first, tmp_path, "name", "simple7")
    assert (first.shown, [c.n_cut for c in built]) == (24, [0, 18])
    assert same(build(second, tmp_path, "name", "simple7"), built)
    assert second.shown == 0
    assert same(build(Counting(context_length=3), None, "name", "simple7"), built)


def test_only_what_is_missing_is_built_and_another_model_or_other_names_are(tmp_path):
    build(Counting(), tmp_path, "name")
    encoder = Counting()
    build(encoder, tmp_path, "simple7", "name")
    assert encoder.shown == 21
    build(encoder, tmp_path, "name", classes=CLASSES[::-1])
    assert encoder.shown == 21 + 3
    encoder.fingerprint = "d" * 64
    build(encoder, tmp_path, "name")
    assert encoder.shown == 21 + 3 + 3


@pytest.mark.parametrize("harm", [lambda data: data[:-4], lambda data: data[:-1] + b"\x07", lambda data: b"", lambda data: b"\xff" + data])
def test_a_broken_file_is_built_again_and_said_so(tmp_path, capsys, harm):
    built = build(Counting(), tmp_path, "name")
    (path,) = tmp_path.glob("*.weights")
    good = path.read_bytes()
    path.write_bytes(harm(good))
    encoder = Counting()
    assert same(build(encoder, tmp_path, "name"), built)
    assert (encoder.shown, path.read_bytes()) == (3, good)
    assert capsys.readouterr().err == f"{path}: is broken; the classifier is built again\n"


def test_what_is_kept_comes_back_and_nothing_else_lies_in_the_folder(tmp_path):
    write_weights(tmp_path, "k", Kept(np.eye(3, dtype=np.float32), 2))
    found = read_weights(tmp_path, "k")
    assert found is not None
    assert (found.weights.tolist(), found.n_cut) == (np.eye(3).tolist(), 2)
    assert read_weights(tmp_path, "other") is None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["k.weights"]
