"""Scores of a model while it trains: zero-shot accuracy on some sets, without a results folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fistful.bow.store.file_names import tell_apart
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.words import WordOptions
from fistful.errors import UsageError
from fistful.training.model.encoder import Encoder

from .evaluate_config import EvaluateConfig
from .score import EvalJob, score_set
from .sets.layouts import open_set


class AccuracyOn:
    """A function of an encoder that returns its accuracy on each set, by the set's name.

    Args:
        data: Evaluation sets, as for `evaluate`.
        config: How; the first prompt set counts.
    """

    def __init__(self, data: tuple[str, ...], config: EvaluateConfig | None = None) -> None:
        self._config = config or EvaluateConfig(prompts=("name",), progress=False)
        self._sets = [open_set(spec, None, "--evaluate-on") for spec in data]
        several = [eval_set.name for eval_set in self._sets if eval_set.multilabel]
        if several:
            raise UsageError(f"--evaluate-on {several[0]}: has several labels for an image; expected one, for accuracy")
        self.names = [f"{name} acc1" for name in tell_apart([eval_set.name for eval_set in self._sets])]
        """What the scores are called, in the order of the sets."""
        facts = [eval_set.fingerprint() for eval_set in self._sets]
        self.fingerprint = sha256_hex(canonical_json(facts))
        """Names the sets' content: part of the identity of a run that notes their scores."""

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        """Return top-1 accuracy on each set, in their order."""
        found = {}
        for name, eval_set in zip(self.names, self._sets, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                job = EvalJob("model", encoder, eval_set, WordOptions(), None, None, None, self._config)
                (result, *_) = score_set(Path(folder), job)
            found[name] = float(result["metrics"]["acc1"])
        return found
