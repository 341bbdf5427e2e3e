"""The verbs as the command line calls them: each calls one function of a room and says what came of it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from cyclopts import Parameter

from fistful.bow.balance import Balance
from fistful.bow.cooccurrence import MOST_WORDS
from fistful.bow.store import manifest
from fistful.bow.store.files import local_out, read_json
from fistful.bow.store.objects import redacted
from fistful.bow.vocabulary import Limits
from fistful.bow.words import WordOptions
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.quiz.quiz_config import QuizConfig
from fistful.eval.tasks.classify import ClassifyConfig
from fistful.pipelines.bags import BagOptions, BagsConfig
from fistful.pipelines.count import CountConfig
from fistful.pipelines.distill import NGRAMS, DistillConfig
from fistful.pipelines.embed import EmbedConfig, EmbedOptions
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.vectors import VectorOptions, VectorsConfig
from fistful.training.student_options import StudentOptions
from fistful.training.train_config import DataOptions, LossOptions, ModelOptions, OptimiserOptions, RunOptions, TextOptions, TrainConfig

from .errors import DataError, UsageError
from .job_texts import (
    done_before,
    figure_text,
    has_pictures,
    is_left_open,
    labelled_by_text,
    labels_text,
    near_copies_text,
    next_with_student,
    options_given,
    rates_text,
    rows_text,
    scores_text,
    seen_text,
    student_text,
)
from .terminal import show_in_line
from .verbs.demo.way import DemoConfig
from .verbs.report.report_config import ReportConfig
from .verbs.words.look_up import WordsConfig
from .wording import counted

WITH_PICTURES = "give tars, folders of images, or a table that names pictures (--image COLUMN, --images-root FOLDER)"
READING = (PlanOptions, SourceOptions, Running)
GROUPS = (*READING, WordOptions, Limits, Balance, BagOptions, VectorOptions, LabelOptions, StudentOptions, EmbedOptions)
TRAIN_GROUPS = (ModelOptions, DataOptions, TextOptions, LossOptions, OptimiserOptions, RunOptions)
DATA_CONFIGS = (CountConfig, BagsConfig, VectorsConfig, LabelConfig, DistillConfig, EmbedConfig)
CONFIGS = (*DATA_CONFIGS, TrainConfig, EvaluateConfig, QuizConfig, ClassifyConfig, ReportConfig, WordsConfig, DemoConfig)
for options in (*GROUPS, *TRAIN_GROUPS, *CONFIGS):
    Parameter(name="*")(options)  # their fields become options of their own, without a prefix


def count(*sources: str, out: str, config: CountConfig = CountConfig()) -> None:
    """Count in how many captions and samples each word occurs.

    Args:
        sources: Files (TSV, CSV, JSONL, text, tar, also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.count import count as run

    done = done_before(out)
    folder = run(*sources, out=out, config=config)
    if is_left_open(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(f"{done}{rows_text(stats)}{rates_text(folder)}\n{seen_text(folder, stats)}", end="")
    print(f"{counted(stats['words'], 'word')} in {out.rstrip('/')}/vocabulary.parquet, most frequent first")
    if not stats["words"]:
        print("no caption holds a word: words are made of letters, and --no-alphabetic counts numbers and the like too")
    if stats.get("pictures") == 0:
        print(f"captions alone, and training needs pictures: {WITH_PICTURES}")
    given = redacted(shlex.join(sources)) + options_given(config.plan, config.source, config.running)
    print(f"next: fistful bags {given} --counts {shlex.quote(out)} --out DATA --rule cap --kept 0.5")


def bags(*sources: str, counts: str, out: str, config: BagsConfig = BagsConfig()) -> None:
    """Turn captions into word-balanced bags, in webdataset shards with an index.

    Args:
        sources: Files (TSV, CSV, JSONL, text, tar, also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        counts: Folder that fistful count wrote.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.bags import bags as run

    done = done_before(out)
    folder = run(*sources, counts=counts, out=out, config=config)
    if is_left_open(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(done + rows_text(stats) + rates_text(folder) + "\n" + seen_text(folder, stats), end="")
    if stats["duplicates"]:
        repeated = counted(stats["duplicates"], "sample repeats", "samples repeat")
        print(f"{repeated} an earlier one of their unit, byte for byte; all were kept")
    n_words = stats["words_in_bags"] + stats.get("words_thinned_out", 0)  # earlier versions did not count those
    print(
        f"{counted(n_words, 'word')} in bags, {stats['words_balanced']:,} after balancing "
        f"(kept {stats['kept_fraction_realised']:.1%}{figure_text(', expected {:.1%}', stats['kept_fraction_expected'])}); "
        f"{stats['bags_emptied']:,} emptied bags kept one word each"
    )
    print(
        f"effective vocabulary {stats['effective_words_before']:,.0f} words before"
        f"{figure_text(', {:,.0f} after', stats['effective_words_after']) or ' balancing'}"
    )
    print(f"{counted(stats['units'], 'shard')} in {out}/shards")
    if has_pictures(folder, stats):
        print(f"next: fistful train {shlex.quote(out)} --out RUN")
    else:
        print(f"no picture is in them, and fistful train needs some: {WITH_PICTURES}")


def vectors(*sources: str, counts: str, out: str, config: VectorsConfig = VectorsConfig()) -> None:
    """Make word vectors from captions alone: of which words stand together.

    Args:
        sources: Files (TSV, CSV, JSONL, text, tar, also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        counts: Folder that fistful count wrote.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.vectors import vectors as run

    done = done_before(out)
    folder = run(*sources, counts=counts, out=out, config=config)
    if is_left_open(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(f"{done}{rows_text(stats)}{rates_text(folder)}\n{seen_text(folder, stats)}", end="")
    n_pairs, n_words = counted(stats["pairs_counted"], "pair"), counted(stats["words_with_vector"], "word")
    print(f"{n_pairs} of words in {counted(stats['captions'], 'caption')}, {stats['pairs']:,} different ones")
    if stats["captions_cut"]:
        print(f"{counted(stats['captions_cut'], 'caption has', 'captions have')} more than {MOST_WORDS:,} words; the first were paired")
    print(f"{n_words} with a vector of {counted(stats['dim'], 'number')} in {out}/vectors.npy")
    if stats["words_without_vector"]:
        print(f"{stats['words_without_vector']:,} more stand beside no other word more often than by chance; their vectors are zeros")
    print(f"next: fistful train DATA --out RUN --text-tower words --word-vectors {shlex.quote(out)}")


def verify(*folders: str) -> None:
    """Check that not one byte of finished folders has changed.

    Args:
        folders: Folders that fistful wrote.
    """
    if not folders:
        raise UsageError("no FOLDER given; expected folders that fistful wrote")
    problems = [problem for folder in folders for problem in manifest.verify(folder)]
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
        data: Folders that fistful bags or label wrote, on disk or in a bucket, or webdataset tars; FOLDER*2 shows them twice an epoch.
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
    done, evaluated = done_before(local_out(out)), None
    if evaluate_on:
        from fistful.eval.during import AccuracyOn

        evaluated = AccuracyOn(evaluate_on)
    run(*data, out=out, config=config, evaluate=evaluated)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        steps = read_json(Path(out) / manifest.CONFIG)["config"]["steps"]
        print(f"{done}{counted(steps, 'step')} of {config.optimiser.batch_size} samples; the model lies in {out}/model")
        if evaluated is not None:
            print(scores_text(Path(out), evaluated.names))
        sets = shlex.join(word for name in evaluate_on for word in ("--data", name)) or "--data CLASS_FOLDERS"
        print(f"next: fistful evaluate {shlex.quote(out)} {sets} --out RESULTS")


def label(*images: str, model: tuple[str, ...], like: str, out: str, config: LabelConfig = LabelConfig()) -> None:
    """Write bags for images that have no caption.

    Args:
        images: Tars, folders of images, or tables that name or hold them.
        model: Run folder, or another encoder: a folder that open_clip loads, or module:function of your own. Given again,
            models label as one, by the mean of what they say: runs of several seeds, say.
        like: Folder that fistful bags wrote: its vocabulary, and real bags to measure against.
        out: Folder to write, a data folder for fistful train.
        config: Options.
    """
    from fistful.pipelines.pseudo.label import label as run

    if not images:
        raise UsageError("no IMAGES given; expected tars or folders of images")
    done = done_before(out)
    folder = run(*images, model=model, like=like, out=out, config=config)
    if is_left_open(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(done + rows_text(stats) + "\n" + seen_text(folder, stats), end="")
    print(f"{labels_text(stats)}{near_copies_text(stats)}{labelled_by_text(folder)}")
    print(f"next: fistful train {shlex.join([like, out])} --out RUN --objective joint")


def distill(model: str, /, *captions: str, out: str, config: DistillConfig = DistillConfig()) -> None:
    """Make a student of a text encoder: a bag of n-grams in its space, which runs without torch.

    Args:
        model: The teacher: run folder, model folder, open_clip folder, or module:function of an encoder of your own.
        captions: Files (TSV, CSV, JSONL, tar, each also with .gz or .zst; parquet), folders of them or of images, globs, brace lists, URLs.
        out: Folder to write; the student is its model/.
        config: Options.
    """
    from fistful.pipelines.distill import distill as run

    if not captions:
        raise UsageError("no CAPTIONS given; expected files of captions, tars or folders")
    done = done_before(out)
    folder = run(model, *captions, out=out, config=config)
    if is_left_open(folder, config.running):
        return
    print(f"{done}{student_text(folder, folder / NGRAMS)}{next_with_student(out, model, config.student.labels)}")


def embed(*sources: str, model: str, out: str, config: EmbedConfig = EmbedConfig()) -> None:
    """Write what a model makes of images or captions: vectors for search, as parquet and npy.

    Args:
        sources: Tars, folders of images, tables that name or hold them; for captions all that count reads; globs, brace lists, URLs.
        model: Run folder, model folder, open_clip folder, or module:function of an encoder of your own.
        out: Folder to write.
        config: Options.
    """
    from fistful.pipelines.embed import embed as run
    from fistful.pipelines.embed import embedded_text

    done = done_before(out)
    folder = run(*sources, model=model, out=out, config=config)
    if is_left_open(folder, config.running):
        return
    stats = read_json(folder / "stats.json")
    print(f"{done}{rows_text(stats)}{rates_text(folder)}\n{seen_text(folder, stats)}{embedded_text(folder, stats)}", end="")
    print(f"they lie in {out}/embeddings: UNIT.parquet with their keys, and the same rows in UNIT.npy for numpy and faiss")


def evaluate(*models: str, data: tuple[str, ...], out: str, config: EvaluateConfig = EvaluateConfig()) -> None:
    """Measure zero-shot accuracy, retrieval and tagging.

    Args:
        models: Run folders, model folders, open_clip folders, or module:function of an encoder of your own.
        data: Class folders, archives of them, tables of pictures and labels, or CLIP_benchmark's webdataset layout; for
            retrieval, captioned pictures in any shape that fistful count reads; for tagging too, those that fistful bags
            wrote. Give it again for each set.
        out: Results folder to write.
        config: Options.
    """
    from fistful.eval.evaluate import evaluate as run
    from fistful.eval.results import results_table

    done = done_before(local_out(out))
    folder = run(*models, data=data, out=out, config=config)
    print((done.rstrip(" ") + "\n" if done else "") + results_table(folder), end="")
    print(f"results and predictions lie in {out}")


def quiz(*models: str, out: str, config: QuizConfig = QuizConfig()) -> None:
    """Ask what text towers can tell apart, by tasks about words and their order.

    Args:
        models: Run folders, model folders, open_clip folders, or module:function of an encoder of your own.
        out: Folder to write.
        config: Options.
    """
    from fistful.eval.quiz.quiz import quiz as run
    from fistful.eval.quiz.results import quiz_table

    done = done_before(out)
    print((done.rstrip(" ") + "\n" if done else "") + quiz_table(run(*models, out=out, config=config)), end="")
    print(f"all figures and tasks lie in {out}")


def classify(model: str, /, *images: str, names: str, out: str | None = None, config: ClassifyConfig = ClassifyConfig()) -> None:
    """Say which of your own class names each of your own images shows.

    Args:
        model: Run folder, model folder, open_clip folder, or module:function of an encoder of your own.
        images: Image files, folders, globs, tables that name images (CSV, TSV, JSONL, parquet, JSON), tars and parquet that hold them.
        names: File with one class name on each line, or a TSV with the columns folder, name and words (its synonyms).
        out: File to write all answers to, CSV or JSONL by its ending.
        config: Options.
    """
    from fistful.bow.store.kinds import PassedOver
    from fistful.eval.tasks.classify import answers_table
    from fistful.eval.tasks.classify import classify as run
    from fistful.eval.tasks.own_images import find_images

    if not images:
        raise UsageError("no IMAGES given; expected image files, folders, tars or parquet of them, or a table that names them")
    print(answers_table(run(model, *images, names=names, out=out, config=config)), end="")
    find_images(images, passed := PassedOver(), options=SourceOptions(images_root=config.images_root))
    for line in passed.taken:
        print(line)
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
        folders: Folders of train, evaluate, quiz, bags, label or vectors, in any order, or folders that hold such folders.
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
    print(f"everything lies in {out}; it was made by the verbs count, bags, vectors, train, label, evaluate and report")
