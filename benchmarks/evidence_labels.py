"""Labels and word vectors of the lab: what `fistful label` and `fistful vectors` write, and controls made of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.draw import number_of_key
from fistful.bow.embeddings import read_embeddings
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.store.index import read_index
from fistful.training import recipes
from fistful.training.neighbours import nearest
from fistful.training.train_config import TrainConfig, changed

from . import evidence_data as data
from .evidence_data import RUNNING

if TYPE_CHECKING:
    from .evidence import Lab

HOLDOUT = 0.1
"""Fraction of the captioned photos that a teacher does not see."""
TEACHERS = 2
"""Of different seeds, whose heads count as one."""


def teacher_config(out: Path) -> TrainConfig:
    """Return how models on the frozen tower learn: teachers, and students of the first lab."""
    common = {"device": "cpu", "threads": 1, "features": str(out / "features"), "progress": False, "decoders": 1, "text": "bag"}
    return changed(recipes.photos_frozen(120), **common)


def teacher(lab: Lab, seed: int, number: int, more: tuple[Path, ...] = ()) -> Path:
    """Return a model on the frozen tower that learnt from a seed's fifth, and from more folders."""
    config = changed(teacher_config(lab.out), holdout=HOLDOUT, seed=1_000 * (number + 1) + seed)
    out = lab.path("teachers", seed, f"{number}{'-again' if more else ''}")
    return lab.train((lab.path("bags", seed, "fifth"), *more), out, config)


def spec_of(run: Path) -> str:
    """Return what names a teacher to `label`: its tower looks at no picture twice."""
    return f"benchmarks.photos_tower:shared {json.dumps({'run': str(run)})}"


def labelled(lab: Lab, seed: int, kind: str) -> Path:
    """Return the data folder of a seed's photos without captions, labelled in some way."""
    if kind in ("placebo", "copied", "once"):
        return CHANGES[kind](lab, seed)
    by, more = ("mean", (labelled(lab, seed, "mean"),)) if kind == "again" else ("mean" if kind == "others" else kind, ())
    images = lab.root / "photos/uncaptioned/00000.tar.gz" if kind == "others" else lab.path("photos", seed, "hidden")
    return _label(lab, seed, images, by, lab.path("labelled", seed, kind), more)


def _label(lab: Lab, seed: int, images: Path, by: Any, out: Path, more: tuple[Path, ...]) -> Path:
    from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label

    if (out / manifest.MANIFEST).exists():
        return out
    teachers = [teacher(lab, seed, number, more) for number in range(TEACHERS)]
    config = LabelConfig(label=LabelOptions(by=by, seed=seed), running=RUNNING)
    like = lab.path("bags", seed, "fifth")
    return label(str(images), model=tuple(spec_of(run) for run in teachers), like=like, out=out, config=config)


def _placebo(lab: Lab, seed: int) -> Path:
    """Every photo has another one's labels."""
    source = labelled(lab, seed, "mean")
    order = data.shuffled(source, seed)
    columns = {name: column.take(order) for name, column in data.label_columns(source).items()}
    return data.with_labels(source, lab.path("labelled", seed, "placebo"), "placebo", columns)


def _once(lab: Lab, seed: int) -> Path:
    """One draw of each photo's distribution, which stays."""
    from fistful.bow.pseudo import draw_sizes, draw_words
    from fistful.bow.store.index import read_likely

    source, out = labelled(lab, seed, "mean"), lab.path("labelled", seed, "once")
    found = read_likely(source)
    assert found is not None
    numbers = np.array([number_of_key(key) for key in read_index(source)["key"].to_pylist()], np.uint64)
    lengths = data.bags_in(lab.path("bags", seed, "fifth")).lengths()
    sizes = draw_sizes(lengths[lengths > 0], numbers, seed)
    bags = draw_words(*found, sizes, numbers, seed, np.zeros(len(numbers), np.int64))
    return data.with_labels(source, out, "once", data.as_labels(bags))


