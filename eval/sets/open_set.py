"""Evaluation sets: what is in them, and their images one by one.

`open_set` finds out what a path is; the rest of the room sees an `EvalSet`, whatever it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.files import hash_file, read_json
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.store.kinds import ARCHIVES, is_hidden
from fistful.bow.store.manifest import CONFIG, MANIFEST
from fistful.errors import DataError, UsageError
from fistful.progress import progress_bar

from .class_names import ClassName

PARQUET = ".parquet"
GENERIC = frozenset({"val", "validation", "test", "train", "images", "dev", "data"})
"""Folder names that do not say which set it is: the parent's name goes before them."""

HASH_THREADS = 4
HASHED_AT_ONCE = 1_000
"""Files between two looks at the progress bar."""

SEVERAL = -1
"""Label of an image in a multi-label set."""


class Sample(NamedTuple):
    """An image as it lies on disk."""

    name: str
    """Its path inside the set."""
    data: bytes
    label: int
    """Index of its class; SEVERAL where `labels` has them."""
    source: str = ""
    """Where a pooled set says the image came from."""
    labels: tuple[int, ...] = ()
    """Indices of its classes, any number, in a multi-label set."""

    def classes(self) -> tuple[int, ...]:
        """Return its classes."""
        return self.labels if self.label == SEVERAL else (self.label,)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvalSet:
    """A labelled set of images."""

    name: str
    classes: list[ClassName]
    read: Callable[[], Iterator[Sample | DeadLetter]]
    """Yields every image once, always in the same order; what cannot be used comes as a dead letter."""
    n_images: int
    """How many images the names in it promise."""
    files: list[tuple[str, Path]]
    """What is read, by the names that say which image it is; the class names are in `classes`."""
    multilabel: bool = False
    """Whether an image may have several classes, or none."""
    templates: list[str] = dataclasses.field(default_factory=list)
    """Prompt templates that the set itself brings."""
    warnings: list[str] = dataclasses.field(default_factory=list)

    def fingerprint(self, show: bool = False) -> dict[str, Any]:
        """Return what names all that the set gives to a result: its classes, its templates, and the content of its files.

        Every file is read for it, of any size and time: a label that was put right changes neither.

        Args:
            show: Whether to show a progress bar.
        """
        said = [[[c.folder, c.name, *c.synonyms] for c in self.classes], self.multilabel, self.templates, self.warnings]
        return {"name": self.name, "said": sha256_hex(canonical_json(said)), "files": len(self.files), "content": self._content(show)}

    def _content(self, show: bool) -> str:
        digest, done = hashlib.sha256(), 0
        with ThreadPoolExecutor(HASH_THREADS) as pool, progress_bar(f"hashing {self.name}", len(self.files), show) as update:
            for start in range(0, len(self.files), HASHED_AT_ONCE):
                part = self.files[start : start + HASHED_AT_ONCE]
                for (name, _), own in zip(part, pool.map(_sha256, (path for _, path in part)), strict=True):
                    digest.update(f"{name}\0{own}\n".encode("utf-8", "surrogateescape"))
                done += len(part)
                update(done, "")
        return digest.hexdigest()


def _sha256(path: Path) -> str:
    try:
        return hash_file(path)["sha256"]
    except OSError:
        return ""  # the image is refused when it is read


def open_set(spec: str, names: str | None, option: str = "--data") -> EvalSet:
    """Open an evaluation set.

    Args:
        spec: A folder of class folders, an archive of them, parquet files, or CLIP_benchmark's webdataset layout.
        names: A names table, or None to look for one (`names.TABLE`).
        option: What gave the spec, for messages.

    Raises:
        UsageError: If the path is missing or holds nothing that can be evaluated.
        DataError: If what is there is broken.
    """
    from . import class_folders, wds
    from . import parquet_set as parquet

    path = Path(spec)
    if is_written_by_us(path):
        raise UsageError(f"{spec}: was written by fistful; expected class folders, archives of them, parquet or CLIP_benchmark's layout")
    if not path.exists():
        raise UsageError(f"{option} {spec}: no such file or folder")
    if path.is_file():
        if path.suffix.lower() == PARQUET:
            return parquet.open_parquet([path], set_name(path), names)
        if not path.name.lower().endswith(ARCHIVES):
            raise UsageError(f"{option} {spec}: is not a folder; expected class folders or one of {', '.join(ARCHIVES)}, {PARQUET}")
        return class_folders.open_archive(path, set_name(path), names)
    layout = wds.find_layout(path)
    if layout is not None:
        return wds.open_wds(layout, set_name(path), names)
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not is_hidden(p.name)]
    tables = [p for p in files if p.suffix.lower() == PARQUET]
    if tables:
        return parquet.open_parquet(tables, set_name(path), names)
    archives = [p for p in files if p.name.lower().endswith(ARCHIVES)]
    folders = [p for p in path.iterdir() if p.is_dir() and not is_hidden(p.name)]
    if len(archives) == 1 and not folders:
        return class_folders.open_archive(archives[0], set_name(archives[0]), names)
    return class_folders.open_folder(path, set_name(path), names)


def is_written_by_us(path: Path) -> bool:
    """Return whether a folder is one of fistful's own, whichever verb wrote it."""
    try:
        config = read_json(path / CONFIG) if (path / CONFIG).is_file() else None
    except DataError:
        if (path / MANIFEST).exists():
            raise
        return False  # somebody else's
    return isinstance(config, dict) and {"format", "verb", "id"} <= config.keys()


def set_name(path: Path) -> str:
    """Return what to call a set.

    >>> set_name(Path("/data/tiny-imagenet/val.tar.gz"))
    'tiny-imagenet-val'
    """
    path = path.absolute()
    suffix = max((s for s in (*ARCHIVES, PARQUET) if path.name.lower().endswith(s)), key=len, default="")
    name = path.name[: len(path.name) - len(suffix)]
    return f"{path.parent.name}-{name}" if name.lower() in GENERIC and path.parent.name else name
