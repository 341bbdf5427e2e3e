"""The promised classifier: one's own images, one's own class names.

`load(MODEL).classify(images, names)` in Python, `fistful classify MODEL IMAGES --names FILE` on the
command line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from fistful.bow.embeddings import check_features
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.files import check_above, write_own_file
from fistful.bow.store.identity import check_numbers, execution, semantic
from fistful.bow.store.images import decode_image
from fistful.bow.store.model_folder import find_folder
from fistful.bow.vocabulary import FILE as VOCABULARY
from fistful.bow.vocabulary import read_vocabulary
from fistful.bow.words import WordOptions
from fistful.errors import DataError, UsageError
from fistful.pipelines.read.pictures import read_picture
from fistful.pipelines.read.source_options import SourceOptions
from fistful.progress import progress_bar
from fistful.terminal import show_in_line
from fistful.training.device import Device
from fistful.training.model.encoder import Encoder, check_pictures, texts_or
from fistful.training.model.load import load_encoder
from fistful.training.model.student import StudentEncoder
from fistful.wording import counted, some, table

from ..sets.class_names import ClassName, alike, heard, read_table
from . import zeroshot
from .classifier import Classifier, build_classifiers
from .coverage import ClassCover, cover_classes, read_word_options
from .own_images import Lost, OwnImage, find_images, unpacked
from .prompts import build_prompts, check_prompts, options_for

FORMATS = (".csv", ".jsonl")
SHOWN = 50
"""Images in the table for a terminal; the file has all of them."""
PATH_LETTERS = 48
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet's formula begins with."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyConfig:
    """How images are classified."""

    prompts: str = semantic("name")
    """Prompt set: name, bag, openai80, simple7, head, or a file of templates with {c}."""
    synonyms: bool = semantic(False)
    """Average the prompts over a class's other names too (column `words` of the names table)."""
    top: int = semantic(3)
    """Classes given for an image."""
    threshold: float = semantic(0.0)
    """Smallest probability of the best class; below it the answer is none of these."""
    device: Device = semantic("auto")
    """Where to compute; auto: a GPU if there is one. A function of your own decides by itself."""
    batch_size: int = execution(64)
    """Images a batch."""
    images_root: str = execution("")
    """Folder that names of images in a table start from; without it the table's own folder, or one beside it."""
    progress: bool = execution(True)
    """Show a progress bar."""

    def __post_init__(self) -> None:
        check_prompts((self.prompts,))
        if self.prompts == "set":
            raise UsageError("--prompts set: one's own images bring no templates; a file of them does, such as 'a photo of a {c}.'")
        if self.top < 1:
            raise UsageError(f"--top {self.top}: expected 1 or more")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold {self.threshold}: expected a probability, 0 to 1")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size}: expected 1 or more")
        check_numbers(self)


