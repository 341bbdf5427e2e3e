"""Class folders: ROOT/CLASS/IMAGE, in a folder or in an archive.

Images may lie one folder deeper (ROOT/CLASS/images/IMAGE), and all may share a leading folder
(val/CLASS/IMAGE), which then is no class.
"""

from __future__ import annotations

import dataclasses
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.kinds import OTHER_IMAGES, PassedOver, files_under, is_hidden, is_image, size_of, visible
from fistful.bow.store.plain_text import SURROGATE, printable
from fistful.bow.store.untar import Member, TarReader, unpacked
from fistful.errors import DataError, UsageError
from fistful.wording import some

from .class_names import TABLE, WORDNET_ID, ClassName, name_classes, odd_names, quoted
from .evaluation_set import EvalSet, Sample

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "dev"})
NO_CLASSES = frozenset({"lost+found", "__macosx", "$recycle.bin", "system volume information", "@eadir", "annotation", "annotations"})
"""Folders that disks, archives and sets have beside classes; what lies in them is no image of a class."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a set: images (path, class folder, size), and what is not read."""

    images: list[tuple[str, str, int]]
    folders: list[str]
    warnings: list[str]
    outside: list[str]
    """Paths that leave the set, belong to no class, or are not UTF-8; refused."""


def open_folder(root: Path, name: str, names: str | None) -> EvalSet:
    """Open a folder of class folders.

    Raises:
        UsageError: If there are no images in folders.
    """
    passed = PassedOver()
    found = [(path, size_of(f"{root}/{path}")) for path in files_under(root, passed)]
    empty = [p.name for p in sorted(root.iterdir()) if p.is_dir() and not is_hidden(p.name)]
    listing = _with_warnings(list_images(found, empty, str(root)), passed.lines())
    table = _table(names, root / TABLE)
    classes, warnings = name_classes(listing.folders, table)
    place = {folder: i for i, folder in enumerate(listing.folders)}

    def read() -> Iterator[Sample | DeadLetter]:
        yield from (_outside(path, path) for path in listing.outside)
        for path, folder, _ in listing.images:
            try:
                yield Sample(path, (root / path).read_bytes(), place[folder])
            except OSError as error:
                yield DeadLetter("no_image", path, path, (error.strerror or "").lower(), b"")

    files = [(image, root / image) for image in (*(image for image, _, _ in listing.images), *listing.outside)]
    return _as_set(name, classes, read, listing, warnings, files)


def names_in(path: Path) -> list[str]:
    """Return the files in a folder or an archive, by their names, hidden ones left out.

    Raises:
        DataError: If the archive is broken.
    """
    if path.is_dir():
        return files_under(path, PassedOver())
    return visible([member.name for member, _ in _members(path) if member.kind == "file"], PassedOver())


def count_classes(names: Sequence[str]) -> int:
    """Return how many class folders with images there are among some files; 0 where their folders are no classes."""
    try:
        return len(list_images([(name, 0) for name in names], [], "").folders)
    except UsageError:
        return 0


def open_archive(path: Path, name: str, names: str | None) -> EvalSet:
    """Open a tar, gzipped or not, of class folders.

    Raises:
        UsageError: If there are no images in folders.
        DataError: If the archive is broken.
    """
    passed = PassedOver()
    members = [member for member, _ in _members(path) if member.kind != "folder"]
    kept = set(visible([member.name for member in members], passed))
    found = [(member.name, member.size) for member in members if member.kind == "file" and member.name in kept]
    links = [member.name for member in members if member.kind != "file" and is_image(member.name)]
    linked = [f"{len(links)} links inside are not read, such as {links[0]}"] if links else []
    listing = _with_warnings(list_images(found, [], str(path)), [*passed.lines(), *linked])
    table = _table(names, path.parent / TABLE)
    classes, warnings = name_classes(listing.folders, table)
    place = {folder: i for i, folder in enumerate(listing.folders)}
    label = {image: place[folder] for image, folder, _ in listing.images}
    twice = [image for image, n in Counter(image for image, _, _ in listing.images).items() if n > 1]
    if twice:
        raise DataError(f"{path}: holds {twice[0]} twice; expected each image once")

    def read() -> Iterator[Sample | DeadLetter]:
        yield from (_outside(path.name, image) for image in listing.outside)
        for member, tar in _members(path):
            image = str(PurePosixPath(member.name))  # without the ./ that tar -C writes
            if member.kind == "file" and image in label:
                yield Sample(image, tar.read(), label[image])

    return _as_set(name, classes, read, listing, warnings, [(path.name, path)])


def _outside(file: str, image: str) -> DeadLetter:
    detail = "name is not UTF-8" if SURROGATE.search(image) else "not in a class folder"
    return DeadLetter("bad_name", printable(file), printable(image), detail, b"")


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
        warnings=[*listing.warnings, *warnings, *odd_names(classes)],
    )


def _with_warnings(listing: Listing, more: list[str]) -> Listing:
    return dataclasses.replace(listing, warnings=[*listing.warnings, *more])


def _table(names: str | None, beside: Path) -> Path | None:
    if names is not None:
        return Path(names)
    return beside if beside.is_file() else None


