"""Objects may be called anything: what looks like a pattern, and names with more slashes than one."""

from __future__ import annotations

import fsspec
import pytest

from fistful.bow.store.files import joined
from fistful.pipelines.read.pictures import texts_beside
from fistful.pipelines.read.plan import Input, PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions, open_unit
from tests.support.object_store import empty_bucket


def captions(source: str) -> list[tuple[str, ...]]:
    units, _ = plan_units((source,), PlanOptions())
    found: list[tuple[str, ...]] = []
    for unit in units:
        with open_unit(unit, SourceOptions(), with_images=True) as (batches, _):
            found += [tuple(row.captions) for batch in batches for row in batch.rows]
    return found


@pytest.mark.parametrize(("name", "pattern_for"), [("in[1]", "in1"), ("w?y", "way"), ("star*", "starfish"), ("{a,b}", "a")])
@pytest.mark.parametrize("file", ["", "/a.tsv"])
def test_a_name_that_looks_like_a_pattern_is_that_object_if_there_is_one_as_on_the_disk(name: str, pattern_for: str, file: str) -> None:
    bucket, system = empty_bucket("patterns"), fsspec.filesystem("memory")
    for folder, caption in ((name, "right"), (pattern_for, "wrong"), ("b", "wrong")):
        system.pipe(f"/patterns/{folder}/a.tsv", f"caption\n{caption}\n".encode())
    assert captions(f"{bucket}/{name}{file}") == [("right",)]


def test_an_object_whose_name_begins_with_a_slash_is_not_taken_for_a_file_of_this_machine() -> None:
    # s3fs lists BUCKET/FOLDER//NAME as such; fsspec's store in memory makes one slash of two
    assert joined("s3://bucket/folder", "/etc/a.tsv") == "s3://bucket/folder//etc/a.tsv"
    assert Input("s3://bucket/folder", "/etc/a.tsv", 1, "tsv", "", "").path == "s3://bucket/folder//etc/a.tsv"
    assert all(text.startswith("s3://bucket/folder/") for text in texts_beside("s3://bucket/folder", "/etc/a"))
    assert joined("/", "a.tsv") == "/a.tsv"
