"""What `fistful doctor` says of a folder, whatever it is: ours, webdataset, class folders, images, captions, a model."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fistful.bow.store.files import parse_json
from fistful.bow.store.images import EXTENSIONS
from fistful.bow.store.manifest import CONFIG
from fistful.checkup.finding import Finding, Noted, number, some
from fistful.checkup.own import judge_model, judge_own
from fistful.checkup.tars import EVERY_IMAGE, FIRST_IMAGES, Tally, judge_numbers, judge_tars, look_at_image, walk_tars
from fistful.errors import DataError, UsageError
from fistful.eval.class_folders import OTHER_IMAGES
from fistful.eval.datasets import ARCHIVES
from fistful.eval.names import TABLE, WORDNET_ID
from fistful.eval.wds import CLASS_NAMES, SHARDS, SPLIT

TEXT_FILES = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
STATS = "_stats.json"
"""What img2dataset writes beside each tar."""
PEEK = 1 << 20

Walk = Callable[[list[Path]], Tally]


def judge_path(path: Path, walk: Walk = walk_tars) -> list[Finding]:
    """Say what a file or folder is, and what is wrong with it.

    Args:
        path: It exists.
        walk: Walks tars (`walk_tars`, perhaps with progress).
    """
    if path.is_file():
        return _judge_file(path, walk)
    own = (path / CONFIG).is_file() and (b'"verb"' in (path / CONFIG).read_bytes()[:PEEK])
    if own:
        return judge_own(path, walk)
    if (path / "open_clip_config.json").is_file() or (path / "fistful.json").is_file():
        return judge_model(path)
    if any((path / name).is_file() for name in (TABLE, CLASS_NAMES, SHARDS)) or (path / SPLIT / SHARDS).is_file():
        return judge_evaluation(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))
    tars = [p for p in files if p.name.lower().endswith(ARCHIVES)]
    texts = [p for p in files if p.name.lower().endswith(TEXT_FILES)]
    images = [p for p in files if _ending(p) in EXTENSIONS]
    if tars:
        return judge_shards(path, tars, walk)
    if images:
        return judge_images(path, files)
    if texts:
        return [finding for p in texts for finding in judge_text_file(p)]
    return [
        Finding("problem", "holds no tar, TSV, CSV or image", "nothing here that fistful reads", "fistful count --help says what it reads")
    ]


def _judge_file(path: Path, walk: Walk) -> list[Finding]:
    name = path.name.lower()
    if name.endswith(ARCHIVES):
        return judge_tars(walk([path]), 1)
    if name.endswith(TEXT_FILES):
        return judge_text_file(path)
    return [
        Finding("problem", f"{path.name} is no tar, TSV or CSV", "not read by fistful", "--input-format tsv, csv or tar says what it is")
    ]


def _ending(path: Path) -> str:
    return path.suffix.lower().lstrip(".")


# Tars


def judge_shards(folder: Path, tars: list[Path], walk: Walk) -> list[Finding]:
    """Say what is wrong with a folder of webdataset tars."""
    tally = walk(tars)
    stats = sorted(folder.rglob(f"*{STATS}"))
    findings = [*judge_tars(tally, len(tars)), *judge_numbers(p.name for p in tars), *judge_sizes(folder, tally)]
    return findings + (_judge_downloads(tars, stats, tally) if stats else [])


def judge_sizes(folder: Path, tally: Tally) -> list[Finding]:
    """Compare sizes.json with what was counted."""
    path = folder / "sizes.json"
    if not path.is_file():
        said = "no sizes.json, which says how many samples each tar has"
        return [
            Finding("note", said, "fistful needs none; open_clip_train does", f"--train-num-samples {tally.n_samples} for open_clip_train")
        ]
    try:
        sizes = parse_json(path.read_bytes())
        wrong = [f"{name}: {sizes[name]} there, {n} counted" for name, n in tally.samples_of.items() if name in sizes and sizes[name] != n]
    except (ValueError, TypeError):
        return [Finding("problem", f"{path} is not JSON of tars and numbers", "open_clip_train cannot read it", f"rm {path}")]
    gone = [name for name in sizes if not (folder / name).is_file()]
    more = [name for name in tally.samples_of if name not in sizes]
    found = []
    if wrong:
        means = "open_clip_train would take an epoch for longer or shorter than it is"
        found.append(
            Finding(
                "problem",
                f"sizes.json does not match {number(len(wrong), 'tar')}, {some(wrong)}",
                means,
                f"rm {path}, or fetch those tars again",
            )
        )
    if gone:
        found.append(Finding("problem", f"sizes.json names {number(len(gone), 'missing tar')}, {some(gone)}", "", "fetch them again"))
    if more:
        found.append(Finding("warning", f"sizes.json leaves out {number(len(more), 'tar')}, {some(more)}", "", f"rm {path}"))
    return found or [Finding("ok", f"sizes.json agrees with {number(len(tally.samples_of), 'tar')}")]


def _judge_downloads(tars: list[Path], stats: list[Path], tally: Tally) -> list[Finding]:
    """Say what img2dataset's stats tell: successes against rows asked for, shards without an end."""
    count, successes, why, wrong = 0, 0, Counter[str](), []
    for path in stats:
        try:
            told = parse_json(path.read_bytes())
            count, successes = count + int(told["count"]), successes + int(told["successes"])
            why.update(told.get("status_dict") or {})
        except (ValueError, KeyError, TypeError):
            wrong.append(f"{path.name} (cannot be read)")
            continue
        name = path.name.removesuffix(STATS) + ".tar"
        if name in tally.samples_of and tally.samples_of[name] != told["successes"]:
            wrong.append(f"{name} ({tally.samples_of[name]} samples, {told['successes']} successes)")
    why.pop("success", None)
    share = successes / max(1, count)
    reasons = some([f"{reason} {n:,}" for reason, n in why.most_common()])
    found = [
        Finding(
            "note" if share >= 0.5 else "warning",
            f"img2dataset: {successes:,} of {count:,} downloads succeeded ({share:.1%}){'; ' + reasons if reasons else ''}",
            "what failed is not in the tars",
            "img2dataset ... --retries 3 (try those again)",
        )
    ]
    if wrong:
        said = f"{number(len(wrong), 'tar')} with other numbers of samples than img2dataset's stats, {some(wrong)}"
        found.append(
            Finding("problem", said, "cut off, or changed since", "img2dataset ... --incremental_mode incremental, after rm of those tars")
        )
    ended = {path.name.removesuffix(STATS) for path in stats}
    unfinished = [p.name for p in tars if p.name.split(".")[0] not in ended]
    if unfinished:
        said = f"{number(len(unfinished), 'tar')} without img2dataset's stats, {some(unfinished)}"
        found.append(
            Finding("warning", said, "the download stopped in the middle of it", "img2dataset ... --incremental_mode incremental (goes on)")
        )
    return found


