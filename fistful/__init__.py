"""Word-balanced bags of words from captions, CLIP models trained on them, and their zero-shot scores.

Every verb of the command line is a function here: `fistful.count`, `fistful.bags`, `fistful.train`,
`fistful.evaluate`, `fistful.verify`.
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
    "train": "fistful.training.run",
    "TrainConfig": "fistful.training.config",
    "evaluate": "fistful.eval.run",
    "EvaluateConfig": "fistful.eval.config",
    "classify": "fistful.eval.classify",
    "ClassifyConfig": "fistful.eval.classify",
    "load": "fistful.eval.classify",
    "label": "fistful.labels",
    "LabelConfig": "fistful.labels",
    "report": "fistful.eval.report",
    "ReportConfig": "fistful.eval.report",
    "load_encoder": "fistful.training.encoder",
    "verify": "fistful.bow.store.manifest",
    "words": "fistful.lookup",
    "WordsConfig": "fistful.lookup",
    "doctor": "fistful.checkup",
}


def __getattr__(name: str) -> Any:
    # looked up when first used: `import fistful` stays fast and needs no torch
    if name not in _WHERE:
        raise AttributeError(f"module 'fistful' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*_WHERE, "__version__"]