def _copied(lab: Lab, seed: int) -> Path:
    """Every photo has the words of the captioned photo that is nearest to it, by what `label` has embedded."""
    from fistful.pipelines.pseudo.captioned import read_like
    from fistful.pipelines.pseudo.label import CAPTIONED, IMAGES

    source, out, voters = labelled(lab, seed, "mean"), lab.path("labelled", seed, "copied"), lab.path("bags", seed, "fifth")
    captioned = read_like(source / CAPTIONED, voters)
    images = read_embeddings(sorted((source / IMAGES / "embeddings").glob("*.parquet"), key=lambda p: int(p.stem)))
    closest, _ = nearest(captioned.embeddings.features, images.features, 1)
    of = dict(zip(images.keys, closest[:, 0].tolist(), strict=True))
    chosen = np.array([of[key] for key in read_index(source)["key"].to_pylist()])
    return data.with_labels(source, out, "copied", data.as_labels(captioned.bags.pick(chosen)))


CHANGES = {"placebo": _placebo, "once": _once, "copied": _copied}


def figures_of_labels(lab: Lab, seed: int) -> dict[str, float]:
    """Return how varied the words are that a student is given, beside those of the photos' own captions, and how many photos have any."""
    from fistful.bow.balance import effective_words
    from fistful.bow.pseudo import draw_sizes_anew, draw_words
    from fistful.bow.store.index import read_likely

    folder = labelled(lab, seed, "mean")
    found, index = read_likely(folder), read_index(folder)
    assert found is not None
    real = data.bags_in(lab.path("bags", "all"))
    place = {key: i for i, key in enumerate(read_index(lab.path("bags", "all"))["source_key"].to_pylist())}
    truth = real.pick(np.array([place[key] for key in index["source_key"].to_pylist()]))
    numbers = np.array([number_of_key(key) for key in index["key"].to_pylist()], np.uint64)
    lengths, epochs = data.bags_in(lab.path("bags", seed, "fifth")).lengths(), np.zeros(len(numbers), np.int64)
    drawn = draw_words(*found, draw_sizes_anew(np.sort(lengths[lengths > 0]), numbers, seed, epochs), numbers, seed, epochs)
    bags, stats = {"captions": truth, "drawn": drawn, "fixed": data.bags_in(folder)}, read_json(folder / "stats.json")

    def effective(words: np.ndarray) -> float:
        counts = np.bincount(words)
        return round(effective_words(counts, np.ones(len(counts))), 1)

    return {
        "labelled": round(stats["kept"] / stats["rows"], 4),
        **{f"effective_words_{name}": effective(b.values) for name, b in bags.items()},
    }


# Word vectors


def vectors(lab: Lab, seed: int, kind: str) -> Path:
    """Return word vectors: of `all` texts, of those of `other` photos, of a seed's `fifth` of captions alone, or `random` ones."""
    from fistful.pipelines.vectors import VectorOptions, VectorsConfig
    from fistful.pipelines.vectors import vectors as make

    data.write_texts(lab.root, lab.out / "texts")
    if kind == "random":
        return _random(vectors(lab, seed, "all"), lab.path("vectors", f"random-{seed}"), seed)
    source = lab.path("photos", seed, "fifth") if kind == "fifth" else lab.out / "texts" / kind
    out = lab.path("vectors", f"fifth-{seed}" if kind == "fifth" else kind)
    return make(str(source), counts=lab.path("counts"), out=out, config=VectorsConfig(vectors=VectorOptions(dim=256), running=RUNNING))


def _random(like: Path, out: Path, seed: int) -> Path:
    """Write vectors of the same words and lengths that know nothing of the words."""
    if (out / manifest.MANIFEST).exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    config = manifest.read_config(like)
    manifest.claim(out, config["verb"], {**config["config"], "random": seed}, config["inputs"])
    for path in (p for p in like.iterdir() if p.is_file() and p.name not in (manifest.MANIFEST, manifest.CONFIG, "vectors.npy")):
        shutil.copyfile(path, out / path.name)
    known = np.load(like / "vectors.npy")
    drawn = np.random.default_rng(seed).standard_normal(known.shape).astype(np.float32)
    drawn *= np.linalg.norm(known, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
    np.save(out / "vectors.npy", drawn)
    manifest.finish(out, {}, {})
    return out
