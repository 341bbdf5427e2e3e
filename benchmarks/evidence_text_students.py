"""Students that label texts: from scratch, taught by a teacher's probabilities, and tuned on labels afterwards; and linear rivals.

A draw has 3,000 labelled texts, of which 500 choose among settings and are learnt from by none.
Shape suffixes: N texts, C labels, D numbers of an embedding.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fistful.bow import student
from fistful.bow.ngrams import FILE, NgramReader, NgramTable, read_ngrams
from fistful.bow.ragged import Ragged
from fistful.bow.store.model_folder import FOLDER
from fistful.training.learn_student import BETAS, EPSILON, WEIGHT_DECAY, Net, StudentJob, make_learner
from fistful.training.lessons import Lessons, read_lessons
from fistful.training.model.student import StudentLineage
from fistful.training.student_options import StudentOptions
from fistful.training.surroundings import torch_settings
from fistful.training.text_labels import Head, TextLabels, fit_head

from .evidence_text_data import Task

LABELLED, CHOOSING, BATCH = 3_000, 500, 64
SCRATCH = ((1e-3, 100.0), (1e-3, 10.0))
"""Learning rates of the layers, and the table's in those: settings of a student that learns from labels alone."""
TUNING = ((3e-4, 10.0), (1e-4, 10.0))
SCRATCH_EPOCHS, TUNING_EPOCHS = 10, 4
STRENGTHS = (1.0, 10.0, 100.0)
"""scikit-learn's C of the line on TF-IDF."""


@dataclasses.dataclass(frozen=True, slots=True)
class Draw:
    """A task's texts as one seed deals them: places in the task."""

    task: Task
    learn: np.ndarray
    choose: np.ndarray
    test: np.ndarray

    def given(self) -> TextLabels:
        """Return the texts that are learnt from, with their labels."""
        return TextLabels([self.task.texts[i] for i in self.learn.tolist()], self.task.labels, self.task.marks_NC[self.learn])

    def score(self, logits_NC: np.ndarray, places: np.ndarray) -> float:
        """Return micro-F1 of texts with several labels, else accuracy: 0 to 1."""
        truth_NC = self.task.marks_NC[places]
        if not self.task.several:
            return float(truth_NC[np.arange(len(places)), logits_NC.argmax(axis=1)].mean())
        said_NC = logits_NC > 0
        return float(2 * (said_NC & truth_NC).sum() / (said_NC.sum() + truth_NC.sum()))


def draw(task: Task, seed: int) -> Draw:
    """Deal a task's texts: those for evaluation stay the same, of the others some are labelled."""
    pool = np.random.default_rng(seed).permutation(np.flatnonzero(~task.is_test))[:LABELLED]
    return Draw(task, pool[CHOOSING:], pool[:CHOOSING], np.flatnonzero(task.is_test))


def exchange(text: str, seed: int) -> str:
    """Return a text with two of its longer words exchanged, which are drawn; the same text where there are no two different ones."""
    words = text.split()
    longer = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not longer:
        return text
    first, *others = np.random.default_rng(seed).permutation(longer).tolist()
    second = next((i for i in others if words[i].lower() != words[first].lower()), first)
    words[first], words[second] = words[second], words[first]
    return " ".join(words)


# n-grams


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """N-grams of one length, of the captions and of a task's texts."""

    longest: int
    table: NgramTable
    lessons: Lessons
    reader: NgramReader

    def rows(self, texts: list[str]) -> Ragged:
        """Return the rows of texts."""
        return self.table.finder().rows(self.reader.keys(pa.array(texts, pa.string())))

    def among(self, captions: np.ndarray) -> Ground:
        """Return the same with fewer captions to learn from."""
        shown = self.lessons.shown[np.isin(self.lessons.shown, captions)]
        return dataclasses.replace(self, lessons=dataclasses.replace(self.lessons, shown=shown))


def lay_ground(made: Path, options: StudentOptions, units: list[Path], excluded: list[Path], cache: Path) -> Ground:
    """Return the n-grams of a student that embeds, and what the teacher says of the captions that have them.

    Args:
        made: The student's run folder.
        options: Its own.
        units: The teacher's embeddings.
        excluded: The samples that are left out.
        cache: A folder to write.
    """
    table, reader = read_ngrams(made / FOLDER / FILE, options.hashed), NgramReader(options.language, options.ngrams)
    lessons, _ = read_lessons(units, excluded, table, reader, cache)
    return Ground(options.ngrams, table, lessons, reader)


