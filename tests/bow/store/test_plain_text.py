"""Text that others wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.plain_text import MARK, BadText, decode, encoding_of, lines_of, read_lines
from fistful.errors import UsageError


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(MARK + b"cat\r\ndog\rbird\n\nlast")
    assert read_lines(tmp_path / "a.txt", "--names a.txt", "a name a line") == ["cat", "dog", "bird", "", "last"]
    assert decode(MARK + b"caf\xc3\xa9") == decode(b"caf\xc3\xa9") == "caf\xe9"


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_what_only_unicode_takes_for_a_line_end_ends_no_line(end: str) -> None:
    assert lines_of(f"red{end}fox\nblue whale") == [f"red{end}fox", "blue whale"]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_lines_are_read_back_whatever_ends_them(lines: list[str], end: str) -> None:
    assert lines_of(decode(end.join(lines).encode("utf-8-sig"))) == lines
    assert lines_of(decode("".join(line + end for line in lines).encode())) == lines


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        ("cat\n".encode("utf-16"), "UTF-16", "not UTF-8 but UTF-16"),
        ("\ufeffcat\n".encode("utf-16-be"), "UTF-16", "not UTF-8 but UTF-16"),
        ("cat\n".encode("utf-32"), "UTF-32", "not UTF-8 but UTF-32"),
        ("caption".encode("utf-16-le"), "UTF-16LE", "not UTF-8 but UTF-16LE"),
        ("caption".encode("utf-16-be"), "UTF-16BE", "not UTF-8 but UTF-16BE"),
        (b"caf\xe9", "", "not UTF-8 (unexpected end of data at byte 3)"),
        (MARK + b"caf\xe9", "", "not UTF-8 (unexpected end of data at byte 6)"),
    ],
)
def test_what_is_not_utf_8_is_named_as_what_it_is(data: bytes, name: str, message: str) -> None:
    assert encoding_of(data) == name
    with pytest.raises(BadText) as error:
        decode(data)
    assert str(error.value) == message


def test_a_file_that_cannot_be_read_is_told_with_the_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("cat\n".encode("utf-16"))
    with pytest.raises(UsageError) as error:
        read_lines(path, "--exclude a.txt", "a KEY a line")
    assert (
        str(error.value) == f"--exclude a.txt: not UTF-8 but UTF-16; expected a KEY a line, in UTF-8: iconv -f UTF-16 -t utf-8 {path} > NEW"
    )
    for place in (tmp_path, path / "below", tmp_path / "none"):
        with pytest.raises(UsageError, match=r"^--exclude a.txt: no such file; expected a KEY a line$"):
            read_lines(place, "--exclude a.txt", "a KEY a line")
