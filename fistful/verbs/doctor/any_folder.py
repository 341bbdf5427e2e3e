"""What `fistful doctor` says of a folder, whatever it is: ours, webdataset, class folders, images, captions, a model."""

from __future__ import annotations

import gzip
import shlex
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fistful.bow.store.files import parse_json
from fistful.bow.store.kinds import PassedOver, files_under, is_image
from fistful.bow.store.manifest import CONFIG
from fistful.bow.store.model_folder import CONFIG_FILE, OWN_FILE
from fistful.eval.sets.class_names import TABLE, WORDNET_ID
from fistful.eval.sets.wds import CLASS_NAMES, SHARDS, SPLIT
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.find_files import BESIDE
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.source_options import SourceOptions, usual_name
from fistful.pipelines.read.sources import check_unit, open_unit
from fistful.pipelines.read.table_head import column_names
from fistful.pipelines.read.units import Unit

from ...errors import DataError, UsageError
from ...wording import counted, some
from .archives import EVERY_IMAGE, FIRST_IMAGES, Tally, judge_numbers, judge_tars, look_at_image, walk_tars
from .finding import Finding, Noted
from .own_folders import judge_model, judge_own

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
    if (path / CONFIG_FILE).is_file() or (path / OWN_FILE).is_file():
        return judge_model(path)
    if any((path / name).is_file() for name in (TABLE, CLASS_NAMES, SHARDS)) or (path / SPLIT / SHARDS).is_file():
        return judge_evaluation(path)
    passed = PassedOver()
    try:
        units, _ = plan_units((str(path),), PlanOptions(), passed)
    except UsageError as error:
        return [_refused(path, error)]
    return [*_judge_units(path, units, walk, passed), *_judge_passed(passed)]


def _judge_file(path: Path, walk: Walk) -> list[Finding]:
    try:
        units, _ = plan_units((str(path),), PlanOptions(), passed := PassedOver())
    except UsageError as error:
        return [_refused(path, error)]
    return _judge_units(path, units, walk, passed)


def _refused(path: Path, error: UsageError, called: str = "") -> Finding:
    said = called + str(error).removeprefix(f"{path}: ")
    return Finding("problem", said, "count and bags refuse it", "fistful count --help says what is read")


def _judge_units(path: Path, units: list[Unit], walk: Walk, passed: PassedOver) -> list[Finding]:
    """Say what is wrong with what count and bags would read of a file or a folder."""
    if units[0].kind == "images":
        folder = path if path.is_dir() else path.parent
        files = [folder / name for name in files_under(path, PassedOver())] if path.is_dir() else [path, *_beside(path)]
        return judge_images(folder, [folder / name for unit in units for name in unit.files], files)
    paths = [Path(name) for name in dict.fromkeys(unit.path for unit in units)]
    if units[0].kind == "tar":
        return judge_shards(path, paths, walk) if path.is_dir() else judge_tars(walk(paths), 1)
    command = f"fistful count {shlex.quote(str(path))} --out COUNTS"
    told = [_judge_taken(line, units, command) for line in passed.taken]
    first = {unit.path: unit for unit in reversed(units)}
    return told + [f for name in map(str, paths) for f in judge_table(first[name], "" if first[name].has_pictures else command)]


def _judge_taken(line: str, units: list[Unit], command: str) -> Finding:
    """Say what a table was taken for: whether its pictures are found is seen by its units."""
    found = [unit.has_pictures for unit in units if unit.kind != "txt" and line.startswith(f"{unit.name}: ")]
    return Finding("ok", line, "", command) if any(found) else Finding("warning" if found else "note", line)


