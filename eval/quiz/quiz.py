"""`quiz`: models in, what their text towers can tell apart out.

Each model's vectors of words and short texts are computed once; every task is learnt from a few of them and asked of others.
Models that an interrupted run has finished are not asked again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from fistful.bow.lexicon import make_lexicon, read_relations
from fistful.bow.sequences import N_SEQUENCES, sequences
from fistful.bow.store.file_names import file_name, tell_apart
from fistful.bow.store.files import hash_file, local_out, read_json, write_json
from fistful.bow.store.identity import semantic_values
from fistful.bow.store.manifest import claim, finish
from fistful.bow.store.model_folder import find_folder
from fistful.bow.store.tables import read_table, write_table
from fistful.bow.tasks import LEAST, MOST_SHARE, N_ATOMS, N_COMPOSED, Task, atoms, composed
from fistful.bow.vocabulary import FILE
from fistful.errors import UsageError
from fistful.progress import progress_bar
from fistful.training.device import choose_device, device_named
from fistful.training.model.encoder import Encoder, texts_or
from fistful.training.model.load import load_encoder
from fistful.wording import counted

from ..evaluate import model_name
from ..tasks.coverage import Coverage, read_coverage
from ..tasks.prompts import class_words
from .ask import FIGURES_SCHEMA, ask, embed, random_vectors
from .own_table import read_own_table, table_tasks, without_unknown
from .quiz_config import WORDNET, QuizConfig
from .results import SUMMARY, TASKS, tasks_table
from .summary import RANDOM, by_kind, by_task, comparisons, figures_of, main_sizes
from .trials import Quiz, make_quiz

FORMAT = 1
"""Version of quiz.json."""
LEAST_DF = 5
"""Samples that have a word, at least: of rarer ones no model has learnt."""
MOST_WORDS = 10_000
DEFAULTS = QuizConfig()


def quiz(*models: str, out: str | Path, config: QuizConfig = DEFAULTS) -> Path:
    """Say what text towers can tell apart: over 200 tasks about words, each learnt from a few examples.

    Args:
        models: Run folders, model folders, open_clip local folders, or `module:function` specs.
        out: Folder for the results.
        config: How.

    Returns:
        The folder: quiz.json, tasks.parquet, and in figures/ a table and a note of each model.

    Raises:
        UsageError: If the call is at fault, or a model has no text tower.
        DataError: If a folder or a table is broken.
    """
    if not models:
        raise UsageError("quiz: no MODEL given; expected run folders, model folders, or package.module:function")
    folder = local_out(out)
    config = dataclasses.replace(config, device=choose_device(config.device))
    encoders = [load_encoder(spec, config.device) for spec in models]
    for encoder in encoders:
        with texts_or("leave it out: a quiz asks text towers"):
            encoder.embed_texts(["red"])
    coverage = _coverage(models[0], config)
    asked, notes = _own(config, coverage) if config.tasks != WORDNET else _of_vocabulary(models[0], config, coverage)
    inputs = {
        "models": [encoder.fingerprint for encoder in encoders],
        "vocabulary": coverage.fingerprint if coverage else None,
        "tasks": read_relations().fingerprint if config.tasks == WORDNET else hash_file(Path(config.tasks))["sha256"],
    }
    if claim(folder, "quiz", _identity(config), inputs):
        return folder
    labels = tell_apart([model_name(encoder.name) for encoder in encoders])
    write_table(folder, TASKS, tasks_table(asked))
    with progress_bar("quiz", (len(asked.texts) + len(asked.questions)) * (len(labels) + 1), config.progress) as update:
        found = _ask_all(folder, asked, dict(zip(labels, encoders, strict=True)), config, update)
    figures = [figures_of(name, figure_table, len(asked.questions)) for name, figure_table, _ in found]
    summary = {
        "format": FORMAT,
        "own_table": config.tasks != WORDNET,
        "n_words": len(asked.words),
        "n_tasks": len(asked.questions),
        "notes": notes,
        "models": [about for _, _, about in found],
        "main_k": main_sizes(asked),
        "kinds": by_kind(asked, figures),
        "tasks": by_task(asked, figures),
        "comparisons": comparisons(asked, figures),
    }
    write_json(folder, SUMMARY, summary)
    finish(folder, {}, {})
    return folder


def _identity(config: QuizConfig) -> dict[str, Any]:
    """Return the semantic fields; of files only the name, for their content is among the inputs."""
    values = device_named(semantic_values(config))
    values["tasks"] = Path(config.tasks).name
    values["vocabulary"] = None if config.vocabulary is None else Path(config.vocabulary).name
    return values


def _ask_all(
    folder: Path, asked: Quiz, encoders: dict[str, Encoder], config: QuizConfig, update: Callable[[int, str], None]
) -> list[tuple[str, pa.Table, dict[str, Any]]]:
    """Return of each model, and of random vectors, its name, its figures and what should be known of it."""
    done, found = 0, []

    def step(n: int = 1) -> None:
        nonlocal done
        done += n
        update(done, label)

    for place, label in enumerate((*encoders, RANDOM), start=1):
        stem = f"figures/{file_name(label)}"
        if not (folder / f"{stem}.json").exists():
            if label == RANDOM:
                vectors, about = random_vectors(asked.texts), {"model": RANDOM, "fingerprint": None, "warnings": []}
            else:
                vectors, warnings = _vectors(encoders[label], asked, step)
                about = {"model": label, "fingerprint": encoders[label].fingerprint, "warnings": warnings}
            with threadpool_limits(1):  # matrices of a few hundred rows: more threads wait for each other, and round differently
                answered = ask(asked, vectors, config.seed, step)
            write_table(folder, f"{stem}.parquet", answered)
            write_json(folder, f"{stem}.json", about)  # last: it says that the table is there
        found.append((label, read_table(folder / f"{stem}.parquet", FIGURES_SCHEMA), read_json(folder / f"{stem}.json")))
        done = place * (len(asked.texts) + len(asked.questions))
        update(done, label)
    return found


def _vectors(encoder: Encoder, asked: Quiz, step: Callable[[int], None]) -> tuple[np.ndarray, list[str]]:
    vectors_TD, n_cut = embed(encoder, asked.texts, step)
    n_texts, unknown = len({*asked.texts}), int((np.abs(vectors_TD[: len(asked.words)]).max(axis=1) == 0).sum())
    lines = [f"{n_cut:,} of {n_texts:,} texts are cut off by its context of {encoder.context_length}"] if n_cut else []
    lines += [f"knows nothing of {unknown:,} of the {len(asked.words):,} words"] if unknown else []
    return vectors_TD, lines


def _coverage(model: str, config: QuizConfig) -> Coverage | None:
    """Read the vocabulary that is asked about; None where there is none."""
    if config.vocabulary is not None:
        path = Path(config.vocabulary)
        return read_coverage(str(path / "model" if not (path / FILE).is_file() and (path / "model" / FILE).is_file() else path))
    folder = find_folder(model)
    return read_coverage(str(folder)) if folder is not None and (folder / FILE).is_file() else None


def _of_vocabulary(model: str, config: QuizConfig, coverage: Coverage | None) -> tuple[Quiz, list[str]]:
    """Make the tasks of a vocabulary's words, and say what they are about."""
    where = config.vocabulary or model
    if coverage is None:
        raise UsageError(f"quiz: {model} has no vocabulary of its own; give --vocabulary FOLDER, which fistful count or bags wrote")
    frequent = [word for word, df in coverage.df.items() if df >= LEAST_DF]
    lexicon = make_lexicon(frequent, read_relations(), MOST_WORDS)
    parts = atoms(lexicon, config.seed)
    tasks = [*parts, *composed(parts, config.seed), *sequences(parts, config.seed)]
    asked = make_quiz(lexicon.words, lexicon.groups, tasks, config.seed)
    known = f"{len(lexicon.words):,} of the {counted(len(frequent), 'word')} of {where} that {LEAST_DF} or more samples have"
    if not asked.questions:
        raise UsageError(
            f"quiz: WordNet's table knows {known}, too few for a task, which takes {LEAST} that have a property among "
            f"{round(LEAST / MOST_SHARE)}; give --vocabulary FOLDER of more captions, or words of your own with --tasks TABLE.tsv"
        )
    return asked, [f"{counted(len(asked.questions), 'task')} about {known}", *_fewer(asked, tasks)]


