"""`evaluate_captions`: retrieval and tagging on captioned images, from data folders that `fistful bags` wrote."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.store.config import execution, semantic, semantic_values
from fistful.bow.store.dead_letters import DeadLetter, dead_letter_table
from fistful.bow.store.files import local_out, write_json
from fistful.bow.store.index import read_index
from fistful.bow.store.manifest import claim, fingerprint, finish
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import Vocabulary, read_vocabulary
from fistful.errors import DataError, UsageError
from fistful.eval.classifier import check_features
from fistful.eval.datasets import Sample
from fistful.eval.images import Half, Tally, ready_images
from fistful.eval.results import SUMMARY, read_results, result_name
from fistful.eval.retrieval import retrieval_recall
from fistful.eval.run import FORMAT, model_name, tell_apart
from fistful.eval.shards import image_bytes
from fistful.eval.tagging import tagging_figures
from fistful.training.encoder import Encoder, load_encoder


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CaptionsConfig:
    """How models are evaluated on captioned images."""

    half: Half = semantic("all")
    """Which half of each set, by hash of the image."""
    batch_size: int = execution(256)
    """Images a batch."""

    def __post_init__(self) -> None:
        if self.half not in ("all", "dev", "test"):
            raise UsageError(f"--half {self.half}: expected all, dev or test")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size}: expected 1 or more")


DEFAULTS = CaptionsConfig()


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionSet:
    """A data folder as evaluation sees it."""

    folder: Path
    index: dict[str, list[Any]]
    vocabulary: Vocabulary

    def samples(self) -> Iterator[Sample]:
        """Yield the images; a sample's label is its row in the index."""
        columns = (self.index[name] for name in ("key", "image_offset", "image_size", "source"))
        for row, (key, offset, size, source) in enumerate(zip(*columns, strict=True)):
            if size and self.index["captions"][row]:
                yield Sample(key, image_bytes(self.folder, key, offset, size), row, source or "")


def evaluate_captions(*models: str, data: tuple[str, ...], out: str | Path, config: CaptionsConfig = DEFAULTS) -> Path:
    """Say how well models match images and captions, and images and words.

    Args:
        models: As for `evaluate`.
        data: Data folders that `fistful bags` wrote, of captions that the models have not seen.
        out: Folder for the results.
        config: How.

    Returns:
        The folder: results.json, results/*.json (a result each, as CLIP_benchmark writes retrieval), dead_letters/.

    Raises:
        UsageError: If the call is at fault.
        DataError: If a set has no captioned image, or a model gives no numbers.
    """
    if not models or not data:
        raise UsageError("evaluate: expected at least one model, and at least one data folder with --data")
    folder = local_out(out)
    sets = [CaptionSet(Path(d), _index(Path(d)), read_vocabulary(Path(d))) for d in data]
    names = tell_apart([s.folder.absolute().name for s in sets])
    encoders = [load_encoder(spec) for spec in models]
    inputs = {"models": [e.fingerprint for e in encoders], "data": [fingerprint(s.folder) for s in sets]}
    if claim(folder, "evaluate captions", semantic_values(config), inputs):
        return folder
    labels = tell_apart([model_name(encoder.name) for encoder in encoders])
    summary, content = [], {}
    for label, encoder in zip(labels, encoders, strict=True):
        for name, caption_set in zip(names, sets, strict=True):
            result, letters = score_captions(label, encoder, name, caption_set, config)
            stem = result_name(label, name, "captions")
            write_table(folder, f"dead_letters/{stem}.parquet", dead_letter_table(letters))
            write_json(folder, f"results/{stem}.json", result)
            summary.append(result)
            content[name] = result["content"]
    write_json(folder, SUMMARY, {"format": FORMAT, "results": summary, "comparisons": []})
    finish(folder, {}, content)
    return folder


def _index(folder: Path) -> dict[str, list[Any]]:
    columns = ["key", "captions", "words", "source", "image_offset", "image_size", "pseudo"]
    found = read_index(folder).select(columns).to_pydict()
    if any(found["pseudo"]):
        raise UsageError(f"{folder}: holds pseudo-labels; expected captions that people wrote")
    return found


