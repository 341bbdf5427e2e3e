"""Files that sources name: files themselves, folders, globs, brace lists, and URLs of all of these.

>>> expand_braces("data/{00000..00002}.tar")
['data/00000.tar', 'data/00001.tar', 'data/00002.tar']
>>> expand_braces("{a,b}.tsv")
['a.tsv', 'b.tsv']
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import fsspec

from fistful.bow.store.files import is_url, missing_protocol, said_of
from fistful.bow.store.kinds import COMPRESSED, PassedOver, extension_of, files_under, is_image, size_of, unread_kind, visible
from fistful.bow.store.plain_text import printable
from fistful.errors import UsageError
from fistful.wording import counted

from .listings import names_pictures, top_of
from .source_options import SourceOptions
from .table_head import table_sign
from .units import Kind

Look = Callable[[str, Kind, str], bool]
"""Tells whether a file of some kind names pictures that can be found, below a folder."""

KINDS: dict[str, Kind] = {
    "tsv": "tsv",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "tar": "tar",
    "tgz": "tar",
}
"""Kind of a file from its extension, without .gz or .zst."""

TEXT: Kind = "txt"
"""Plain text, a caption a line: of a file that is given by name. In folders a .txt is the caption of what lies beside it, or a README."""
IN_TURN: tuple[tuple[Kind, ...], ...] = (("tar",), ("tsv", "csv", "jsonl"), ("images",), ("parquet",))
"""What is taken of a folder: the first kinds that are there. img2dataset writes a parquet beside each
tar that repeats its captions, and beside each folder of images too."""

WEB = ("http://", "https://")

BRACES = re.compile(r"\{([^{}]*)\}")
MOST_NAMES = 10_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is read."""

    root: str
    """The source's folder."""
    relative: str
    """Where it lies under it."""
    size: int
    kind: Kind
    top: str
    """The uppermost folder in which pictures may lie that it names."""

    @property
    def name(self) -> str:
        """What it is called: `relative` without what is asked of a web server."""
        return path_of(f"{self.root}/{self.relative}")[len(self.root) + 1 :]


def find_files(source: str, input_format: str, passed: PassedOver | None = None, options: SourceOptions | None = None) -> list[SourceFile]:
    """Find the files that a source names.

    Args:
        source: A file, a folder, a glob, a brace list, or a URL of one of these.
        input_format: A kind, or "auto".
        passed: Receives what of it is not read.
        options: Where tables name pictures.

    Raises:
        UsageError: If there is none, or it is nothing that can be read.
    """
    options = options or SourceOptions()
    look = functools.partial(names_pictures, options=options)
    passed = PassedOver() if passed is None else passed
    if not is_url(source) and os.path.exists(source):
        found = _find_local(source, input_format, passed, look)
    else:
        names = [source] if is_url(source) and _is_there(source) else expand_braces(source)
        found = [f for name in names for f in _find_expanded(name, input_format, passed, look)]
    if not found:
        raise UsageError(f"{source}: no file matches")
    if input_format == "auto":
        for file in found:
            _check_text(file, options)
    return found


def _check_text(file: SourceFile, options: SourceOptions) -> None:
    """Refuse a file that would be read as plain text though its first line is that of a table.

    Raises:
        UsageError: If it is one.
    """
    path = f"{file.root}/{file.relative}"
    if file.kind == TEXT and (sign := table_sign(path, options)):
        raise UsageError(f"{path}: {sign}; --input-format csv or tsv reads it as a table, --input-format {TEXT} each line as a caption")


