"""`fistful distill`: any text encoder and captions in, a student that reads n-grams out.

The chain: count the n-grams of the captions, let the teacher embed the captions (as `fistful embed` does), let the student learn.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.ngrams import NgramReader, NgramTable
from fistful.bow.store import manifest
from fistful.bow.store.files import hash_file, local_out, read_json, write_bytes
from fistful.bow.store.identity import canonical_json, semantic_values, sha256_hex
from fistful.bow.store.index import unit_name
from fistful.bow.store.plain_text import read_lines
from fistful.bow.tokens import check_language
from fistful.errors import DataError, UsageError
from fistful.training.device import choose_device, device_named
from fistful.training.student_options import StudentOptions
from fistful.training.text_labels import Head, TextLabels, fit_head, read_text_labels

from .embed import EmbedConfig, EmbedOptions, embed
from .engine.job import DataJob, job_on_captions
from .engine.stage import Running, check_out
from .ngrams import EXCLUDED, NgramJob, count_ngrams, photo_named
from .read.plan import PlanOptions
from .read.sources import SourceOptions

LABELLED_MB = 4_000.0
"""A unit of labelled texts, all of them: a table that somebody labelled."""

if TYPE_CHECKING:
    from fistful.training.model.encoder import Encoder

NGRAMS, TEACHER, LABELLED, LESSONS = "logs/ngrams", "logs/teacher", "logs/labelled", "logs/lessons"
"""What the student is made of; in logs/, since it may be deleted, and another place of the embeddings changes no byte of the student."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """Options of `fistful distill`."""

    plan: PlanOptions = PlanOptions()
    source: SourceOptions = SourceOptions()
    student: StudentOptions = StudentOptions()
    running: Running = Running()


def distill(model: str, *captions: str, out: str | Path, config: DistillConfig | None = None) -> Path:
    """Make a student of a text encoder: the mean of n-gram embeddings in its space, which runs without torch.

    Args:
        model: The teacher: run folder, model folder, open_clip folder, or module:function, as fistful.load_encoder takes it.
        captions: Files (TSV, CSV, JSONL, tar, each also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        out: Folder to write: model/ (the student), metrics.jsonl, manifest.json; what it is made of lies in logs/.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault, or the teacher has no text tower.
        DataError: If too many rows are refused, no caption has a word, or nothing was learnt.
        Interrupted: After SIGTERM or SIGINT while the student learns, with a checkpoint.
    """
    config = config or DistillConfig()
    if config.running.units:
        raise UsageError("--units: distill learns from all captions together, so it cannot be run in parts; use --workers")
    check_language(config.student.language)
    device = choose_device(config.student.device)
    threads = config.student.threads or len(os.sched_getaffinity(0))
    config = dataclasses.replace(config, student=dataclasses.replace(config.student, device=device, threads=threads))
    folder, exclude = local_out(out), _read_exclude(config.student.exclude)
    check_out(folder, captions)
    labels = read_text_labels(config.student.labels) if config.student.labels else None
    teacher = _load_teacher(model)
    job = NgramJob(_with_photo(config), config.student.language, config.student.ngrams, exclude, config.student.photo)
    asked = _ngrams_asked(captions, folder, job, config)
    if manifest.claim(folder, "distill", *_identity(config, exclude, asked, teacher), write=not config.running.dry_run):
        return folder
    counted = count_ngrams(asked, job, config.student.table, config.student.hashed)
    embeddings = _embed_captions(captions, model, folder, config)
    if counted is None:
        return folder
    units = [embeddings / unit_name("embeddings", number, "parquet") for number in range(len(asked.units))]
    labelled = None if labels is None else _fit_head(folder, labels, model, config)
    return _learn(folder, config, teacher, counted, (units, labelled))


def _load_teacher(model: str) -> Encoder:
    """Return the teacher; one without a text tower says so here, before anything is read."""
    from fistful.training.model.load import load_encoder

    teacher = load_encoder(model, "cpu")  # what embeds is loaded by the workers
    try:
        teacher.embed_texts(["word"])
    except UsageError as error:
        better = "a run of --objective contrastive or joint, or an open_clip folder"
        raise UsageError(f"{error}; a student needs a teacher that embeds texts: {better}") from error
    return teacher


def _read_exclude(path: str) -> tuple[str, ...]:
    if not path:
        return ()
    names = {photo_named(line.strip()) for line in read_lines(path, f"--exclude {path}", "a text file, a photo a line")} - {""}
    if not names:
        raise UsageError(f"--exclude {path}: is empty, expected a photo a line")
    return tuple(sorted(names))


def _with_photo(config: DistillConfig) -> SourceOptions:
    """Return where captions stand, and what names their photos."""
    return dataclasses.replace(config.source, columns=config.student.photo) if config.student.photo else config.source


def _ngrams_asked(captions: tuple[str, ...], folder: Path, job: NgramJob, config: DistillConfig) -> DataJob:
    """Return the job that counts n-grams, which is named by what its table depends on alone."""
    asked = job_on_captions("ngrams", captions, folder / NGRAMS, dataclasses.replace(config, source=job.source))
    options = {name: getattr(config.student, name) for name in ("ngrams", "table", "hashed", "language", "photo")}
    values = {**semantic_values(config.plan), **semantic_values(config.source), **options, "exclude": _digest(job.exclude)}
    return dataclasses.replace(asked, values=values)


def _digest(exclude: tuple[str, ...]) -> str:
    return sha256_hex(canonical_json(list(exclude))) if exclude else ""


def _identity(config: DistillConfig, exclude: tuple[str, ...], asked: DataJob, teacher: Encoder) -> tuple[dict[str, Any], Any]:
    labels = hash_file(Path(config.student.labels))["sha256"] if config.student.labels else ""
    values = device_named({**semantic_values(config), "exclude": _digest(exclude), "labels": labels})
    return values, {**asked.inputs, "encoder": teacher.fingerprint}


def _embed_captions(captions: tuple[str, ...], model: str, folder: Path, config: DistillConfig) -> Path:
    """Let the teacher embed the captions, or find that it has."""
    place = config.student.embeddings
    try:
        return embed(*captions, model=model, out=place or folder / TEACHER, config=_embed_config(config))
    except UsageError as error:
        raise UsageError(str(error).replace("another --out", "another --embeddings") if place else str(error)) from None


def _embed_config(config: DistillConfig) -> EmbedConfig:
    options = EmbedOptions(what="captions", device=config.student.device)
    return EmbedConfig(plan=config.plan, source=config.source, embed=options, running=config.running)


def _fit_head(folder: Path, given: TextLabels, model: str, config: DistillConfig) -> tuple[Head, Path]:
    """Let the teacher embed the labelled texts, and fit a head to them; return it, and the embeddings' file.

    Raises:
        DataError: If a text is refused.
    """
    write_bytes(folder, f"{LABELLED}/texts.jsonl", "".join(json.dumps({"caption": text}) + "\n" for text in given.texts).encode())
    options = dataclasses.replace(_embed_config(config), plan=PlanOptions(unit_mb=LABELLED_MB), source=SourceOptions())
    made = embed(str(folder / LABELLED / "texts.jsonl"), model=model, out=folder / LABELLED / "teacher", config=options)
    path = made / unit_name("embeddings", 0, "parquet")
    embeddings_ND = np.load(path.with_suffix(".npy"))
    if len(embeddings_ND) != len(given.texts):
        raise DataError(f"--labels {config.student.labels}: {made / 'dead_letters'} has texts that cannot be read; mend or remove them")
    return fit_head(embeddings_ND, given), path


def _learn(
    folder: Path,
    config: DistillConfig,
    teacher: Encoder,
    counted: tuple[NgramTable, dict[str, Any]],
    made: tuple[list[Path], tuple[Head, Path] | None],
) -> Path:
    """Let the student learn from the teacher's embeddings of captions; a classifier from those of labelled texts too."""
    from fistful.training.learn_student import StudentJob, learn_student
    from fistful.training.lessons import read_lessons
    from fistful.training.model.student import StudentLineage

    options, (units, labelled), (table, stats) = config.student, made, counted
    head, more = (None, []) if labelled is None else (labelled[0], [labelled[1]])
    excluded = [folder / NGRAMS / unit_name(EXCLUDED, number, "parquet") for number in range(len(units)) if options.exclude]
    reader = NgramReader(options.language, options.ngrams)
    lessons, texts = read_lessons([*units, *more], excluded, table, reader, folder / LESSONS)
    if not len(lessons.shown):
        raise DataError(f"{folder}: none of {stats['captions']:,} captions is left to learn from: the teacher knows no word of any")
    lineage = StudentLineage(
        config_id=manifest.read_config(folder)["id"],
        teacher=teacher.fingerprint,
        logit_scale=teacher.logit_scale,
        word_options=dataclasses.asdict(reader.options),
        ngrams=options.ngrams,
        hashed=options.hashed,
        labels=head.labels if head else [],
        several=head.several if head else False,
    )
    return learn_student(
        StudentJob(
            run=folder,
            options=options,
            lessons=lessons,
            table=table,
            texts=texts,
            lineage=lineage,
            content=read_json(folder / NGRAMS / manifest.MANIFEST)["input_content"],
            head=head,
            progress=config.running.progress,
        )
    )