def score_captions(
    model: str, encoder: Encoder, name: str, caption_set: CaptionSet, config: CaptionsConfig
) -> tuple[dict[str, Any], list[DeadLetter]]:
    """Evaluate one model on one set; return CLIP_benchmark's retrieval result with ours inside its metrics, and what was refused."""
    words = _shared_words(encoder, caption_set.vocabulary)
    seen = _see(model, encoder, caption_set, words, config)
    captions = [caption_set.index["captions"][row] for row in seen.rows]
    texts = [text for several in captions for text in several]
    captions_MD = check_features(encoder.embed_texts(texts), texts, model, zeros_allowed=True)
    figures = retrieval_recall(seen.images, captions_MD, np.repeat(np.arange(len(captions)), [len(several) for several in captions]))
    truth = _truth([caption_set.index["words"][row] for row in seen.rows], words.ids, len(caption_set.vocabulary))
    tags = tagging_figures(seen.scores, truth, caption_set.vocabulary.df[words.ids])
    n_cut = encoder.n_cut(texts)
    result = {
        "dataset": name,
        "model": model,
        "pretrained": encoder.fingerprint[:16],
        "task": "zeroshot_retrieval",
        "language": "en",
        "metrics": figures | {f"tags_{key}": value for key, value in tags.items()},
        "tags_by": "prompts" if encoder.word_scores is None else "head",
        "half": config.half,
        "n_in": seen.tally.n_in,
        "other_half": seen.tally.other_half,
        "n_captions": len(texts),
        "refused": dict(sorted(Counter(letter.reason for letter in seen.tally.letters).items())),
        "content": seen.tally.digest.hexdigest(),
        "model_fingerprint": encoder.fingerprint,
        "warnings": [f"{n_cut} of {len(texts)} captions are cut off by the context of {encoder.context_length}"] if n_cut else [],
    }
    return result, seen.tally.letters


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    rows: list[int]
    """Of the index, an image each."""
    images: np.ndarray
    """(N, D) features."""
    scores: np.ndarray
    """(N, V) of the words: from the word head, or as prompts."""
    tally: Tally


def _see(model: str, encoder: Encoder, caption_set: CaptionSet, words: _Words, config: CaptionsConfig) -> _Seen:
    """Show a model the images once."""
    tally, features, scores, rows = Tally(), [], [], []
    stream = ready_images(caption_set.samples(), encoder.prepare, config.half, tally)
    while batch := list(islice(stream, config.batch_size)):
        pixels = np.stack([image.pixels for image in batch])
        features.append(check_features(encoder.embed_images(pixels), [image.name for image in batch], model, zeros_allowed=False))
        if encoder.word_scores is not None:
            scores.append(encoder.word_scores(pixels)[:, words.columns])
        rows += [image.label for image in batch]
    if not rows:
        raise DataError(f"{caption_set.folder}: has no captioned image that can be used ({len(tally.letters)} refused)")
    images_ND = np.concatenate(features)
    return _Seen(rows, images_ND, np.concatenate(scores) if scores else images_ND @ encoder.embed_texts(words.words).T, tally)


@dataclasses.dataclass(frozen=True, slots=True)
class _Words:
    words: list[str]
    ids: np.ndarray
    """In the set's vocabulary."""
    columns: np.ndarray
    """In the model's word head; the same as ids where it has none."""


def _shared_words(encoder: Encoder, vocabulary: Vocabulary) -> _Words:
    """Return the words that both the set and the model's word head know; the set's where there is no head."""
    if encoder.words is None:
        ids = np.arange(len(vocabulary))
        return _Words(list(vocabulary.words), ids, ids)
    column = {word: i for i, word in enumerate(encoder.words)}
    shared = [(i, column[word]) for i, word in enumerate(vocabulary.words) if word in column]
    if not shared:
        raise UsageError(f"{encoder.name}: its word head and the data folder's vocabulary have no word in common")
    ids, columns = (np.array(part) for part in zip(*shared, strict=True))
    return _Words([vocabulary.words[i] for i in ids], ids, columns)


def _truth(bags: list[list[int]], ids: np.ndarray, n_words: int) -> np.ndarray:
    """Return which of the words (N, V) each image's captions have, boolean."""
    truth = np.zeros((len(bags), n_words), dtype=bool)
    for row, bag in enumerate(bags):
        truth[row, np.array(bag, dtype=np.int64)] = True
    return truth[:, ids]


def captions_table(folder: str | Path) -> str:
    """Return the results as a plain-text table for a terminal."""
    head = ["model", "data", "image R@1", "R@5", "R@10", "text R@1", "R@5", "R@10", "tags P@3", "AP macro", "images"]
    names = [f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 5, 10)] + ["tags_precision@3", "tags_ap_macro"]
    rows = [head]
    for result in read_results(folder):
        figures = result["metrics"]
        percents = ["-" if figures[name] is None else f"{100 * figures[name]:.1f}" for name in names]
        used = result["n_in"] - result["other_half"] - sum(result["refused"].values())
        rows.append([result["model"], result["dataset"], *percents, str(used)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))) + "\n"
        for row in rows
    )
