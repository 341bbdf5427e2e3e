"""Where candidate words come from: a word head, neighbours among captioned images, or words through a text tower."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fistful.bow.embeddings import Embeddings, check_features
from fistful.bow.pseudo import Candidates, logs_of, mean_of, stacked, top_words, vote
from fistful.bow.ragged import Ragged
from fistful.bow.store.files import atomic_file, read_json, write_json
from fistful.bow.store.folders import local_file
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.vocabulary import Vocabulary
from fistful.errors import DataError
from fistful.training import neighbours
from fistful.training.neighbours import Keys

from ..embedding import DECIMALS, one_thread

if TYPE_CHECKING:
    from fistful.training.model.encoder import Encoder

Source = Literal["head", "knn", "prompts"]

TEMPLATES = ("a photo of {c}.", "a photo of a {c}.")
"""What is said of a word to a text tower that reads sentences; one that reads bags of words is told the word alone."""
PROMPTED = 50_000
"""Words that are said to the text tower, the most frequent: of rarer ones a calibration knows nothing."""
ROWS = 256
"""Images compared with all words at a time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbours:
    """How captioned images vote."""

    k: int
    temperature: float


@dataclasses.dataclass(frozen=True, slots=True)
class Captioned:
    """The captioned images that vote: features by each model, with an index of them where they are many, and their bags."""

    keys: tuple[Keys, ...]
    bags: Ragged


@dataclasses.dataclass(frozen=True, slots=True)
class Prompted:
    """A model's words: their text features, and what is added to their logits."""

    features_VD: np.ndarray
    """float32, rows of length 1, times the model's scale."""
    bias_V: np.ndarray
    """float32: the logarithm of the word's share of bags, less its mean logit over captioned images."""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What sources need beside the images' embeddings; None where it is not asked for."""

    captioned: Captioned | None = None
    prompted: tuple[Prompted, ...] | None = None


def candidates_of(source: Source, embeddings: Sequence[Embeddings], known: Known, voting: Neighbours) -> Candidates:
    """Return what a source says of images: the logarithm of the mean, over models, of each word's share.

    Args:
        source: Which.
        embeddings: The images by each model.
        known: What the source needs.
        voting: knn: how it votes.

    Raises:
        DataError: If one model refuses an image that another takes.
    """
    if any(one.keys != embeddings[0].keys for one in embeddings):
        raise DataError("--model: the models take different images, expected that all take all; an encoder of your own refuses some")
    if source == "head":
        found = [Candidates(one.candidates.words, np.exp(one.candidates.scores)) for one in embeddings]
    elif source == "knn":
        assert known.captioned is not None
        found = []
        for one, keys in zip(embeddings, known.captioned.keys, strict=True):
            rows, cosines = keys.nearest_but_copies(one.features, voting.k)
            found.append(vote(rows, cosines, known.captioned.bags, voting.temperature))
    else:
        assert known.prompted is not None
        found = [_prompted(one, words) for one, words in zip(embeddings, known.prompted, strict=True)]
    mean = mean_of(found)
    return Candidates(mean.words, logs_of(mean.scores))


def copied_words(images_ND: np.ndarray, keys: Keys, bags: Ragged) -> Ragged:
    """Return the words of the captioned image nearest to each image, copies of it left out."""
    rows = keys.nearest_but_copies(images_ND, 1)[0][:, 0]
    found = bags.pick(np.maximum(rows, 0))
    return found.take((rows >= 0)[found.rows()])


def _prompted(embeddings: Embeddings, words: Prompted) -> Candidates:
    """Return the words of largest share: a softmax over all words of scaled cosine, less its mean, plus the word's log share of bags."""
    import torch

    features, words_DV, bias_V = (torch.from_numpy(np.array(a)) for a in (embeddings.features, words.features_VD.T, words.bias_V))
    parts = []
    with one_thread():
        for start in range(0, len(features), ROWS):
            shares = torch.addmm(bias_V, features[start : start + ROWS], words_DV).softmax(dim=1)
            parts.append(top_words(shares.numpy()))
    found = stacked(parts)
    return Candidates(found.words, np.exp(found.scores))


# What is computed once, written, and read by every worker


def save_known(folder: Path, known: Known) -> None:
    """Write what sources need where every worker can map it into memory."""
    arrays: dict[str, np.ndarray] = {}
    if known.captioned is not None:
        arrays |= {"offsets": known.captioned.bags.offsets, "words": known.captioned.bags.values}
        arrays |= {f"features-{i}": keys.rows_MD for i, keys in enumerate(known.captioned.keys)}
    for i, words in enumerate(known.prompted or ()):
        arrays |= {f"prompts-{i}": words.features_VD, f"bias-{i}": words.bias_V}
    for name, array in arrays.items():
        with atomic_file(folder, f"{name}.npy") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)  # pyright: ignore[reportArgumentType]


