"""CLIP_benchmark's webdataset layout: DIR/classnames.txt and DIR/test/{nshards.txt, 0.tar, 1.tar, ...}.

A set of one label an image has KEY.cls, a number; one of several (dataset_type.txt says multilabel) KEY.npy, a 0 or 1 a class.
The tars are read with webdataset, but never decoded by it: its decoder unpickles what it is given.
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.store.dead_letters import DeadLetter, Refused
from fistful.bow.store.files import parse_json
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.kinds import is_hidden
from fistful.bow.store.plain_text import MARK, SURROGATE, printable, read_lines
from fistful.bow.store.tar_samples import PICTURES, TarRefusal, read_tar_samples
from fistful.errors import DataError, UsageError

from .class_names import ClassName, odd_names, read_table
from .evaluation_set import SEVERAL, EvalSet, Sample

SPLIT = "test"
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
TYPE = "dataset_type.txt"
SHARDS = "nshards.txt"
MULTILABEL, RETRIEVAL = "multilabel", "retrieval"


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a set lie."""

    root: Path
    split: Path


def find_layout(path: Path) -> Layout | None:
    """Return the layout if this is CLIP_benchmark's, given the set's folder or its split's."""
    if (path / SHARDS).is_file():
        return Layout(path.parent, path)
    if (path / SPLIT / SHARDS).is_file():
        return Layout(path, path / SPLIT)
    if (path / CLASS_NAMES).is_file() and _tars(path):
        return Layout(path, path)
    if (path / CLASS_NAMES).is_file() and (path / SPLIT).is_dir():
        raise UsageError(f"{path / SPLIT / SHARDS}: no such file; expected the number of shards in it")
    return None


def open_wds(layout: Layout, name: str, names: str | None) -> EvalSet:
    """Open a set in CLIP_benchmark's layout.

    Raises:
        UsageError: If it is not for classification, with one label or several, or its class names are missing.
        DataError: If a shard is missing.
    """
    kind = kind_of(layout)
    if kind not in ("classification", MULTILABEL):
        raise UsageError(f"{layout.root / TYPE}: found {kind!r}, expected classification or {MULTILABEL}")
    table = Path(names) if names is not None else layout.root / CLASS_NAMES
    if not table.is_file():
        raise UsageError(f"{table}: no such file; expected one class name on each line, in the order of the numbers in .cls")
    classes, taken = _classes(table, given=names is not None)
    shards, warnings = _shards(layout.split)
    counts = {shard: _count_images(shard) for shard in shards}
    return EvalSet(
        name=name,
        classes=classes,
        read=lambda: _read(shards, len(classes), _labels_of_npy if kind == MULTILABEL else _label_of_cls),
        n_images=sum(counts.values()),
        files=[(path.name, path) for path in shards],
        multilabel=kind == MULTILABEL,
        templates=_lines(layout.root / TEMPLATES),
        taken=taken,
        warnings=[*warnings, *_without_images(counts), *odd_names(classes)],
    )


def kind_of(layout: Layout) -> str:
    """Return what a set is for, as it says itself."""
    return (_lines(layout.root / TYPE)[:1] or ["classification"])[0].lower()


def open_retrieval(layout: Layout) -> tuple[list[Path], list[str]]:
    """Return the shards of a set for retrieval (KEY.txt has a caption on each line), and warnings.

    Raises:
        DataError: If a shard is missing.
    """
    shards, warnings = _shards(layout.split)
    return [shard for shard in shards if shard.stat().st_size], warnings


def _classes(table: Path, *, given: bool) -> tuple[list[ClassName], list[str]]:
    """Return the classes in the order of their numbers, and how a table that was given was read."""
    key, named, taken = read_table(table) if given else (None, [], "")
    if key is not None:
        numbers = [entry.folder for entry in named]
        if {*numbers} != {*map(str, range(len(numbers)))}:
            raise UsageError(f"--names {table}: its column {key} holds {numbers[0]!r}, ..., expected the numbers in .cls, from 0")
        return sorted(named, key=lambda entry: int(entry.folder)), [taken]
    lines = _lines(table)
    if "" in lines:
        raise DataError(
            f"{table} row {lines.index('') + 1}: found no class name, expected one in each row: their places are the numbers in .cls"
        )
    return named or [ClassName(str(i), line) for i, line in enumerate(lines)], [taken] if taken else []


def _lines(path: Path) -> list[str]:
    """Return the lines as CLIP_benchmark has them: stripped, none dropped but empty ones at the end."""
    lines = [line.strip() for line in read_lines(path, str(path), "text, a line each")] if path.is_file() else []
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _shards(split: Path) -> tuple[list[Path], list[str]]:
    if not (split / SHARDS).is_file():  # plain webdataset: as many shards as there are
        found = _tars(split)
        return found, [f"{SHARDS} is missing, so missing shards would go unnoticed", *_gaps(found)]
    text = " ".join(_lines(split / SHARDS))
    if not text.isdecimal() or int(text) < 1:
        raise DataError(f"{split / SHARDS}: found {text!r}, expected the number of shards")
    shards = [split / f"{i}.tar" for i in range(int(text))]
    missing = [path.name for path in shards if not path.is_file()]
    if missing:
        raise DataError(
            f"{split}: {len(missing)} of {len(shards)} shards are missing ({', '.join(missing[:5])}); {SHARDS} says how many there are"
        )
    more = sorted(path.name for path in _tars(split) if path not in set(shards))
    warnings = [f"{split.name}/{name} is not read: {SHARDS} says {len(shards)}" for name in more]
    return shards, warnings


