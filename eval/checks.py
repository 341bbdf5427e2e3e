"""Silent errors made loud: what a reader of a score should know before believing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fistful.eval.classifier import Classifier
from fistful.eval.datasets import EvalSet
from fistful.eval.images import Tally
from fistful.eval.names import ClassName
from fistful.training.encoder import Encoder

USUAL_SHARE = 0.9
"""Where this share of the classes has the same number of images, the others are taken to lack some."""


def warnings_of(encoder: Encoder, eval_set: EvalSet, classifier: Classifier, tally: Tally) -> list[str]:
    """Return a line for each thing that is not as it should be."""
    lines = list(eval_set.warnings)
    lines += uneven_classes(eval_set.classes, [tally.per_class.get(i, 0) for i in range(len(eval_set.classes))])
    if tally.letters:
        first = tally.letters[0]
        lines.append(f"{len(tally.letters)} of {tally.n_in} images refused, the first {first.place} ({first.reason})")
    said, unknown = f"prompts {classifier.prompts}", classifier.unspeakable
    if classifier.n_cut:
        lines.append(f"{said}: {classifier.n_cut} of {classifier.n_texts} are cut off by the context of {encoder.context_length}")
    if unknown:
        lines.append(f"{said}: the model knows no word of {len(unknown)} classes, so never chooses them: {some(unknown)}")
    if encoder.saw_imagenet_labels:
        lines.append("the image tower was trained with ImageNet's labels: on ImageNet's classes this is not zero-shot")
    return lines


def seen_before(images: Sequence[str], near: np.ndarray | None) -> list[str]:
    """Return a line if some images are near-duplicates of training images."""
    if near is None or not near.any():
        return []
    first = images[int(np.flatnonzero(near)[0])]
    return [f"{int(near.sum())} of {len(images)} images are near-duplicates of training images, the first {first}"]


def uneven_classes(classes: Sequence[ClassName], counts: Sequence[int]) -> list[str]:
    """Return a line if nearly all classes have the same number of images and some have fewer.

    >>> uneven_classes([ClassName(str(i), str(i)) for i in range(20)], [50] * 19 + [49])
    ["1 class has fewer images than the others' 50: '19' (49)"]
    """
    usual, share = Counter(counts).most_common(1)[0]
    fewer = [f"{entry.name!r} ({n})" for entry, n in zip(classes, counts, strict=True) if n < usual]
    if not fewer or share < USUAL_SHARE * len(classes):
        return []
    return [f"{len(fewer)} class{'es have' if len(fewer) > 1 else ' has'} fewer images than the others' {usual}: {some(fewer)}"]


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
