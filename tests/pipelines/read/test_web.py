"""Sources on web servers: addresses as hubs give them, and servers that give files only whole."""

from __future__ import annotations

import io
import sys
from collections.abc import Generator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.registry import _registry, register_implementation

from fistful.bow.store.files import MOST_SKIPPED, open_input
from fistful.bow.store.shard import tar_bytes
from fistful.errors import UsageError
from fistful.pipelines.read.find_files import find_files
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions, open_unit
from tests.support.pictures import picture

FIRST = 64
"""Bytes that a server without ranges gives once, as one whose first block fits."""


class Web(fsspec.AbstractFileSystem):
    """A web server as fsspec shows one: paths are whole addresses; one called whole.org gives no pieces of files."""

    protocol = ("http", "https")
    files: dict[str, bytes] = {}  # noqa: RUF012 - each test has its own

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        if path.partition("?")[0] not in self.files:
            raise FileNotFoundError(path)
        size = None if "sizeless" in path else len(self.files[path.partition("?")[0]])
        return {"name": path, "size": size, "type": "file"}

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **_: Any) -> Any:
        data = self.files[path.partition("?")[0]]
        return Whole(data, block_size == 0) if "whole.org" in path else io.BytesIO(data)


class Whole(io.BytesIO):
    """A file of which no piece but the first can be had, unless as a stream, which cannot seek."""

    def __init__(self, data: bytes, is_stream: bool) -> None:
        super().__init__(data)
        self.is_stream = is_stream

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.is_stream:
            raise ValueError("Cannot seek streaming HTTP file")
        return super().seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        if not self.is_stream and self.tell() + min(len(buffer), FIRST) > FIRST:
            raise ValueError("the server does not support range requests")
        return super().readinto(memoryview(buffer)[: FIRST if not self.is_stream else None])


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Generator[dict[str, bytes]]:
    """What lies on the web, by address."""
    for protocol in Web.protocol:
        monkeypatch.delitem(_registry, protocol, raising=False)
        register_implementation(protocol, Web, clobber=True)
    monkeypatch.setattr(Web, "files", {})
    yield Web.files
    for protocol in Web.protocol:
        _registry.pop(protocol, None)


def captions(*sources: str, plan: PlanOptions = PlanOptions()) -> list[tuple[str, list[str]]]:
    """Name of the unit, and captions, of every row."""
    found = []
    for unit in plan_units(sources, plan)[0]:
        with open_unit(unit, SourceOptions(), with_images=True) as (batches, _):
            found += [(unit.name, row.captions) for batch in batches for row in batch.rows]
    return found


def parquet(*texts: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"caption": texts}), sink)
    return sink.getvalue().to_pybytes()


def test_addresses_that_differ_only_in_what_is_asked_of_the_server_are_refused(web: dict[str, bytes]) -> None:
    web |= {"https://hub.org/set/a.tsv": b"caption\nred fox\n", "https://hub.org/other/a.tsv": b"caption\nred dog\n"}
    message = r"set/a.tsv\?rev=2: is called as https://hub.org/set/a.tsv\?rev=1 is; fetch one of them first, such as by curl -L -o OTHER"
    with pytest.raises(UsageError, match=message):
        captions("https://hub.org/other/a.tsv", "https://hub.org/set/a.tsv?rev=1", "https://hub.org/set/a.tsv?rev=2")
    assert [name for name, _ in captions("https://hub.org/set/a.tsv?rev=1", "https://hub.org/other/a.tsv?rev=1")] == [
        "other/a.tsv",
        "set/a.tsv",
    ]


@pytest.mark.parametrize("asked", ["", "?download=true", "?download=true&from=/a.zip#top"])
@pytest.mark.parametrize("protocol", ["http", "https"])
def test_addresses_are_read_and_named_without_what_is_asked_of_the_server(web: dict[str, bytes], protocol: str, asked: str) -> None:
    base = f"{protocol}://hub.org/set/main"
    web |= {
        f"{base}/a.tsv": b"caption\nred fox\n",
        f"{base}/b.tar": tar_bytes({"0.png": picture(), "0.txt": b"red dog"}),
        f"{base}/c.parquet": parquet("red cat"),
        f"{base}/d.png": picture(),
        f"{base}/d.txt": b"red whale",
    }
    names = ("a.tsv", "b.tar", "c.parquet", "d.png")
    assert captions(*(f"{base}/{name}{asked}" for name in names)) == [
        ("a.tsv", ["red fox"]),
        ("b.tar", ["red dog"]),
        ("c.parquet", ["red cat"]),
        ("d.png", ["red whale"]),
    ]


def test_brace_lists_of_addresses_are_read(web: dict[str, bytes]) -> None:
    web |= {f"https://hub.org/{n}.tsv": f"caption\nred dog {n}\n".encode() for n in range(3)}
    assert captions("https://hub.org/{0..2}.tsv?download=true") == [(f"{n}.tsv", [f"red dog {n}"]) for n in range(3)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://hub.org/b.tsv", "https://hub.org/b.tsv: no such file or folder"),
        ("https://hub.org/a.zip?x=1", "https://hub.org/a.zip?x=1: .zip is not read; pack it as .tar or .tar.gz"),
        (
            "https://hub.org/sizeless.tsv",
            "https://hub.org/sizeless.tsv: the server does not say how large it is; fetch it first, such as by curl -L -O",
        ),
    ],
)
def test_addresses_at_fault_are_told(web: dict[str, bytes], url: str, message: str) -> None:
    web |= {"https://hub.org/a.zip": b"", "https://hub.org/sizeless.tsv": b"caption\n"}
    with pytest.raises(UsageError) as error:
        find_files(url, "auto")
    assert str(error.value) == message


def test_a_server_that_gives_files_only_whole_is_read_from_the_beginning_again(web: dict[str, bytes]) -> None:
    web["http://whole.org/a.tsv"] = b"caption\n" + b"".join(b"red dog %d\n" % n for n in range(100))
    rows = captions("http://whole.org/a.tsv", plan=PlanOptions(unit_mb=300 / 1e6))
    assert [text for _, (text,) in rows] == [f"red dog {n}" for n in range(100)]


def test_a_server_that_gives_files_only_whole_is_told_where_pieces_are_needed(web: dict[str, bytes]) -> None:
    said = "its server gives no pieces of files; fetch it first (curl -L -O), or give a larger --unit-mb"
    web["http://whole.org/a.parquet"] = parquet(*(f"red dog {n}" for n in range(20_000)))
    with pytest.raises(UsageError) as error:
        captions("http://whole.org/a.parquet")
    assert str(error.value) == f"http://whole.org/a.parquet: {said}"
    web["http://whole.org/b.tsv"] = bytes(100)
    with open_input("http://whole.org/b.tsv") as file:
        file.seek(MOST_SKIPPED + 1)
        with pytest.raises(UsageError) as error:
            file.read(1)
    assert str(error.value) == f"http://whole.org/b.tsv: {said}"


def test_the_package_that_web_addresses_need_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for protocol in Web.protocol:
        monkeypatch.delitem(_registry, protocol, raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UsageError) as error:
        find_files("https://hub.org/a.tsv", "auto")
    assert str(error.value) == "https://hub.org/a.tsv: needs a package that is not installed; pip install 'fistful[http]'"