def teach(ground: Ground, head: Head, options: StudentOptions, seed: int) -> Net:
    """Let a classifier learn a teacher's probabilities on all captions, as `fistful distill --labels` does."""
    options = dataclasses.replace(options, seed=seed)
    lineage = StudentLineage(
        config_id="", teacher="", logit_scale=1.0, word_options={}, ngrams=ground.longest, hashed=options.hashed, labels=head.labels
    )
    with torch_settings(options.threads, seed, options.device):
        job = StudentJob(Path(), options, ground.lessons, ground.table, [], lineage, {}, head, progress=False)
        learner = make_learner(job)
        queue_QD = learner.queue()
        while learner.step < job.n_steps:
            _, queue_QD = learner.learn(queue_QD)
    return learner.net


def start(ground: Ground, task: Task, options: StudentOptions, seed: int) -> Net:
    """Return a student before its first step."""
    torch.manual_seed(seed)
    return Net(ground.table.n_rows, options.dim, len(task.labels))


def learn_labels(net: Net, ground: Ground, dealt: Draw, settings: tuple[tuple[float, float], ...], epochs: int, seed: int) -> Net:
    """Let a student learn from labels; of all settings and epochs, none included, the one that is best on CHOOSING texts.

    Args:
        net: Where it starts; stays as it is.
        ground: Its n-grams.
        dealt: The texts.
        settings: Learning rates of the layers, and the table's in those.
        epochs: How often each text is shown at most.
        seed: Of the order.
    """
    best, found = dealt.score(_logits(net, ground, dealt, dealt.choose), dealt.choose), net
    rows = ground.rows([dealt.task.texts[i] for i in dealt.learn.tolist()])
    marks_NC = torch.from_numpy(dealt.task.marks_NC[dealt.learn]).float()
    for rate, times in settings:
        trial = copy.deepcopy(net)
        optimizers = _optimizers(trial, rate, times)
        rng = np.random.default_rng(seed)
        for _ in range(epochs):
            for part in np.array_split(rng.permutation(len(rows)), -(-len(rows) // BATCH)):
                said_BC = _said(trial, rows.pick(part))
                loss = (
                    binary_cross_entropy_with_logits(said_BC, marks_NC[part], reduction="sum") / len(part)
                    if dealt.task.several
                    else cross_entropy(said_BC, marks_NC[part])
                )
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
            score = dealt.score(_logits(trial, ground, dealt, dealt.choose), dealt.choose)
            if score > best:
                best, found = score, copy.deepcopy(trial)
    return found


def _optimizers(net: Net, rate: float, times: float) -> list[torch.optim.Optimizer]:
    layers = [*net.hidden.parameters(), *net.out.parameters()]
    dense = torch.optim.AdamW(layers, lr=rate, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY)
    return [dense, torch.optim.SparseAdam([net.table.weight], lr=times * rate, betas=BETAS, eps=EPSILON)]


def _said(net: Net, rows: Ragged) -> torch.Tensor:
    return net(torch.from_numpy(rows.values).long(), torch.from_numpy(rows.offsets[:-1]).long())


@torch.no_grad()
def _logits(net: Net, ground: Ground, dealt: Draw, places: np.ndarray) -> np.ndarray:
    return _said(net, ground.rows([dealt.task.texts[i] for i in places.tolist()])).numpy()


def score_net(net: Net, ground: Ground, dealt: Draw) -> float:
    """Return a student's score on the texts for evaluation, as numpy computes it from the table in float16."""
    rows = ground.rows([dealt.task.texts[i] for i in dealt.test.tolist()])
    return dealt.score(student.outputs(net.weights(), rows), dealt.test)


# Linear heads


def score_linear(embeddings_ND: np.ndarray, dealt: Draw) -> tuple[float, Head]:
    """Return the score of a linear head on embeddings of the task's texts, as `--labels` fits it, and the head."""
    head = fit_head(embeddings_ND[dealt.learn], dealt.given())
    return dealt.score(embeddings_ND[dealt.test] @ head.weight_CD.T + head.bias_C, dealt.test), head


def score_tfidf(dealt: Draw) -> float:
    """Return the score of a linear layer on TF-IDF of words and pairs of words, of the strength that is best on CHOOSING texts."""
    texts, marks_NC = np.array(dealt.task.texts, object), dealt.task.marks_NC
    reader = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)  # the default drops letters
    learnt, asked = reader.fit_transform(texts[dealt.learn]), {name: getattr(dealt, name) for name in ("choose", "test")}
    found = []
    for strength in STRENGTHS:
        columns = range(marks_NC.shape[1]) if dealt.task.several else (None,)
        targets = [marks_NC[dealt.learn].argmax(axis=1) if label is None else marks_NC[dealt.learn, label] for label in columns]
        models = [LogisticRegression(C=strength, max_iter=1_000).fit(learnt, target) for target in targets]
        scores = {}
        for name, places in asked.items():
            logits = [model.decision_function(reader.transform(texts[places])) for model in models]
            scores[name] = dealt.score(np.stack(logits, axis=1) if dealt.task.several else logits[0], places)
        found.append(scores)
    return max(found, key=lambda scores: scores["choose"])["test"]