def load_known(folder: Path, indices: Path, sources: Sequence[Source], n_models: int) -> Known:
    """Map what `save_known` wrote, and the indices of neighbours."""

    def load(name: str) -> np.ndarray:
        with local_file(folder / f"{name}.npy") as place:
            return np.load(place, mmap_mode="r", allow_pickle=False)

    captioned = words = None
    if "knn" in sources:
        keys = tuple(_with_index(load(f"features-{i}"), indices / index_name(i)) for i in range(n_models))
        captioned = Captioned(keys, Ragged(load("offsets"), load("words")))
    if "prompts" in sources:
        words = tuple(Prompted(load(f"prompts-{i}"), load(f"bias-{i}")) for i in range(n_models))
    return Known(captioned, words)


def index_name(i: int) -> str:
    """Return what the index of the i-th model's neighbours is called."""
    return f"neighbours-{i}.faiss"


def _with_index(rows_MD: np.ndarray, path: Path) -> Keys:
    if len(rows_MD) <= neighbours.EXACT:
        return Keys(rows_MD)
    with local_file(path) as place:
        return Keys(rows_MD, neighbours.open_index(place))


def kept_keys(folder: Path, i: int, rows_MD: np.ndarray, k: int, made_of: str) -> tuple[Keys, float]:
    """Return the captioned images that vote, and the share of true neighbours that are found.

    Where they are too many to compare all, an index of them is written first, unless it lies there from the same images.

    Args:
        folder: Where indices lie.
        i: Number of the model.
        rows_MD: Features by it.
        k: Neighbours that will be looked for.
        made_of: Fingerprint of the images and their features.
    """
    if len(rows_MD) <= neighbours.EXACT:
        return Keys(rows_MD), 1.0
    about, path = {"made_of": made_of, "k": k, "recall_wanted": neighbours.RECALL}, folder / f"neighbours-{i}.json"
    if not path.exists() or {**read_json(path), "recall": None} != {**about, "recall": None}:
        path.unlink(missing_ok=True)
        index = neighbours.build_index(rows_MD)
        recall = neighbours.choose_probes(index, rows_MD, k)
        neighbours.save_index(folder, index_name(i), index)
        write_json(folder, path.name, {**about, "recall": round(recall, 6)})
    return _with_index(rows_MD, folder / index_name(i)), read_json(path)["recall"]


def texts_of(encoder: Encoder, vocabulary: Vocabulary) -> np.ndarray:
    """Return the text features of the vocabulary's words, float32 (n, d): the mean over templates, of length 1."""
    templates = TEMPLATES if encoder.context_length is not None else ("{c}",)
    words = vocabulary.words[:PROMPTED]
    total = np.zeros((len(words), 0))
    for template in templates:
        texts = [template.replace("{c}", word) for word in words]
        found = check_features(encoder.embed_texts(texts), texts, encoder.name, zeros_allowed=True).astype(np.float64)
        total = found if not total.size else total + found
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return np.round(np.divide(total, lengths, out=np.zeros_like(total), where=lengths > 0), DECIMALS).astype(np.float32)


def kept_texts(folder: Path, name: str, encoder: Encoder, vocabulary: Vocabulary) -> np.ndarray:
    """Return `texts_of` from FOLDER/NAME.npy, which is written first unless it says the same of this encoder and vocabulary."""
    words = sha256_hex(canonical_json(vocabulary.words[:PROMPTED]))
    about = {"encoder": encoder.fingerprint, "device": encoder.device, "words": words, "templates": [*TEMPLATES], "decimals": DECIMALS}
    path = folder / f"{name}.npy"
    if not (path.exists() and (folder / f"{name}.json").exists() and read_json(folder / f"{name}.json") == about):
        (folder / f"{name}.json").unlink(missing_ok=True)
        with one_thread(), atomic_file(folder, path.name) as file:
            np.save(file, texts_of(encoder, vocabulary), allow_pickle=False)  # pyright: ignore[reportArgumentType]
        write_json(folder, f"{name}.json", about)
    with local_file(path) as place:
        return np.load(place, allow_pickle=False)


def prompted_by(texts_VD: np.ndarray, scale: float, captioned_ND: np.ndarray, share_V: np.ndarray) -> Prompted:
    """Return a model's words, ready to be compared with images.

    Words differ in their mean cosine over all images, which says nothing of any one of them; their share of bags does.

    Args:
        texts_VD: Their text features.
        scale: What the model multiplies cosines by.
        captioned_ND: Features of captioned images, for the mean.
        share_V: Share of captioned images whose bag has each word.
    """
    mean_V = texts_VD.astype(np.float64) @ captioned_ND.mean(axis=0, dtype=np.float64)
    bias_V = np.log(np.maximum(share_V, 1 / (2 * len(captioned_ND)))) - scale * mean_V
    return Prompted(texts_VD * np.float32(scale), np.round(bias_V, DECIMALS).astype(np.float32))
