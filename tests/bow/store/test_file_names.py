"""Names as file names: one to one, short enough, and never alike for a file system that knows no case."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.file_names import alike, file_name, tell_apart

ANY = st.text(st.characters() | st.sampled_from("aA-./~ é模\ud800"), max_size=12)


def test_plain_names_stand_as_they_are():
    assert file_name("ViT-B-32", "tiny-imagenet-val", "openai80") == "ViT-B-32--tiny-imagenet-val--openai80"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("模型", "s"), ("跑步", "s")),
        (("tiny/rn50", "s"), ("tiny_rn50", "s")),
        (("a--b", "c"), ("a", "b--c")),
        (("a-", "b"), ("a", "-b")),
        (("a", "", "b"), ("a", "b")),
        (("e\u0301", "s"), ("\u00e9", "s")),
        (("x" * 300, "s"), ("x" * 301, "s")),
        ((".", "s"), ("..", "s")),
    ],
)
def test_unlike_names_give_unlike_files(one: tuple[str, ...], other: tuple[str, ...]):
    assert file_name(*one) != file_name(*other)


@given(st.lists(ANY, min_size=1, max_size=3), st.lists(ANY, min_size=1, max_size=3))
def test_names_are_one_to_one_and_files_that_every_file_system_takes(one: list[str], other: list[str]):
    assert (file_name(*one) == file_name(*other)) == (one == other)
    found = file_name(*one)
    assert len(found.encode()) <= 190
    assert re.fullmatch(r"[\w.~-]+", found)
    assert not found.startswith(".")


def test_what_is_not_plain_is_still_to_be_read():
    assert file_name("模型 2").startswith("模型_2~")


@given(st.lists(st.sampled_from(["r", "R", "r-2", "r-3", "R-2", "s"]), max_size=6))
def test_names_that_were_told_apart_are_unlike_whatever_their_case_and_the_first_keeps_its_own(names: list[str]):
    found = tell_apart(names)
    assert len({alike(name) for name in found}) == len(names)
    assert all(new.startswith(old) for new, old in zip(found, names, strict=True))
    firsts = [i for i, name in enumerate(names) if alike(name) not in map(alike, names[:i])]
    assert [found[i] for i in firsts] == [names[i] for i in firsts]
