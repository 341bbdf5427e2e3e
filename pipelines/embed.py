"""`fistful embed`: images or captions in, what a model makes of them out, unit by unit.

`fistful label` begins with the same work: there the words that the model's head sees stand beside its features.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fistful.bow.pseudo import LIMIT
from fistful.bow.store.folders import out_folder
from fistful.bow.store.identity import semantic, semantic_values
from fistful.bow.store.kinds import PassedOver
from fistful.bow.store.manifest import read_config
from fistful.bow.store.model_folder import find_folder, is_student, split_pair
from fistful.errors import UsageError
from fistful.training.device import Device, choose_device, device_named
from fistful.training.model.encoder import texts_or
from fistful.wording import counted

from .cards import describe_embeddings
from .embedding import DECIMALS, EmbedJob, What, one_thread
from .engine.job import DataJob, run_job
from .engine.stage import Running, check_out
from .engine.work import Work
from .read.plan import PlanOptions, plan_units
from .read.sources import SourceOptions, check_unit
from .read.units import Unit

if TYPE_CHECKING:
    from fistful.training.model.encoder import Encoder

EMBED_UNIT = "fistful.pipelines.embedding:embed_unit"
"""What workers call."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EmbedOptions:
    """What is embedded, and where."""

    what: Literal["auto", "images", "captions"] = semantic("auto")
    """What of the sources; auto: the images, where there are any, else the captions."""
    device: Device = semantic("auto")
    """Where to compute; auto: a GPU if there is one. A function of your own decides by itself."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig:
    """Options of `fistful embed`."""

    plan: PlanOptions = PlanOptions()
    source: SourceOptions = SourceOptions()
    embed: EmbedOptions = EmbedOptions()
    running: Running = Running()


def embed(*sources: str, model: str, out: str | Path, config: EmbedConfig | None = None) -> Path:
    """Embed images or captions with a model, for searching, clustering and whatever else vectors are good for.

    Args:
        sources: Tars, folders of images, tables that name or hold them; for captions also TSV, CSV, JSONL, text and parquet.
        model: Run folder, model folder, open_clip folder, student, or module:function, as fistful.load_encoder takes it.
        out: Folder to write: embeddings/UNIT.parquet (key, source_key, for captions caption, extra, embedding), embeddings/UNIT.npy
            (the same embeddings, float32 (n, d) of length 1), dead_letters/, stats.json, manifest.json.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault, the sources have no images, or the model has no text tower.
        DataError: If too many rows are refused, or the model gives what is no embedding.
    """
    config = config or EmbedConfig()
    folder, device = out_folder(out), _choose_device(model, config.embed.device)
    check_out(folder, sources)
    units, inputs = plan_units(sources, config.plan, passed := PassedOver(), config.source)
    what = _choose_what(units, passed, config.embed.what)
    if what == "captions":
        units = [dataclasses.replace(unit, has_pictures=False) for unit in units]
        _check_captions(units, passed, config)
    encoder = _load(model)
    job = EmbedJob(model, encoder.fingerprint, device, what, config.source, _width(encoder, what))
    values = device_named({**semantic_values(config), "what": what, "device": device, "decimals": DECIMALS})
    inputs |= {"encoder": encoder.fingerprint}
    seen = {"source": config.source, "passed": passed, "with_images": what == "images"}
    asked = DataJob(verb="embed", folder=folder, values=values, inputs=inputs, units=units, running=config.running, **seen)

    def with_card(stats: dict[str, Any]) -> dict[str, Any]:
        stats = {**stats, "dim": job.dim}
        describe_embeddings(folder, units, stats)
        return stats

    return run_job(asked, functools.partial(_work, job), with_card)


def embedded_text(folder: Path, stats: dict[str, Any]) -> str:
    """Return what there is to know of a folder's embeddings, a line each."""
    cut, zeros = counted(stats["captions_cut"], "caption is", "captions are"), counted(stats["zeros"], "embedding is", "embeddings are")
    lines = [f"{cut} longer than the model's context and lost the end"] if stats["captions_cut"] else []
    lines += [f"{zeros} all zeros: the model sees nothing in the image, or knows no word of the caption"] if stats["zeros"] else []
    lines.append(f"{counted(stats['embeddings'], 'embedding')} of {read_config(folder)['config']['what']}, {stats['dim']} numbers each")
    return "".join(line + "\n" for line in lines)


