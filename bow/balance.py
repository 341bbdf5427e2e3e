"""Word balancing: from document frequencies to how likely each word is kept.

>>> Balance(rule="cap", threshold=50).keep_probabilities(np.array([200, 50, 10]), 300).tolist()
[0.25, 1.0, 1.0]
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from fistful.errors import UsageError

from .store.identity import check_numbers, semantic

Rule = Literal["none", "top_k", "power", "w2v", "cap", "budget", "random", "auto"]

NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "none": ((),),
    "top_k": (("threshold",),),
    "power": (("threshold", "alpha"), ("kept", "alpha")),
    "w2v": (("threshold",), ("kept",)),
    "cap": (("threshold",), ("kept",)),
    "budget": (("n_words",), ("n_words", "alpha")),
    "random": (("kept",),),
    "auto": ((),),
}
"""Which options each rule takes: one of these sets."""

AUTO_KEPT = 0.5
AUTO_EMPTIED = 0.01
"""`auto` keeps at least this fraction of all words, and more where more than this share of bags would be emptied."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How frequent words are thinned out."""

    rule: Rule = semantic("none")
    """none; top_k: drop the most frequent words (the paper's); cap: keep with min(1, threshold/df); w2v: with
    min(1, sqrt(threshold/f)), f the word's share of all words; power: with min(1, (threshold/f)^alpha);
    budget: draw n words a bag, rare ones rather; random: drop blindly (the control); auto: cap, chosen from the counts."""
    threshold: float | None = semantic(None)
    """top_k: how many words to drop; cap: the df to which frequent words are thinned; w2v and power: the share t, such as 1e-4."""
    kept: float | None = semantic(None)
    """cap, w2v, power and random: the fraction of all words to keep, 0 to 1, instead of a threshold."""
    alpha: float | None = semantic(None)
    """power: 0 keeps all, 0.5 is w2v, 1 is cap. budget: words are drawn with weights df^-alpha (0.5 if not given)."""
    n_words: int | None = semantic(None)
    """budget: how many words of a bag are drawn."""
    level: Literal["word", "pair"] = semantic("word")
    """word: each word by itself; pair: the whole sample stays if any of its words is drawn, as MetaCLIP does."""

    def __post_init__(self) -> None:
        given = tuple(n for n in ("threshold", "kept", "alpha", "n_words") if getattr(self, n) is not None)
        if self.rule not in NEEDS:
            raise UsageError(f"--rule {self.rule}: expected one of {', '.join(NEEDS)}")
        if set(given) not in map(set, NEEDS[self.rule]):
            wanted = " or ".join(" and ".join(map(_option, names)) or "no further option" for names in NEEDS[self.rule])
            raise UsageError(f"--rule {self.rule}: needs {wanted}, found {' and '.join(map(_option, given)) or 'none'}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise UsageError(f"--threshold {self.threshold}: expected a number above 0")
        if self.rule == "top_k" and self.threshold is not None and self.threshold % 1:
            raise UsageError(f"--threshold {self.threshold}: --rule top_k drops a whole number of words")
        if self.kept is not None and not 0 < self.kept <= 1:
            raise UsageError(f"--kept {self.kept}: expected a fraction above 0, at most 1")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(f"--alpha {self.alpha}: expected a number from 0 to 1")
        if self.n_words is not None and self.n_words < 1:
            raise UsageError(f"--n-words {self.n_words}: expected 1 or more")
        if self.level == "pair" and self.rule == "budget":
            raise UsageError("--level pair: --rule budget draws words of a bag and cannot thin out whole samples; use --level word")
        check_numbers(self)

    @property
    def by_word(self) -> bool:
        """Whether each word stays by its own probability, so that counts alone tell what is kept.

        Not so for a budget, whose weights say which words of a bag are drawn, and for whole samples.
        """
        return self.n_words is None and self.level == "word"

    def keep_probabilities(self, df: np.ndarray, n_samples: int) -> np.ndarray:
        """Return how likely each word of the vocabulary is kept, float64; for budget, its weight in the draw.

        Args:
            df: Number of samples whose bag has the word, by falling df and then by word (so that
                ties of top_k are broken by the word).
            n_samples: Samples that were counted.

        Source:
            top_k: the paper's RmTopFreq. w2v: Mikolov et al. 2013, eq. 5, without its cut below t.
            cap: MetaCLIP (Xu et al. 2023). budget: CLIPF (Liang and Larson 2024), here as weighted draws.
            docs/decisions/0006-balancing.md has the table.
        """
        if self.rule == "top_k":
            return (np.arange(len(df)) >= (self.threshold or 0)).astype(np.float64)
        if self.rule == "random":
            return np.full(len(df), self.kept)
        if self.rule == "budget":
            rarest = float(df.min()) if len(df) else 1.0
            return _power(rarest / np.maximum(df, 1), 0.5 if self.alpha is None else self.alpha)
        if self.rule == "none":
            return np.ones(len(df))
        return self._thin_frequent(df, n_samples)

    def _thin_frequent(self, df: np.ndarray, n_samples: int) -> np.ndarray:
        """Return min(1, (t/c)^alpha): power and its special cases."""
        alpha = {"w2v": 0.5, "power": self.alpha}.get(self.rule, 1.0)
        assert alpha is not None
        total = float(df.sum())
        kept = auto_kept(df, n_samples) if self.rule == "auto" else self.kept
        if kept is None:
            assert self.threshold is not None
            cut = self.threshold if self.rule == "cap" else self.threshold * total
        elif alpha == 1.0:
            cut = cap_for_kept(df, kept)
        else:
            cut = cut_for_kept(df, kept, alpha)
        return np.minimum(1.0, _power(cut / np.maximum(df, 1), alpha))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _power(ratio: np.ndarray, alpha: float) -> np.ndarray:
    """Return ratio^alpha; square roots and first powers exactly, so that they are the same on every machine."""
    return np.sqrt(ratio) if alpha == 0.5 else ratio if alpha == 1.0 else ratio**alpha


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


def cut_for_kept(df: np.ndarray, kept: float, alpha: float) -> float:
    """Return the count c with min(1, (c/df)^alpha) keeping this fraction of all words: by bisection, for it rises with c.

    Raises:
        UsageError: If alpha is too small for so little to be kept.
    """
    if not len(df):
        return 1.0
    low, high = math.log(float(df.max())) - 60.0, math.log(float(df.max()))
    if alpha == 0.0 or kept_fraction(df, np.minimum(1.0, _power(math.exp(low) / df, alpha))) > kept:
        raise UsageError(f"--kept {kept}: cannot be reached with --alpha {alpha}; a larger --alpha helps")
    for _ in range(100):
        middle = (low + high) / 2
        enough = kept_fraction(df, np.minimum(1.0, _power(math.exp(middle) / df, alpha))) >= kept
        low, high = (low, middle) if enough else (middle, high)
    return math.exp(high)


def auto_kept(df: np.ndarray, n_samples: int) -> float:
    """Return the fraction that `auto` keeps: a half, or more where bags are so short that too many would be emptied.

    A bag of m words of which each stays with probability K is emptied with (1 - K)^m; m is the mean
    bag, and words are taken as independent: from counts alone no more can be said.
    """
    mean_bag = float(df.sum()) / max(1, n_samples)
    if mean_bag <= 0:
        return 1.0
    return min(1.0, max(AUTO_KEPT, 1.0 - AUTO_EMPTIED ** (1.0 / mean_bag)))


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
