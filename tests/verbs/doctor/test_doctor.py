"""What `fistful doctor` prints, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fistful.errors import DataError, UsageError
from fistful.verbs.doctor import INSTALLATION, check, doctor
from fistful.verbs.doctor.any_folder import judge_path
from fistful.verbs.doctor.finding import Finding, findings_text
from tests.support.findings import levels, pair, write_tar
from tests.support.folders import fistful


def test_the_text_has_a_part_for_each_thing_and_a_summary():
    text = findings_text(
        [Finding("ok", "2 cores", about="machine"), Finding("problem", "broken", "rows are lost", "fetch it again", about="data/")]
    )
    assert text.splitlines() == [
        "machine",
        "  ok       2 cores",
        "",
        "data/",
        "  problem  broken: rows are lost",
        "           -> fetch it again",
        "",
        "1 problem, 0 warnings, 0 notes",
    ]


def test_problems_in_the_folder_end_with_3_and_in_the_installation_with_2():
    check([Finding("warning", "slow", about="data/"), Finding("note", "so", about=INSTALLATION)])
    here, there = Finding("problem", "old", about=INSTALLATION), Finding("problem", "broken", about="data/")
    with pytest.raises(UsageError, match=r"^1 problem found in the installation, the first: old$"):
        check([here])
    with pytest.raises(DataError, match=r"^data/: 1 problem found, the first: broken$"):
        check([here, there])


def test_all_parts_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_tar(tmp_path / "x.tar", pair("0"))
    assert list(dict.fromkeys(f.about for f in doctor(tmp_path))) == ["machine", "installation", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    assert {f.about for f in doctor()} == {"machine", "installation"}
    with pytest.raises(UsageError, match="no such file or folder"):
        doctor(tmp_path / "nowhere")


def test_the_command_line_ends_with_3_for_a_broken_folder(tmp_path: Path):
    write_tar(tmp_path / "x.tar", pair("0"))
    data = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(data[:600])
    done = fistful("doctor", tmp_path)
    assert done.returncode == 3
    assert "problem  1 broken archive, x.tar/0 (broken in this sample (unexpected end of data))" in done.stdout
    assert done.stderr.splitlines() == [
        f"fistful: {tmp_path}: 1 problem found, the first: 1 broken archive, x.tar/0 (broken in this sample (unexpected end of data))"
    ]


def test_the_real_pictures_are_healthy(data_root: Path):
    findings = judge_path(data_root / "photos" / "captioned" / "tuxpaint-00000.tar.gz")
    assert levels(findings) == {"ok"}
    assert "300 samples, 300 images, 300 with text" in findings[0].text
    assert levels(judge_path(data_root / "eval" / "cifar10")) == {"ok"}
