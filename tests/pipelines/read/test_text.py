"""Plain text: a caption on each line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fistful.bow.store.files import read_json
from fistful.bow.store.kinds import PassedOver
from fistful.bow.vocabulary import read_counted
from fistful.cli import run
from fistful.errors import UsageError
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.source_options import SourceOptions
from fistful.pipelines.read.sources import open_unit
from fistful.pipelines.read.units import Unit
from tests.support.pictures import picture

Read = tuple[list[tuple[int, str]], list[tuple[str, str]]]


def read_units(units: list[Unit], options: SourceOptions | None = None) -> Read:
    """Return row numbers and captions, and reasons and places of what is refused."""
    rows, letters = [], []
    for unit in units:
        with open_unit(unit, options or SourceOptions(), with_images=False) as (batches, _):
            for batch in batches:
                rows += [(row.number, row.captions[0]) for row in batch.rows]
                letters += [(letter.reason, letter.place) for letter in batch.letters]
    return rows, letters


def planned(*sources: Path, **options: object) -> tuple[list[Unit], list[str]]:
    passed = PassedOver()
    units, _ = plan_units(tuple(map(str, sources)), PlanOptions(**options), passed, SourceOptions())  # pyright: ignore[reportArgumentType]
    return units, passed.taken


def test_each_line_is_a_caption_whatever_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_bytes(b'\xef\xbb\xbfA dog, a cat\n\n"red" fox\tand \x1f owl\r\n   \nblue fish\ncaf\xe9\nlast')
    units, taken = planned(tmp_path / "captions.txt")
    assert taken == ["captions.txt: a caption on each line"]
    assert read_units(units) == (
        [(0, "A dog, a cat"), (1, '"red" fox\tand \x1f owl'), (3, "blue fish"), (5, "last")],
        [("no_caption", "row 3"), ("bad_caption", "row 5")],
    )


@pytest.mark.parametrize("unit_mb", [16.0, 1e-3, 37e-6])
def test_text_is_cut_by_lines_and_compressed_text_is_one_unit(tmp_path: Path, unit_mb: float) -> None:
    lines = [f"red dog number {i}, {'very ' * (i % 7)}red" for i in range(200)]
    text = "".join(line + "\n" for line in lines).encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text))
    for name in ("a.txt", "b.txt.gz"):
        units, _ = planned(tmp_path / name, unit_mb=unit_mb)
        assert len(units) == (1 if name == "b.txt.gz" else max(1, -(-len(text) // round(unit_mb * 1e6))))
        assert [caption for _, caption in read_units(units)[0]] == lines


def test_a_line_without_end_is_refused_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fistful.pipelines.read import delimited, lines, records

    for module in (delimited, lines, records):
        monkeypatch.setattr(module, "MAX_TEXT", 50_000)
    (tmp_path / "a.txt").write_text(f"red dog\n{'x' * 6_000_000}\nblue cat\n")
    assert read_units(planned(tmp_path / "a.txt")[0]) == ([(0, "red dog"), (2, "blue cat")], [("bad_row", "row 2")])


def test_texts_beside_pictures_stay_theirs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.txt").write_text("a red dog\nof paper\n")
    units, taken = planned(tmp_path)
    assert ([unit.kind for unit in units], taken) == (["images"], ["1 picture, with texts: 1 .txt"])
    assert [unit.kind for unit in planned(tmp_path / "a.txt")[0]] == ["txt"]


def test_a_folder_of_texts_alone_is_not_guessed_at(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("b.txt", "a.txt"):
        (folder / name).write_text("red dog\nblue cat\n")
    with pytest.raises(UsageError) as error:
        planned(folder)
    assert str(error.value) == (
        f"{folder}: holds no tar, TSV, CSV, JSONL, image or parquet; "
        "2 texts, such as a.txt: --input-format txt reads a caption on each line"
    )
    units, taken = planned(folder, input_format="txt")
    assert (len(read_units(units)[0]), taken) == (4, ["2 texts: a caption on each line"])
    assert planned(folder / "*.txt") == (units, taken)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        (
            "image,caption\n1.jpg,a dog\n2.jpg,a cat\n",
            "has a column 'image' in its first line",
        ),  # Kaggle's captions.txt without its pictures
        ("id\tcaption\n1\ta dog\n", "has a column 'caption' in its first line"),
        ("1.jpg#0\ta dog\n1.jpg#1\tthe dog\n", "names pictures such as '1.jpg#0' in its column 1"),
    ],
)
def test_a_table_is_not_read_as_text_unless_that_is_said(tmp_path: Path, text: str, sign: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        planned(path)
    assert str(error.value) == (f"{path}: {sign}; --input-format csv or tsv reads it as a table, --input-format txt each line as a caption")
    assert len(read_units(planned(path, input_format="txt")[0])[0]) == text.count("\n")


def test_columns_of_text_are_refused(tmp_path: Path) -> None:
    path, table = tmp_path / "a.txt", tmp_path / "b.tsv"
    path.write_text("red dog\n")
    table.write_text("prose\tid\nblue cat\t1\n")
    with pytest.raises(UsageError) as error:
        plan_units((str(path),), PlanOptions(), None, SourceOptions(caption="2"))
    assert str(error.value) == (
        f"{path}: is read as plain text, a caption on each line, and has no columns; --input-format csv or tsv reads a table"
    )
    options = SourceOptions(caption="prose")
    units, _ = plan_units((str(path), str(table)), PlanOptions(), None, options)
    assert [caption for _, caption in read_units(units, options)[0]] == ["red dog", "blue cat"]


def test_count_bags_and_vectors_take_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("captions.txt").write_text("red dog\nred cat\nblue fish\nblue bird\nzebra\n" * 2)
    assert run(["count", "captions.txt", "--out", "counts", "--no-progress"]) == 0
    assert "read: captions.txt: a caption on each line\n" in capsys.readouterr().out
    words, n_samples = read_counted(Path("counts"))
    assert (n_samples, dict(zip(words["word"].to_pylist(), words["df"].to_pylist(), strict=True))["red"]) == (10, 4)
    for verb, more in (("vectors", ["--dim", "2"]), ("bags", [])):
        assert run([verb, "captions.txt", "--counts", "counts", "--out", verb, "--min-count", "1", "--no-progress", *more]) == 0
        assert read_json(Path(verb) / "stats.json")["kept"] == 10