def expand_braces(text: str) -> list[str]:
    """Return the names that a brace list stands for, in its order; a range keeps its leading zeros."""
    parts = BRACES.split(text)  # text and braces in turn
    choices = [[part] if i % 2 == 0 else _choices(part) for i, part in enumerate(parts)]
    return ["".join(pieces) for pieces in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not ends:
        return inside.split(",") if "," in inside else ["{" + inside + "}"]
    first, last = int(ends[1]), int(ends[2])
    if last < first or last - first > MOST_NAMES:
        raise UsageError(f"{{{inside}}}: expected a range such as 00000..00099")
    width = len(ends[1]) if ends[1].startswith("0") else 0
    return [f"{n:0{width}d}" for n in range(first, last + 1)]


def _find_expanded(name: str, input_format: str, passed: PassedOver, look: Look) -> list[SourceFile]:
    if is_url(name):
        return _find_remote(name, input_format, passed)
    if not os.path.exists(name) and glob.has_magic(name):
        # in/** names folders and what is in them: each file counts once, under its longest name
        found = [f for path in sorted(glob.glob(name, recursive=True)) for f in _find_local(path, input_format, passed, look)]
        return list({os.path.join(f.root, f.relative): f for f in reversed(found)}.values())[::-1]
    return _find_local(name, input_format, passed, look)


def _find_local(source: str, input_format: str, passed: PassedOver, look: Look) -> list[SourceFile]:
    path = Path(source)
    if path.is_dir():
        root = os.path.abspath(path)
        names = files_under(root, passed)
        wanted = _choose_listings(root, names, input_format, passed, look) or _choose(source, names, input_format, passed)
        return [SourceFile(root, name, size_of(os.path.join(root, name)), kind, root) for name, kind in wanted]
    if not path.is_file():
        raise UsageError(f"{source}: no such file or folder")
    kind = _kind_of_file(path.name, source, input_format, look)
    root = os.path.dirname(os.path.abspath(path))
    return [SourceFile(root, path.name, path.stat().st_size, kind, top_of(root))]


def _find_remote(url: str, input_format: str, passed: PassedOver) -> list[SourceFile]:
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(missing_protocol(url, error)) from None
    try:
        names = sorted(system.glob(path)) if glob.has_magic(path_of(path)) and not system.exists(path) else [path]
        return [f for name in names for f in _find_in_system(system, name, input_format, passed)]
    except FileNotFoundError:
        raise UsageError(f"{url}: no such file or folder") from None
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - each client has its own
        raise UsageError(f"{url}: cannot be listed ({said_of(url, error)}); are address and credentials right?") from None


def _is_there(url: str) -> bool:
    """Return whether a URL that looks like a brace list names something as it stands."""
    try:
        system, path = fsspec.core.url_to_fs(url)
        return BRACES.search(url) is not None and system.exists(path)
    except Exception:  # noqa: BLE001 - what is wrong with it is said when it is listed
        return False


def _find_in_system(system: Any, name: str, input_format: str, passed: PassedOver) -> list[SourceFile]:
    about = system.info(name)
    address = system.unstrip_protocol(name)
    if about["type"] != "directory":
        root, base = _split_address(address)
        kind = _kind_of_file(path_of(address).rpartition("/")[2], address, input_format)
        if about["size"] is None:
            raise UsageError(f"{address}: the server does not say how large it is; fetch it first, such as by curl -L -O")
        return [SourceFile(root, base, int(about["size"]), kind, root)]
    start = len(name.rstrip("/")) + 1
    files = {path[start:]: entry for path, entry in system.find(name, detail=True).items()}
    wanted = _choose(address, visible(sorted(files), passed), input_format, passed)
    root = address.rstrip("/")
    return [SourceFile(root, relative, int(files[relative]["size"]), kind, root) for relative, kind in wanted]


def _split_address(address: str) -> tuple[str, str]:
    """Return a URL's folder and the name in it, with what is asked of the server there.

    >>> _split_address("https://hub/a/b.tsv?download=true&from=/x")
    ('https://hub/a', 'b.tsv?download=true&from=/x')
    """
    end = address.rindex("/", 0, len(path_of(address)))
    return address[:end], address[end + 1 :]


def path_of(address: str) -> str:
    """Return a URL without what is asked of a web server; anything else as it is.

    >>> path_of("https://hub/b.tsv?download=true"), path_of("s3://bucket/why?.tsv")
    ('https://hub/b.tsv', 's3://bucket/why?.tsv')
    """
    return re.split("[?#]", address, maxsplit=1)[0] if address.startswith(WEB) else address


def _kind_of_file(name: str, source: str, input_format: str, look: Look | None = None) -> Kind:
    if input_format != "auto":
        return cast(Kind, input_format)
    kind = _kind_of(name) or (LIKELY.get(extension_of(name)) if look else None)
    if kind == "csv" and look and extension_of(name) == "txt" and not look(source, kind, top_of(os.path.dirname(os.path.abspath(source)))):
        kind = None
    kind = TEXT if kind is None and extension_of(name) == "txt" else kind
    if kind is None and (unread := unread_kind(name)):
        way = "pack it as .tar or .tar.gz" if unread[0] == "archive" else "make it a PNG or JPEG"
        raise UsageError(f"{source}: {unread[1]} is not read; {way}")
    if kind is None:
        raise UsageError(f"{source}: cannot tell what it is from its name; --input-format tsv, csv, jsonl, txt, parquet or tar says so")
    return kind


def _kind_of(name: str) -> Kind | None:
    return "images" if is_image(name) else KINDS.get(extension_of(name))


def table_kind(name: str) -> Kind | None:
    """Return which kind of table a file is by its name; None where it is none."""
    kind = _kind_of(name)
    return kind if kind in ("tsv", "csv", "jsonl", "parquet") else None


def is_compressed(name: str) -> bool:
    """Return whether a file is compressed, by its name."""
    return name.lower().endswith(COMPRESSED)


LIKELY: dict[str, Kind] = {"json": "json", "txt": "csv"}
"""Of a file whose kind its name does not tell: what it is if it names pictures."""
MOST_LOOKS = 50
"""Files of a folder that are looked into for names of pictures; those nearest to its top come first."""


def _choose_listings(root: str, names: list[str], input_format: str, passed: PassedOver, look: Look) -> list[tuple[str, Kind]]:
    """Return the tables and JSON documents of a folder that name pictures, where it holds no tar; [] where none does.

    A table beside pictures that it does not name is left to the pictures, if these have texts beside them.
    """
    kinds: dict[str, Kind | None] = {name: _kind_of(name) for name in names}
    if input_format != "auto" or "tar" in kinds.values():
        return []
    pictures = [name for name, kind in kinds.items() if kind == "images"]
    stems = {name.rpartition(".")[0] for name in pictures}
    tables: list[tuple[str, Kind]] = [(name, kind) for name, kind in kinds.items() if kind not in (None, "images")]
    loose: list[tuple[str, Kind]] = [
        (name, LIKELY[extension_of(name)]) for name in names if kinds[name] is None and extension_of(name) in LIKELY
    ]
    loose = [(name, kind) for name, kind in loose if name.rpartition(".")[0] not in stems and not name.endswith("_stats.json")]
    if not pictures and any(kind != "parquet" for _, kind in tables):
        loose = []
    likely = sorted([*tables, *loose], key=lambda item: (item[0].count("/"), item[0]))[:MOST_LOOKS]
    found = [(name, kind) for name, kind in likely if look(os.path.join(root, name), kind, root)] if pictures or loose else []
    for name, kind in loose:
        if kind == "json" and (name, kind) not in found:
            passed.add("other", name, ".json")
    if found:
        passed.pictures |= {os.path.join(root, name) for name in pictures}
        texts = [name for name in names if os.path.splitext(name)[0] in stems and name.endswith((".txt", ".caption"))]
        for name in [*(name for name, _ in tables if (name, kinds[name]) not in found), *texts]:
            passed.add("beside", name, f".{extension_of(name)}")
        return found
    if pictures and tables and any(kind != "parquet" for _, kind in tables) and _have_texts(names, stems):
        for name, _ in tables:
            passed.add("beside", name, f".{extension_of(name)}")
        _note_texts(names, stems, passed)
        return [(name, "images") for name in pictures]
    return []


def _have_texts(names: list[str], stems: set[str]) -> bool:
    return any(name.endswith((".txt", ".caption")) and os.path.splitext(name)[0] in stems for name in names)


def _choose(source: str, names: list[str], input_format: str, passed: PassedOver) -> list[tuple[str, Kind]]:
    """Return which files of a folder are taken: of one kind, the first of IN_TURN that is there."""
    kinds: dict[str, Kind] = {name: kind for name in names if (kind := _kind_of(name))}
    texts = [name for name in names if extension_of(name) == "txt"]
    kinds |= dict.fromkeys(texts if input_format == TEXT else [], TEXT)
    unread = [(unread, name) for name in names if name not in kinds and (unread := unread_kind(name))]
    for wanted in IN_TURN if input_format == "auto" else ((cast(Kind, input_format),),):
        chosen: list[tuple[str, Kind]] = [(name, kind) for name, kind in kinds.items() if kind in wanted]
        if chosen and input_format == "auto":
            for (why, end), name in unread:
                if why == "archive" or "images" in wanted:
                    passed.add(why, name, end)
            for name, kind in kinds.items():
                if kind not in wanted:
                    passed.add("beside", name, f".{extension_of(name)}")
            _note_others(names, kinds, wanted, passed)
            if "images" in wanted:
                _note_texts(names, {name.rpartition(".")[0] for name, _ in chosen}, passed)
            if "tar" in wanted:
                passed.taken.append(counted(len(chosen), "tar"))
        if chosen:
            return chosen
    what = "tar, TSV, CSV, JSONL, image or parquet" if input_format == "auto" else input_format
    for (why, end), name in unread:
        passed.add(why, name, end)
    way = (
        f"{counted(len(texts), 'text', 'texts')}, such as {printable(texts[0])}: --input-format {TEXT} reads a caption on each line"
        if texts
        else ""
    )
    raise UsageError("; ".join([f"{source}: holds no {what}", *([way] if way else []), *passed.lines()]))


def _note_texts(names: list[str], stems: set[str], passed: PassedOver) -> None:
    """Say which texts beside pictures are taken."""
    beside: dict[str, str] = {}
    for end in BESIDE:
        for name in names:
            if name.endswith(end) and name.removesuffix(end) in stems:
                beside.setdefault(name.removesuffix(end), end)
    ends = Counter(beside.values())
    texts = [f"{ends[end]:,} {end}" for end in BESIDE if ends[end]]
    if n := sum("captions" in name.split("/")[:-1] for name in names if name.endswith(".txt")):
        texts.append(f"{n:,} in a folder captions/")
    if texts:
        passed.taken.append(f"{counted(len(stems), 'picture')}, with texts: {', '.join(texts)}")


BESIDE = (".txt", ".TXT", ".caption", ".json")
"""Ends of names of texts beside a picture, the first that is there is taken."""
COMPANIONS = frozenset({"txt", "caption", "json", "md"})
"""What lies beside pictures and tars by right: captions, statistics, a page about them."""


def _note_others(names: list[str], kinds: dict[str, Kind], wanted: tuple[Kind, ...], passed: PassedOver) -> None:
    """Note files of no kind that a verb reads: beside tables nearly all of them, beside pictures and tars what is no companion."""
    usual = COMPANIONS if {"tar", "images"} & {*wanted} else frozenset({"md"})
    for name in names:
        base, extension = name.rpartition("/")[2], extension_of(name)
        plain = name not in kinds and unread_kind(name) is None and "." in base and not base.startswith("_")  # Spark's _SUCCESS
        if plain and extension not in usual:
            passed.add("other", name, f".{extension}")