def _beside(image: Path) -> list[Path]:
    """Return an image's text, if it has one."""
    return [text for end in BESIDE if (text := image.with_suffix(end)).is_file()]


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
            "what failed is not there",
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
    texts = {p.with_suffix(""): p for p in files if p.suffix in BESIDE and not p.name.endswith(STATS)}
    parents = {p.relative_to(folder).parts[0] for p in images if len(p.relative_to(folder).parts) > 1}
    if not any(p.with_suffix("") in texts for p in images) and parents and all(p.parent != folder for p in images):
        return judge_evaluation(folder)
    lost = [p.relative_to(folder).as_posix() for p in images if not p.exists()]
    tried, *unreadable = _tried(folder, [p for p in images if p.exists()])
    if lost:
        said = f"{counted(len(lost), 'link that leads', 'links that lead')} nowhere, {some(lost)}"
        unreadable.append(Finding("warning", said, "refused by count and bags (no_image)", "--max-bad-fraction allows more"))
    stats = sorted(path for path in files if path.name.endswith(STATS))
    return [tried, *_judge_captions(folder, images, texts), *unreadable, *(_judge_downloads([], stats, Tally()) if stats else [])]


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
    from fistful.eval.sets.layouts import open_set

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


def judge_table(unit: Unit, command: str) -> list[Finding]:
    """Say what is wrong with a table or a JSON document.

    Args:
        unit: Its first.
        command: The call that counts it, if that is worth saying.
    """
    path = Path(unit.path)
    if unit.root is not None or not path.name.lower().endswith(TEXT_FILES):
        return _judge_first_rows(unit, command)
    zipped = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if zipped else open(path, "rb") as file:
            start = file.read(PEEK)
            while zipped and file.read(PEEK):
                pass
    except (EOFError, zlib.error, OSError) as error:
        means = "rows after the break are lost; fistful reads up to it"
        return [Finding("problem", f"{path.name} is broken ({error})", means, "fetch it again")]
    if not start.strip():
        return [Finding("problem", f"{path.name} is empty", "no row to count", "fetch it again")]
    return [*_judge_first_rows(unit, command), *_judge_text(path.name, start)]


def _judge_text(name: str, start: bytes) -> list[Finding]:
    """Say what is wrong with a TSV or CSV by its first megabyte."""
    found = []
    if b"\0" in start:
        found.append(Finding("warning", f"{name} holds zero bytes", "UTF-16, or not text", f"iconv -f utf-16 -t utf-8 {name} > NEW"))
    else:
        try:
            start[: start.rfind(b"\n") + 1 if len(start) == PEEK else None].decode("utf-8")
        except UnicodeDecodeError as error:
            said, means = f"{name} is not UTF-8 at byte {error.start:,}", "rows that are not UTF-8 are refused (bad_caption)"
            found.append(Finding("warning", said, means, f"iconv -f cp1252 -t utf-8 {name} > NEW"))
    zipped = name.lower().endswith(".gz")
    if zipped or name.lower().endswith(".csv"):
        said = f"{name} is {'compressed' if zipped else 'CSV'}"
        means = "one unit, which one worker reads: it cannot be entered in the middle"
        found.append(Finding("note", said, means, "split it, or make a plain TSV of it"))
    return found


def _judge_first_rows(unit: Unit, command: str) -> list[Finding]:
    """Say which columns count finds in a table, and what it refuses of its first rows."""
    name, options = Path(unit.path).name, SourceOptions()
    try:
        check_unit(unit, options)
        with open_unit(unit, options, with_images=False) as (batches, _content):
            first = next(batches, None)
    except UsageError as error:
        return [_refused(Path(unit.path), error, f"{name}: ")]
    letters = first.letters if first else []
    why = f", the first: {letters[0].place}: {letters[0].reason}, {letters[0].detail}" if letters else ""
    if first is None or not first.n_rows:
        ways = {"bad_caption": f"iconv -f cp1252 -t utf-8 {name} > NEW", "bad_row": ""}
        way = ways.get(letters[0].reason, "fetch it again") if letters else "fetch it again"
        return [Finding("problem", f"{name}: none of its first rows can be read{why}", "refused by count and bags", way)]
    columns = column_names(unit.path, unit.kind, options) if command else []
    fine = [Finding("ok", f"{name}: {counted(len(columns), 'column')}, captions in {usual_name(columns)}", "", command)] if command else []
    said = f"{name}: {len(letters):,} of its first {first.n_read:,} rows are refused{why}"
    if len(letters) > Running().max_bad_fraction * first.n_read:
        return [*fine, Finding("problem", said, "count and bags end with an error", "--max-bad-fraction allows more")]
    return [*fine, Finding("warning", said)] if letters else fine
