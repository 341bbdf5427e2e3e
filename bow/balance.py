"""Word balancing: from document frequencies to the probability with which each word is kept.

>>> Balance(rule="cap", threshold=50).keep_probabilities(np.array([200, 50, 10])).tolist()
[0.25, 1.0, 1.0]
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from fistful.bow.store.config import semantic
from fistful.errors import UsageError

Rule = Literal["none", "top_k", "cap", "random"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How frequent words are thinned out."""

    rule: Rule = semantic("none")
    """none; top_k: drop the most frequent words (the paper's); cap: keep with min(1, threshold/df); random: drop blindly (the control)."""
    threshold: float | None = semantic(None)
    """top_k: how many words to drop; cap: the df to which frequent words are thinned."""
    kept: float | None = semantic(None)
    """cap and random: the fraction of all words to keep, 0 to 1, instead of a threshold."""

    def __post_init__(self) -> None:
        given = [n for n in ("threshold", "kept") if getattr(self, n) is not None]
        allowed = {"none": [[]], "top_k": [["threshold"]], "cap": [["threshold"], ["kept"]], "random": [["kept"]]}
        if self.rule not in allowed:
            raise UsageError(f"--rule {self.rule}: expected one of {', '.join(allowed)}")
        if given not in allowed[self.rule]:
            wanted = " or ".join("no further option" if not names else f"--{names[0]}" for names in allowed[self.rule])
            raise UsageError(f"--rule {self.rule}: needs {wanted}, found {' and '.join('--' + n for n in given) or 'none'}")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise UsageError(f"--threshold {self.threshold}: expected a number above 0")
        if self.rule == "top_k" and self.threshold is not None and self.threshold % 1:
            raise UsageError(f"--threshold {self.threshold}: --rule top_k drops a whole number of words")
        if self.kept is not None and not 0 < self.kept <= 1:
            raise UsageError(f"--kept {self.kept}: expected a fraction above 0, at most 1")

    def keep_probabilities(self, df: np.ndarray) -> np.ndarray:
        """Return the probability, float64, with which each word of the vocabulary is kept.

        Args:
            df: Number of samples whose bag has the word, by falling df and then by word (so that
                ties of top_k are broken by the word).

        Source:
            top_k: the paper's RmTopFreq. cap: MetaCLIP (Xu et al. 2023), the balance of its
            curation. Both as in METHOD's table of rules: docs/decisions/0006-balancing.md.
        """
        if self.rule == "top_k" and self.threshold is not None:
            return (np.arange(len(df)) >= self.threshold).astype(np.float64)
        if self.rule == "random" and self.kept is not None:
            return np.full(len(df), self.kept)
        if self.rule == "cap":
            threshold = self.threshold if self.kept is None else cap_for_kept(df, self.kept)
            assert threshold is not None
            return np.minimum(1.0, threshold / np.maximum(df, 1))
        return np.ones(len(df))


def cap_for_kept(df: np.ndarray, kept: float) -> float:
    """Return the cap that keeps exactly this fraction of all words in expectation.

    With counts ascending s_1..s_V and prefix sums S_i, the first i with
    S_i + s_(i+1) (V - i) >= kept * S_V gives t = (kept * S_V - S_i) / (V - i).
    """
    ascending = np.sort(df.astype(np.int64))
    if not len(ascending):
        return 1.0
    target = kept * float(ascending.sum())
    below = np.concatenate([[0], np.cumsum(ascending)[:-1]])
    above = np.arange(len(ascending), 0, -1)
    i = min(int(np.searchsorted(below + ascending * above, target)), len(ascending) - 1)
    return float((target - below[i]) / above[i])


def keep_as_u32(keep: np.ndarray) -> np.ndarray:
    """Return probabilities as the integers that draws compare with: floor(k * 2**32), saturated."""
    return np.minimum(np.floor(keep * 2.0**32), 2.0**32 - 1).astype(np.uint32)


def kept_fraction(df: np.ndarray, keep: np.ndarray) -> float:
    """Return the share of all (sample, word) pairs that is kept in expectation."""
    total = float(df.sum())
    return float((df * keep).sum()) / total if total else 1.0


def effective_words(df: np.ndarray, keep: np.ndarray) -> float:
    """Return the effective size of the vocabulary: exp of the entropy of the kept words' shares."""
    share = df * keep
    share = share[share > 0] / max(float(share.sum()), 1e-300)
    return float(np.exp(-(share * np.log(share)).sum()))