def _fewer(asked: Quiz, tasks: Sequence[Task]) -> list[str]:
    """Say why there are fewer tasks than were wanted."""
    wanted = N_ATOMS + N_COMPOSED + N_SEQUENCES
    why = []
    if len(tasks) < wanted:
        why.append(f"the words give only {counted(len(tasks), 'task')} that are neither too small, too large nor alike")
    if asked.left_out:
        why.append(f"{counted(len(asked.left_out), 'task has', 'tasks have')} too few examples on a side of a split")
    return [f"fewer than {wanted} tasks: {'; '.join(why)}"] if why else []


def _own(config: QuizConfig, coverage: Coverage | None) -> tuple[Quiz, list[str]]:
    """Make the tasks of a table of the user's own."""
    own, notes = read_own_table(config.tasks), []
    if coverage is not None:
        df, options = coverage.df, coverage.options

        def is_known(words: list[str]) -> list[bool]:
            return [bool(of_one) and all(word in df for word in of_one) for of_one in class_words(words, options)]

        own, notes = without_unknown(own, is_known, config.tasks)
    tasks, groups = table_tasks(own, config.tasks, config.seed, notes)
    if coverage is None:
        notes = ["no vocabulary to look its words up in; --vocabulary FOLDER leaves out those that it lacks"]
    asked = make_quiz(own.words, groups, tasks, config.seed)
    if not asked.questions:
        raise UsageError(f"--tasks {config.tasks}: its words share lemmas, so that a side of a split has too few; add words")
    n = f"{counted(len(asked.questions), 'task')} about the {counted(len(own.words), 'word')} of {config.tasks}"
    return asked, [n, *notes, *([f"{len(asked.left_out):,} left out: too few examples on a side of a split"] if asked.left_out else [])]
