"""What was run: options, versions and lineage of each folder, without anything that differs between equal runs."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from fistful.bow.store.files import read_json

from .inputs import DataFolder, Folder, Material, QuizFolder, ResultsFolder, RunFolder

DIGITS = 16
"""Digits shown of a fingerprint."""
MAX_FOLDERS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """How one folder was made."""

    name: str
    verb: str
    command: tuple[str, ...]
    """The verb with its inputs, and its options."""
    facts: tuple[tuple[str, str], ...]


def provenance_of(material: Material) -> tuple[Made, ...]:
    """Build the section, a part a folder: data, labels, word vectors, runs, results."""
    known = {folder.fingerprint: folder.name for folder in (*material.data, *material.labels) if folder.fingerprint}
    of_data: Sequence[Folder] = (*material.data, *material.labels, *material.vectors)
    folders: Sequence[Folder] = (*of_data, *material.runs, *material.results, *material.quizzes)
    return tuple(_made(folder, known) for folder in folders[:MAX_FOLDERS])


def _made(folder: Folder, known: dict[str, str]) -> Made:
    facts = [("id", str(folder.config["id"])), ("fingerprint", (folder.fingerprint or "not finished")[:DIGITS])]
    if isinstance(folder, RunFolder):
        facts += _run_facts(folder, known)
    elif isinstance(folder, ResultsFolder):
        facts += [(f"model {r['model']}", str(r.get("model_fingerprint", ""))[:DIGITS]) for r in _first_of_each(folder.results, "model")]
        facts += [(f"set {r['dataset']}", str(r.get("content", ""))[:DIGITS]) for r in _first_of_each(folder.results, "dataset")]
    elif isinstance(folder, QuizFolder):
        about = [one for one in folder.summary.get("models", []) if one["fingerprint"]]
        facts += [(f"model {one['model']}", str(one["fingerprint"])[:DIGITS]) for one in about]
    elif isinstance(folder, DataFolder):
        facts += _input_facts(folder.config["inputs"], known)
    facts += [("versions", versions)] if (versions := _versions(folder)) else []
    return Made(folder.name, str(folder.config["verb"]), command_of(folder), tuple(facts))


def _run_facts(run: RunFolder, known: dict[str, str]) -> list[tuple[str, str]]:
    lineage = run.about.get("lineage", {})
    inputs = run.config["inputs"] if isinstance(run.config["inputs"], list) else []
    facts = [("learnt from", f"{_named(entry['fingerprint'], known)}, weight {entry['weight']:g}") for entry in inputs]
    words = {True: "yes: no score on ImageNet's classes is zero-shot", False: "no", None: "not known"}
    if lineage:
        facts.append(("image tower saw ImageNet's labels", words.get(lineage.get("saw_imagenet_labels"), "not known")))
        facts.append(("vocabulary", str(lineage.get("vocabulary_sha256", ""))[:DIGITS]))
    return facts


def _input_facts(inputs: Any, known: dict[str, str]) -> list[tuple[str, str]]:
    names = {"sha256": "input files", "counts": "counts", "like": "like", "encoder": "labelled by the model"}
    return [(text, _named(str(inputs[name]), known)) for name, text in names.items() if isinstance(inputs, dict) and inputs.get(name)]


def _named(fingerprint: str, known: dict[str, str]) -> str:
    return f"{known[fingerprint]} ({fingerprint[:DIGITS]})" if fingerprint in known else fingerprint[:DIGITS]


def _first_of_each(results: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return list({result[name]: result for result in reversed(results)}.values())[::-1]


def _versions(folder: Folder) -> str:
    """Return the versions that a folder's logs name; times and hosts, which differ between equal runs, stay there."""
    found: dict[str, set[str]] = {}
    for path in sorted((folder.path / "logs").glob("*.json"))[:MAX_FOLDERS]:
        log = read_json(path)
        versions = log.get("versions", {}) if isinstance(log, dict) else {}
        for name, version in [*versions.items(), *([("python", log["python"])] if isinstance(log, dict) and "python" in log else [])]:
            found.setdefault(str(name), set()).add(str(version))
    return ", ".join(f"{name} {' and '.join(sorted(found[name]))}" for name in sorted(found))


def command_of(folder: Folder) -> tuple[str, ...]:
    """Return a command that asks for the same options; its inputs are placeholders, for a folder does not keep paths."""
    verb = str(folder.config["verb"])
    inputs = {
        "train": "DATA...",
        "evaluate": "MODEL... --data SET...",
        "quiz": "MODEL...",
        "bags": "SOURCE... --counts COUNTS",
        "vectors": "SOURCE... --counts COUNTS",
        "label": "IMAGES... --model RUN --like DATA",
    }
    options = [part for name, value in sorted(folder.options().items()) for part in _option(name, value)]
    return (f"fistful {verb} {inputs.get(verb, 'FOLDER...')}", f"--out {shlex.quote(folder.name)}", *options)


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None or value == []:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    values = value if isinstance(value, list) else [value]
    return [f"{flag} {shlex.quote(f'{one:g}' if isinstance(one, float) else str(one))}" for one in values]