# Images and class folders


def judge_images(folder: Path, files: list[Path]) -> list[Finding]:
    """Say what is wrong with a folder of image files: captioned, or sorted into classes, or neither."""
    images = [p for p in files if _ending(p) in EXTENSIONS]
    texts = {p.with_suffix("") for p in files if _ending(p) == "txt"}
    parents = {p.relative_to(folder).parts[0] for p in images if len(p.relative_to(folder).parts) > 1}
    if not any(p.with_suffix("") in texts for p in images) and parents and all(p.parent != folder for p in images):
        return judge_evaluation(folder)
    tried, *unreadable = _tried(folder, images)
    return [tried, *_judge_captions(folder, images, texts), *unreadable, *_other_kinds(files)]


def _judge_captions(folder: Path, images: list[Path], texts: set[Path]) -> list[Finding]:
    """Say which images and .txt files (given without their endings) do not stand side by side."""
    stems = Counter(p.with_suffix("") for p in images)
    textless, imageless, blank, twice = Noted(), Noted(), Noted(), Noted()
    for image in images:
        if image.with_suffix("") not in texts:
            textless.add(image.relative_to(folder).as_posix())
    for stem in sorted(texts):
        name = stem.relative_to(folder).as_posix() + ".txt"
        if not stems[stem]:
            imageless.add(name)
        elif not (folder / name).stat().st_size:
            blank.add(name)
        if stems[stem] > 1:
            twice.add(name)
    if textless.n == len(images) and not imageless:
        return [
            Finding("note", "images without captions", "nothing to count", f"fistful label {folder} --model RUN --like DATA --out PSEUDO")
        ]
    no_caption, more = "refused by count and bags (no_caption)", "--max-bad-fraction allows more"
    told = (
        (textless, Finding("warning", f"{number(textless.n, 'image')} without a .txt, {textless}", no_caption, more)),
        (
            imageless,
            Finding("warning", f"{number(imageless.n, 'text')} without an image, {imageless}", "not read at all", "fetch the images again"),
        ),
        (blank, Finding("warning", f"{number(blank.n, 'empty text')}, {blank}", no_caption, more)),
        (twice, Finding("note", f"{number(twice.n, 'text')} beside several images, {twice}", "each image gets it as its caption")),
    )
    return [finding for noted, finding in told if noted]


