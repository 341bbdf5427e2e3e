"""What `fistful doctor` says of a folder, whatever it is: ours, webdataset, class folders, images, captions, a model."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fistful.bow.store.columns import BROKEN_PARQUET, is_text
from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.files import parse_json
from fistful.bow.store.kinds import PassedOver, extension_of, files_under, is_image
from fistful.bow.store.manifest import CONFIG
from fistful.eval.sets.class_names import TABLE, WORDNET_ID
from fistful.eval.sets.wds import CLASS_NAMES, SHARDS, SPLIT
from fistful.pipelines.read.jsonl import json_object
from fistful.pipelines.read.lines import decompressed, read_blocks
from fistful.pipelines.read.sources import SourceOptions, open_unit
from fistful.pipelines.read.units import PlanOptions, Unit, plan_units

from ...errors import DataError, UsageError
from ...wording import counted, some
from .archives import EVERY_IMAGE, FIRST_IMAGES, Tally, judge_numbers, judge_tars, look_at_image, walk_tars
from .finding import Finding, Noted
from .own_folders import judge_model, judge_own

TEXT_FILES = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
STATS = "_stats.json"
"""What img2dataset writes beside each tar."""
PEEK = 1 << 20
TEXT_ENDS = (".txt", ".TXT")
"""Endings of the texts beside images that count reads."""
CAPTIONS = ("caption", "text", "title", "description")
"""Names by which columns of captions go."""

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
    passed = PassedOver()
    try:
        units, _ = plan_units((str(path),), PlanOptions(), passed)
    except UsageError as error:
        return [_refused(path, error)]
    return [*_judge_units(path, units, walk), *_judge_passed(passed)]


def _judge_file(path: Path, walk: Walk) -> list[Finding]:
    try:
        units, _ = plan_units((str(path),), PlanOptions())
    except UsageError as error:
        return [_refused(path, error)]
    return _judge_units(path, units, walk)


def _refused(path: Path, error: UsageError) -> Finding:
    said = str(error).removeprefix(f"{path}: ")
    return Finding("problem", said, "count and bags refuse it", "fistful count --help says what is read")


def _judge_units(path: Path, units: list[Unit], walk: Walk) -> list[Finding]:
    """Say what is wrong with what count and bags would read of a file or a folder."""
    if units[0].kind == "images":
        folder = path if path.is_dir() else path.parent
        files = [folder / name for name in files_under(path, PassedOver())] if path.is_dir() else [path, *_beside(path)]
        return judge_images(folder, [folder / name for unit in units for name in unit.files], files)
    paths = [Path(name) for name in dict.fromkeys(unit.path for unit in units)]
    if units[0].kind == "tar":
        return judge_shards(path, paths, walk) if path.is_dir() else judge_tars(walk(paths), 1)
    return [finding for p in paths for finding in (judge_text_file(p) if p.name.lower().endswith(TEXT_FILES) else judge_rows(p))]


def _beside(image: Path) -> list[Path]:
    """Return an image's text, if it has one."""
    return [text for end in TEXT_ENDS if (text := image.with_suffix(end)).is_file()]


def _judge_passed(passed: PassedOver) -> list[Finding]:
    """Say what of a folder is not read."""
    return [Finding("note" if why == "hidden" else "warning", said, "passed over", way) for why, said, way in passed.said()]


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
                f"sizes.json does not match {counted(len(wrong), 'tar')}, {some(wrong)}",
                means,
                f"rm {path}, or fetch those tars again",
            )
        )
    if gone:
        found.append(Finding("problem", f"sizes.json names {counted(len(gone), 'missing tar')}, {some(gone)}", "", "fetch them again"))
    if more:
        found.append(Finding("warning", f"sizes.json leaves out {counted(len(more), 'tar')}, {some(more)}", "", f"rm {path}"))
    return found or [Finding("ok", f"sizes.json agrees with {counted(len(tally.samples_of), 'tar')}")]


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
        said = f"{counted(len(wrong), 'tar')} with other numbers of samples than img2dataset's stats, {some(wrong)}"
        found.append(
            Finding("problem", said, "cut off, or changed since", "img2dataset ... --incremental_mode incremental, after rm of those tars")
        )
    ended = {path.name.removesuffix(STATS) for path in stats}
    unfinished = [p.name for p in tars if p.name.split(".")[0] not in ended]
    if unfinished:
        said = f"{counted(len(unfinished), 'tar')} without img2dataset's stats, {some(unfinished)}"
        found.append(
            Finding("warning", said, "the download stopped in the middle of it", "img2dataset ... --incremental_mode incremental (goes on)")
        )
    return found


