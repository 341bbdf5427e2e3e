"""What is learnt from and what is asked: each task split by groups of words, several times.

Words of one group (a lemma, a synset) are on one side of a split, so that nothing is learnt of "cat" that is asked of "cats".
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fistful.bow.draw import draw_share, mix_all
from fistful.bow.lexicon import Answers
from fistful.bow.sequences import ORDERS, make_texts
from fistful.bow.tasks import Predicate, Relation, Task, TextTask

SIZES = (16, 64, 256)
"""Examples that are learnt from: of predicates and texts half of each label."""
N_SPLITS = 5
MOST_TESTED = 512
"""Words that are asked, at most."""
TEXTS_TESTED = 256
"""Texts that are asked, at most: each must be embedded."""
LEAST_TESTED = 5
"""Words of each label, or questions, on the other side of a split."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """A task with one split. Numbers are rows of `Quiz.texts`."""

    train: np.ndarray
    """Examples, the first K of which are learnt from; labels in turn."""
    labels: np.ndarray
    """1 or -1 of each; empty for a relation."""
    test: np.ndarray
    test_labels: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A task, ready to be asked."""

    task: Task
    sizes: tuple[int, ...]
    """Of SIZES those that every split has enough examples for."""
    trials: tuple[Trial, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Quiz:
    """All that is asked of every model."""

    words: list[str]
    texts: list[str]
    """What is embedded: the words, then the texts of several words."""
    questions: list[Question]
    left_out: list[str]
    """Tasks that no split has enough examples of."""


def make_quiz(words: Sequence[str], groups: np.ndarray, tasks: Sequence[Task], seed: int) -> Quiz:
    """Split each task, and write the texts of those about several words.

    Args:
        words: N words.
        groups: (N,) of each word, which others it stays with.
        tasks: What is asked.
        seed: Of splits, of texts and of which examples are taken.
    """
    sides = [draw_share(groups, 0.5, int(mix_all(0x53504C49, seed, split) >> np.uint64(1))) for split in range(N_SPLITS)]
    texts: list[str] = [*words]
    questions, left_out = [], []
    for number, task in enumerate(tasks):
        salt = int(mix_all(0x5155495A, seed, number) >> np.uint64(1))
        trials = []
        for split, side in enumerate(sides):
            if isinstance(task, Predicate):
                trials.append(_of_predicate(task.members, side, salt + split))
            elif isinstance(task, Relation):
                trials.append(_of_relation(task.answers, side, salt + split))
            else:
                trials.append(_of_texts(task, words, side, salt + split, texts))
        sizes = tuple(k for k in SIZES if all(len(trial.train) >= k and _enough(trial) for trial in trials))
        if sizes:
            questions.append(Question(task, sizes, tuple(trials)))
        else:
            left_out.append(str(task))
    return Quiz([*words], texts, questions, left_out)


def _enough(trial: Trial) -> bool:
    if len(trial.labels):
        return min((trial.test_labels == label).sum() for label in (1, -1)) >= LEAST_TESTED
    return len(trial.test) >= LEAST_TESTED


def _shuffled(numbers: np.ndarray, seed: int) -> np.ndarray:
    return numbers[np.argsort(mix_all(0x45584D50, seed, numbers), kind="stable")]


def _of_predicate(members: np.ndarray, side: np.ndarray, seed: int) -> Trial:
    yes, no = (_shuffled(np.flatnonzero(side & mask), seed) for mask in (members, ~members))
    n = min(len(yes), len(no), max(SIZES) // 2)
    train = np.stack([yes[:n], no[:n]], axis=1).ravel()
    tested = [_shuffled(np.flatnonzero(~side & mask), seed)[: MOST_TESTED // 2] for mask in (members, ~members)]
    labels = np.concatenate([np.full(len(part), label) for part, label in zip(tested, (1, -1), strict=True)])
    return Trial(train, np.tile([1, -1], n), np.concatenate(tested), labels)


def _of_relation(answers: Answers, side: np.ndarray, seed: int) -> Trial:
    asked = _shuffled(np.array(sorted(answers), np.int64), seed)
    none = np.zeros(0, np.int64)
    return Trial(asked[side[asked]][: max(SIZES)], none, asked[~side[asked]][:MOST_TESTED], none)


def _of_texts(task: TextTask, words: Sequence[str], side: np.ndarray, seed: int, texts: list[str]) -> Trial:
    parts = []
    for which, n in ((side, max(SIZES)), (~side, TEXTS_TESTED)):
        made = make_texts(task, words, which, n, seed)
        parts += [len(texts) + np.arange(len(made.texts)), made.labels]
        texts += made.texts
    return Trial(*parts)


def by_order(question: Question) -> bool:
    """Return whether rows 2 i and 2 i + 1 of its examples are one bag in two orders."""
    return isinstance(question.task, TextTask) and question.task.rule in ORDERS


def most_frequent(asked: np.ndarray, answers: Answers) -> int:
    """Return the answer that is right for most of some questions, of equals the more frequent word."""
    times = Counter(to for i in asked.tolist() for to in answers[i])
    return min(times, key=lambda word: (-times[word], word))