def embed_for_label(units: list[Unit], inputs: dict[str, Any], job: EmbedJob, folder: Path, running: Running) -> Path:
    """Embed the images of units as a stage of `label`, which also wants the words that the model's head sees.

    Args:
        units: What to read, whose rows have pictures: see `check_have_pictures`.
        inputs: Their fingerprint.
        job: The encoder, and where it computes.
        folder: Folder to write: embeddings/, dead_letters/, stats.json, manifest.json.
        running: How.

    Returns:
        The folder.
    """
    values = device_named({"decimals": DECIMALS, "device": job.device, "head": "shares", "candidates": LIMIT})
    if job.completing is not None:
        values |= {"completing": "half" if job.completing.like else "all", "seed": job.completing.seed}
    inputs = {**inputs, "encoder": job.fingerprint}
    stage = DataJob(
        verb="embed", folder=folder, values=values, inputs=inputs, units=units, running=running, source=job.source, with_images=True
    )
    return run_job(stage, functools.partial(_work, job))


def _work(job: EmbedJob, place: Path) -> Work:
    return Work(EMBED_UNIT, place, job, "embed")


NO_PICTURES = (
    "holds captions alone, expected tars, folders of images, or a table that names pictures or holds them "
    "(--image COLUMN, --images-root FOLDER)"
)


def check_have_pictures(units: list[Unit], passed: PassedOver, else_: str = "") -> None:
    """Check that every unit has pictures.

    Args:
        units: The plan.
        passed: What its making told.
        else_: What else may be done, for the message.

    Raises:
        UsageError: If one has captions alone; the message says why, where its table names pictures.
    """
    if table := next((unit for unit in units if not unit.has_pictures), None):
        raise UsageError(f"{table.path}: {passed.lost.get(table.path, NO_PICTURES)}{else_}")


def _choose_what(units: list[Unit], passed: PassedOver, asked: Literal["auto", "images", "captions"]) -> What:
    """Return what is embedded.

    Raises:
        UsageError: If it is images, and a unit has none.
    """
    if asked == "captions" or (asked == "auto" and not any(unit.has_pictures for unit in units)):
        return "captions"
    check_have_pictures(units, passed, "; --what captions embeds the captions of all sources")
    return "images"


def _check_captions(units: list[Unit], passed: PassedOver, config: EmbedConfig) -> None:
    """Check that the first unit has captions.

    Raises:
        UsageError: If it has none; where its pictures were as welcome, and it names some, the message says why they are not read.
    """
    try:
        check_unit(units[0], config.source)
    except UsageError as error:
        if config.embed.what == "auto" and (why := passed.lost.get(units[0].path)):
            raise UsageError(f"{units[0].path}: {why}") from error
        raise


def _choose_device(model: str, asked: str) -> str:
    """Return where a model computes; a student needs no torch, which would say whether there is a GPU.

    Raises:
        UsageError: If there is no such device, or a student is asked to use a GPU.
    """
    folder = find_folder(model) if split_pair(model) is None else None
    if folder is None or not is_student(folder):
        return choose_device(asked)
    if asked == "cuda":
        raise UsageError(f"--device cuda: {model} is a student, which computes in numpy; leave --device out, and use --workers")
    return "cpu"


def _load(model: str) -> Encoder:
    from fistful.training.model.load import load_encoder

    return load_encoder(model, "cpu")  # what embeds is loaded by the workers


def _width(encoder: Encoder, what: What) -> int:
    """Return how many numbers the model's embeddings have; a model that lacks what it takes says so here."""
    with one_thread():
        if what == "captions":
            with texts_or("--what images embeds those"):
                return encoder.embed_texts(["word"]).shape[1]
        return encoder.embed_images(np.zeros((1, encoder.image_size, encoder.image_size, 3), np.uint8)).shape[1]