# Images and class folders


def judge_images(folder: Path, images: list[Path], files: list[Path]) -> list[Finding]:
    """Say what is wrong with a folder of image files: captioned, or sorted into classes, or neither."""
    texts = {p.with_suffix(""): p for p in files if p.suffix in TEXT_ENDS}
    parents = {p.relative_to(folder).parts[0] for p in images if len(p.relative_to(folder).parts) > 1}
    if not any(p.with_suffix("") in texts for p in images) and parents and all(p.parent != folder for p in images):
        return judge_evaluation(folder)
    lost = [p.relative_to(folder).as_posix() for p in images if not p.exists()]
    tried, *unreadable = _tried(folder, [p for p in images if p.exists()])
    if lost:
        said = f"{counted(len(lost), 'link')} that lead nowhere, {some(lost)}"
        unreadable.append(Finding("warning", said, "refused by count and bags (no_image)", "--max-bad-fraction allows more"))
    return [tried, *_judge_captions(folder, images, texts), *unreadable]


def _judge_captions(folder: Path, images: list[Path], texts: dict[Path, Path]) -> list[Finding]:
    """Say which images and texts (by their names without endings) do not stand side by side, and which texts cannot be read."""
    stems = Counter(p.with_suffix("") for p in images)
    textless, imageless, blank, twice, unread = Noted(), Noted(), Noted(), Noted(), Noted()
    for image in images:
        if image.with_suffix("") not in texts:
            textless.add(image.relative_to(folder).as_posix())
    for stem, path in sorted(texts.items()):
        name = path.relative_to(folder).as_posix()
        if not stems[stem]:
            imageless.add(name)
            continue
        try:
            if not path.read_bytes().decode("utf-8").strip():
                blank.add(name)
        except (UnicodeDecodeError, OSError) as error:
            unread.add(f"{name} ({error.reason if isinstance(error, UnicodeDecodeError) else error.strerror})")
        if stems[stem] > 1:
            twice.add(name)
    if textless.n == len(images) and not imageless:
        return [
            Finding("note", "images without captions", "nothing to count", f"fistful label {folder} --model RUN --like DATA --out PSEUDO")
        ]
    no_caption, more = "refused by count and bags (no_caption)", "--max-bad-fraction allows more"
    told = (
        (textless, Finding("warning", f"{counted(textless.n, 'image')} without a .txt, {textless}", no_caption, more)),
        (
            imageless,
            Finding(
                "warning", f"{counted(imageless.n, 'text')} without an image, {imageless}", "not read at all", "fetch the images again"
            ),
        ),
        (blank, Finding("warning", f"{counted(blank.n, 'empty text')}, {blank}", no_caption, more)),
        (
            unread,
            Finding("warning", f"{counted(unread.n, 'text')} not in UTF-8, {unread}", "refused by count and bags (bad_caption)", more),
        ),
        (twice, Finding("note", f"{counted(twice.n, 'text')} beside several images, {twice}", "each image gets it as its caption")),
    )
    return [finding for noted, finding in told if noted]


