"""Encoders made of towers: our own run folders, and any open_clip folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.nn.functional import normalize

from fistful.bow.store.files import read_json
from fistful.bow.store.model_folder import CONFIG_FILE, OWN_FILE, WEIGHTS_FILE, fingerprint_of, is_tuned, read_open_clip_config
from fistful.bow.words import Analyzer, WordOptions
from fistful.errors import DataError, UsageError

from ..resize_and_crop import fit, fit_of
from .encoder import NoTextTower
from .export import Exported, read_model
from .matching import Completer, Matcher
from .model import Model, normalise, square_size
from .tokens import TokenTexts, in_passes
from .tuned import read_tuned

LEAST_IDF = 0.1
"""Least weight that the head's probabilities are divided by: what nine pictures of ten have is hardly learnt, and by its own weight
it would be all that a picture shows."""


def on_images(
    function: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray, preprocess: dict[str, Any], width: int, device: str
) -> np.ndarray:
    """Normalise uint8 (n, H, W, 3) and return the function's float32 (n, width)."""
    mean, std = preprocess["mean"], preprocess["std"]
    return in_passes(lambda part: function(normalise(part, mean, std).contiguous()), torch.from_numpy(images), width, device)


@dataclasses.dataclass(slots=True)
class TowerEncoder:
    """The one encoder of this module: fields say what it has, functions what its towers compute."""

    name: str
    fingerprint: str
    image_size: int
    context_length: int | None
    saw_imagenet_labels: bool | None
    preprocess: dict[str, Any]
    dim: int
    image_function: Callable[[torch.Tensor], torch.Tensor]
    """float32 (ROWS, 3, H, W), normalised -> (ROWS, dim) of length 1."""
    text_function: Callable[[list[str]], np.ndarray]
    """texts -> float32 (n, dim) of length 1."""
    cut_function: Callable[[list[str]], int]
    words: list[str] | None = None
    word_scores: Callable[[np.ndarray], np.ndarray] | None = None
    word_shares: Callable[[np.ndarray], np.ndarray] | None = None
    both: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    """`embed_images` and `word_shares` in one pass; None without a word head."""
    logit_scale: float = 100.0
    warnings: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    word_options: WordOptions | None = None
    device: str = "cpu"
    matcher: Matcher | None = None
    """Whether texts fit pictures, pair by pair; None for a model that did not learn it."""
    completer: Completer | None = None
    """Which words pictures have beside those that are known; None for a model that did not learn it."""
    known_words: tuple[str, ...] = ()
    """The words that `completer` has columns for."""

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture to uint8 (H, W, 3), as open_clip does for evaluation."""
        return fit(image, fit_of(self.preprocess, self.image_size))

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (n, d) of length 1 for uint8 (n, H, W, 3)."""
        return on_images(self.image_function, images, self.preprocess, self.dim, self.device)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, d) of length 1; of length 0 for a text without one known word (words tower)."""
        return self.text_function(texts)

    def n_cut(self, texts: list[str]) -> int:
        """Return how many of the texts are longer than the context and lose their end."""
        return self.cut_function(texts)


def own_encoder(folder: Path, name: str, device: str = "cpu", base: str = "") -> TowerEncoder:
    """Load a model/ folder that fistful train wrote, onto a device; of a tuned model `base` says where the one lies that it was made of."""
    exported = read_tuned(folder, name, base) if is_tuned(folder) else read_model(folder)
    return encoder_of(exported, folder, name, device)


def encoder_of(exported: Exported, folder: Path, name: str, device: str = "cpu") -> TowerEncoder:
    """Return the encoder of a model that was read from a folder, on a device."""
    exported = exported.to(device)
    model, shape, lineage = exported.model, exported.model.shape, exported.lineage
    text, cut, context = _text_side(exported, name, device)
    preprocess = read_json(folder / OWN_FILE)["preprocess_cfg"]
    dim = shape.model_cfg["embed_dim"] if shape.text_tower else model.n_channels
    heads = _heads(exported, preprocess, dim, device) if shape.head else {}
    return TowerEncoder(
        name=name,
        fingerprint=fingerprint_of(folder),
        image_size=square_size(shape),
        context_length=context,
        saw_imagenet_labels=lineage.saw_imagenet_labels,
        preprocess=preprocess,
        dim=dim,
        image_function=model.encode_image,
        text_function=text,
        cut_function=cut,
        words=exported.words if shape.head else None,
        **heads,
        logit_scale=float(model.scale_parameter.detach().exp()),
        trained_on=tuple(lineage.data),
        word_options=WordOptions(**lineage.word_options),
        device=device,
        **_readers(exported, text, preprocess, device),
    )


def _readers(exported: Exported, text: Callable[[list[str]], np.ndarray], preprocess: dict[str, Any], device: str) -> dict[str, Any]:
    """Return what reads texts with their pictures, as far as the model has learnt to."""
    model, fusion = exported.model, exported.model.fusion
    if fusion is None:
        return {}
    assert isinstance(text, (TokenTexts, _BagTexts))
    read = (lambda texts: text.tokens(texts).numpy()) if isinstance(text, TokenTexts) else text.ids

    def on(function: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray, width: int) -> np.ndarray:
        return on_images(function, images, preprocess, width, device)

    weights_V = torch.from_numpy(1 / np.maximum(exported.idf_V, LEAST_IDF)).to(device)
    completes = fusion.predictor is not None and not fusion.shape.hides_all
    return {
        "matcher": Matcher(model, read, on, device) if fusion.match is not None else None,
        "completer": Completer(model, weights_V, on, device) if completes else None,
        "known_words": tuple(exported.words) if completes else (),
    }


def _heads(exported: Exported, preprocess: dict[str, Any], dim: int, device: str) -> dict[str, Any]:
    """Return what the word head says of images."""
    model, n, mean_V, std_V = exported.model, exported.model.shape.n_words, exported.head_mean, exported.head_std
    assert mean_V is not None
    assert std_V is not None
    weights_V = torch.from_numpy(1 / np.maximum(exported.idf_V, LEAST_IDF)).to(device)

    def standardised(images: torch.Tensor) -> torch.Tensor:
        return (_logits(model, model.channels(images)) - mean_V) / std_V

    def shares(images: torch.Tensor) -> torch.Tensor:
        return _shares(model, model.channels(images), weights_V)

    def features_and_shares(images: torch.Tensor) -> torch.Tensor:
        channels_BC, features_BD = model.image_both(images)
        features_BD = features_BD if model.shape.text_tower else normalize(channels_BC, dim=-1)
        return torch.cat([features_BD, _shares(model, channels_BC, weights_V)], dim=1)

    def on(function: Callable[[torch.Tensor], torch.Tensor], width: int) -> Callable[[np.ndarray], np.ndarray]:
        return functools.partial(on_images, function, preprocess=preprocess, width=width, device=device)

    both = on(features_and_shares, dim + n)
    return {"word_scores": on(standardised, n), "word_shares": on(shares, n), "both": lambda images: np.split(both(images), [dim], axis=1)}


def _logits(model: Model, channels_BC: torch.Tensor) -> torch.Tensor:
    assert model.head is not None
    return model.head(channels_BC)


def _shares(model: Model, channels_BC: torch.Tensor, weights_V: torch.Tensor) -> torch.Tensor:
    shares_BV = _logits(model, channels_BC).float().softmax(dim=1) * weights_V
    return shares_BV / shares_BV.sum(dim=1, keepdim=True)


TextSide = tuple[Callable[[list[str]], np.ndarray], Callable[[list[str]], int], int | None]


def _text_side(exported: Exported, name: str, device: str) -> TextSide:
    shape = exported.model.shape
    if shape.text_tower == "transformer":
        import open_clip

        context = int(shape.model_cfg["text_cfg"]["context_length"])
        tokenizer = open_clip.SimpleTokenizer(context_length=context)
        encode = TokenTexts(exported.model.clip, tokenizer, context, shape.model_cfg["embed_dim"], device)
        return encode, encode.n_cut, context
    if shape.text_tower == "words":
        return _BagTexts(exported, device), _none_cut, None
    return functools.partial(_refuse_texts, name), _none_cut, None


def _refuse_texts(name: str, _: list[str]) -> np.ndarray:
    raise NoTextTower(f"{name}: has no text tower (it was trained with --objective words), so that it embeds images alone")


def _none_cut(_: list[str]) -> int:
    return 0


class _BagTexts:
    """Texts through the words tower: analysed as the captions were, unknown words skipped."""

    def __init__(self, exported: Exported, device: str) -> None:
        self._device = device
        self._model, self._dim = exported.model, exported.model.shape.model_cfg["embed_dim"]
        self._analyzer = Analyzer(WordOptions(**exported.lineage.word_options))
        self._ids = {word: i for i, word in enumerate(exported.words)}

    def __call__(self, texts: list[str]) -> np.ndarray:
        out = np.zeros((len(texts), self._dim), np.float32)
        for row, known in enumerate(self._known(texts)):  # a text at a time: the mean's rounding does not depend on its neighbours
            if known:
                with torch.inference_mode():
                    text = tuple(torch.tensor(part, device=self._device) for part in (known, [0]))
                    out[row] = self._model.encode_text(text)[0].cpu().numpy()
        return out

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """Return the words of each text as numbers, int64 (n, L), then -1."""
        known = self._known(texts)
        out = np.full((len(texts), max([1, *map(len, known)])), -1, np.int64)
        for row, words in zip(out, known, strict=True):
            row[: len(words)] = words
        return out

    def _known(self, texts: Sequence[str]) -> list[list[int]]:
        words = self._analyzer.analyse(pa.array(list(texts), pa.string()))
        named = (dict.fromkeys(self._analyzer.words[i] for i in local) for local in words)
        return [[self._ids[word] for word in one if word in self._ids] for one in named]


def open_clip_encoder(folder: Path, name: str, device: str = "cpu") -> TowerEncoder:
    """Load a folder in open_clip's local-dir layout, onto a device.

    Raises:
        UsageError: If it has no weights (open_clip would take random ones).
        DataError: If its configuration is none, or the weights do not fit.
    """
    import open_clip

    spec, config = f"local-dir:{folder.absolute()}", read_open_clip_config(folder)
    try:
        model: Any = open_clip.create_model(spec, require_pretrained=True).eval().to(device)
        tokenizer: Any = open_clip.get_tokenizer(spec)
    except (RuntimeError, ValueError, OSError) as error:
        if not [p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".pth")]:
            raise UsageError(f"{name}: has {CONFIG_FILE} but no weights; expected {WEIGHTS_FILE} beside it") from None
        raise DataError(f"{name}: open_clip cannot load it ({str(error).splitlines()[0]})") from None
    preprocess = dict(open_clip.get_model_preprocess_cfg(model))
    context = int(model.context_length)
    dim = config["model_cfg"]["embed_dim"]
    size = preprocess.pop("size")
    texts = TokenTexts(model, tokenizer, context, dim, device)
    return TowerEncoder(
        name=name,
        fingerprint=fingerprint_of(folder),
        image_size=size if isinstance(size, int) else int(size[0]),
        context_length=context,
        saw_imagenet_labels=None,
        preprocess=preprocess,
        dim=dim,
        image_function=lambda images: normalize(model.encode_image(images), dim=-1),
        text_function=texts,
        cut_function=texts.n_cut,
        logit_scale=float(model.logit_scale.detach().exp()),
        warnings=_unsaid(config.get("preprocess_cfg") or {}, preprocess),
        device=device,
    )


def _unsaid(said: dict[str, Any], preprocess: dict[str, Any]) -> tuple[str, ...]:
    """Return a line if a model does not say how it normalises pixels: open_clip then takes CLIP's numbers without a word."""
    missing = [name for name in ("mean", "std") if name not in said]
    taken = f"CLIP's ({', '.join(str(list(preprocess[name])) for name in missing)})" if missing else ""
    return (f"{CONFIG_FILE} does not say the {' and '.join(missing)} of its pixels; {taken} are taken",) if missing else ()
