"""What the fusion head reads of a batch's texts: which places are hidden, and what is left. Shapes: B samples, L places, P pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fistful.bow.ragged import Ragged
from fistful.bow.tokens import ChunkTokenizer
from fistful.bow.words import WordOptions
from fistful.errors import UsageError

from ..masking import Masking, content_tokens, draw_hidden, draw_matches
from ..train_config import TrainConfig
from .samples import TrainingSamples

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_WORD = -1
"""Fills up rows of words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Readings:
    """What the masked-word and the matching objective need to know of a batch's texts."""

    whole_BL: torch.Tensor
    """int64: the tokens, without columns that are empty in all; of the words tower, the words, then NO_WORD."""
    end_B: torch.Tensor
    """int64: the place of the last token, or how many words there are."""
    hidden_BL: torch.Tensor
    """bool: which tokens are hidden; empty without masks, and for the words tower."""
    rest_BL: torch.Tensor
    """int64: the words tower's words that are not hidden, then NO_WORD; else empty."""
    bag_rows: torch.Tensor
    """int64 (P), rising: which sample has which hidden word of the vocabulary, for the words tower; else empty."""
    bag_words: torch.Tensor
    bag_weights: torch.Tensor
    bag_starts: np.ndarray
    """int64 (B + 1): where each sample's words start."""
    draws_B2: torch.Tensor
    """float64 (B, 2): decide the wrong partners of a text and of a picture."""

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Readings:
        """Return the same somewhere else."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return dataclasses.replace(self, **{name: move(value) for name, value in values if isinstance(value, torch.Tensor)})


NO_BAGS = Ragged(np.zeros(1, np.int64), np.zeros(0, np.int64))


class Reader:
    """Makes the readings of a batch."""

    def __init__(self, config: TrainConfig, samples: TrainingSamples, tokenizer: Any) -> None:
        self._config, self._samples = config, samples
        self._how = Masking(config.loss.mask_rate, config.loss.mask_rule, config.run.seed)
        self._by_word = config.model.text_tower == "words"
        stop_words = stop_words_of(samples, config.loss.mask_rule)
        self._content_V = np.array([word not in stop_words for word in samples.vocabulary.words], bool)
        self._content = None if self._by_word else content_tokens(token_texts(tokenizer), stop_words)

    def __call__(
        self, step: int, shown: tuple[np.ndarray, np.ndarray], text: Sequence[torch.Tensor], targets: tuple[Ragged, np.ndarray]
    ) -> Readings:
        """Return what is read.

        Args:
            step: The step.
            shown: The samples' rows, and their epochs.
            text: What the text tower reads.
            targets: Of the words tower, the words of each sample, and their weights.
        """
        draws_B2 = torch.from_numpy(draw_matches(self._config.run.seed, step, len(shown[0])))
        if self._by_word:
            return self._of_words(shown, text, targets, draws_B2)
        tokens_BL = text[0].numpy()
        end_B = tokens_BL.argmax(axis=1)  # the end-of-text token is the largest
        tokens_BL = np.ascontiguousarray(tokens_BL[:, : int(end_B.max()) + 1])
        hidden_BL = self._hide_tokens(tokens_BL, end_B, shown) if self._how.rate else np.zeros((len(tokens_BL), 0), bool)
        return _readings(tokens_BL, end_B, draws_B2, hidden_BL=hidden_BL)

    def _hide_tokens(self, tokens_BL: np.ndarray, end_B: np.ndarray, shown: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        assert self._content is not None
        rows, epochs = shown
        place = np.arange(tokens_BL.shape[1])
        may_BL = (place > 0) & (place < end_B[:, None])
        texts = Ragged(np.concatenate([[0], np.cumsum(may_BL.sum(axis=1))]), np.nonzero(may_BL)[1])
        hidden_BL = np.zeros(tokens_BL.shape, bool)
        hidden_BL[may_BL] = draw_hidden(texts, self._content(tokens_BL)[may_BL], self._samples.number[rows], epochs, self._how)
        return hidden_BL

    def _of_words(
        self, shown: tuple[np.ndarray, np.ndarray], text: Sequence[torch.Tensor], targets: tuple[Ragged, np.ndarray], draws_B2: torch.Tensor
    ) -> Readings:
        """Hide words of whole bags, whatever of them the text tower reads; what it reads of the others is left."""
        rows, epochs = shown
        words, starts = (part.numpy() for part in text)
        whole, (bags, weights) = Ragged(np.append(starts, len(words)), words), targets
        if not self._how.rate:
            return _readings(padded(whole), whole.lengths(), draws_B2)
        hidden_P = draw_hidden(bags, self._content_V[bags.values], self._samples.number[rows], epochs, self._how)
        hidden, n_words = bags.take(hidden_P), len(self._content_V)
        rest = whole.take(~np.isin(whole.rows() * n_words + whole.values, hidden.rows() * n_words + hidden.values))
        return _readings(padded(whole), whole.lengths(), draws_B2, rest=rest, hidden=hidden, weights=weights[hidden_P])


def _readings(
    whole_BL: np.ndarray,
    end_B: np.ndarray,
    draws_B2: torch.Tensor,
    hidden_BL: np.ndarray | None = None,
    rest: Ragged = NO_BAGS,
    hidden: Ragged = NO_BAGS,
    weights: np.ndarray | None = None,
) -> Readings:
    return Readings(
        whole_BL=torch.from_numpy(whole_BL),
        end_B=torch.from_numpy(end_B.astype(np.int64)),
        hidden_BL=torch.from_numpy(np.zeros((len(end_B), 0), bool) if hidden_BL is None else hidden_BL),
        rest_BL=torch.from_numpy(padded(rest)),
        bag_rows=torch.from_numpy(hidden.rows()),
        bag_words=torch.from_numpy(hidden.values),
        bag_weights=torch.from_numpy(np.zeros(0, np.float32) if weights is None else weights),
        bag_starts=hidden.offsets,
        draws_B2=draws_B2,
    )


def padded(bags: Ragged) -> np.ndarray:
    """Return bags as rows of equal length, int64 (B, L), filled up with NO_WORD; one column at least.

    >>> padded(Ragged(np.array([0, 2, 3]), np.array([5, 6, 7]))).tolist()
    [[5, 6], [7, -1]]
    """
    found = np.full((len(bags), max(1, int(bags.lengths().max(initial=0)))), NO_WORD, np.int64)
    rows = bags.rows()
    found[rows, np.arange(len(rows)) - bags.offsets[rows]] = bags.values
    return found


def stop_words_of(samples: TrainingSamples, rule: str) -> frozenset[str]:
    """Return the stop words of the data's language.

    Raises:
        UsageError: If content words are asked for, and the language has no stop words.
    """
    if rule != "content":
        return frozenset()
    language = WordOptions(**samples.word_options).language
    found = ChunkTokenizer(language).stop_words
    if not found:
        raise UsageError(f"--mask-rule content: spaCy has no stop words of the data's language, {language}; use --mask-rule uniform")
    return found


def token_texts(tokenizer: Any) -> list[str]:
    """Return the text of each of open_clip's tokens, with </w> at the end of a word's last one."""
    end, back = "</w>", tokenizer.byte_decoder

    def text_of(raw: str) -> str:
        body = raw.removesuffix(end)
        return bytes(back[letter] for letter in body).decode(errors="replace") + (end if raw.endswith(end) else "")

    return [text_of(tokenizer.decoder[number]) for number in range(len(tokenizer.decoder))]
