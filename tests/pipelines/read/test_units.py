"""The plan: what is cut, how it is called, and that nothing but the input decides it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fistful.bow.store.kinds import PassedOver
from fistful.errors import UsageError
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.units import Unit

SMALL = PlanOptions(unit_mb=10 / 1e6, unit_files=2)


def write(folder: Path, **files: bytes) -> Path:
    """Write files; two underscores in a name stand for a dot, three for a folder."""
    for name, data in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def short(units: list[Unit]) -> list[tuple[int, str, str, int, int]]:
    return [(unit.number, unit.kind, unit.name, unit.start, unit.stop) for unit in units]


def test_a_table_is_cut_by_bytes_and_what_cannot_be_entered_is_one_unit(tmp_path: Path) -> None:
    write(tmp_path, a__tsv=b"x" * 25, b__csv=b"x" * 25, c__tsv__gz=b"x" * 25)
    units, inputs = plan_units((str(tmp_path),), SMALL)

    assert short(units) == [
        (0, "tsv", "a.tsv", 0, 10),
        (1, "tsv", "a.tsv", 10, 20),
        (2, "tsv", "a.tsv", 20, 25),
        (3, "csv", "b.csv", 0, 25),
        (4, "tsv", "c.tsv.gz", 0, 25),
    ]
    assert (inputs["files"], inputs["bytes"]) == (3, 75)


def test_of_a_folder_one_kind_is_taken_tars_before_captioned_images_before_tables(tmp_path: Path) -> None:
    write(tmp_path, a__png=b"", b__JPEG=b"", c__webp=b"", c__txt=b"", d__gif=b"")
    units, _ = plan_units((str(tmp_path),), SMALL)
    assert [(unit.kind, unit.name, unit.files) for unit in units] == [
        ("images", "a.png", ("a.png", "b.JPEG")),
        ("images", "c.webp", ("c.webp",)),
    ]

    write(tmp_path, e__tsv=b"x")  # a stray table, which names no picture
    assert {unit.kind for unit in plan_units((str(tmp_path),), SMALL)[0]} == {"images"}
    (tmp_path / "c.txt").unlink()
    assert [unit.name for unit in plan_units((str(tmp_path),), SMALL)[0]] == ["e.tsv"]
    write(tmp_path, shards___00000__tar=b"x", shards___00000__parquet=b"x", shards___00001__tar__gz=b"x")
    assert [unit.name for unit in plan_units((str(tmp_path),), SMALL)[0]] == ["shards/00000.tar", "shards/00001.tar.gz"]
    assert [unit.name for unit in plan_units((str(tmp_path),), PlanOptions(input_format="tsv"))[0]] == ["e.tsv"]


def test_neither_the_order_of_sources_nor_where_they_lie_changes_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    for place in ("here", "there/deeper"):
        folder = write(tmp_path / place, a__tsv=b"x", z___b__tar=b"xx", c__csv=b"xxx")
        monkeypatch.chdir(folder)
        for sources in (("a.tsv", "z/b.tar", "c.csv"), (str(folder / "c.csv"), "./z/../z/b.tar", str(folder / "a.tsv"))):
            units, inputs = plan_units(sources, SMALL)
            plans.append((short(units), inputs))
    assert all(plan == plans[0] for plan in plans)


def test_inputs_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    write(tmp_path, a___0__tar=b"1", b___0__tar=b"2", b___1__tar=b"3")
    units, _ = plan_units((str(tmp_path / "b"), str(tmp_path / "a")), SMALL)
    assert [(unit.name, Path(unit.path).read_bytes()) for unit in units] == [("a/0.tar", b"1"), ("b/0.tar", b"2"), ("b/1.tar", b"3")]

    photos = write(tmp_path / "photos", x___0__png=b"1", y___0__png=b"2")
    units, _ = plan_units((str(photos / "y"), str(photos / "x")), SMALL)
    assert [(unit.name, unit.path, unit.files) for unit in units] == [
        ("x/0.png", str(photos / "x"), ("0.png",)),
        ("y/0.png", str(photos / "y"), ("0.png",)),
    ]


def test_names_that_are_not_utf_8_are_spelt_out(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.tsv", "wb"):
        pass
    units, _ = plan_units((str(tmp_path),), SMALL)
    assert [unit.name for unit in units] == ["caf\\udce9.tsv"]
    assert Path(units[0].path).exists()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "no SOURCE given; expected files (TSV, CSV, JSONL, text, parquet, tar) or folders"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "empty: holds no tar, TSV, CSV, JSONL, image or parquet"),
        (["a.token"], "a.token: cannot tell what it is from its name; --input-format tsv, csv, jsonl, txt, parquet or tar says so"),
        (["a.tsv", "link.tsv"], "{here}/a.tsv: given twice; every input counts once"),
        (["folder", "folder/b.tsv"], "{here}/folder/b.tsv: given twice; every input counts once"),
    ],
)
def test_sources_at_fault_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], message: str) -> None:
    write(tmp_path, a__token=b"", a__tsv=b"", folder___b__tsv=b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.tsv").symlink_to("a.tsv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        plan_units(tuple(sources), PlanOptions())
    assert str(error.value) == message.format(here=tmp_path)


@pytest.mark.parametrize("unit_mb", [0.0, -1.0, float("nan"), float("inf")])
def test_units_without_a_size_are_refused(unit_mb: float) -> None:
    with pytest.raises(UsageError) as error:
        PlanOptions(unit_mb=unit_mb)
    assert str(error.value) == f"--unit-mb {unit_mb} --unit-files 10000: expected numbers above 0"


def test_files_of_kinds_that_nobody_reads_are_said_beside_tables(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.bz2", "e.xlsx", "h.txt", "_SUCCESS", "README.md"):
        (tmp_path / name).write_bytes(b"caption\nred\n")
    passed = PassedOver()
    assert [unit.name for unit in plan_units((str(tmp_path),), PlanOptions(), passed)[0]] == ["a.csv"]
    assert [said for _, said, _ in passed.said()] == ["3 files of kinds that are not read (1 .bz2, 1 .txt, 1 .xlsx), such as b.csv.bz2"]
