"""Verbs that read our data folders read them from an object store too, and say the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fistful.cli import run
from tests.support.data_folder import make_data
from tests.support.object_store import empty_bucket, put_all


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Bags with pictures on disk, and the same in a bucket."""
    folder = Path(make_data(tmp_path_factory.mktemp("readers") / "bags"))
    return folder, put_all(folder, f"{empty_bucket('readers')}/bags")


def said(capsys: pytest.CaptureFixture[str], places: tuple[Path, str], *arguments: str) -> list[tuple[Any, ...]]:
    """What a command says of both, with their names left out."""
    found = []
    for place in map(str, places):
        status = run([argument.replace("DATA", place) for argument in arguments])
        printed = capsys.readouterr()
        found.append((status, printed.out.replace(place, "DATA"), printed.err.replace(place, "DATA")))
    return found


@pytest.mark.parametrize("arguments", [("verify", "DATA"), ("words", "DATA", "red"), ("words", "DATA", "--show", "2")])
def test_a_verb_says_the_same_of_a_bucket(capsys: pytest.CaptureFixture[str], places: tuple[Path, str], arguments: tuple[str, ...]) -> None:
    here, there = said(capsys, places, *arguments)
    assert here == there
    assert here[0] == 0


def test_doctor_says_the_same_of_a_bucket(capsys: pytest.CaptureFixture[str], places: tuple[Path, str]) -> None:
    here, there = said(capsys, places, "doctor", "DATA", "--no-progress")
    assert (here[0], here[2]) == (there[0], there[2])  # lines break elsewhere, and the machine moves on between two looks


def test_a_report_of_a_bucket_is_that_of_a_folder(places: tuple[Path, str], tmp_path: Path) -> None:
    pages = []
    for place in map(str, places):
        assert run(["report", place, "--out", str(tmp_path / "page.html")]) == 0
        pages.append((tmp_path / "page.html").read_text().replace(place, "DATA"))
    assert pages[0] == pages[1]


def test_an_evaluation_on_bags_in_a_bucket_is_that_on_a_folder(
    places: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "tests.support.colours:ColourEncoder {}"
    printed = []
    for name, place in zip(("here", "there"), map(str, places), strict=True):
        assert run(["evaluate", model, "--data", place, "--trained-on", place, "--out", str(tmp_path / name), "--no-progress"]) == 0
        printed.append(capsys.readouterr().out.replace(str(tmp_path / name), "OUT").replace("there", "here"))
    assert printed[0].replace("OUT", "") == printed[1].replace("OUT", "")
    shutil.rmtree(tmp_path)


def test_what_is_not_ours_in_a_bucket_is_refused(places: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = f"{places[1]}/shards"
    assert run(["doctor", shards]) == 2
    assert (
        capsys.readouterr().err
        == f"fistful: {shards}: was not written by fistful; of a store only such folders are looked at, fetch others first\n"
    )
