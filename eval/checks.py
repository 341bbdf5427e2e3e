"""Silent errors made loud: what a reader of a score should know before believing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fistful.training.model.encoder import Encoder
from fistful.wording import counted, some

from .sets.class_names import ClassName
from .sets.evaluation_set import EvalSet
from .sets.ready import ImageTally
from .tasks.classifier import Classifier

FAR, STRETCHED, FLAT = 5.0, 10.0, 0.05
"""Normalised pixels of photographs and drawings have means within 2 and spreads of .5 to 2; what is nearly plain tells nothing."""

USUAL_SHARE = 0.9
"""Where this share of the classes has the same number of images, the others are taken to lack some."""


def warnings_of(encoder: Encoder, eval_set: EvalSet, classifier: Classifier, tally: ImageTally) -> list[str]:
    """Return a line for each thing that is not as it should be."""
    lines = [*eval_set.warnings, *few_images(eval_set, tally), *copied_images(tally)]
    lines += uneven_classes(eval_set.classes, [tally.per_class.get(i, 0) for i in range(len(eval_set.classes))])
    empty = [entry.name for i, entry in enumerate(eval_set.classes) if not tally.per_class.get(i) and not _warned(eval_set, entry)]
    if empty:
        lines.append(f"{counted(len(empty), 'class has', 'classes have')} no image: {some(empty)}")
    lines += of_any_set(encoder, tally)
    said, unknown = f"prompts {classifier.prompts}", classifier.unspeakable
    if classifier.n_cut:
        lines.append(f"{said}: {classifier.n_cut:,} of {classifier.n_texts:,} are cut off by the context of {encoder.context_length}")
    if unknown:
        lines.append(
            f"{said}: the model knows no word of {counted(len(unknown), 'class', 'classes')}, so never chooses them: {some(unknown)}"
        )
    if encoder.saw_imagenet_labels:
        lines.append("the image tower was trained with ImageNet's labels: on ImageNet's classes this is not zero-shot")
    return lines


def of_any_set(encoder: Encoder, tally: ImageTally) -> list[str]:
    """Return what is not as it should be with images and model, whatever is asked of them."""
    lines = [*encoder.warnings, *tally.notes]
    if tally.letters:
        first = tally.letters[0]
        lines.insert(
            0, f"{len(tally.letters):,} of {tally.looked_at:,} images refused, the first {first.place} ({first.reason}: {first.detail})"
        )
    return lines


def not_covered(classes: Sequence[ClassName], covered: np.ndarray | None) -> list[str]:
    """Return a line if the vocabulary lacks words of some classes' names."""
    lost = [] if covered is None else [entry.name for entry, known in zip(classes, covered, strict=True) if not known]
    of = f"{len(lost):,} of {len(classes):,} classes"
    return [f"the vocabulary lacks words of {of}, so its captions could not teach them whole: {some(lost)}"] if lost else []


def seen_before(images: Sequence[str], near: np.ndarray | None) -> list[str]:
    """Return a line if some images are near-duplicates of training images."""
    if near is None or not near.any():
        return []
    first = images[int(np.flatnonzero(near)[0])]
    return [f"{int(near.sum()):,} of {len(images):,} images are near-duplicates of training images, the first {first}"]


def _warned(eval_set: EvalSet, entry: ClassName) -> bool:
    return f"class {entry.folder!r} has no image" in eval_set.warnings


def copies(probe: dict[str, Any] | None) -> list[str]:
    """Return a line if images lie, byte for byte, among those that a probe asks."""
    n = 0 if probe is None else probe["n_copies"]
    return [f"{counted(n, 'image has', 'images have')} a copy, byte for byte, among those that the probe asks"] if n else []


def uneven_classes(classes: Sequence[ClassName], counts: Sequence[int]) -> list[str]:
    """Return a line if nearly all classes have the same number of images and some have fewer.

    >>> uneven_classes([ClassName(str(i), str(i)) for i in range(20)], [50] * 19 + [49])
    ["1 class has fewer images than the others' 50: '19' (49)"]
    """
    usual, share = Counter(counts).most_common(1)[0]
    fewer = [f"{entry.name!r} ({n})" for entry, n in zip(classes, counts, strict=True) if n < usual]
    if not fewer or share < USUAL_SHARE * len(classes):
        return []
    return [f"{counted(len(fewer), 'class has', 'classes have')} fewer images than the others' {usual:,}: {some(fewer)}"]


def few_images(eval_set: EvalSet, tally: ImageTally) -> list[str]:
    """Return a line if fewer images came than the set's own names promise."""
    if tally.n_in >= eval_set.n_images:
        return []
    return [f"{counted(tally.n_in, 'image')} came of the {eval_set.n_images:,} that the names in the set promise"]


def copied_images(tally: ImageTally) -> list[str]:
    """Return a line if images of a set are byte for byte the same, under one class or several."""
    if not tally.n_copies:
        return []
    torn = f", {tally.n_torn:,} of them under another class" if tally.n_torn else ""
    return [f"{tally.n_copies:,} of {tally.n_in:,} images repeat an earlier one byte for byte{torn}"]


def odd_pixels(preprocess: dict[str, Any], pixels: np.ndarray) -> list[str]:
    """Return a line if a model's normalisation moves pixels far from mean 0 and spread 1.

    Args:
        preprocess: `mean` and `std` of the channels, in parts of 1; {} where the encoder does not say.
        pixels: uint8 (n, H, W, 3) of the set.
    """
    if not preprocess:
        return []
    shares = pixels.reshape(-1, 3) / 255.0
    mean, std = (np.array(preprocess[name], dtype=np.float64) for name in ("mean", "std"))
    centre, spread = (shares.mean(axis=0) - mean) / std, shares.std(axis=0) / std
    flat = shares.std(axis=0) < FLAT
    if (np.abs(centre) <= FAR).all() and ((spread >= 1 / STRETCHED) & (spread <= STRETCHED) | flat).all():
        return []
    found = f"{centre.mean():.3g} ± {spread.mean():.3g}"
    return [
        f"the model normalises pixels by mean {mean.tolist()} and std {std.tolist()}, which gives {found} here, "
        "expected about 0 ± 1: is its preprocess_cfg right?"
    ]
