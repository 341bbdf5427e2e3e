"""What folders are: each says so in its config.json. Nothing large is read here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fistful.bow.store.files import read_json
from fistful.bow.store.folders import folder_at
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.store.manifest import CONFIG, MANIFEST, manifest_part, read_config
from fistful.bow.store.model_folder import OWN_FILE
from fistful.bow.vocabulary import FILE as VOCABULARY
from fistful.bow.vocabulary import Vocabulary, read_vocabulary
from fistful.eval.quiz.results import SUMMARY as QUIZ
from fistful.eval.results import SUMMARY

from ...errors import DataError, UsageError

KINDS = {"train": "runs", "evaluate": "results", "quiz": "quizzes", "bags": "data", "label": "labels", "vectors": "vectors"}
"""Which verb wrote which kind of folder."""
READ_BY = {
    "count": "fistful words {} looks words up in it",
    "embed": "its embeddings are for search, as docs/how-to/search-by-embeddings.md shows",
}
"""What reads the folders of other verbs."""
MODEL_FILES = (".safetensors", ".json", ".bin", ".parquet")
DEPTH = 2
"""How deep folders are looked for in a folder that is none itself: demo-out/runs/bags."""


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """One of our folders."""

    path: Path
    name: str
    """As short as tells it from the others."""
    config: dict[str, Any]
    """Its config.json."""
    fingerprint: str | None
    """Digest of its manifest; None while it is not finished."""

    def options(self) -> dict[str, Any]:
        """Return the semantic fields of its verb."""
        return self.config["config"]


@dataclasses.dataclass(frozen=True, slots=True)
class RunFolder(Folder):
    """A training run."""

    about: dict[str, Any]
    """Its model's fistful.json; {} while there is none."""
    model_fingerprint: str | None
    """What results call its model by; None while it is not finished."""

    def configuration(self) -> bytes:
        """Return what runs have in common that differ in their seed alone."""
        return canonical_json([{name: value for name, value in self.options().items() if name != "seed"}, self.config["inputs"]])


@dataclasses.dataclass(frozen=True, slots=True)
class ResultsFolder(Folder):
    """What an evaluation left behind."""

    results: list[dict[str, Any]]
    """As evaluation wrote them, each with a `label` that no other folder's model has."""
    comparisons: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class QuizFolder(Folder):
    """What a quiz left behind."""

    summary: dict[str, Any]
    """As the quiz wrote it; {} while it is not finished."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataFolder(Folder):
    """Bags, or pseudo-bags, with their vocabulary."""

    stats: dict[str, Any]
    vocabulary: Vocabulary | None
    """None while it is not written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Material:
    """All that a page is made from, in the order given."""

    runs: tuple[RunFolder, ...]
    results: tuple[ResultsFolder, ...]
    data: tuple[DataFolder, ...]
    labels: tuple[DataFolder, ...]
    quizzes: tuple[QuizFolder, ...] = ()
    vectors: tuple[DataFolder, ...] = ()

    def models(self) -> list[str]:
        """Return the names of all models, those with scores first: their places are their colours."""
        scored = [result["label"] for folder in self.results for result in folder.results]
        quizzed = [about["model"] for folder in self.quizzes for about in folder.summary.get("models", []) if about["fingerprint"]]
        return list(dict.fromkeys([*scored, *(run.name for run in self.runs), *quizzed]))


def open_material(specs: Sequence[str]) -> Material:
    """Find out what folders are and read their configurations.

    Raises:
        UsageError: If there is none, or one is none of ours.
        DataError: If a configuration is broken.
    """
    paths = list(dict.fromkeys(path for spec in specs for path in _find(spec)))
    if not paths:
        raise UsageError("report: no FOLDER given; expected folders that fistful train, evaluate, quiz, bags, label or vectors wrote")
    found: dict[str, list[Any]] = {kind: [] for kind in dict.fromkeys(KINDS.values())}
    kinds = [KINDS[read_config(path)["verb"]] for path in paths]
    for kind in found:
        own_paths = [path for path, its_kind in zip(paths, kinds, strict=True) if its_kind == kind]
        for path, name in zip(own_paths, _short_names(own_paths), strict=True):
            found[kind].append(_open(kind, (path, name, read_config(path), _fingerprint(path))))
    _tell_models_apart(found["results"])
    return Material(**{kind: tuple(folders) for kind, folders in found.items()})