def _tried(folder: Path, images: list[Path]) -> list[Finding]:
    """Decode some of the images."""
    tally = Tally()
    for n, path in enumerate(images):
        if n < FIRST_IMAGES or n % EVERY_IMAGE == 0:
            look_at_image(path.relative_to(folder).as_posix(), path.read_bytes(), tally)
    found = [Finding("ok", f"{counted(len(images), 'image')}; {tally.n_decoded:,} decoded to try")]
    if tally.unreadable:
        said = f"{tally.unreadable.n:,} of {tally.n_decoded:,} images tried cannot be read, {tally.unreadable}"
        found.append(Finding("warning", said, "refused where they are needed", "delete them, or make them anew"))
    return found


def judge_evaluation(folder: Path) -> list[Finding]:
    """Say what is wrong with a labelled set: class folders, an archive of them, or CLIP_benchmark's layout."""
    from fistful.eval.sets.open_set import open_set

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
            f"evaluation set of {counted(len(folders), 'class', 'classes')}, {counted(found_set.n_images, 'image')}",
            "",
            f"fistful evaluate RUN --data {folder} --out RESULTS",
        )
    ]
    ids = [name for name in folders if WORDNET_ID.match(name)]
    if ids and len(ids) == len(folders):
        names = some([f"{entry.folder} = {entry.name}" for entry in found_set.classes], 2)
        found.append(Finding("ok", f"class folders are WordNet ids, {names}"))
    found += [Finding("warning", line) for line in found_set.warnings]
    images = [p for name in files_under(folder, PassedOver()) if is_image(name) and (p := folder / name).exists()]
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
        Finding("ok", f"{path.name}: {counted(lines[0].count(separator) + 1, 'column')}", "", _count_command(path, lines[0], separator))
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


def judge_rows(path: Path) -> list[Finding]:
    """Say what is wrong with a JSONL, parquet or zst file: its first rows are read as count reads them."""
    units, _ = plan_units((str(path),), PlanOptions())
    names = _columns_of(path)
    named = next((name for name in names if name.lower() in CAPTIONS), names[0] if names else "")
    if not named:
        return [Finding("problem", f"{path.name}: no column of text", "broken, empty, or without captions", "fetch it again")]
    command = f"fistful count {path} --out COUNTS --caption {named}"
    try:
        with open_unit(units[0], SourceOptions(caption=named), with_images=False) as (batches, _content):
            first = next(batches, None)
    except UsageError as error:
        return [_refused(path, error)]
    said = f"{path.name}: {counted(len(names), 'column')} of text, {some(names)}"
    if first is None or not first.n_rows:
        why = f", the first: {first.letters[0].reason}, {first.letters[0].detail}" if first and first.letters else ""
        return [Finding("problem", f"{path.name}: none of its first rows can be read{why}", "refused by count and bags", "fetch it again")]
    refused = Finding("warning", f"{path.name}: {len(first.letters):,} of its first {first.n_read:,} rows are refused")
    return [Finding("ok", said, "", command), *([refused] if first.letters else [])]


def _columns_of(path: Path) -> list[str]:
    """Return the names of a table's columns that hold text, as far as its first row or its schema tells."""
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        try:
            return [field.name for field in pq.ParquetFile(path).schema_arrow if is_text(field.type)]
        except BROKEN_PARQUET:
            return []
    try:
        with open(path, "rb") as raw:
            line = next(read_blocks(decompressed(raw, path.name)), b"").split(b"\n")[0]
        if extension_of(path.name) in ("tsv", "csv"):
            separator = b"\t" if extension_of(path.name) == "tsv" else b","
            return [name.decode("utf-8", "replace").strip().strip('"') for name in line.split(separator)]
        return [name for name, value in json_object(line).items() if isinstance(value, str | list)]
    except (Refused, OSError):
        return []


def _count_command(path: Path, line: bytes, separator: bytes) -> str:
    columns = [name.decode("utf-8", "replace").strip().strip('"') for name in line.split(separator)]
    named = next((c for c in columns if c.lower() in CAPTIONS), None)
    return f"fistful count {path} --out COUNTS --caption {named or 'COLUMN (a number, from 1, or a name in the first line)'}"