def _tried(folder: Path, images: list[Path]) -> list[Finding]:
    """Decode some of the images."""
    tally = Tally()
    for n, path in enumerate(images):
        if n < FIRST_IMAGES or n % EVERY_IMAGE == 0:
            look_at_image(path.relative_to(folder).as_posix(), path.read_bytes(), tally)
    found = [Finding("ok", f"{number(len(images), 'image')}; {tally.n_decoded:,} decoded to try")]
    if tally.unreadable:
        said = f"{tally.unreadable.n:,} of {tally.n_decoded:,} images tried cannot be read, {tally.unreadable}"
        found.append(Finding("warning", said, "refused where they are needed", "delete them, or make them anew"))
    return found


def _other_kinds(files: list[Path]) -> list[Finding]:
    others = Counter(_ending(p) for p in files if _ending(p) in OTHER_IMAGES)
    said = ", ".join(f"{n:,} .{kind}" for kind, n in sorted(others.items()))
    return (
        [Finding("warning", f"images of kinds that are not read: {said}", "", "mogrify -format png *.gif (ImageMagick)")] if others else []
    )


def judge_evaluation(folder: Path) -> list[Finding]:
    """Say what is wrong with a labelled set: class folders, an archive of them, or CLIP_benchmark's layout."""
    from fistful.eval.datasets import open_set

    try:
        found_set = open_set(str(folder), None)
    except (UsageError, DataError) as error:
        return [Finding("problem", str(error).replace("--data ", ""), "fistful evaluate refuses the set", "--names FILE gives class names")]
    except ModuleNotFoundError as error:
        return [Finding("note", f"looking at an evaluation set needs {error.name}", "", "pip install 'fistful[models]'")]
    folders = [entry.folder for entry in found_set.classes]
    found = [
        Finding(
            "ok",
            f"evaluation set of {number(len(folders), 'class', 'classes')}, {number(found_set.n_images, 'image')}",
            "",
            f"fistful evaluate RUN --data {folder} --out RESULTS",
        )
    ]
    ids = [name for name in folders if WORDNET_ID.match(name)]
    if ids and len(ids) == len(folders):
        names = some([f"{entry.folder} = {entry.name}" for entry in found_set.classes], 2)
        found.append(Finding("ok", f"class folders are WordNet ids, {names}"))
    found += [Finding("warning", line) for line in found_set.warnings]
    images = sorted(p for p in folder.rglob("*") if p.is_file() and _ending(p) in EXTENSIONS)
    return found + (_tried(folder, images)[1:] if images else [])


# Caption files


def judge_text_file(path: Path) -> list[Finding]:
    """Say what is wrong with a TSV or CSV: read to its end where it is compressed, its first megabyte as text."""
    zipped = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if zipped else open(path, "rb") as file:
            start = file.read(PEEK)
            while zipped and file.read(PEEK):
                pass
    except (EOFError, zlib.error, OSError) as error:
        means = "rows after the break are lost; fistful reads up to it"
        return [Finding("problem", f"{path.name} is broken ({error})", means, "fetch it again")]
    lines = start.split(b"\n")
    separator = b"\t" if ".tsv" in path.name.lower() else b","
    found = [
        Finding("ok", f"{path.name}: {number(lines[0].count(separator) + 1, 'column')}", "", _count_command(path, lines[0], separator))
    ]
    if not start.strip():
        return [Finding("problem", f"{path.name} is empty", "no row to count", "fetch it again")]
    try:
        b"\n".join(lines[:-1] if len(start) == PEEK else lines).decode("utf-8")
    except UnicodeDecodeError as error:
        means = "rows that are not UTF-8 are refused (bad_caption)"
        found.append(
            Finding("warning", f"{path.name} is not UTF-8 at byte {error.start:,}", means, f"iconv -f latin1 -t utf-8 {path.name} > NEW")
        )
    if b"\0" in start:
        found.append(
            Finding("warning", f"{path.name} holds zero bytes", "UTF-16, or not text", f"iconv -f utf-16 -t utf-8 {path.name} > NEW")
        )
    if zipped or separator == b",":
        said = f"{path.name} is {'compressed' if zipped else 'CSV'}"
        means = "one unit, which one worker reads: it cannot be entered in the middle"
        found.append(Finding("note", said, means, "split it, or make a plain TSV of it"))
    return found


def _count_command(path: Path, line: bytes, separator: bytes) -> str:
    columns = [name.decode("utf-8", "replace").strip().strip('"') for name in line.split(separator)]
    named = next((c for c in columns if c.lower() in ("caption", "text", "title", "description")), None)
    return f"fistful count {path} --out COUNTS --caption {named or 'COLUMN (a number, from 1, or a name in the first line)'}"