def _tars(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.tar") if not is_hidden(path.name))


def _gaps(shards: list[Path]) -> list[str]:
    """Return a line if numbers are missing among shards that are called by their number."""
    numbers = {int(path.stem) for path in shards if path.stem.isdecimal()}
    if len(numbers) < len(shards) or not numbers:
        return []
    missing = sorted(set(range(max(numbers))) - numbers)
    named = ", ".join(f"{number}.tar" for number in missing[:5])
    return [f"{len(missing)} of {max(numbers) + 1} shards are missing by their numbers: {named}"] if missing else []


def _without_images(counts: dict[Path, int]) -> list[str]:
    found = [path for path, n_images in counts.items() if not n_images]
    return [f"{path.parent.name}/{path.name} {'has no image' if path.stat().st_size else 'is an empty file'}" for path in found]


def _count_images(shard: Path) -> int:
    """Count images by name, and see that the shard is whole: webdataset would end at some breaks as if it were."""
    if not shard.stat().st_size:
        return 0
    n_images = 0
    with open(shard, "rb") as file:
        for found in read_tar_samples(file, lambda sample: len(PICTURES & sample.members.keys())):
            if not isinstance(found, TarRefusal):
                n_images += found
            elif found.reason == "truncated":
                raise DataError(f"{shard}: broken shard (sample {found.place}: {found.detail}); fetch or pack it again")
    return n_images


Labels = tuple[int, tuple[int, ...]]
"""The label of an image and, where that is SEVERAL, its labels."""
Parts = dict[str, bytes]


def _read(shards: list[Path], n_classes: int, label: Callable[[Parts, int], Labels]) -> Iterator[Sample | DeadLetter]:
    for shard in shards:
        if shard.stat().st_size:
            for number, sample in enumerate(_samples(shard)):
                name = f"{shard.name}/{sample.get('__key__', number)}"
                try:
                    yield _sample(name, sample, n_classes, label)
                except Refused as refused:
                    yield DeadLetter(refused.reason, printable(shard.name), printable(name), refused.detail, b"")


def _samples(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield {"__key__": key, extension: bytes}; only images and labels are taken out of the tar."""
    import webdataset

    wanted = tuple("." + extension for extension in (*EXTENSIONS, "cls", "npy", "json"))
    try:
        yield from webdataset.WebDataset(
            [str(shard)],
            shardshuffle=False,
            empty_check=False,
            nodesplitter=webdataset.split_by_node,
            select_files=lambda name: name.lower().endswith(wanted),
        )
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{shard}: broken shard ({type(error).__name__}: {str(error).splitlines()[0]}); fetch or pack it again") from None


def _sample(name: str, sample: dict[str, Any], n_classes: int, label: Callable[[Parts, int], Labels]) -> Sample:
    if SURROGATE.search(name):
        raise Refused("bad_name", "name is not UTF-8")
    parts = {key.lower(): value for key, value in sample.items() if not key.startswith("__")}
    image = next((parts[e] for e in EXTENSIONS if e in parts), None)
    if image is None:
        raise Refused("no_image", "has a label and no image next to it")
    one, several = label(parts, n_classes)
    return Sample(name, image, one, _source(parts), several)


def _label_of_cls(parts: Parts, n_classes: int) -> Labels:
    if "cls" not in parts:
        more = f", but .npy; a set of several labels an image needs {TYPE} that says {MULTILABEL}" if "npy" in parts else ""
        raise Refused("no_label", f"has an image and no .cls next to it{more}")
    text = parts["cls"].removeprefix(MARK).decode("ascii", "replace").strip()
    if not text.isdecimal() or int(text) >= n_classes:
        raise Refused("no_label", f".cls holds {text[:40]!r}, expected a number below {n_classes}")
    return int(text), ()


def _labels_of_npy(parts: Parts, n_classes: int) -> Labels:
    """Read a 0 or 1 for each class, as `clip_benchmark_export_wds --multilabel` writes them."""
    if "npy" not in parts:
        raise Refused("no_label", "has an image and no .npy next to it")
    try:
        found = np.lib.format.read_array(io.BytesIO(parts["npy"]), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, OverflowError) as error:
        raise Refused("no_label", f".npy is no array ({type(error).__name__})") from None
    if found.shape != (n_classes,) or not np.isin(found, (0, 1)).all():
        raise Refused("no_label", f".npy holds {found.dtype} of shape {found.shape}, expected a 0 or 1 for each of {n_classes} classes")
    return SEVERAL, tuple(np.flatnonzero(found).tolist())


def _source(parts: dict[str, Any]) -> str:
    """Return what the sample's JSON says of where it comes from, "" if nothing."""
    try:
        found = parse_json(parts.get("json", b"{}"))
    except ValueError:
        raise Refused("bad_json", "its .json is not JSON") from None
    return printable(str(found.get("source") or "")) if isinstance(found, dict) else ""
