"""Folders of parquet files: which of them are one set."""

from __future__ import annotations

import pytest

from fistful.errors import UsageError
from fistful.eval.sets.evaluation_set import Sample
from fistful.eval.sets.layouts import open_set
from tests.support.evaluation_sets import RED, write_parquet


def test_parquet_of_several_splits_is_not_pooled(tmp_path):
    first, second = (write_parquet(tmp_path / f"train-0000{i}-of-00002.parquet", [RED], ["cat"]) for i in range(2))
    assert [sample.name for sample in open_set(str(tmp_path), None).read() if isinstance(sample, Sample)] == [
        f"{path.name}/row 0" for path in (first, second)
    ]
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [RED], ["dog"])
    with pytest.raises(UsageError) as error:
        open_set(str(tmp_path), None)
    assert str(error.value) == (
        f"{tmp_path}: holds files of the splits test, train, which are not scored as one; name one file, such as "
        f"--data {tmp_path}/test-00000-of-00001.parquet, or a folder with the files of one split alone"
    )


def test_parquet_in_a_folder_within_says_what_to_name(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    write_parquet(tmp_path / "set" / "data" / "a.parquet", [RED], ["dog"])
    with pytest.raises(UsageError, match=f"there are parquet files in data: name that folder, such as --data {tmp_path}/set/data"):
        open_set(str(tmp_path / "set"), None)
