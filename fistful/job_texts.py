"""What is said of a data job when it has ended."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.store.folders import entries, folder_at, parquet_source
from fistful.pipelines.engine.stage import Running, commonest_refusal, seen

from .wording import counted


def has_pictures(folder: Path, stats: dict[str, Any]) -> bool:
    """Return whether any sample of a data folder has a picture."""
    import pyarrow.parquet as pq

    kinds = [n for name, n in stats.items() if name.endswith("_pictures")]
    if kinds:
        return any(kinds)
    units = sorted((folder / "index").glob("*.parquet"))  # of an earlier version, which did not count them
    return any(pq.read_table(parquet_source(unit), columns=["image_size"])["image_size"].to_numpy().any() for unit in units)


def figure_text(template: str, figure: float | None) -> str:
    """Return a figure in its words; nothing where there is none."""
    return "" if figure is None else template.format(figure)


def options_given(*groups: Any) -> str:
    """Return the options of these groups that are not as they are by default, as one would type them; how a job runs is typed anew."""
    said = ""
    for group in groups:
        group = Running(max_bad_fraction=group.max_bad_fraction) if isinstance(group, Running) else group
        for field in dataclasses.fields(group):
            value, flag = getattr(group, field.name), f" --{field.name.replace('_', '-')}"
            if value != field.default:
                said += flag if value is True else f"{flag} {shlex.quote(str(value))}"
    return said


def is_left_open(folder: Path, running: Running) -> bool:
    """Say what there is to say of a folder that this call does not close, and return whether it is one."""
    if running.dry_run:
        if (folder / manifest.MANIFEST).exists():
            print(f"dry run: {folder} is done already")
        return True
    if not running.units or (folder / manifest.MANIFEST).exists():
        return False
    done = len(entries(folder / "stats"))
    print(f"units {running.units} are done, {done:,} in all; the same command without --units closes {folder}")
    return True


def done_before(out: str | Path) -> str:
    """Return what stands before the rest where a folder was finished already."""
    return "done already: " if (folder_at(out) / manifest.MANIFEST).exists() else ""


def rows_text(stats: dict[str, Any]) -> str:
    """Return how many rows were read, kept and refused."""
    refused = ", ".join(f"{reason} {n:,}" for reason, n in sorted(stats["refused"].items())) or "none"
    return f"{counted(stats['rows'], 'row')} read, {stats['kept']:,} kept; refused: {refused}"


def seen_text(folder: Path, stats: dict[str, Any]) -> str:
    """Return lines that say why rows were refused, what the sources were taken for, and what of them was not read."""
    refusal = commonest_refusal(folder, stats)
    return "".join(f"{line}\n" for line in [*([refusal] if refusal else []), *seen(folder)])


def rates_text(folder: Path) -> str:
    """Return how fast the last run was, from its log; "" for a short one, of which that says nothing."""
    logs = sorted((folder / "logs").glob("run-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    if not logs:
        return ""
    log = read_json(logs[-1])
    if log["seconds"] < 2:
        return ""
    return f"; {log['seconds']:,.1f} s, {log['rows_per_second']:,.0f} rows/s, {log['megabytes'] / max(log['seconds'], 1e-9):,.1f} MB/s"


def labels_text(stats: dict[str, Any]) -> str:
    """Return what labels are worth, by held-out captioned images, two lines; before them how many words were known, where some were."""
    nearest = stats["held_out_nearest"]
    known = f"{counted(stats['words_known'], 'word was', 'words were')} known and are kept\n" if "words_known" in stats else ""
    bare = stats["refused"].get("no_label", 0) if stats.get("words_known") else 0
    if bare:
        known += f"! {counted(bare, 'picture')} without a known word got none either (no_label): label these without --complete\n"
    if stats.get("words_known") == 0:
        known += "! no picture has a word: the share below was measured where half are known; label without --complete\n"
    return (
        f"{known}{counted(stats['words_in_bags'], 'word')} given, {stats['words_in_bags'] / max(1, stats['kept']):.1f} an image; on "
        f"{stats['held_out_images']:,} held-out captioned images {stats['held_out_precision']:.1%} of such words were right "
        f"(95 % interval {stats['held_out_precision_low']:.1%} to {stats['held_out_precision_high']:.1%}, "
        f"by chance {stats['held_out_precision_by_chance']:.1%}; captions do not say everything, so that more may be right)\n"
        f"at as many words as the nearest captioned picture has, {nearest['labels']:.1%} of the labels are right, and "
        f"{nearest['precision']:.1%} of its words copied (difference {nearest['low']:+.1%} to {nearest['high']:+.1%})\n"
    )


def near_copies_text(stats: dict[str, Any]) -> str:
    """Return a line that says what near copies among captioned pictures a labelling set apart; "" where there are none."""
    near = stats["held_out_near_copies"]
    said = []
    if near["images"]:
        said.append(f"{near['images']:,} held-out images counted as {counted(near['pictures'], 'picture')}")
    if near["learnt_from"]:
        said.append(
            f"{counted(near['learnt_from'], 'held-out image was', 'held-out images were')} left out, as the model learnt from copies"
        )
    if near["kept_from_voting"]:
        said.append(f"{counted(near['kept_from_voting'], 'captioned image does', 'captioned images do')} not vote, as copies are held out")
    return f"near copies (the same photo saved anew, or cut): {'; '.join(said)}\n" if said else ""


def student_text(folder: Path, ngrams: Path) -> str:
    """Return what there is to know of a student, a line each.

    Args:
        folder: What `fistful distill` wrote.
        ngrams: Where its n-grams were counted; deleted, perhaps, once it was finished.
    """
    lines = []
    if (ngrams / "stats.json").exists():
        stats = read_json(ngrams / "stats.json")
        shared = stats["ngrams"] - stats["table"]
        others = f"the other {shared:,} share {stats['hashed']:,}" if stats["hashed"] else f"the other {shared:,} have none"
        lines = [f"{rows_text(stats)}\n{seen_text(ngrams, stats)}".removesuffix("\n")]
        lines += [f"{counted(stats['excluded'], 'sample')} of photos that --exclude names left out"] if stats["excluded"] else []
        lines.append(
            f"{counted(stats['ngrams'], 'n-gram')} in {counted(stats['captions'], 'caption')}: {stats['table']:,} with an embedding of "
            f"their own ({stats['ngrams_in_table_counted'] / stats['ngrams_read']:.1%} of what was read), {others}"
        )
    last = (folder / "metrics.jsonl").read_text().splitlines()[-1]
    if scores := json.loads(last)["scores"]:
        n = counted(scores["held_out_captions"], "caption")
        cosine = scores.get("held_out_cosine")
        said = f"agree in {scores['held_out_agreement']:.1%} of labels" if cosine is None else f"have a cosine of {cosine:.3f}"
        lines.append(f"student and teacher {said}, the mean of {n} that were held out")
    return "".join(line + "\n" for line in lines)


def next_with_student(out: str, teacher: str, labels: str) -> str:
    """Return lines that say what a student can do; of a classifier first what it learnt from."""
    from fistful.training.model.load import load_encoder
    from fistful.training.text_labels import labels_said, read_text_labels

    if labels:
        asked = f"fistful.load({out!r}).label_texts(['...'])"
        return f"{labels_said(read_text_labels(labels))}\nnext, in Python: {asked}"
    pictures = f"; for pictures {shlex.quote(f'{out}+{teacher}')} is the model" if load_encoder(teacher, "cpu").image_size else ""
    return f"next: fistful embed CAPTIONS --model {shlex.quote(out)} --out E{pictures if '+' not in teacher else ''}"


def scores_text(run: Path, names: Sequence[str]) -> str:
    """Return what was noted of a run's accuracy: at the end, and of which step RUN/best is.

    Args:
        run: The run folder.
        names: What the scores are called, in the order of the sets: the first decides the best.
    """
    from fistful.bow.store.model_folder import BEST_FOLDER
    from fistful.training.checkpoint import best_step
    from fistful.training.metrics_file import METRICS

    def said(scores: dict[str, float]) -> str:
        return ", ".join(f"{name} {100 * scores[name]:.1f} %" for name in names)

    noted = {row["step"]: row["scores"] for row in map(json.loads, (run / METRICS).read_text().splitlines()) if "scores" in row}
    last = max(noted)
    best = best_step([[step, scores[names[0]]] for step, scores in noted.items()], last)
    more = f"; best in step {best}: {said(noted[best])}, in {run / BEST_FOLDER}" if best and (run / BEST_FOLDER).is_dir() else ""
    return f"zero-shot, one prompt a class: {said(noted[last])}{more}"


def labelled_by_text(folder: Path) -> str:
    """Return a line that says where the words of a labelling come from."""
    asked = manifest.read_config(folder)["config"]
    return "missing words by the head that finds hidden ones" if asked.get("complete") else f"labelled by {asked['by']}"
