"""Which places of a text are hidden: pure draws of (seed, sample, place, epoch). Shapes: B texts, P places of all of them.

>>> import numpy as np
>>> texts = Ragged(np.array([0, 4]), np.array([1, 2, 3, 4]))
>>> draw_hidden(texts, np.array([True, False, True, False]), np.array([7]), np.array([0]), Masking(0.5, "content", seed=0)).tolist()
[True, False, True, False]
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from fistful.bow.draw import mix64, mix_all
from fistful.bow.ragged import Ragged
from fistful.errors import UsageError

MASK_SALT, MATCH_SALT = 0x4D41534B, 0x4D415443
"""Tell these draws from others of the same sample."""


MASKING_OFF = {"mask_rate": 0.0, "mask_rule": "uniform", "match_weight": 0.0}
"""Options of a run that hides nothing: they are left out of what names it, so that runs of earlier versions keep their names."""


def check_fusion(has_text: bool, loss: Any, optimiser: Any, run: Any) -> None:
    """Check that what hides words, or matches texts, goes together with the other options of training.

    Raises:
        UsageError: If not.
    """
    asked = f"--mask-rate {loss.mask_rate}" if loss.mask_rate else f"--match-weight {loss.match_weight}"
    if not has_text:
        raise UsageError(
            f"{asked}: reads texts, and --objective words has no text tower; use --objective joint. Without a text all words are hidden, "
            "which is what --objective words learns"
        )
    if optimiser.accumulation > 1:
        raise UsageError(f"{asked}: looks at more than embeddings, which --accumulation keeps alone; use --accumulation 1")
    if run.compile:
        raise UsageError(f"{asked}: reads the text tower layer by layer, past --compile; leave --compile out")
    if run.world_size > 1:
        raise UsageError(f"{asked}: learns in one process, found {run.world_size}; start one")


@dataclasses.dataclass(frozen=True, slots=True)
class Masking:
    """How texts are masked."""

    rate: float
    """Share of a text's places that are hidden, above 0."""
    rule: Literal["uniform", "content"]
    """content: only places of content words, as many where there are enough of them."""
    seed: int


def draw_hidden(texts: Ragged, is_content_P: np.ndarray, numbers_B: np.ndarray, epochs_B: np.ndarray, how: Masking) -> np.ndarray:
    """Draw which places are hidden, bool (P): each with the same odds, at least one of a text that has any.

    Rule content raises the odds of content words so that as many places are hidden as by rule uniform; where a text has too few of them,
    all of them are. A text without any is masked as by rule uniform.

    Args:
        texts: What tells the places of each text apart: positions, or word ids.
        is_content_P: Whether a place holds a content word.
        numbers_B: What draws of each sample are keyed with.
        epochs_B: Each sample's epoch.
        how: Rate, rule and seed.

    Source:
        Uniform Masking Prevails (Verma et al. 2022, arXiv 2212.05195), which compares rates and rules; one place at least as in IRRA.
    """
    rows, n_B = texts.rows(), texts.lengths()
    may_P = is_content_P if how.rule == "content" else np.ones(len(rows), bool)
    n_may_B = np.bincount(rows[may_P], minlength=len(texts))
    may_P = may_P | (n_may_B == 0)[rows]
    share_B = np.minimum(1.0, how.rate * n_B / np.maximum(1, np.where(n_may_B > 0, n_may_B, n_B)))
    state = mix64(mix64(mix_all(MASK_SALT, how.seed), numbers_B[rows].astype(np.uint64)), texts.values.astype(np.uint64))
    draws = (mix64(state, epochs_B[rows].astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
    hidden_P = may_P & (draws < share_B[rows] * 2.0**32)
    bare = np.flatnonzero(may_P & (np.bincount(rows[hidden_P], minlength=len(texts)) == 0)[rows])
    bare = bare[np.lexsort((draws[bare], rows[bare]))]
    hidden_P[bare[np.flatnonzero(np.diff(rows[bare], prepend=-1))]] = True
    return hidden_P


def draw_matches(seed: int, step: int, n: int) -> np.ndarray:
    """Draw two numbers from 0 to 1 for each sample of a batch, float64 (n, 2), that decide which wrong partners it gets."""
    state = mix64(mix_all(MATCH_SALT, seed, step), np.arange(2 * n, dtype=np.uint64))
    return ((state >> np.uint64(11)).astype(np.float64) / 2.0**53).reshape(n, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class ContentTokens:
    """Tells tokens of content words, those that are no stop words and have a letter or a digit, from others."""

    begins_T: np.ndarray
    """Whether the token after this one begins a word, bool."""
    stops_T: np.ndarray
    """Whether the token is no content word if it is a word by itself."""
    empty_T: np.ndarray
    """Whether it has neither letter nor digit."""

    def __call__(self, tokens_BL: np.ndarray) -> np.ndarray:
        """Return which tokens are of content words, bool (B, L)."""
        first_BL = np.ones(tokens_BL.shape, bool)
        first_BL[:, 1:] = self.begins_T[tokens_BL[:, :-1]]
        is_word_BL = first_BL & self.begins_T[tokens_BL]
        return ~self.empty_T[tokens_BL] & ~(is_word_BL & self.stops_T[tokens_BL])


def content_tokens(texts_T: list[str], stop_words: frozenset[str]) -> ContentTokens:
    """Return what tells content tokens.

    Args:
        texts_T: The text of each token; of one that ends a word with </w> at its end.
        stop_words: Words that are none.
    """
    bare = [text.removesuffix("</w>") for text in texts_T]
    special = [text.startswith("<") and text.endswith(">") for text in bare]
    return ContentTokens(
        np.array([text.endswith("</w>") for text in texts_T]) | np.array(special),
        np.array([text in stop_words or text.startswith("'") for text in bare]),
        np.array([not any(letter.isalnum() for letter in text) for text in bare]) | np.array(special),
    )
