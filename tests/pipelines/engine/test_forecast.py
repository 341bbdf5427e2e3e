"""Dry runs: a forecast, and not one byte written."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fistful.bow.balance import Balance
from fistful.bow.vocabulary import Limits
from fistful.errors import UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.forecast import STATED_RATE, cut, forecast_text
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.read.units import Unit
from tests.support.folders import contents, fistful
from tests.support.pictures import picture

DRY = Running(progress=False, dry_run=True)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.tsv"
    path.parent.mkdir()
    path.write_text("".join(f"{i}\ta red dog and {'a tree' * (i % 7)}\n" for i in range(5_000)))
    return path


def test_a_dry_run_says_what_a_job_will_take_and_writes_nothing(text: Path, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    done = fistful("count", text, "--caption", "2", "--unit-mb", "0.05", "--out", tmp_path / "counts", "--dry-run", TMPDIR=str(tmp_path))

    size = text.stat().st_size
    first, second, third = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert first == f"dry run, nothing is written: {-(-size // 50_000)} units, {size / 1e6:.1f} MB to read"
    assert re.fullmatch(
        r"tried 0\.0 MB of a\.tsv in one process: [\d,]+ rows/s, [\d.]+ MB/s, [\d.]+ bytes written for each byte read", second
    )
    assert re.fullmatch(
        r"forecast for the whole in proportion: \d+ s with --workers 1 if it has as many free cores, "
        r"0\.\d MB on disk \([\d.,]+ GB are free\)",
        third,
    )
    assert sorted(os.listdir(tmp_path)) == before  # the place of the trial is gone too


def test_bags_have_a_forecast_too_with_images_and_with_a_part_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(20):
        (photos / f"{i:02d}.png").write_bytes(picture((i, 9, 9), size=(90, 80)))
        (photos / f"{i:02d}.txt").write_text("a red dog")
    plan = PlanOptions(unit_files=6)
    counts = count(str(photos), out=tmp_path / "counts", config=CountConfig(plan=plan, running=Running(progress=False)))
    config = BagsConfig(plan=plan, limits=Limits(min_count=1), balance=Balance(rule="cap", kept=0.5), running=DRY)
    bags(str(photos), counts=counts, out=tmp_path / "bags", config=config)
    part = BagsConfig(plan=plan, limits=Limits(min_count=1), running=Running(progress=False, dry_run=True, units="2-9"))
    bags(str(photos), counts=counts, out=tmp_path / "bags", config=part)

    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("dry run")]
    assert [line.split(",")[1].split(":")[1] for line in said] == [" 4 units", " 2 units"]
    assert not (tmp_path / "bags").exists()


def test_a_dry_run_refuses_what_the_run_would_refuse(text: Path, tmp_path: Path) -> None:
    source = SourceOptions(caption="2")
    out = count(str(text), out=tmp_path / "counts", config=CountConfig(source=source, running=Running(progress=False)))
    before = contents(out)
    with pytest.raises(UsageError, match="belongs to another configuration"):
        count(str(text), out=out, config=CountConfig(source=source, plan=PlanOptions(unit_mb=0.05), running=DRY))
    wrong = Running(progress=False, dry_run=True, beam_option=("direct_runner_bundle_repeats=1",))
    with pytest.raises(UsageError, match="did you mean direct_runner_bundle_repeat"):
        count(str(text), out=tmp_path / "other", config=CountConfig(source=source, running=wrong))
    done = fistful("count", text, "--caption", "2", "--out", out, "--dry-run")

    assert (done.returncode, done.stdout) == (0, f"dry run: {out} is done already\n")
    assert contents(out) == before


def test_pieces_are_cut_where_a_unit_can_be_cut(text: Path) -> None:
    (unit,), _ = plan_units((str(text),), PlanOptions())
    first, second = cut(unit)
    assert (first.number, first.start, first.stop, second.number, second.start) == (0, 0, unit.size // 2, 1, unit.size // 2)
    tar = Unit(7, "tar", "a.tar", "a.tar", 0, 9_000, size=9_000)
    assert [(piece.number, piece.size) for piece in cut(tar)] == [(0, 9_000), (1, 9_000)]


def test_where_nothing_can_be_tried_the_rate_is_stated() -> None:
    said = forecast_text([10**12], None, 1, 10**10)
    hours = 10**12 / STATED_RATE / 3_600
    assert said.splitlines() == [
        "dry run, nothing is written: 1 unit, 1,000.0 GB to read",
        "nothing was tried, the pieces are too large: taken are 10 MB/s a process, and as much written as read",
        f"forecast for the whole in proportion: {hours:.1f} h with --workers 1 if it has as many free cores, "
        "1,000.0 GB on disk (10.0 GB are free: too little)",
    ]
