"""Pictures by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fistful.bow.contents import index_contents, picture_contents
from fistful.bow.store.index import read_index
from fistful.errors import DataError
from tests.support.data_folder import make_data, picture_bytes


def test_copies_have_one_number_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"xxpicture")
    (tmp_path / "b").write_bytes(b"pictureother")
    told: list[int] = []
    found = picture_contents(
        [tmp_path / "a", tmp_path / "b"], np.array([1, 0, 1]), np.array([0, 2, 7]), np.array([7, 7, 5]), lambda n: told.append(n)
    )
    expected = [int(hashlib.sha256(data).hexdigest()[:16], 16) for data in (b"picture", b"picture", b"other")]
    assert found.tolist() == expected
    assert told == [1, 3]


def test_a_data_folders_pictures_are_found_by_its_index(tmp_path: Path) -> None:
    folder = Path(make_data(tmp_path / "data", n=12))
    numbers = index_contents(folder, read_index(folder)).tolist()
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    assert numbers == [int(hashlib.sha256(picture_bytes(i)).hexdigest()[:16], 16) for i in order]
    (folder / "shards" / "00001.tar").unlink()
    with pytest.raises(DataError, match=r"00001\.tar: missing, though the index names it"):
        index_contents(folder, read_index(folder))
