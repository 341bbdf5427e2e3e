"""What is read of folders by names alone: links, hidden files, depth, and what is said of the rest."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

from fistful.bow.store.kinds import PassedOver, files_under, is_hidden, unread_kind


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_files_come_sorted_and_hidden_ones_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "b.jpg", "a/c.jpg", "a/._c.jpg", ".git/config", "Thumbs.db", "__MACOSX/a/b.jpg")
    passed = PassedOver()
    assert files_under(tmp_path, passed) == ["a/c.jpg", "b.jpg"]
    assert passed.lines() == ["2 hidden files and folders, such as .git: give them by name if they are meant"]


def test_linked_folders_are_entered_after_all_others_and_none_twice(tmp_path: Path) -> None:
    write(tmp_path, "photos/z/a.jpg", "elsewhere/b.jpg", "elsewhere/deep/c.jpg")
    (tmp_path / "photos/again").symlink_to("z")
    (tmp_path / "photos/more").symlink_to("../elsewhere")
    (tmp_path / "photos/up").symlink_to("..")
    (tmp_path / "elsewhere/round").symlink_to("../photos")
    passed = PassedOver()
    assert files_under(tmp_path / "photos", passed) == ["more/b.jpg", "more/deep/c.jpg", "z/a.jpg"]
    assert {name for why, name in passed.first.items() if why == "link"} == {"again"}
    assert passed.counts["link", ""] == 4  # again, more/round, up/elsewhere, up/photos


def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    passed = PassedOver()
    assert files_under(tmp_path, passed) == ["a.jpg"]
    assert passed.lines() == []


def test_folders_are_followed_however_deep_they_lie(tmp_path: Path) -> None:
    deep = "/".join("x" * 300)
    write(tmp_path, f"{deep}/a.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert files_under(str(tmp_path), PassedOver()) == [f"{deep}/a.jpg"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(20):  # deeper than a path may be long
            os.mkdir("x" * 250)
            os.chdir("x" * 250)
    finally:
        os.chdir(here)
    passed = PassedOver()
    assert files_under(write(tmp_path, "a.jpg"), passed) == ["a.jpg"]
    assert [line.partition(",")[0] for line in passed.lines()] == ["1 folder that may not be listed"]
    assert passed.first["folder"].endswith("x (file name too long)")


def test_a_name_is_hidden_in_any_of_its_parts_but_not_by_the_dots_that_lead_to_it() -> None:
    assert [name for name in ("./a.jpg", "../a.jpg", "a/..b/c.jpg", "a/.b/c.jpg", "A/THUMBS.DB", "a.b/c.jpg") if is_hidden(name)] == [
        "a/..b/c.jpg",
        "a/.b/c.jpg",
        "A/THUMBS.DB",
    ]


def test_kinds_that_are_not_read_are_known_by_the_ends_of_names() -> None:
    names = ("a.zip", "a.TAR.XZ", "a.tbz2", "a.heic", "a.jfif", "gif", "a.txt")
    assert [unread_kind(name) for name in names] == [
        ("archive", ".zip"),
        ("archive", ".tar.xz"),
        ("archive", ".tbz2"),
        ("picture", ".heic"),
        None,
        None,
        None,
    ]
