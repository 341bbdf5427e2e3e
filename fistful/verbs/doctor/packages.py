"""What `fistful doctor` says of the installation: versions, and pairs of packages known to hurt each other."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from .finding import Finding

SHOWN = (
    "fistful",
    "numpy",
    "pyarrow",
    "apache-beam",
    "spacy",
    "torch",
    "torchvision",
    "open-clip-torch",
    "timm",
    "webdataset",
    "faiss-cpu",
)
"""Packages whose versions are always named."""
MODELS = ("torch", "open-clip-torch", "timm", "webdataset", "safetensors", "faiss-cpu", "scipy", "scikit-learn", "jinja2", "matplotlib")
"""What the extra `models` brings."""

ANY_LATER_TORCH = (0, 29)
"""From this torchvision on any torch will do that is not older than the one it was built for: its metadata say torch>=2.14.0."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """What is installed."""

    python: str
    executable: str
    versions: Mapping[str, str]
    """Version of each distribution, by its name in lower case with hyphens."""
    training_from: tuple[str, ...] = ()
    """Distributions that install a top-level package called `training`."""
    prism: bool = False
    """Whether Beam has fetched its engine Prism for this user."""


def probe_installed() -> Installed:
    """Look at what this interpreter can import."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        with contextlib.suppress(KeyError, TypeError):  # a half-removed package has no name
            versions.setdefault(re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(), distribution.version)
    return Installed(
        python=platform.python_version(),
        executable=sys.executable,
        versions=versions,
        training_from=tuple(sorted(set(importlib.metadata.packages_distributions().get("training", ())))),
        prism=(Path.home() / ".apache_beam/cache/prism").is_dir(),
    )


def release(version: str | None) -> tuple[int, ...]:
    """Return a version's numbers, for comparing; () for none.

    >>> release("2.14.1+cpu") < release("2.15"), release("3.0rc1")
    (True, (3, 0))
    """
    found = re.match(r"\d+(\.\d+)*", version or "")
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def judge_installed(installed: Installed) -> list[Finding]:
    """Say what is known of these versions, each pair on its own and together."""
    shown = ", ".join(f"{name} {installed.versions[name]}" for name in SHOWN if name in installed.versions)
    found = [finding for judge in JUDGES for finding in judge(installed)]
    return [Finding("ok", f"python {installed.python}, {shown}"), *found]


def _extras(installed: Installed) -> list[Finding]:
    missing = [name for name in MODELS if name not in installed.versions]
    if not missing:
        return []
    means = "count, bags, words and verify work; train, label, evaluate and report need them"
    return [Finding("note", f"not installed: {', '.join(missing)}", means, "pip install 'fistful[models]'")]


def _beam(installed: Installed) -> list[Finding]:
    beam = installed.versions.get("apache-beam")
    if beam is not None and not (2, 77) <= release(beam) < (2, 78):
        means = "fistful uses parts of Beam that change between versions, so it asks for 2.77"
        return [Finding("problem", f"apache-beam {beam}", means, "pip install 'apache-beam>=2.77,<2.78'")]
    findings = []
    for name, limit in (("numpy", "2.5"), ("pyarrow", "26")):
        if beam is not None and release(installed.versions.get(name)) >= release(limit):
            said = f"{name} {installed.versions[name]} with apache-beam {beam}"
            findings.append(Finding("problem", said, f"this Beam needs {name} below {limit}", f"pip install '{name}<{limit}'"))
    return findings


def _dill(installed: Installed) -> list[Finding]:
    dill, datasets = installed.versions.get("dill"), installed.versions.get("datasets")
    if dill is None or datasets is None or release(dill) > (0, 3, 1, 1):
        return []
    return [
        Finding(
            "warning",
            f"dill {dill} with datasets {datasets}",
            "apache-beam[dill] pins it, and datasets needs a newer one",
            "pip install apache-beam 'dill>=0.3.8' (Beam without its extra dill)",
        )
    ]


def _open_clip(installed: Installed) -> list[Finding]:
    clip, webdataset = installed.versions.get("open-clip-torch"), installed.versions.get("webdataset")
    findings = []
    if clip is not None and release(clip) < (3,):
        means = "fistful needs 3; pip takes an old one silently where a webdataset is asked for that open_clip_torch[training] excludes"
        findings.append(Finding("problem", f"open_clip_torch {clip}", means, "pip install 'open_clip_torch>=3'"))
    if others := [name for name in installed.training_from if name != "fistful"]:
        means = "fistful's own lies inside fistful and is not touched, but packages that share a name overwrite each other"
        command = "pip install 'open_clip_torch>=3'" if "open_clip_torch" in others else ""
        findings.append(Finding("warning", f"a top-level package `training` from {', '.join(others)}", means, command))
    if clip is not None and release(clip) >= (3,) and release(webdataset) > (0, 2, 86):
        findings.append(
            Finding(
                "note",
                f"open_clip_torch {clip} with webdataset {webdataset}",
                "right for fistful; but open_clip's own trainer ends a shard with KeyError 'fname' and wants an environment of its own",
                "python -m venv clip && clip/bin/pip install 'open_clip_torch[training]'",
            )
        )
    return findings


