"""Retrieval, and where there is a vocabulary tagging, on captioned images that the model has not seen."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fistful.bow.embeddings import check_features
from fistful.bow.store.dead_letters import dead_letter_table
from fistful.bow.store.files import write_json
from fistful.bow.store.identity import canonical_json
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import Vocabulary
from fistful.errors import DataError, UsageError
from fistful.progress import progress_bar
from fistful.training.model.encoder import Encoder

from .checks import odd_pixels, of_any_set, seen_before
from .evaluate_config import EvaluateConfig
from .results import RANKS_SCHEMA, RETRIEVAL, WORDS_SCHEMA, kept_result, result_name
from .score import write_log
from .sets import duplicates
from .sets.caption_set import CaptionSet
from .sets.ready import ImageTally, Ready, check_refused, ready_images
from .tasks.coverage import Coverage
from .tasks.prompts import CAPTIONS
from .tasks.reranking import reranked
from .tasks.retrieval import RetrievalRanks, retrieval_figures, retrieval_ranks
from .tasks.tagging import KS, MIN_POSITIVE, by_frequency, tag_hits, tagging_figures, word_precision

NOTHING = np.empty((0, max(KS)))


def score_captions(
    folder: Path,
    model: str,
    encoder: Encoder,
    captions: CaptionSet,
    coverage: Coverage | None,
    training: np.ndarray | None,
    config: EvaluateConfig,
) -> list[dict[str, Any]]:
    """Evaluate one model on one set, unless that was done already; return CLIP_benchmark's retrieval result with ours inside it.

    Raises:
        DataError: If the set has too many bad images, or the model gives no numbers.
    """
    stem = result_name(model, captions.name, CAPTIONS)
    if (kept := kept_result(folder, stem, encoder.fingerprint)) is not None:
        return [kept]
    start = time.monotonic()
    words = None if captions.vocabulary is None else _shared_words(encoder, captions, captions.vocabulary)
    texts_s = time.monotonic() - start
    seen = _see(model, encoder, captions, words, config)
    check_refused(captions.name, seen.tally, config.max_bad_fraction)
    if not seen.images:
        first = "".join(f"; the first {letter.place}: {letter.detail}" for letter in seen.tally.letters[:1])
        raise DataError(f"{captions.folder}: has no captioned image that can be used ({len(seen.tally.letters)} refused{first})")
    images_s = time.monotonic() - start - texts_s
    own = [captions.captions[image.label] for image in seen.images]
    texts = [text for several in own for text in several]
    texts_MD = check_features(encoder.embed_texts(texts), texts, model, zeros_allowed=True)
    ranks = retrieval_ranks(seen.features, texts_MD, np.repeat(np.arange(len(own)), [len(several) for several in own]))
    again = _rerank(encoder, seen, (texts, texts_MD), ranks, config.rerank) if config.rerank else None
    tags, table = ({}, None) if words is None else _tags(words, seen, coverage)
    retrieval = retrieval_figures(ranks) | ({} if again is None else _reranked_figures(again, min(config.rerank, len(texts))))
    result = _result(model, encoder, captions, seen, (retrieval, tags), texts, training, config)
    write_table(folder, f"predictions/{stem}.parquet", _ranks_table(seen.images, ranks))
    if again is not None:
        write_table(folder, f"reranked/{stem}.parquet", _ranks_table(seen.images, again[0]))
    if table is not None:
        write_table(folder, f"words/{stem}.parquet", table)
    write_table(folder, f"dead_letters/{stem}.parquet", dead_letter_table(seen.tally.letters))
    write_json(folder, f"results/{stem}.json", result)
    write_log(folder, result_name(model, captions.name), config.half, seen.tally.looked_at, texts_s, images_s)
    return [result]


@dataclasses.dataclass(frozen=True, slots=True)
class _Words:
    """The words that the set knows, and the model's word head where it has one."""

    words: list[str]
    df: np.ndarray
    """In how many samples the set's vocabulary found each."""
    features: np.ndarray | None
    """(V, D) embeddings; None for a model with a word head."""
    columns: np.ndarray
    """In the word head."""
    place: dict[int, int]
    """Of an id among them."""
    frequent: np.ndarray
    """Places of the words that enough of the images have for an average precision."""


