"""docs/how-to/search-by-embeddings.md finds what it says, typed as it stands there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fistful.bow.store.shard import tar_bytes
from fistful.cli import run
from fistful.pipelines.embed import embed
from fistful.training.train import train
from fistful.training.train_config import train_config
from tests.support.data_folder import make_data, picture_bytes, sample
from tests.support.folders import REPOSITORY
from tests.support.pages import blocks, commands

pytestmark = pytest.mark.xdist_group("search")  # one process trains once
PAGE = REPOSITORY / "docs" / "how-to" / "search-by-embeddings.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page supposes: a run and pictures; beside them tars."""
    folder = tmp_path_factory.mktemp("search")
    options = train_config(steps=60, batch_size=24, warmup=5, threads=1, progress=False, text="bag", text_tower="words")
    data = make_data(folder / "data")
    train(data, out=folder / "run", config=options)
    (folder / "photos").mkdir()
    for i in range(12):
        (folder / "photos" / f"{i}.jpg").write_bytes(picture_bytes(i))
    (folder / "tars").mkdir()
    for part in (0, 1):
        numbers = range(part, 48, 2)
        files = {f"{i:02d}.jpg": picture_bytes(i) for i in numbers} | {f"{i:02d}.txt": " ".join(sample(i)).encode() for i in numbers}
        (folder / "tars" / f"{part}.tar").write_bytes(tar_bytes(dict(sorted(files.items()))))
    return folder


def test_the_page_finds_the_pictures_that_fit(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    assert run([*commands(PAGE)[0], "--no-progress"]) == 0
    (script,) = blocks(PAGE, "python")
    capsys.readouterr()
    exec(compile(script, str(PAGE), "exec"), {})
    red, blue, same = capsys.readouterr().out.splitlines()
    assert red.startswith("a red square ")
    assert blue.startswith("blue bar ")
    found = [int(word) for word in red.split() if word.isdecimal()]
    assert len(found) == 3
    assert sample(found[0])[0] == "red"
    assert same.split()[:3] == ["photos/0.jpg", "0", "(1.00)"]


def test_every_file_goes_to_faiss_as_it_lies_on_disk_and_the_exact_neighbours_come_back(place: Path, tmp_path: Path) -> None:
    import faiss

    embed(str(place / "tars"), model=str(place / "run"), out=tmp_path / "v")
    paths = sorted((tmp_path / "v" / "embeddings").glob("*.npy"))
    assert len(paths) == 2
    mapped = [np.load(path, mmap_mode="r") for path in paths]
    index = faiss.IndexFlatIP(mapped[0].shape[1])
    for rows in mapped:
        index.add(rows)  # pyright: ignore[reportCallIssue]
    vectors_ND = np.concatenate(mapped)
    _, found = index.search(vectors_ND, 1)  # pyright: ignore[reportCallIssue]
    assert np.array_equal(vectors_ND[found[:, 0]], vectors_ND)
    tables = [pq.read_table(path.with_suffix(".parquet")) for path in paths]
    assert [table.num_rows for table in tables] == [len(rows) for rows in mapped] == [24, 24]