def _torchvision(installed: Installed) -> list[Finding]:
    torch, vision = installed.versions.get("torch"), installed.versions.get("torchvision")
    if torch is None or "open-clip-torch" not in installed.versions:
        return []
    if vision is None:
        return [Finding("problem", f"torch {torch} without torchvision", "open_clip cannot be imported", "pip install torchvision")]
    wanted = (0, release(torch)[1] + 15)  # torch 2.0 came with torchvision 0.15, 2.1 with 0.16, and so on
    fits = release(vision)[:2] == wanted or ANY_LATER_TORCH <= release(vision)[:2] < wanted
    if release(torch)[0] == 2 and not fits:
        said = f"torch {torch} with torchvision {vision}"
        means = f"torchvision {wanted[0]}.{wanted[1]} belongs to it; another fails when imported (operator torchvision::nms does not exist)"
        return [Finding("problem", said, means, f"pip install 'torchvision=={wanted[0]}.{wanted[1]}.*'")]
    builds = [version.partition("+")[2] for version in (torch, vision)]
    if builds[0] != builds[1] and (all(builds) or "cpu" in builds):  # one without a name was built for CUDA
        index = f"its address ends in whl/{builds[0] or builds[1]}"
        command = f"pip install --force-reinstall torch torchvision, both from the index of one build ({index})"
        return [Finding("problem", f"torch {torch} with torchvision {vision}", "two different builds do not load together", command)]
    return []


def _clip_benchmark(installed: Installed) -> list[Finding]:
    benchmark, numpy = installed.versions.get("clip-benchmark"), installed.versions.get("numpy")
    if benchmark is None or release(benchmark) > (1, 6, 2) or release(numpy) < (2, 4):
        return []
    said = f"clip-benchmark {benchmark} with numpy {numpy}"
    return [Finding("warning", said, "its zero-shot evaluation crashes; fistful evaluate does not", "pip install 'numpy<2.4'")]


def _img2dataset(installed: Installed) -> list[Finding]:
    findings = []
    if "img2dataset" in installed.versions:
        means = "it pins old webdataset, pandas and opencv, so that pip downgrades one or the other"
        command = "python -m venv download && download/bin/pip install img2dataset"
        findings.append(Finding("warning", f"img2dataset {installed.versions['img2dataset']} in this environment", means, command))
    if "dataclasses" in installed.versions:
        means = "where it comes before Python's own (PYTHONPATH, pip --target), torch cannot be imported"
        said = f"the package dataclasses {installed.versions['dataclasses']}"
        findings.append(Finding("warning", said, means, "pip uninstall dataclasses"))
    return findings


def _interpreter(installed: Installed) -> list[Finding]:
    findings = []
    if release(installed.python) < (3, 11):
        findings.append(Finding("problem", f"python {installed.python}", "fistful needs 3.11", "python3.11 -m venv .venv"))
    if " " in installed.executable:
        means = "fistful quotes it; Beam's own runners start workers without quotes and then hang for ever"
        said = f"a space in the interpreter's path, {installed.executable}"
        findings.append(Finding("note", said, means, "python -m venv somewhere/without/spaces (for pipelines of your own)"))
    return findings


def _engine(installed: Installed) -> list[Finding]:
    if "apache-beam" not in installed.versions:
        return [Finding("problem", "apache-beam is not installed", "count and bags cannot run", "pip install --upgrade fistful")]
    if installed.prism:
        means = "Beam's DirectRunner, its default, fetched it and prefers it where it can; fistful names its engine and never uses it"
        command = "--runner FnApiRunner in pipelines of your own"
        return [Finding("note", "Beam's engine Prism in ~/.apache_beam", means, command)]
    return []


JUDGES: tuple[Callable[[Installed], list[Finding]], ...] = (
    _interpreter,
    _engine,
    _extras,
    _beam,
    _dill,
    _open_clip,
    _torchvision,
    _clip_benchmark,
    _img2dataset,
)
"""Each looks at one pair of packages."""
