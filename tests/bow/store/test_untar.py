"""Reading tars: as tarfile does where they are whole, and never silent where they are not."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.store.shard import tar_bytes
from fistful.bow.store.untar import MAX_HEADER, TarReader

FILES = {"a.jpg": b"j" * 700, "a.txt": b"red dog", "b.txt": b""}


def read_all(data: bytes) -> list[tuple[str, str, bytes]]:
    tar = TarReader(io.BytesIO(data))
    return [(member.name, member.kind, tar.read()) for member in tar]


def make_tar(format: int, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def test_members_come_in_order_with_their_content() -> None:
    assert read_all(tar_bytes(FILES)) == [("a.jpg", "file", b"j" * 700), ("a.txt", "file", b"red dog"), ("b.txt", "file", b"")]


def test_content_that_nobody_asks_for_is_passed_over() -> None:
    assert [m.name for m in TarReader(io.BytesIO(tar_bytes(FILES)))] == ["a.jpg", "a.txt", "b.txt"]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300), st.binary(max_size=600)
        ),
        max_size=4,
    )
)
def test_long_and_foreign_names_are_those_that_tarfile_reads(format: int, files: list[tuple[str, bytes]]) -> None:
    data = make_tar(format, *((member(name), content) for name, content in files))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(m.name, tar.extractfile(m).read()) for m in tar if m.isfile()]  # pyright: ignore[reportOptionalMemberAccess]
    found = [(name, content) for name, kind, content in read_all(data) if kind == "file"]
    assert [content for _, content in found] == [content for _, content in expected]
    assert [name.rstrip("/") for name, _ in found] == [name.rstrip("/") for name, _ in expected]


def test_only_regular_files_are_files() -> None:
    kinds = {
        "folder": tarfile.DIRTYPE,
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "disk": tarfile.BLKTYPE,
        "tty": tarfile.CHRTYPE,
        "pipe": tarfile.FIFOTYPE,
        "odd": b"Z",
        "plain": tarfile.REGTYPE,
        "old": tarfile.AREGTYPE,
    }
    data = make_tar(tarfile.GNU_FORMAT, *((member(name, kind, linkname="/etc/passwd"), b"") for name, kind in kinds.items()))
    assert {name: kind for name, kind, _ in read_all(data)} == {
        "folder": "folder",
        "link": "other",
        "hard": "other",
        "disk": "other",
        "tty": "other",
        "pipe": "other",
        "odd": "other",
        "plain": "file",
        "old": "file",
    }


def test_a_pax_header_may_change_name_and_size() -> None:
    data = make_tar(
        tarfile.PAX_FORMAT, (member("a.txt", pax_headers={"path": "é/b.txt", "comment": "x"}), b"hello"), (member("c.txt"), b"there")
    )
    assert read_all(data) == [("é/b.txt", "file", b"hello"), ("c.txt", "file", b"there")]


def test_files_with_holes_are_not_files() -> None:
    data = make_tar(
        tarfile.PAX_FORMAT, (member("a.txt", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999999"}), b"1\n0\n5\n")
    )
    assert [(m.name, m.kind) for m in TarReader(io.BytesIO(data))] == [("a.txt", "other")]


def pax(records: bytes) -> bytes:
    return make_tar(tarfile.USTAR_FORMAT, (member("x", tarfile.XHDTYPE), records), (member("a.txt"), b"hello"))


def whole(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(tar_bytes(FILES))
    change(data)
    return bytes(data)


SECOND_HEADER = 512 + 1024


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no end marker"),
        (tar_bytes(FILES)[:SECOND_HEADER], "no end marker"),
        (tar_bytes(FILES)[: SECOND_HEADER + 100], "truncated header"),
        (tar_bytes(FILES)[: SECOND_HEADER - 1], "unexpected end of data"),
        (whole(lambda data: data.__setitem__(SECOND_HEADER, 255)), "bad checksum"),
        (tar_bytes(FILES) + b"<html>404</html>" * 100, "invalid header"),
        (b"<html>404</html>" * 100, "invalid header"),
        (make_tar(tarfile.GNU_FORMAT, (member("s", tarfile.GNUTYPE_SPARSE), b"")), "a file with holes"),
        (pax(b"99 path=a\n"), "a pax header that is none"),
        (pax(b"-9 path=a\n"), "a pax header that is none"),
        (pax(b"11 path=abc"), "a pax header that is none"),
        (pax(b"12 size=-50\n"), "a member of -50 bytes"),
        (pax(b"12 size=abc\n"), "a pax header that is none"),
        (pax(b"25 size=99999999999999999\n"), "a pax header that is none"),
        (pax(b"26 size=99999999999999999\n"), "unexpected end of data"),
        (
            make_tar(tarfile.USTAR_FORMAT, (member("x", tarfile.XHDTYPE), bytes(MAX_HEADER + 1))),
            "a header of 1048577 bytes, at most 1048576 are read",
        ),
    ],
)
def test_a_broken_archive_is_an_error_and_never_an_end(data: bytes, complaint: str) -> None:
    with pytest.raises(tarfile.ReadError) as error:
        for _ in TarReader(io.BytesIO(data)):
            pass
    assert str(error.value) == complaint


def test_every_place_to_break_off_is_noticed() -> None:
    data = tar_bytes(FILES)
    end = data.rindex(b"red dog") + 512 + 512  # the last header's end
    for length in range(0, end + 1, 7):
        with pytest.raises(tarfile.ReadError):
            read_all(data[:length])


def test_an_announced_size_takes_no_memory() -> None:
    huge = member("a.txt")
    huge.size = 1 << 40
    data = huge.tobuf(tarfile.GNU_FORMAT) + b"only this"
    tracemalloc.start()
    try:
        with pytest.raises(tarfile.ReadError, match=r"^unexpected end of data$"):
            read_all(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_tars_that_cat_joined_are_read_one_after_the_other():
    joined = tar_bytes({"a.txt": b"red"}) + tar_bytes({"b.txt": b"blue"}) + tar_bytes({"c.txt": b"green"})
    tar = TarReader(io.BytesIO(joined))
    assert [(member.name, tar.read()) for member in tar] == [("a.txt", b"red"), ("b.txt", b"blue"), ("c.txt", b"green")]


@pytest.mark.parametrize("size", [3, 600, 3 << 20])
@pytest.mark.parametrize("zeros", [0, 512, 5 << 20])
def test_offsets_are_those_in_the_whole_file_behind_an_end_marker_too(size: int, zeros: int) -> None:
    parts = [tar_bytes({f"{letter}.txt": bytes([65 + i]) * size, f"{letter}2.txt": b"tail"}) for i, letter in enumerate("abc")]
    joined = bytes(zeros).join(parts)
    found = [(member.name, joined[member.offset : member.offset + member.size]) for member in TarReader(io.BytesIO(joined))]
    assert found == [
        pair for i, letter in enumerate("abc") for pair in ((f"{letter}.txt", bytes([65 + i]) * size), (f"{letter}2.txt", b"tail"))
    ]