def _tell_models_apart(folders: Sequence[ResultsFolder]) -> None:
    """Give each result a label: the model's name, with its folder's where that does not say which result is meant.

    Folders that measured one model on different sets speak of it by one name.
    """
    found: dict[str, list[tuple[str, Any, Any]]] = {}
    for folder in folders:
        for result in folder.results:
            measured = (result["dataset"], result.get("prompts"), result.get("task"))
            found.setdefault(result["model"], []).append((folder.name, result.get("model_fingerprint"), measured))
    unclear = {name for name, places in found.items() if not _one_model(places)}
    for folder in folders:
        for result in folder.results:
            result["label"] = f"{result['model']} ({folder.name})" if result["model"] in unclear else result["model"]


def _one_model(places: Sequence[tuple[str, Any, Any]]) -> bool:
    """Tell whether results of one name, (folder, fingerprint, what was measured), are of one model, each measured once."""
    if len({folder for folder, _, _ in places}) == 1:
        return True
    fingerprints = {fingerprint for _, fingerprint, _ in places}
    return len(fingerprints) == 1 and None not in fingerprints and len({measured for *_, measured in places}) == len(places)


def _find(spec: str) -> list[Path]:
    folder = folder_at(spec).absolute()
    if not folder.is_dir():
        raise UsageError(f"{spec}: no such folder; expected one that fistful train, evaluate, quiz, bags, label or vectors wrote")
    if (folder / CONFIG).exists() and _verb(folder) in KINDS:
        return [folder]
    verb = _verb(folder) if (folder / CONFIG).exists() else ""
    if verb in READ_BY:
        raise UsageError(f"{spec}: was written by fistful {verb}, and a page shows nothing of it; {READ_BY[verb].format(spec)}")
    inside = _inside(folder, DEPTH)
    if not inside:
        raise UsageError(
            f"{spec}: found no run, results or data in it; expected a folder of fistful train, evaluate, quiz, bags, label or vectors"
        )
    return inside


def _inside(folder: Path, depth: int) -> list[Path]:
    found = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir()) if depth else ():
        verb = _verb(path) if (path / CONFIG).exists() else ""
        found += [path] if verb in KINDS else [] if verb else _inside(path, depth - 1)
    return found


def _verb(folder: Path) -> str:
    config = read_json(folder / CONFIG)
    return str(config.get("verb", "")) if isinstance(config, dict) else ""


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that differ."""
    names = []
    for path in paths:
        depth = 1
        while depth < len(path.parts) and sum(other.parts[-depth:] == path.parts[-depth:] for other in paths) > 1:
            depth += 1
        names.append("/".join(path.parts[-depth:]))
    return names


def _fingerprint(folder: Path) -> str | None:
    return manifest_part(folder, "digest", str) if (folder / MANIFEST).exists() else None


def _model_fingerprint(run: Path) -> str | None:
    """Return the fingerprint of a run's model, from the hashes in its manifest (training/model/tower_encoders.py would bring torch)."""
    if not (run / MANIFEST).exists():
        return None
    files = {Path(name): record for name, record in manifest_part(run, "files", dict).items()}
    return sha256_hex(canonical_json({p.name: r for p, r in files.items() if str(p.parent) == "model" and p.suffix in MODEL_FILES}))


def _open(kind: str, own: tuple[Path, str, dict[str, Any], str | None]) -> Folder:
    path = own[0]
    if kind == "runs":
        about = path / "model" / OWN_FILE
        return RunFolder(*own, read_json(about) if about.exists() else {}, _model_fingerprint(path))
    if kind == "results":
        summary = read_json(path / SUMMARY) if (path / SUMMARY).exists() else {"results": []}
        if not isinstance(summary, dict) or not isinstance(summary.get("results"), list):
            raise DataError(f"{path / SUMMARY}: expected an object with a list of results")
        return ResultsFolder(*own, summary["results"], list(summary.get("comparisons", [])))
    if kind == "quizzes":
        summary = read_json(path / QUIZ) if (path / QUIZ).exists() else {}
        if summary and not (isinstance(summary, dict) and {"kinds", "main_k", "tasks", "models", "comparisons", "notes"} <= summary.keys()):
            raise DataError(f"{path / QUIZ}: is not what fistful quiz writes; fistful verify {path} tells what else changed")
        return QuizFolder(*own, summary)
    stats = path / "stats.json"
    vocabulary = read_vocabulary(path) if (path / VOCABULARY).exists() else None
    return DataFolder(*own, read_json(stats) if stats.exists() else {}, vocabulary)
