"""What is minimised. Shapes: B samples, D embedding, V words, P (sample, word) pairs."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

IDF_FLOOR = 1e-6
"""Least weight of a word, so that a bag of nothing but words that every sample has keeps a target."""


def contrastive(image_BD: torch.Tensor, text_BD: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Return the symmetric InfoNCE loss of a batch.

    Args:
        image_BD: Embeddings of length 1.
        text_BD: The same; row i of both belongs together.
        logit_scale: Inverse temperature.

    Source:
        CLIP (Radford et al. 2021), figure 3.
    """
    logits_BB = logit_scale * image_BD @ text_BD.T
    here = torch.arange(len(logits_BB), device=logits_BB.device)
    return (functional.cross_entropy(logits_BB, here) + functional.cross_entropy(logits_BB.T, here)) / 2


def idf(df: np.ndarray, n_samples: int) -> np.ndarray:
    """Return each word's weight ln(N / (1 + df)), float32, never below a floor.

    Source:
        SuperClass (Huang et al. 2024, arXiv 2411.03313), equation 2; exact df instead of counts on the way.
    """
    n = max(n_samples, int(df.max(initial=0)) + 1)
    return np.maximum(np.log(n / (1.0 + df)), IDF_FLOOR).astype(np.float32)


def softmax_idf(logits_BV: torch.Tensor, rows_P: torch.Tensor, words_P: torch.Tensor, idf_V: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of the words' softmax against each bag's normalised idf weights.

    A sample whose bag is empty adds nothing.

    Args:
        logits_BV: Scores of all words.
        rows_P: int64, the sample of each (sample, word) pair.
        words_P: int64, its word.
        idf_V: Weights of the words.

    Source:
        SuperClass (arXiv 2411.03313), equations 1 and 2.
    """
    weight_P = idf_V[words_P]
    total_B = torch.zeros(len(logits_BV), device=weight_P.device).index_add(0, rows_P, weight_P)
    share_P = weight_P / total_B[rows_P]
    log_P = logits_BV.float().log_softmax(dim=1)[rows_P, words_P]
    return -(share_P * log_P).sum() / len(logits_BV)
