"""The verbs as the command line calls them: each calls one function of a room and says what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from fistful.bow.balance import Balance
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json
from fistful.bow.vocabulary import Limits
from fistful.bow.words import WordOptions
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.tasks.classify import ClassifyConfig
from fistful.pipelines.bags import BagOptions, BagsConfig
from fistful.pipelines.count import CountConfig
from fistful.pipelines.engine.stage import PASSED_OVER, Running
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.read.units import PlanOptions
from fistful.training.train_config import DataOptions, LossOptions, ModelOptions, OptimiserOptions, RunOptions, TextOptions, TrainConfig

from .errors import DataError, UsageError
from .terminal import show_in_line
from .verbs.demo.way import DemoConfig
from .verbs.report.report_config import ReportConfig
from .verbs.words.look_up import WordsConfig
from .wording import counted

GROUPS = (PlanOptions, SourceOptions, WordOptions, Limits, Balance, BagOptions, LabelOptions, Running)
TRAIN_GROUPS = (ModelOptions, DataOptions, TextOptions, LossOptions, OptimiserOptions, RunOptions)
CONFIGS = (CountConfig, BagsConfig, TrainConfig, LabelConfig, EvaluateConfig, ClassifyConfig, ReportConfig, WordsConfig, DemoConfig)
for options in (*GROUPS, *TRAIN_GROUPS, *CONFIGS):
    Parameter(name="*")(options)  # their fields become options of their own, without a prefix


def count(*sources: str, out: str, config: CountConfig = CountConfig()) -> None:
    """Count in how many captions and samples each word occurs.

    Args:
        sources: Files (TSV, CSV, JSONL, tar, each also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.count import count as run

    done = _finished(out)
    folder = run(*sources, out=out, config=config)
    if _nothing_more(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(f"{done}{_rows(stats)}{_rates(folder)}\n{_passed_over(folder)}", end="")
    print(f"{counted(stats['words'], 'word')} in {out}/vocabulary.parquet, most frequent first")
    given = shlex.join(sources) + _given(config.plan, config.source)
    print(f"next: fistful bags {given} --counts {shlex.quote(out)} --out DATA --rule cap --kept 0.5")


def bags(*sources: str, counts: str, out: str, config: BagsConfig = BagsConfig()) -> None:
    """Turn captions into word-balanced bags, in webdataset shards with an index.

    Args:
        sources: Files (TSV, CSV, JSONL, tar, each also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        counts: Folder that fistful count wrote.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.bags import bags as run

    done = _finished(out)
    folder = run(*sources, counts=counts, out=out, config=config)
    if _nothing_more(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(done + _rows(stats) + _rates(folder) + "\n" + _passed_over(folder), end="")
    if stats["duplicates"]:
        repeated = counted(stats["duplicates"], "sample repeats", "samples repeat")
        print(f"{repeated} an earlier one of their unit, byte for byte; all were kept")
    print(
        f"{counted(stats['words_in_bags'] + stats['words_thinned_out'], 'word')} in bags, {stats['words_balanced']:,} after balancing "
        f"(kept {stats['kept_fraction_realised']:.1%}{_said(', expected {:.1%}', stats['kept_fraction_expected'])}); "
        f"{stats['bags_emptied']:,} emptied bags kept one word each"
    )
    print(
        f"effective vocabulary {stats['effective_words_before']:,.0f} words before"
        f"{_said(', {:,.0f} after', stats['effective_words_after']) or ' balancing'}"
    )
    print(f"{counted(stats['units'], 'shard')} in {out}/shards")
    if _has_pictures(folder):
        print(f"next: fistful train {shlex.quote(out)} --out RUN")
    else:
        print("no picture is in them, and fistful train needs some: give tars, or folders of images")


def _has_pictures(folder: Path) -> bool:
    """Return whether any sample of a data folder has a picture."""
    import pyarrow.parquet as pq

    units = sorted((folder / "index").glob("*.parquet"))
    return any(pq.read_table(unit, columns=["image_size"])["image_size"].to_numpy().any() for unit in units)


def _said(template: str, figure: float | None) -> str:
    """Return a figure in its words; nothing where there is none."""
    return "" if figure is None else template.format(figure)


def _given(*groups: Any) -> str:
    """Return the options of these groups that are not as they are by default, as one would type them."""
    said = ""
    for group in groups:
        for field in dataclasses.fields(group):
            value, flag = getattr(group, field.name), f" --{field.name.replace('_', '-')}"
            if value != field.default:
                said += flag if value is True else f"{flag} {shlex.quote(str(value))}"
    return said


def _nothing_more(folder: Path, running: Running) -> bool:
    """Say what there is to say of a folder that this call does not close, and return whether it is one."""
    if running.dry_run:
        if (folder / manifest.MANIFEST).exists():
            print(f"dry run: {folder} is done already")
        return True
    if not running.units or (folder / manifest.MANIFEST).exists():
        return False
    done = len(list((folder / "stats").glob("*.json")))
    print(f"units {running.units} are done, {done:,} in all; the same command without --units closes {folder}")
    return True


def _finished(out: str) -> str:
    return "done already: " if (Path(out) / manifest.MANIFEST).exists() else ""


def _rows(stats: dict) -> str:
    refused = ", ".join(f"{reason} {n:,}" for reason, n in sorted(stats["refused"].items())) or "none"
    return f"{counted(stats['rows'], 'row')} read, {stats['kept']:,} kept; refused: {refused}"


def _passed_over(folder: Path) -> str:
    """Return lines that say what of the sources was not read; "" where all was."""
    path = folder / PASSED_OVER
    return "".join(f"passed over: {line}\n" for line in read_json(path)) if path.exists() else ""


def _rates(folder: Path) -> str:
    """Return how fast the last run was, from its log; "" for a short one, of which that says nothing."""
    logs = sorted((folder / "logs").glob("run-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    if not logs:
        return ""
    log = read_json(logs[-1])
    if log["seconds"] < 2:
        return ""
    return f"; {log['seconds']:,.1f} s, {log['rows_per_second']:,.0f} rows/s, {log['megabytes'] / max(log['seconds'], 1e-9):,.1f} MB/s"


def verify(*folders: str) -> None:
    """Check that not one byte of finished folders has changed.

    Args:
        folders: Folders that fistful wrote.
    """
    if not folders:
        raise UsageError("no FOLDER given; expected folders that fistful wrote")
    problems = [problem for folder in folders for problem in manifest.verify(Path(folder))]
    for problem in problems[:20]:
        print(show_in_line(problem))
    if problems:
        raise DataError(f"{counted(len(problems), 'difference')} found; delete the folder and run the command that wrote it again")
    for folder in folders:
        print(f"{folder}: every byte as written")


def train(
    *data: str,
    out: str,
    recipe: str | None = None,  # noqa: ARG001 - cli.py has put its options into config
    evaluate_on: tuple[str, ...] = (),
    config: TrainConfig = TrainConfig(),
) -> None:
    """Train a CLIP model on captions, bags or balanced bags.

    Args:
        data: Folders that fistful bags or label wrote, or webdataset tars; FOLDER*2 shows its samples twice an epoch.
        out: Run folder to write.
        recipe: Options to start from: fistful, clip, joint, cc3m-8gpu, tiny-fistful, tiny-clip, tiny-joint, photos-frozen.
        evaluate_on: Class folders whose zero-shot accuracy is noted at the end, and each --evaluate-every; the first decides the best.
        config: Options; what is given here wins over the recipe.
    """
    from fistful.training.train import train as run

    if not data:
        raise UsageError("no DATA given; expected folders that fistful bags wrote")
    if config.run.evaluate_every and not evaluate_on:
        raise UsageError(f"--evaluate-every {config.run.evaluate_every}: has nothing to evaluate on; give --evaluate-on CLASS_FOLDERS")
    if evaluate_on and not config.has_text:
        raise UsageError(
            f"--evaluate-on {evaluate_on[0]}: class names are scored by the text tower, and --objective {config.loss.objective} trains "
            "none; leave it out and ask the word head with fistful evaluate --prompts head, or use --objective joint"
        )
    done, evaluated = _finished(out), None
    if evaluate_on:
        from fistful.eval.during import AccuracyOn

        evaluated = AccuracyOn(evaluate_on)
    run(*data, out=out, config=config, evaluate=evaluated)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        steps = read_json(Path(out) / manifest.CONFIG)["config"]["steps"]
        print(f"{done}{counted(steps, 'step')} of {config.optimiser.batch_size} samples; the model lies in {out}/model")
        if evaluated is not None:
            print(_scores(Path(out), evaluated.names))
        sets = shlex.join(word for name in evaluate_on for word in ("--data", name)) or "--data CLASS_FOLDERS"
        print(f"next: fistful evaluate {shlex.quote(out)} {sets} --out RESULTS")


def _scores(run: Path, names: Sequence[str]) -> str:
    """Say what was noted of a run's accuracy: at the end, and of which step RUN/best is.

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


def label(*images: str, model: str, like: str, out: str, config: LabelConfig = LabelConfig()) -> None:
    """Write bags for images that have no caption.

    Args:
        images: Tars or folders of images.
        model: Run folder, or another encoder: a folder that open_clip loads, or module:function of your own.
        like: Folder that fistful bags wrote: its vocabulary, and real bags to measure against.
        out: Folder to write, a data folder for fistful train.
        config: Options.
    """
    from fistful.pipelines.pseudo.label import label as run

    if not images:
        raise UsageError("no IMAGES given; expected tars or folders of images")
    done = _finished(out)
    folder = run(*images, model=model, like=like, out=out, config=config)
    if _nothing_more(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(done + _rows(stats) + "\n" + _passed_over(folder), end="")
    print(
        f"{stats['words_in_bags']:,} words given, {stats['words_in_bags'] / max(1, stats['kept']):.1f} an image; on "
        f"{stats['held_out_images']:,} held-out captioned images {stats['held_out_precision']:.1%} of such words were right "
        f"(95 % interval {stats['held_out_precision_low']:.1%} to {stats['held_out_precision_high']:.1%}, "
        f"by chance {stats['held_out_precision_by_chance']:.1%}; captions do not say everything, so that more may be right)"
    )
    print(f"next: fistful train {shlex.join([like, out])} --out RUN --objective joint")


def evaluate(*models: str, data: tuple[str, ...], out: str, config: EvaluateConfig = EvaluateConfig()) -> None:
    """Measure zero-shot accuracy, retrieval and tagging.

    Args:
        models: Run folders, model folders, open_clip folders, or module:function of an encoder of your own.
        data: Class folders, archives of them, or CLIP_benchmark's webdataset layout; for retrieval and tagging, captioned
            pictures that fistful bags wrote. Give it again for each set.
        out: Results folder to write.
        config: Options.
    """
    from fistful.eval.evaluate import evaluate as run
    from fistful.eval.results import results_table

    done = _finished(out)
    folder = run(*models, data=data, out=out, config=config)
    print((done.rstrip(" ") + "\n" if done else "") + results_table(folder), end="")
    print(f"results and predictions lie in {out}")


def classify(model: str, /, *images: str, names: str, out: str | None = None, config: ClassifyConfig = ClassifyConfig()) -> None:
    """Say which of your own class names each of your own images shows.

    Args:
        model: Run folder, model folder, open_clip folder, or module:function of an encoder of your own.
        images: Image files, or folders of them.
        names: File with one class name on each line, or a TSV with the columns folder, name and words (its synonyms).
        out: File to write all answers to, CSV or JSONL by its ending.
        config: Options.
    """
    from fistful.bow.store.kinds import PassedOver
    from fistful.eval.tasks.classify import answers_table, find_images
    from fistful.eval.tasks.classify import classify as run

    if not images:
        raise UsageError("no IMAGES given; expected image files or folders of them")
    print(answers_table(run(model, *images, names=names, out=out, config=config)), end="")
    find_images(images, passed := PassedOver())
    for line in passed.lines():
        print(f"passed over: {line}")
    if out is not None:
        print(f"all answers lie in {out}")


def words(folder: str, *asked: str, config: WordsConfig = WordsConfig()) -> None:
    """Look words and class names up in counts, and try balancing rules on samples.

    Args:
        folder: Folder that fistful count, bags or label wrote, or a run's.
        asked: Words to look up, as they stand in captions.
        config: Options.
    """
    from .verbs.words.look_up import words as run
    from .verbs.words.table import words_json, words_text

    found = run(folder, *asked, config=config)
    print(words_json(found) if config.json else words_text(found))


def doctor(folder: str | None = None, *, progress: bool = True) -> None:
    """Find what will not work: on the machine, in the installed versions, in a folder.

    Args:
        folder: A data, run, results or model folder, webdataset tars, class folders, images or caption files.
        progress: Show a progress bar while tars are walked.
    """
    from .verbs.doctor import check
    from .verbs.doctor import doctor as run
    from .verbs.doctor.finding import findings_text

    findings = run(folder, progress=progress)
    print(findings_text(findings))
    check(findings)


def report(*folders: str, out: str, config: ReportConfig = ReportConfig()) -> None:
    """Show runs, results, words and pseudo-labels on one page.

    Args:
        folders: Folders of train, evaluate, bags or label, in any order, or folders that hold such folders.
        out: The page to write, a file that ends in .html; it loads nothing from elsewhere.
        config: Options.
    """
    from .verbs.report import report as run

    if not folders:
        raise UsageError("no FOLDER given; expected run, results and data folders, or a folder that holds them")
    page = run(*folders, out=out, config=config)
    print(f"{page}: open it in a browser ({page.stat().st_size / 1e6:.1f} MB, all in one file)")


def demo(*, out: str = "demo-out", config: DemoConfig = DemoConfig()) -> None:
    """See the whole way on drawings: captions in, trained models and their scores out.

    Args:
        out: Folder to write.
        config: Options.
    """
    from .verbs.demo.way import demo as run

    run(out, config)
    print(f"everything lies in {out}; it was made by the verbs count, bags, train and evaluate")
