"""Word-balanced bags of words from captions, CLIP models trained on them, and their zero-shot scores.

Every verb of the command line is a function here: `fistful.count`, `fistful.bags`, `fistful.train`,
`fistful.evaluate`, `fistful.verify`. Options of training are given by name:

>>> fistful.train("data/bags", out="runs/first", config=fistful.train_config(steps=500, text="bag"))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "count": "fistful.pipelines.count",
    "CountConfig": "fistful.pipelines.count",
    "bags": "fistful.pipelines.bags",
    "BagsConfig": "fistful.pipelines.bags",
    "Balance": "fistful.bow.balance",
    "vectors": "fistful.pipelines.vectors",
    "VectorsConfig": "fistful.pipelines.vectors",
    "train": "fistful.training.train",
    "TrainConfig": "fistful.training.train_config",
    "train_config": "fistful.training.train_config",
    "evaluate": "fistful.eval.evaluate",
    "EvaluateConfig": "fistful.eval.evaluate_config",
    "quiz": "fistful.eval.quiz.quiz",
    "QuizConfig": "fistful.eval.quiz.quiz_config",
    "classify": "fistful.eval.tasks.classify",
    "ClassifyConfig": "fistful.eval.tasks.classify",
    "load": "fistful.eval.tasks.classify",
    "label": "fistful.pipelines.pseudo.label",
    "LabelConfig": "fistful.pipelines.pseudo.label",
    "distill": "fistful.pipelines.distill",
    "DistillConfig": "fistful.pipelines.distill",
    "embed": "fistful.pipelines.embed",
    "EmbedConfig": "fistful.pipelines.embed",
    "report": "fistful.verbs.report",
    "ReportConfig": "fistful.verbs.report",
    "load_encoder": "fistful.training.model.load",
    "verify": "fistful.bow.store.manifest",
    "words": "fistful.verbs.words.look_up",
    "WordsConfig": "fistful.verbs.words.look_up",
    "doctor": "fistful.verbs.doctor",
}


def __getattr__(name: str) -> Any:
    # looked up when first used: `import fistful` stays fast and needs no torch
    if name not in _WHERE:
        raise AttributeError(f"module 'fistful' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*_WHERE, "__version__"]
