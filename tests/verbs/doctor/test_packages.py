"""What `fistful doctor` finds about the installation, each finding provoked once."""

from __future__ import annotations

import pytest

from fistful.verbs.doctor.finding import Finding
from fistful.verbs.doctor.packages import Installed, judge_installed, probe_installed
from tests.support.findings import levels, one

VERSIONS = {
    "apache-beam": "2.77.0",
    "numpy": "2.3.5",
    "pyarrow": "25.0.1",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
    "open-clip-torch": "3.3.0",
    "timm": "1.0.31",
    "webdataset": "1.0.2",
    "safetensors": "0.8.0",
    "faiss-cpu": "1.15.1",
    "scipy": "1.18",
    "scikit-learn": "1.9",
    "jinja2": "3.1",
    "matplotlib": "3.11",
}


def installed(**changes: str | None) -> list[Finding]:
    versions = {**VERSIONS, **{name.replace("_", "-"): version for name, version in changes.items()}}
    return judge_installed(
        Installed(python="3.11.7", executable="/usr/bin/python3", versions={n: v for n, v in versions.items() if v is not None})
    )


@pytest.mark.parametrize(
    ("changes", "level", "said", "command"),
    [
        ({}, "note", "open_clip_torch 3.3.0 with webdataset 1.0.2", "open_clip_torch[training]"),
        ({"torch": None}, "note", "not installed: torch", "pip install 'fistful[models]'"),
        ({"apache_beam": None}, "problem", "apache-beam is not installed", "pip install"),
        ({"apache_beam": "2.78.0"}, "problem", "apache-beam 2.78.0", "apache-beam>=2.77,<2.78"),
        ({"apache_beam": "2.60.0"}, "problem", "apache-beam 2.60.0", "apache-beam>=2.77,<2.78"),
        ({"numpy": "2.5.1"}, "problem", "numpy 2.5.1 with apache-beam 2.77.0", "numpy<2.5"),
        ({"pyarrow": "26.0.0"}, "problem", "pyarrow 26.0.0 with apache-beam 2.77.0", "pyarrow<26"),
        ({"dill": "0.3.1.1", "datasets": "5.2.0"}, "warning", "dill 0.3.1.1 with datasets 5.2.0", "dill>=0.3.8"),
        ({"open_clip_torch": "2.26.1"}, "problem", "open_clip_torch 2.26.1", "open_clip_torch>=3"),
        ({"torchvision": None}, "problem", "torch 2.14.1 without torchvision", "pip install torchvision"),
        ({"torchvision": "0.28.0"}, "problem", "torch 2.14.1 with torchvision 0.28.0", "torchvision==0.29.*"),
        ({"torchvision": "0.30.0"}, "problem", "torch 2.14.1 with torchvision 0.30.0", "torchvision==0.29.*"),
        ({"torch": "2.14.1+cpu", "torchvision": "0.29.1+cu130"}, "problem", "torch 2.14.1+cpu with torchvision", "whl/cpu"),
        ({"torch": "2.14.1+cpu"}, "problem", "torch 2.14.1+cpu with torchvision 0.29.1", "whl/cpu"),
        ({"clip_benchmark": "1.6.2", "numpy": "2.4.6"}, "warning", "clip-benchmark 1.6.2 with numpy 2.4.6", "numpy<2.4"),
        ({"img2dataset": "1.47.0"}, "warning", "img2dataset 1.47.0 in this environment", "pip install img2dataset"),
        ({"dataclasses": "0.6"}, "warning", "the package dataclasses 0.6", "pip uninstall dataclasses"),
    ],
)
def test_each_finding_about_packages(changes: dict[str, str | None], level: str, said: str, command: str):
    finding = [f for f in installed(**changes) if f.level != "ok" and f.text.startswith(said)]
    assert [f.level for f in finding] == [level]
    assert command in finding[0].command


@pytest.mark.parametrize("torch", ["2.14.0", "2.15.0", "3.0.0"])
def test_a_torchvision_that_asks_for_no_one_torch_takes_later_ones(torch: str):
    assert [f.text for f in installed(torch=torch) if f.level == "problem"] == []


def test_findings_about_the_interpreter_and_the_engine():
    findings = judge_installed(
        Installed(
            python="3.10.4", executable="/home/a user/python", versions=VERSIONS, training_from=("fistful", "open_clip_torch"), prism=True
        )
    )
    assert one(findings, "a space in the interpreter's path").level == "note"
    assert [f.level for f in findings if f.text == "python 3.10.4"] == ["problem"]
    assert one(findings, "engine Prism").command.startswith("--runner FnApiRunner")
    assert "a top-level package `training` from open_clip_torch" in one(findings, "`training`").text


def test_good_pairs_are_not_complained_about():
    fine = installed(webdataset="0.2.86", clip_benchmark="1.6.2", datasets="5.2.0", dill="0.4.0")
    assert levels(fine) == {"ok"}


def test_this_installation_has_no_problem():
    assert "problem" not in levels(judge_installed(probe_installed()))
