"""Labelled texts, and the head that turns a teacher's embeddings into probabilities of their labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from fistful.bow.store.plain_text import read_lines
from fistful.errors import DataError
from fistful.wording import counted

BETWEEN = "|"
"""Parts the labels of a text."""
REGULARISATION = 10.0
"""scikit-learn's C, for embeddings of length 1."""
HEADER = ({"caption", "text"}, {"label", "labels"})
"""Names of columns that may stand in a first line."""


@dataclasses.dataclass(frozen=True, slots=True)
class TextLabels:
    """Texts with a label each, or with several."""

    texts: list[str]
    labels: list[str]
    """Names, sorted."""
    marks_NC: np.ndarray
    """bool: which text has which."""

    @property
    def several(self) -> bool:
        """Whether a text may have several labels, or none."""
        return bool((self.marks_NC.sum(axis=1) != 1).any())


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """A linear layer on a teacher's embeddings: logits of labels."""

    labels: list[str]
    several: bool
    """Each label by itself (sigmoid), else one of them (softmax)."""
    weight_CD: np.ndarray
    """float32."""
    bias_C: np.ndarray


def read_text_labels(path: str) -> TextLabels:
    """Read a TSV of texts and their labels, "|" between the labels of a text; a first line may name the columns.

    Raises:
        UsageError: If it cannot be read.
        DataError: If a line is none, or there are fewer than two labels.
    """
    lines = read_lines(path, f"--labels {path}", "a TSV, a text and its labels a line")
    rows = [line.split("\t") for line in lines]
    first = 1 if rows and len(rows[0]) == 2 and all(name.lower() in known for name, known in zip(rows[0], HEADER, strict=True)) else 0
    for number, row in enumerate(rows[first:], start=first + 1):
        if len(row) != 2 or not row[0].strip():
            raise DataError(f"--labels {path} line {number}: found {len(row)} columns, expected a text, a tab, and labels with | between")
    found = [[name.strip() for name in labels.split(BETWEEN) if name.strip()] for _, labels in rows[first:]]
    names = sorted({name for labels in found for name in labels})
    if len(names) < 2:
        raise DataError(f"--labels {path}: found {counted(len(names), 'label')}, expected two or more")
    marks = np.zeros((len(found), len(names)), bool)
    place = {name: i for i, name in enumerate(names)}
    for row, labels in zip(marks, found, strict=True):
        row[[place[name] for name in labels]] = True
    return TextLabels([row[0].strip() for row in rows[first:]], names, marks)


def labels_said(given: TextLabels) -> str:
    """Return a line that says what labelled texts are: how many, the commonest label, the rarest, and how many each text has."""
    n, n_labels = given.marks_NC.sum(axis=0), given.marks_NC.sum(axis=1)
    most, least = (given.labels[int(pick(n))] for pick in (np.argmax, np.argmin))
    bare, many = int((n_labels == 0).sum()), int((n_labels > 1).sum())
    each = f"{many:,} of the texts have several and {bare:,} none: each label is by itself" if given.several else "one of them each"
    return (
        f"{len(given.texts):,} labelled texts, {len(given.labels)} labels: the commonest {most!r} on {n.max() / len(given.texts):.1%} "
        f"of them, the rarest {least!r} on {counted(int(n.min()), 'text')}; {each}"
    )


def fit_head(embeddings_ND: np.ndarray, given: TextLabels) -> Head:
    """Fit the head by logistic regression: over all labels, or for each by itself where texts have several.

    Args:
        embeddings_ND: The teacher's, of the labelled texts.
        given: Their labels.

    Raises:
        DataError: If a label is that of all texts.
    """
    import threadpoolctl
    from sklearn.linear_model import LogisticRegression

    def fit(target_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with threadpoolctl.threadpool_limits(1):  # with more, sums round differently
            found = LogisticRegression(C=REGULARISATION, max_iter=1_000).fit(embeddings_ND, target_N)
        return found.coef_.astype(np.float32), found.intercept_.astype(np.float32)

    if given.several:
        everywhere = [name for name, share in zip(given.labels, given.marks_NC.mean(axis=0), strict=True) if share == 1]
        if everywhere:
            raise DataError(f"--labels: every text has the label {everywhere[0]!r}, so that nothing tells when it is right; leave it out")
        parts = [fit(given.marks_NC[:, label]) for label in range(len(given.labels))]
        weight_CD, bias_C = (np.concatenate(side) for side in zip(*parts, strict=True))
    else:
        weight_CD, bias_C = fit(given.marks_NC.argmax(axis=1))
        if len(given.labels) == 2:  # one row, for the second label against the first
            weight_CD, bias_C = (np.concatenate([np.zeros_like(side), side]) for side in (weight_CD, bias_C))
    return Head(given.labels, given.several, weight_CD, bias_C)
