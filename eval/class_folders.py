"""Class folders: ROOT/CLASS/IMAGE, in a folder or in an archive.

Images may lie one folder deeper (ROOT/CLASS/images/IMAGE), and all may share a leading folder
(val/CLASS/IMAGE), which then is no class.
"""

from __future__ import annotations

import dataclasses
import gzip
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path, PurePosixPath

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.untar import Member, TarReader
from fistful.errors import DataError, UsageError
from fistful.eval.datasets import EvalSet, Sample
from fistful.eval.names import TABLE, ClassName, name_classes, repeated_names

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "dev"})
GZIP = b"\x1f\x8b"
OTHER_IMAGES = frozenset({"gif", "bmp", "tif", "tiff", "ppm", "pgm", "pnm", "heic", "avif", "jp2"})
"""Image kinds that are not read; a set that holds some is warned about."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a set: images (path, class folder, size), and what is not read."""

    images: list[tuple[str, str, int]]
    folders: list[str]
    warnings: list[str]
    outside: list[str]
    """Paths that leave the set or belong to no class; refused."""


def open_folder(root: Path, name: str, names: str | None) -> EvalSet:
    """Open a folder of class folders.

    Raises:
        UsageError: If there are no images in folders.
    """
    found = [(p.relative_to(root).as_posix(), _size(p)) for p in sorted(root.rglob("*")) if _is_file(p) and _visible(p, root)]
    empty = [p.name for p in sorted(root.iterdir()) if p.is_dir() and _visible(p, root)]
    listing = list_images(found, empty, str(root))
    table = _table(names, root / TABLE)
    classes, warnings = name_classes(listing.folders, table)
    place = {folder: i for i, folder in enumerate(listing.folders)}

    def read() -> Iterator[Sample | DeadLetter]:
        yield from (DeadLetter("bad_name", path, path, "not in a class folder", b"") for path in listing.outside)
        for path, folder, _ in listing.images:
            try:
                yield Sample(path, (root / path).read_bytes(), place[folder])
            except OSError as error:
                yield DeadLetter("no_image", path, path, (error.strerror or "").lower(), b"")

    files = [(image, root / image) for image in (*(image for image, _, _ in listing.images), *listing.outside)]
    return _as_set(name, classes, read, listing, warnings, files)


def open_archive(path: Path, name: str, names: str | None) -> EvalSet:
    """Open a tar, gzipped or not, of class folders.

    Raises:
        UsageError: If there are no images in folders.
        DataError: If the archive is broken.
    """
    found = [(member.name, member.size) for member, _ in _files(path)]
    listing = list_images(found, [], str(path))
    table = _table(names, path.parent / TABLE)
    classes, warnings = name_classes(listing.folders, table)
    place = {folder: i for i, folder in enumerate(listing.folders)}
    label = {image: place[folder] for image, folder, _ in listing.images}
    twice = [image for image, n in Counter(image for image, _, _ in listing.images).items() if n > 1]
    if twice:
        raise DataError(f"{path}: holds {twice[0]} twice; expected each image once")

    def read() -> Iterator[Sample | DeadLetter]:
        yield from (DeadLetter("bad_name", path.name, image, "not in a class folder", b"") for image in listing.outside)
        for member, tar in _files(path):
            image = str(PurePosixPath(member.name))  # without the ./ that tar -C writes
            if image in label:
                yield Sample(image, tar.read(), label[image])

    return _as_set(name, classes, read, listing, warnings, [(path.name, path)])


def _as_set(
    name: str,
    classes: list[ClassName],
    read: Callable[[], Iterator[Sample | DeadLetter]],
    listing: Listing,
    warnings: list[str],
    files: list[tuple[str, Path]],
) -> EvalSet:
    return EvalSet(
        name=name,
        classes=classes,
        read=read,
        n_images=len(listing.images) + len(listing.outside),
        files=files,
        warnings=[*listing.warnings, *warnings, *repeated_names(classes)],
    )


def _is_file(path: Path) -> bool:
    return path.is_file() or not path.exists()  # a link that leads nowhere counts, and is refused when it is read


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _visible(path: Path, root: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _table(names: str | None, beside: Path) -> Path | None:
    if names is not None:
        return Path(names)
    return beside if beside.is_file() else None


def _files(path: Path) -> Iterator[tuple[Member, TarReader]]:
    """Yield the regular files of a tar, gzipped or not, streaming; nothing is ever unpacked to disk."""
    try:
        with open(path, "rb") as raw, gzip.open(raw) if raw.peek(2)[:2] == GZIP else nullcontext(raw) as stream:
            tar = TarReader(stream)  # pyright: ignore[reportArgumentType]
            yield from ((member, tar) for member in tar if member.kind == "file")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: broken archive ({type(error).__name__}: {error}); fetch or pack it again") from None


def list_images(found: Sequence[tuple[str, int]], empty: Sequence[str], where: str) -> Listing:
    """Sort out the files of a set: which are images, of which class.

    Args:
        found: Path inside the set, with "/", and size in bytes.
        empty: Folders at the top, which are classes even without an image.
        where: The set's name for messages.

    Raises:
        UsageError: If no image lies in a folder, or if the folders are splits rather than classes.
    """
    images, others = [], Counter[str]()
    for path, size in found:
        extension = PurePosixPath(path).suffix.lower().lstrip(".")
        if extension in EXTENSIONS:
            images.append((PurePosixPath(path), size))
        elif extension in OTHER_IMAGES:
            others[extension] += 1
    safe = [(p, s) for p, s in images if not p.is_absolute() and ".." not in p.parts]
    depth = _leading(p for p, _ in safe)
    inside = [(str(p), p.parts[depth], s) for p, s in safe if len(p.parts) > depth + 1]
    known = {path for path, _, _ in inside}
    outside = [str(p) for p, _ in images if str(p) not in known]
    folders = sorted({folder for _, folder, _ in inside} | (set(empty) if depth == 0 else set()))
    if not inside:
        captioned = images and any(path.endswith(".txt") for path, _ in found)
        way_out = "; captioned pictures become a set for retrieval and tagging by fistful bags" if captioned else ""
        raise UsageError(f"{where}: no images in class folders; expected ROOT/CLASS/IMAGE with {', '.join(EXTENSIONS)}{way_out}")
    if set(map(str.lower, folders)) <= SPLITS:
        raise UsageError(f"{where}: its folders {', '.join(folders)} are splits, not classes; name one of them in --data")
    with_images = {folder for _, folder, _ in inside}
    without = [folder for folder in folders if folder not in with_images]
    warnings = [f"class {folder!r} has no image" for folder in without]
    warnings += [f"{n} .{extension} files are not read" for extension, n in sorted(others.items())]
    return Listing(inside, folders, warnings, outside)


def _leading(paths: Iterator[PurePosixPath]) -> int:
    """Return how many leading folders all images share that cannot be the class."""
    depth, kept = 0, [p.parts for p in paths]
    while kept and all(len(parts) > depth + 2 for parts in kept) and len({parts[depth] for parts in kept}) == 1:
        depth += 1
    return depth