DEFAULTS = ClassifyConfig()


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What an image is taken for."""

    image: str
    """Its path, or what the table calls it that names it."""
    name: str | None
    """The best class; None for none of these, or for an image that cannot be read."""
    probability: float | None
    """Of the best class among those named (softmax over the scores); None for an image that cannot be read."""
    top: list[tuple[str, float]]
    """The best classes with their probabilities, best first."""
    error: str | None = None
    """Why the image cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to classify and to embed."""

    encoder: Encoder = dataclasses.field(repr=False)

    def classify(self, images: Iterable[str | Path], names: Iterable[str], config: ClassifyConfig = DEFAULTS) -> list[Answer]:
        """Say which of some classes each image shows.

        Args:
            images: Image files, in a list or in whatever yields them.
            names: Class names, two or more, that differ in more than case and blanks.
            config: How.

        Returns:
            An answer an image, in their order.

        Raises:
            UsageError: If the images or the names are at fault.
        """
        paths = [] if isinstance(images, str | Path) else list(images)  # may be an iterator, which is used up once
        if isinstance(images, str | Path) or not all(isinstance(image, str | Path) for image in paths):
            raise UsageError("images: expected a list of paths of image files")
        own = [OwnImage(str(path), Path(path)) for path in paths]
        return list(answers(self.encoder, own, _check_names(_check_call(names), "names"), config))

    def embed_images(self, images: Iterable[str | Path | bytes], batch_size: int = 64) -> np.ndarray:
        """Return the embeddings of images, float32 (n, d) of length 1, in their order.

        Args:
            images: Image files, by path or as their bytes.
            batch_size: Images that are held in memory at once.

        Raises:
            UsageError: If they are no list of images.
            DataError: If one cannot be read; the message names it.
        """
        if isinstance(images, str | Path | bytes):
            raise UsageError(f"images: expected a list of paths or of bytes, found one {type(images).__name__}")
        stream, parts, at = iter(images), [], 0
        while batch := list(islice(stream, batch_size)):
            names = [f"images[{at + i}]" if isinstance(image, bytes) else str(image) for i, image in enumerate(batch)]
            pixels = np.stack([_pixels(self.encoder, image, name) for image, name in zip(batch, names, strict=True)])
            parts.append(check_features(self.encoder.embed_images(pixels), names, self.encoder.name, zeros_allowed=True))
            at += len(batch)
        if not parts:
            raise UsageError("images: is empty, expected one image or more")
        return np.concatenate(parts)

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        """Return the embeddings of texts, float32 (n, d) of length 1, in their order; zeros for one without a word that the model knows.

        Raises:
            UsageError: If they are no list of texts, or the model has no text tower.
        """
        given = _list_of_texts(texts)
        return check_features(self.encoder.embed_texts(given), given, self.encoder.name, zeros_allowed=True)

    def label_texts(self, texts: Iterable[str]) -> list[dict[str, float]]:
        """Return the probability of each label for each text, by a classifier that `fistful distill --labels` made.

        Raises:
            UsageError: If they are no list of texts, or the model is no such classifier.
        """
        given = _list_of_texts(texts)
        if not isinstance(self.encoder, StudentEncoder):
            raise UsageError(f"{self.encoder.name}: knows no labels of texts; fistful distill --labels TSV makes a classifier")
        return self.encoder.label_texts(given)


def _list_of_texts(texts: Iterable[str]) -> list[str]:
    given = [texts] if isinstance(texts, str) else list(texts)
    if isinstance(texts, str) or not given or not all(isinstance(text, str) for text in given):
        raise UsageError("texts: expected a list of one text or more")
    return given


def _pixels(encoder: Encoder, image: str | Path | bytes, name: str) -> np.ndarray:
    """Return an image as the model takes it."""
    try:
        return encoder.prepare(decode_image(image if isinstance(image, bytes) else read_picture(os.path.abspath(image))))
    except Refused as refused:
        raise DataError(f"{name}: cannot be read ({refused.reason}: {refused.detail})") from None


def load(model: str | Path, device: Device = "auto") -> LoadedModel:
    """Load a run folder, a model folder or an open_clip folder to classify and to embed, onto a GPU if there is one.

    Raises:
        UsageError: If there is no model.
    """
    return LoadedModel(load_encoder(str(model), device))


def classify(model: str, *images: str, names: str, out: str | Path | None = None, config: ClassifyConfig = DEFAULTS) -> list[Answer]:
    """Classify images of one's own.

    Args:
        model: Run folder, model folder, open_clip local folder, or `module:function`.
        images: Image files, folders, globs, tables that name images, and tars and parquet files that hold them.
        names: File with one class name on each line, or a TSV or CSV with a column name.
        out: CSV or JSONL file to write, by its ending; None for none.
        config: How.

    Returns:
        An answer an image, by path.

    Raises:
        UsageError: If the call is at fault.
        DataError: If none of the images can be read.
    """
    if out is not None and (Path(out).suffix not in FORMATS or Path(out).is_dir()):
        raise UsageError(f"--out {out}: expected a file that ends in {' or '.join(FORMATS)}")
    if out is not None:
        check_above(out)
    lost: list[Lost] = []
    own = find_images(images, lost=lost, options=SourceOptions(images_root=config.images_root))
    named = read_table(Path(names))
    classes = _check_names(named.classes, f"--names {names}")
    encoder, found = load_encoder(model, config.device), []
    check_pictures(encoder)
    for line in (named.taken, *never_learnt(model, classes, synonyms=config.synonyms)):
        print(line, file=sys.stderr)
    packed = any(not isinstance(one, OwnImage) for one in own)  # whose images nobody has counted
    with progress_bar("classify", 0 if packed else len(own), config.progress) as update:
        for answer in answers(encoder, unpacked(own), classes, config):
            found.append(answer)
            update(len(found), "")
    found += [_unread(*one) for one in lost]
    if out is not None:
        _write(Path(out), found)
    if all(answer.error for answer in found):
        others = f", nor can the other {len(found) - 1}" if len(found) > 1 else ""
        raise DataError(f"{found[0].image}: cannot be read ({found[0].error}){others}; expected at least one image that can")
    return found


def _unread(image: str, error: str) -> Answer:
    return Answer(image, None, None, [], error)


def _check_names(classes: Sequence[ClassName], where: str) -> Sequence[ClassName]:
    if len(classes) < 2:
        raise UsageError(f"{where}: found {len(classes)} names, expected two or more")
    if twice := [group for group in alike(classes) if len({entry.name for entry in group}) == 1]:
        raise UsageError(f"{where}: found {', '.join(repr(group[0].name) for group in twice[:3])} more than once, expected each name once")
    if same := alike(classes):
        names = " and ".join(repr(entry.name) for entry in same[0])
        raise UsageError(f"{where}: found {names}, which are one text to a model; expected names that differ in more than case and blanks")
    return classes


def _check_call(names: Iterable[str]) -> list[ClassName]:
    """Check the names that a call in Python gave."""
    if isinstance(names, str):
        raise UsageError(f"names: found the string {names!r}, expected a list of class names")
    given = list(names)
    for place, name in enumerate(given, start=1):
        if not isinstance(name, str) or not heard(name):
            raise UsageError(f"names: found {name!r} in place {place}, expected a class name")
    return [ClassName(str(i), name) for i, name in enumerate(given)]


def never_learnt(model: str, classes: Sequence[ClassName], *, synonyms: bool = False) -> list[str]:
    """Say of which names a model of ours met some words only, or none, in training; [] where all were met, or nobody knows."""
    folder = find_folder(model)
    if folder is None or not (folder / VOCABULARY).is_file():
        return []
    said = [dataclasses.replace(entry, name=name) for entry in classes for name in entry.names(synonyms)]
    covers: dict[str, list[ClassCover]] = {}
    for cover in cover_classes(said, dict.fromkeys(read_vocabulary(folder).words, 1.0), read_word_options(folder)):
        covers.setdefault(cover.folder, []).append(cover)
    best = {entry.name: min(covers[entry.folder], key=lambda c: ("all", "some", "none").index(c.cover)) for entry in classes}
    lines = []
    for kind, much in (("none", "no word"), ("some", "not every word")):
        lost = [f"{name} ({' '.join(c.missing)})" for name, c in best.items() if c.cover == kind]
        lines += [f"{model}: learnt {much} of {some(lost)}"] if lost else []
    return lines


def answers(encoder: Encoder, images: Iterable[OwnImage], classes: Sequence[ClassName], config: ClassifyConfig) -> Iterator[Answer]:
    """Classify images batch by batch; one that cannot be read gets an answer that says why."""
    names = [entry.name for entry in classes]
    options = options_for(encoder, WordOptions())
    prompts = build_prompts(config.prompts, classes, own=[], options=options, synonyms=config.synonyms)
    with texts_or("--prompts head asks its word head"):
        (classifier,) = build_classifiers(encoder, [prompts], classes)
    stream = iter(images)
    while batch := list(islice(stream, config.batch_size)):
        read = [_read(encoder, image.source) for image in batch]
        fine = [(image.name, pixels) for image, pixels in zip(batch, read, strict=True) if isinstance(pixels, np.ndarray)]
        judged = iter(_judge(encoder, classifier, fine, names, config))
        for image, pixels in zip(batch, read, strict=True):
            yield _unread(image.name, pixels) if isinstance(pixels, str) else next(judged)


def _read(encoder: Encoder, source: Path | bytes | Refused) -> np.ndarray | str:
    try:
        if isinstance(source, Refused):
            raise source
        return encoder.prepare(decode_image(read_picture(os.path.abspath(source)) if isinstance(source, Path) else source))
    except Refused as refused:
        return f"{refused.reason}: {refused.detail}"


def _judge(
    encoder: Encoder, classifier: Classifier, fine: list[tuple[str, np.ndarray]], names: Sequence[str], config: ClassifyConfig
) -> list[Answer]:
    if not fine:
        return []
    paths, pixels = [name for name, _ in fine], np.stack([pixels for _, pixels in fine])
    if classifier.prompts == "head":
        assert encoder.word_scores is not None
        scores_NC = zeroshot.head_scores(encoder.word_scores(pixels), classifier.weights)
    else:
        scores_NC = zeroshot.class_scores(
            check_features(encoder.embed_images(pixels), paths, encoder.name, zeros_allowed=False), classifier.weights
        )
    odds_NC = np.exp(scores_NC.astype(np.float64) - scores_NC.max(axis=1, keepdims=True))
    shares_NC = odds_NC / odds_NC.sum(axis=1, keepdims=True)
    best_NK = np.argsort(-scores_NC, axis=1, kind="stable")[:, : config.top]
    found = []
    for path, shares, best in zip(paths, shares_NC, best_NK, strict=True):
        top = [(names[int(i)], round(float(shares[i]), 4)) for i in best]
        found.append(Answer(path, top[0][0] if shares[best[0]] >= config.threshold else None, top[0][1], top))
    return found


def _write(path: Path, answered: Sequence[Answer]) -> None:
    """Write answers as CSV (a row an image) or JSONL, whole or not at all."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n" for answer in answered)
    else:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["image", "name", "probability", "top", "error"])
        for answer in answered:
            top = "; ".join(f"{name} {share:.4f}" for name, share in answer.top)
            texts = [_cell(text) for text in (answer.image, answer.name or "", top, answer.error or "")]
            writer.writerow([*texts[:2], "" if answer.probability is None else answer.probability, *texts[2:]])
        text = buffer.getvalue()
    write_own_file(path, text, "surrogateescape")


def _cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    Source:
        OWASP, "CSV Injection": an apostrophe before a cell that begins with one of these.
    """
    return f"'{text}" if text.startswith(FORMULA) else text


def answers_table(answered: Sequence[Answer]) -> str:
    """Return answers as a plain-text table for a terminal, and below it how many images each class got."""
    rows = [("image", "is", "the best, with their probabilities")]
    for answer in answered[:SHOWN]:
        rest = answer.error or ", ".join(f"{name} {share:.0%}" for name, share in answer.top)
        rows.append((_end(answer.image), _called(answer), rest))
    lines = table(rows, left=range(3))
    lines += [f"and {len(answered) - SHOWN:,} more images"] if len(answered) > SHOWN else []
    often = Counter(map(_called, answered)).most_common()
    names = ", ".join(f"{n:,} {show_in_line(name)}" for name, n in often[:SHOWN])
    lines.append(f"{counted(len(answered), 'image')}: {names}")
    return "\n".join(lines) + "\n"


def _called(answer: Answer) -> str:
    return answer.name or ("not readable" if answer.error else "none of these")


def _end(path: str) -> str:
    """Return the end of a long path: that is where images differ."""
    return path if len(path) <= PATH_LETTERS else "…" + path[1 - PATH_LETTERS :]