def _shared_words(encoder: Encoder, captions: CaptionSet, vocabulary: Vocabulary) -> _Words:
    column = {word: i for i, word in enumerate(encoder.words if encoder.words is not None else vocabulary.words)}
    ids = np.array([i for i, word in enumerate(vocabulary.words) if word in column], np.int64)
    if not len(ids):
        raise UsageError(f"{encoder.name}: its word head and the vocabulary of {captions.folder} have no word in common")
    often = Counter(word for row in captions.rows for word in captions.words[row])
    words = [vocabulary.words[i] for i in ids]
    frequent = np.array([k for k, i in enumerate(ids.tolist()) if often[i] >= MIN_POSITIVE], np.int64)
    features = None if encoder.word_scores is not None else encoder.embed_texts(words)
    columns, place = np.array([column[word] for word in words]), {i: k for k, i in enumerate(ids.tolist())}
    return _Words(words, vocabulary.df[ids], features, columns, place, frequent)


def _learnt(encoder: Encoder, captions: CaptionSet) -> list[str]:
    """Return a line if the model was trained on this very folder."""
    known = captions.digest in encoder.trained_on
    return (
        ["the model was trained on this folder: the scores say what it has kept, not what it would do with new pictures"] if known else []
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    images: list[Ready]
    """Without their pixels."""
    features: np.ndarray
    """(N, D)."""
    hits: np.ndarray
    """(N, K) whether each of the best words is in the captions."""
    n_true: np.ndarray
    """(N,) words of the captions."""
    scores: np.ndarray
    """(N, A) of the frequent words."""
    truth: np.ndarray
    """(N, A) whether the captions have them."""
    tally: ImageTally
    for_matching: np.ndarray
    """What the matching head knows of each image; nothing where nobody asks."""


def _see(model: str, encoder: Encoder, captions: CaptionSet, words: _Words | None, config: EvaluateConfig) -> _Seen:
    """Show a model the images once; of the scores of all words only those that figures need are kept."""
    tally, images, parts = ImageTally(), [], []
    stream = ready_images(captions.read(), encoder.prepare, config.half, tally, hashed=bool(config.trained_on))
    with progress_bar(f"{model} on {captions.name}", len(captions.rows), config.progress) as update:
        while batch := list(islice(stream, config.batch_size)):
            pixels = np.stack([image.pixels for image in batch])
            if not images:
                tally.notes += odd_pixels(encoder.preprocess, pixels)
            features_BD = check_features(encoder.embed_images(pixels), [image.name for image in batch], model, zeros_allowed=False)
            own = [captions.words[image.label] for image in batch] if words else []
            asked = _ask_words(encoder, words, own, pixels, features_BD) if words else [NOTHING] * 4
            parts.append((features_BD, *asked, encoder.matcher.images(pixels) if config.rerank else NOTHING))  # pyright: ignore
            images += [image._replace(pixels=np.empty(0, np.uint8)) for image in batch]
            update(len(images), f"{len(tally.letters)} refused")
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [NOTHING] * 6
    features, hits, n_true, scores, truth, for_matching = columns
    return _Seen(images, features, hits, n_true, scores, truth, tally, for_matching)


def _rerank(
    encoder: Any, seen: _Seen, texts: tuple[Sequence[str], np.ndarray], ranks: RetrievalRanks, k: int
) -> tuple[RetrievalRanks, int]:
    """Return the ranks by the matching head among the k nearest, and how many pairs it looked at."""
    read = encoder.matcher.read_texts(texts[0])
    return reranked(
        seen.features, texts[1], ranks, k, lambda pairs, cosines: encoder.matcher.scores(seen.for_matching, read, pairs, cosines)
    )


def _reranked_figures(again: tuple[RetrievalRanks, int], k: int) -> dict[str, Any]:
    figures = {f"reranked_{name}": value for name, value in retrieval_figures(again[0]).items()}
    return {**figures, "reranked_nearest": k, "reranked_passes": again[1]}


def _ask_words(
    encoder: Encoder, words: _Words, own: Sequence[list[int]], pixels: np.ndarray, features_BD: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return of some images what `_Seen` keeps: hits, the number of words, and scores and truth of the frequent words."""
    if encoder.word_scores is not None:
        scores_BV = encoder.word_scores(pixels)[:, words.columns]
    else:
        assert words.features is not None
        scores_BV = features_BD @ words.features.T
    truth_BV = np.zeros(scores_BV.shape, dtype=bool)
    for row, bag in enumerate(own):
        truth_BV[row, [words.place[i] for i in bag if i in words.place]] = True
    return tag_hits(scores_BV, truth_BV), truth_BV.sum(axis=1), scores_BV[:, words.frequent], truth_BV[:, words.frequent]


def _tags(words: _Words, seen: _Seen, coverage: Coverage | None) -> tuple[dict[str, Any], pa.Table]:
    """Return the figures of tagging, and a row a word."""
    precision_V = np.full(len(words.words), np.nan)
    precision_V[words.frequent] = word_precision(seen.scores, seen.truth)
    df_V = words.df if coverage is None else np.array([coverage.df.get(word, 0) for word in words.words])
    figures = tagging_figures(seen.hits, seen.n_true) | by_frequency(precision_V, df_V)
    known = words.frequent[~np.isnan(precision_V[words.frequent])]
    n = dict(zip(words.frequent.tolist(), seen.truth.sum(axis=0).tolist(), strict=True))
    columns = [[words.words[i] for i in known], df_V[known], [n[i] for i in known.tolist()], precision_V[known]]
    return figures, pa.table(dict(zip(WORDS_SCHEMA.names, columns, strict=True)), schema=WORDS_SCHEMA)


def _ranks_table(images: Sequence[Ready], ranks: RetrievalRanks) -> pa.Table:
    own = np.split(ranks.captions, np.cumsum(np.bincount(ranks.image_of_caption))[:-1])
    columns = [[image.name for image in images], [image.sha256 for image in images], [image.source for image in images]]
    return pa.table(dict(zip(RANKS_SCHEMA.names, [*columns, ranks.images, [o.tolist() for o in own]], strict=True)), schema=RANKS_SCHEMA)


def _result(
    model: str,
    encoder: Encoder,
    captions: CaptionSet,
    seen: _Seen,
    figures: tuple[dict[str, Any], dict[str, Any]],
    texts: Sequence[str],
    training: np.ndarray | None,
    config: EvaluateConfig,
) -> dict[str, Any]:
    tally, names = seen.tally, [image.name for image in seen.images]
    retrieval, tags = figures
    n_cut = encoder.n_cut(list(texts))
    near = None if training is None else duplicates.near(np.array([image.phash for image in seen.images], np.uint64), training)
    cut = [f"{n_cut} of {len(texts)} captions are cut off by the context of {encoder.context_length}"] if n_cut else []
    return {
        "dataset": captions.name,
        "model": model,
        "pretrained": encoder.fingerprint[:16],
        "task": RETRIEVAL,
        "language": "en",
        "metrics": {"n": len(names), **retrieval, **{f"tags_{key}": value for key, value in tags.items()}},
        "prompts": CAPTIONS,
        "tags_by": None if captions.vocabulary is None else "text tower" if encoder.word_scores is None else "word head",
        "half": config.half,
        "n_in": tally.n_in,
        "n_captions": len(texts),
        "other_half": tally.other_half,
        "refused": dict(sorted(Counter(letter.reason for letter in tally.letters).items())),
        "content": tally.digest.hexdigest(),
        "model_fingerprint": encoder.fingerprint,
        "saw_imagenet_labels": encoder.saw_imagenet_labels,
        "image_size": encoder.image_size,
        "near_duplicates": None if near is None else int(near.sum()),
        "taken": list(captions.taken),
        "warnings": [
            *captions.warnings,
            *cut,
            *_learnt(encoder, captions),
            *repeated_captions(captions),
            *of_any_set(encoder, tally),
            *seen_before(names, near),
        ],
    }


def repeated_captions(captions: CaptionSet) -> list[str]:
    """Return a line if images share all of their captions: retrieval cannot tell those apart."""
    often = Counter(canonical_json(sorted(captions.captions[row])) for row in captions.rows)
    shared = sum(n for n in often.values() if n > 1)
    line = f"{shared} of {len(captions.rows)} images have the very captions of another: retrieval cannot tell them apart"
    return [line] if shared else []