def _members(path: Path) -> Iterator[tuple[Member, TarReader]]:
    """Yield the members of a tar, packed or not, streaming; nothing is ever unpacked to disk."""
    try:
        with open(path, "rb") as raw:
            tar = TarReader(unpacked(raw))
            yield from ((member, tar) for member in tar)
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
    left_out = sorted({part for path in (*(path for path, _ in found), *empty) for part in PurePosixPath(path).parts if _is_no_class(part)})
    found = [(path, size) for path, size in found if not any(map(_is_no_class, PurePosixPath(path).parts))]
    images, others = [], Counter[str]()
    for path, size in found:
        extension = _extension(path)
        if extension in EXTENSIONS:
            images.append((PurePosixPath(path), size))
        elif extension in OTHER_IMAGES:
            others[extension] += 1
    safe = [(p, s) for p, s in images if not p.is_absolute() and ".." not in p.parts and not SURROGATE.search(str(p))]
    depth = _leading(p for p, _ in safe)
    inside = [(str(p), p.parts[depth], s) for p, s in safe if len(p.parts) > depth + 1]
    known = {path for path, _, _ in inside}
    outside = [str(p) for p, _ in images if str(p) not in known]
    if not inside:
        captioned = images and any(path.endswith(".txt") for path, _ in found)
        way_out = "; captioned pictures become a set for retrieval and tagging by fistful bags" if captioned else ""
        if parquet := sorted({str(PurePosixPath(path).parent) for path, _ in found if path.lower().endswith(".parquet")}):
            unpack = "" if Path(where).is_dir() else "unpack it, and "
            way_out = f"; there are parquet files in {some(parquet)}: {unpack}name that folder, such as --data {Path(where) / parquet[0]}"
        raise UsageError(f"{where}: no images in class folders; expected ROOT/CLASS/IMAGE with {', '.join(EXTENSIONS)}{way_out}")
    with_images = {folder for _, folder, _ in inside}
    below = _below(inside, depth)
    _check_classes(with_images, below, where)
    without, no_classes = _without_images(set(empty) - with_images if depth == 0 else set(), found, with_images)
    warnings = [f"class {folder!r} has no image" for folder in without]
    warnings += [f"the folder {folder!r} is taken for no class" for folder in sorted({*left_out, *no_classes})]
    warnings += [f"{n} .{extension} files are not read" for extension, n in sorted(others.items())]
    joined = sorted(f"{folder}/{inner}" for folder, several in below.items() if len(several) > 1 for inner in several)
    if joined:
        said = "folders within classes were joined; if they are the classes, move them up into one folder"
        warnings.append(f"{len(joined)} {said}: {quoted(joined)}")
    return Listing(inside, sorted({*with_images, *without}), warnings, outside)


def _extension(path: str) -> str:
    return PurePosixPath(path).suffix.lower().lstrip(".")


def _is_no_class(part: str) -> bool:
    return part.lower() in NO_CLASSES


def _below(inside: Sequence[tuple[str, str, int]], depth: int) -> dict[str, set[str]]:
    """Return the folders with images within each class; "" for images that lie in the class itself."""
    below: dict[str, set[str]] = {}
    for path, folder, _ in inside:
        rest = PurePosixPath(path).parts[depth + 1 :]
        below.setdefault(folder, set()).add(rest[0] if len(rest) > 1 else "")
    return below


def _check_classes(folders: set[str], below: dict[str, set[str]], where: str) -> None:
    """Refuse folders that are certainly no classes: splits, and letters that classes were sorted into."""
    splits = sorted(folder for folder in folders if folder.lower() in SPLITS)
    hold_folders = [folder for folder in folders if "" not in below[folder]]
    if len(splits) == len(folders) or (len(splits) > 1 and {*splits} <= {*hold_folders}):
        raise UsageError(f"{where}: its folders {', '.join(splits)} are splits, not classes; name one of them in --data")
    inner = sorted(f"{folder}/{name}" for folder in folders for name in below[folder])
    if len(hold_folders) == len(folders) > 1 and all(len(folder) == 1 for folder in folders) and len({*map(_last, inner)}) > 1:
        raise UsageError(
            f"{where}: its folders {quoted(sorted(folders))} are letters, not classes; those lie within, such as {inner[0]}: "
            "move them up into one folder"
        )


def _last(path: str) -> str:
    return PurePosixPath(path).name


def _without_images(tops: set[str], found: Sequence[tuple[str, int]], with_images: set[str]) -> tuple[list[str], list[str]]:
    """Tell classes without an image from folders that are none: those that hold other files, and those that are called otherwise."""
    held: dict[str, set[str]] = {}
    for path, _ in found:
        held.setdefault(PurePosixPath(path).parts[0], set()).add(_extension(path))
    ids = all(map(WORDNET_ID.match, with_images))
    classes = [
        top
        for top in tops
        if not _is_no_class(top) and (top not in held or held[top] & OTHER_IMAGES) and (not ids or WORDNET_ID.match(top))
    ]
    return sorted(classes), sorted(tops - {*classes})


def _leading(paths: Iterator[PurePosixPath]) -> int:
    """Return how many leading folders all images share that cannot be the class."""
    depth, kept = 0, [p.parts for p in paths]
    while kept and all(len(parts) > depth + 2 for parts in kept) and len({parts[depth] for parts in kept}) == 1:
        depth += 1
    return depth
