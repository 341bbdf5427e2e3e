"""`fistful label`: images without captions in, shards of pseudo-bags out.

The chain: embed the captioned images and the others, measure on held-out captioned images what a
score is worth, label. Each link writes files that the next one reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fistful.bow.near_copies import IS, MAY_BE
from fistful.bow.pseudo import LIMIT, Candidates, are_right
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.files import read_json, write_bytes, write_json
from fistful.bow.store.folders import folder_at, out_folder, remove_all
from fistful.bow.store.identity import canonical_json, check_numbers, semantic, semantic_values, sha256_hex
from fistful.bow.store.kinds import PassedOver
from fistful.bow.store.model_folder import OWN_FILE, find_folder
from fistful.bow.vocabulary import FILE as VOCABULARY
from fistful.bow.vocabulary import read_vocabulary
from fistful.bow.words import WordOptions
from fistful.errors import DataError, UsageError
from fistful.training.data.holdout import BY
from fistful.training.device import Device, choose_device, device_named
from fistful.training.model.encoder import check_pictures, texts_or
from fistful.training.neighbours import Keys

from ..cards import describe_shards
from ..completing import Completing, keep_half
from ..embed import EMBED_UNIT, check_have_pictures, embed_for_label
from ..embedding import EmbedJob
from ..engine.job import DataJob, open_job
from ..engine.stage import Running, close_folder, run_stage, say_seen
from ..engine.work import Work
from ..read.plan import PlanOptions, plan_units
from ..read.source_options import SourceOptions
from ..read.units import Unit
from .calibrate import BINS
from .captioned import CaptionedData, read_like, same_pictures
from .give import MEASURED, LabelJob
from .held_out import HeldOut, hold_out, joined
from .sources import Captioned, Known, Neighbours, Source, candidates_of, copied_words, kept_keys, kept_texts, prompted_by, save_known

if TYPE_CHECKING:
    from fistful.training.model.encoder import Encoder

CAPTIONED, IMAGES, CALIBRATION = f"{manifest.STAGES}/captioned", f"{manifest.STAGES}/images", f"{manifest.STAGES}/calibration"
WORDS, INDICES = f"{manifest.STAGES}/words", f"{manifest.STAGES}/neighbours"
OTHER_HELD_OUT = 0.1
"""Share of the captioned images kept for calibration where no encoder was trained on them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelOptions:
    """How words are given to images."""

    by: Literal["auto", "head", "knn", "prompts", "mean"] = semantic("auto")
    """head: the model's word head; knn: votes of the nearest captioned images; prompts: the vocabulary's words through the text
    tower; mean: the mean probability of head and knn, without a word head of prompts and knn; auto: mean for a model with a
    word head, else knn."""
    k: int = semantic(50)
    """knn: neighbours that vote."""
    temperature: float = semantic(0.05)
    """knn: softmax temperature of the neighbours' cosines."""
    min_precision: float = semantic(0.1)
    """Smallest share of right words, measured on held-out captioned images: of a word for it to be in a bag, and of all
    words given even at the lower end of the interval. 0 for any share, be it no better than chance."""
    likely: int = semantic(LIMIT)
    """Words of each image's distribution at most, the likeliest: train draws bags from them, and holds 8 bytes of each in memory."""
    complete: bool = semantic(False)
    """The pictures have some of their words, as captions or keywords: keep these, and find those that are missing. For a run of
    train --text-tower words --mask-rate."""
    seed: int = semantic(0)
    """Seed of the word numbers and of balancing in KEY.txt."""
    device: Device = semantic("auto")
    """Where images are embedded; auto: a GPU if there is one. Neighbours are looked for on the CPU."""

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.temperature < math.inf or self.seed < 0:
            raise UsageError(
                f"--k {self.k} --temperature {self.temperature} --seed {self.seed}: expected k from 1, a temperature above 0, a seed from 0"
            )
        if not 1 <= self.likely <= LIMIT:
            raise UsageError(f"--likely {self.likely}: expected from 1 to {LIMIT} words")
        if self.complete and self.by not in ("auto", "head"):
            raise UsageError(f"--by {self.by}: --complete asks the head that finds hidden words; leave --by out")
        if not 0 <= self.min_precision <= 1:
            raise UsageError(f"--min-precision {self.min_precision}: expected a share from 0 to 1")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """Options of `fistful label`."""

    plan: PlanOptions = PlanOptions()
    source: SourceOptions = SourceOptions()
    label: LabelOptions = LabelOptions()
    running: Running = Running()


@dataclasses.dataclass(frozen=True, slots=True)
class Labellers:
    """The models that label together: one model with several seeds, or several models."""

    names: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    by: Literal["head", "knn", "prompts", "mean"]
    held_out: float
    """Share of the captioned pictures that all of them held out."""
    learnt: tuple[str, ...]
    """Of each model that learnt from the captioned pictures, what names those that --exclude named."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where words come from; what several models say is one source."""
        if self.by != "mean":
            return (self.by,)
        return ("head", "knn") if has_head(self.encoders) else ("prompts", "knn")


def has_head(encoders: Sequence[Encoder]) -> bool:
    """Return whether all of some models have a word head."""
    return all(encoder.word_shares for encoder in encoders)


def label(*images: str, model: str | Sequence[str], like: str | Path, out: str | Path, config: LabelConfig | None = None) -> Path:
    """Write bags for images that have no caption, with a model that learnt from images that have one.

    Args:
        images: Tars, folders of images, or tables that name or hold them.
        model: Run folder or another encoder, as fistful.load_encoder takes it; several label as one, by the mean of what they say.
        like: Data folder that fistful bags wrote: the vocabulary, real bags, and the neighbours.
        out: Folder to write, a data folder like those of fistful bags, whose index has each image's distribution over words too.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault, or the model has no word head though one is asked for.
        DataError: If model and data do not belong together, or too few images get a word.
    """
    config = config or LabelConfig()
    if config.running.units:
        raise UsageError("--units: label calibrates before it labels, so it cannot be run in parts; use --workers")
    folder, like_folder, device = out_folder(out), folder_at(like), choose_device(config.label.device)
    if (verb := manifest.read_config(like_folder)["verb"]) != "bags":
        raise UsageError(f"--like {like}: was written by fistful {verb}, expected a folder that fistful bags wrote")
    labellers = _fitting((model,) if isinstance(model, str) else tuple(model), like_folder, config.label)
    options = dataclasses.replace(config.label, device=device, by=labellers.by)
    asked = _asked(images, folder, like_folder, labellers, dataclasses.replace(config, label=options))
    if open_job(asked, write=False):
        return folder
    jobs = [
        EmbedJob(name, encoder.fingerprint, options.device, source=config.source, completing=_completing(like_folder, options))
        for name, encoder in zip(labellers.names, labellers.encoders, strict=True)
    ]
    if config.running.dry_run:
        print(_forecast(asked.units, jobs, like_folder, folder, config.running))
        return folder
    held = hold_out(like_folder, labellers.held_out, labellers.learnt, options.seed, folder)
    manifest.claim(folder, "label", asked.values, asked.inputs)
    say_seen(folder, asked.passed, config.running)
    for i, job in enumerate(jobs):
        _embed_both(asked, job, i, like_folder)
    write_bytes(folder, VOCABULARY, (like_folder / VOCABULARY).read_bytes())
    try:
        job = dataclasses.replace(_calibrate(folder, like_folder, labellers, held, options), reading=config.source)
    except DataError:
        _give_up(folder)
        raise
    _give_words(asked, job)
    return folder


def _stage(name: str, i: int) -> str:
    """Return where a stage of the i-th model lies."""
    return f"{name}-{i}" if i else name


def _asked(images: Sequence[str], folder: Path, like: Path, labellers: Labellers, config: LabelConfig) -> DataJob:
    """Return the job: what is read, and what names the result."""
    units, inputs = plan_units(tuple(images), config.plan, passed := PassedOver(), config.source)
    check_have_pictures(units, passed)
    words = manifest.read_config(like)["inputs"].get("word_options", {})
    encoders = [encoder.fingerprint for encoder in labellers.encoders]
    inputs |= {"like": manifest.fingerprint(like), "encoder": encoders[0], "word_options": words, "held_out_by": BY}
    inputs |= {"near_copies": [MAY_BE, IS], "calibration_bins": list(BINS)}
    inputs |= {"more_encoders": encoders[1:]} if len(encoders) > 1 else {}
    values = device_named(semantic_values(config))
    if not values["complete"]:
        values.pop("complete")  # labels of earlier versions keep their names
    return DataJob(
        verb="label",
        folder=folder,
        values=values,
        inputs=inputs,
        units=units,
        running=config.running,
        source=config.source,
        passed=passed,
        with_images=True,
    )


def _give_words(asked: DataJob, job: LabelJob) -> None:
    """Write the shards, and close the folder with what was measured beside what was given."""
    folder, units = asked.folder, asked.units
    stats = run_stage(units, Work("fistful.pipelines.pseudo.give:label_unit", folder, job, "label"), asked.running)
    assert stats is not None, "a part of it is refused above"
    stats |= read_json(folder / CALIBRATION / MEASURED)
    describe_shards(folder, units, stats)
    close_folder(folder, len(units), stats)


def _completing(like: Path, options: LabelOptions) -> Completing | None:
    """Return which words of the pictures are known; None where all are looked for."""
    if not options.complete:
        return None
    words = manifest.read_config(like)["inputs"].get("word_options", {})
    return Completing(tuple(read_vocabulary(like).words), WordOptions(**words), options.seed)


def _check_completes(models: tuple[str, ...], encoders: Sequence[Encoder], like: Path) -> None:
    """Check that a model finds the words that pictures lack."""
    if len(models) > 1:
        raise UsageError(f"--complete: asks one model, found {len(models)}; give one --model")
    if getattr(encoders[0], "completer", None) is None:
        raise UsageError(f"--complete: {models[0]} has not learnt to add to known words; train with --text-tower words --mask-rate 0.5")
    if list(encoders[0].known_words) != read_vocabulary(like).words:  # pyright: ignore[reportAttributeAccessIssue]
        raise DataError(f"{models[0]}: knows other words than {like}/{VOCABULARY}; use a model trained on {like}")


def _fitting(models: tuple[str, ...], like: Path, options: LabelOptions) -> Labellers:
    """Load the encoders, and check that they and the captioned data belong together."""
    from fistful.training.model.load import load_encoder

    encoders = tuple(load_encoder(model, "cpu") for model in models)  # what embeds is loaded by the workers
    for encoder in encoders:
        check_pictures(encoder)
    if len({encoder.fingerprint for encoder in encoders}) < len(encoders):
        raise UsageError(f"--model {' --model '.join(models)}: names a model twice, expected different ones")
    chosen: Any = ("mean" if has_head(encoders) else "knn") if options.by == "auto" else options.by
    if options.complete:
        _check_completes(models, encoders, like)
        chosen = "head"
    lineages = [check_lineage(model, like) for model in models]
    known = [lineage for lineage in lineages if lineage is not None]
    held_out = min((float(lineage["holdout"]) for lineage in known), default=OTHER_HELD_OUT)
    found = Labellers(models, encoders, chosen, held_out, tuple(lineage.get("exclude", "") for lineage in known))
    others = [encoder for encoder, lineage in zip(encoders, lineages, strict=True) if lineage is None]
    if any(manifest.fingerprint(like) in encoder.trained_on or "head" in found.sources for encoder in others):
        found = dataclasses.replace(found, learnt=(*found.learnt, ""))  # a head that has the words of these pictures learnt them somewhere
    for encoder in encoders if "prompts" in found.sources else ():
        with texts_or("label with --by head, or with --by mean for its neighbours too"):
            encoder.embed_texts(["word"])
    for model, encoder in zip(models, encoders, strict=True) if "head" in (chosen, *found.sources) and not options.complete else ():
        if not encoder.word_shares:
            raise UsageError(f"{model}: has no word head; label with --by knn, or with a run of --objective joint")
        if encoder.words != read_vocabulary(like).words:
            raise DataError(
                f"{model}: its word head has other words than {like}/{VOCABULARY}; label with --by knn, or with a model trained on {like}"
            )
    return found


def _give_up(folder: Path) -> None:
    """Free a folder in which no image was labelled: other options may do better, and need not embed again."""
    if not (folder / "shards").exists():
        remove_all(folder / CALIBRATION)
        (folder / VOCABULARY).unlink()
        manifest.release(folder)


def check_lineage(model: str, like: Path) -> dict[str, Any] | None:
    """Check that a model of ours was trained on this data and held some out, and return its lineage; None for one of others.

    Raises:
        DataError: If it was trained on other data or another vocabulary, or held samples out by KEY.
        UsageError: If it held nothing out.
    """
    folder = find_folder(model)
    if folder is None or not (folder / OWN_FILE).exists():
        return None
    lineage = read_json(folder / OWN_FILE)["lineage"]
    if manifest.fingerprint(like) not in lineage["data"]:
        raise DataError(
            f"{model}: was not trained on {like} (its data folders have other fingerprints); --like must name a folder that it learnt from"
        )
    if not lineage["holdout"]:
        raise UsageError(f"{model}: held no captioned images out, so nothing can be measured; train with --holdout 0.1")
    if lineage.get("holdout_by") != BY:
        raise DataError(
            f"{model}: an earlier version trained it, which held samples out and may have shown it copies of their pictures; train it again"
        )
    return lineage


def _forecast(units: list[Unit], jobs: Sequence[EmbedJob], like: Path, folder: Path, running: Running) -> str:
    """Return what embedding takes, which is nearly all of the work, and the disk for the copied images beside it; a forecast a model."""
    from ..engine.forecast import forecast

    shards, _ = plan_units((str(like / "shards"),), PlanOptions())
    copied = sum(unit.size for unit in units)
    both = [*units, *shards]
    found = [forecast(both, lambda p, j=j: Work(EMBED_UNIT, p, j, "embed"), running, folder, copied) for j in jobs]
    return "\n".join(found)


def _embed_both(asked: DataJob, job: EmbedJob, i: int, like: Path) -> None:
    """Embed the captioned images and the others with the i-th model."""
    shards, shard_inputs = plan_units((str(like / "shards"),), PlanOptions())
    lenient = dataclasses.replace(asked.running, max_bad_fraction=1.0)  # refused images count in the last stage
    half = None if job.completing is None else dataclasses.replace(job.completing, like=like)
    embed_for_label(shards, shard_inputs, dataclasses.replace(job, completing=half), asked.folder / _stage(CAPTIONED, i), lenient)
    inputs = {k: asked.inputs[k] for k in ("files", "bytes", "sha256")}
    embed_for_label(asked.units, inputs, job, asked.folder / _stage(IMAGES, i), lenient)


def _calibrate(folder: Path, like_folder: Path, labellers: Labellers, held: HeldOut, options: LabelOptions) -> LabelJob:
    """Calibrate on held-out images, and measure there what labels are worth; writes what labelling asks for."""
    from .calibrate import measure

    numbers, place = range(len(labellers.names)), folder / CALIBRATION
    like = [read_like(folder / _stage(CAPTIONED, i), like_folder) for i in numbers]
    voters, aside = (np.flatnonzero(of_N[like[0].rows]) for of_N in (held.voters_N, held.measured_N))
    hidden = None
    if options.complete:
        hidden = _hidden(like[0], options.seed)
        aside = aside[hidden.lengths()[aside] > 0]  # a picture of one word has none to find
    embeddings = [data.embeddings.take(aside) for data in like]
    keys, recall = _keys(folder, labellers, like, voters, options.k)
    known = _known(folder, labellers, keys, like[0].bags.pick(voters), options.device)
    voting = Neighbours(options.k, options.temperature)
    real, copied = (like[0].bags if hidden is None else hidden), copied_words(embeddings[0].features, keys[0], like[0].bags.pick(voters))
    if hidden is not None:
        copied = _without(copied, like[0].bags.pick(aside), hidden.pick(aside))
    sizes = np.minimum(real.lengths()[real.lengths() > 0], options.likely)  # none gets more words than its distribution has
    measured = measure(
        [candidates_of(source, embeddings, known, voting) for source in labellers.sources],
        real.pick(aside),
        like[0].samples[aside],
        sizes,
        options.min_precision,
        options.seed,
        joined(same_pictures(embeddings[0].features), held.pictures_N[like[0].rows[aside]]),
        copied,
    )
    save_known(place, known)
    write_json(place, MEASURED, {**measured.stats(), **held.stats(), "neighbours_found": recall})
    images = tuple(folder / _stage(IMAGES, i) for i in numbers)
    places = images, folder, place, folder / INDICES
    job = LabelJob(labellers.sources, voting, options.likely, options.min_precision, measured.calibrator, sizes, options.seed, *places)
    return dataclasses.replace(job, completing=_completing(like_folder, options))


def _hidden(like: CaptionedData, seed: int) -> Ragged:
    """Return the words of captioned images that are looked for where words are completed: the other half is known."""
    return like.bags.take(~keep_half(like.bags, like.samples, seed))


def _without(copied: Ragged, bags: Ragged, hidden: Ragged) -> Ragged:
    """Return copied words without those that are known."""
    known = ~are_right(Candidates(bags, np.zeros(len(bags.values))), hidden)
    return copied.take(~are_right(Candidates(copied, np.zeros(len(copied.values))), bags.take(known)))


def _keys(folder: Path, labellers: Labellers, like: Sequence[CaptionedData], voters: np.ndarray, k: int) -> tuple[list[Keys], float]:
    """Return the captioned images that vote, by each model, and the share of true neighbours that are found."""
    found, recalls = [], []
    for i, data in enumerate(like[: 1 if labellers.sources == ("head",) else None]):
        made_of = sha256_hex(canonical_json([manifest.fingerprint(folder / _stage(CAPTIONED, i)), sha256_hex(voters.tobytes())]))
        keys, recall = kept_keys(folder / INDICES, i, data.embeddings.features[voters], 2 * k, made_of)
        found.append(keys)
        recalls.append(recall)
    return found, min(recalls)


def _known(folder: Path, labellers: Labellers, keys: Sequence[Keys], bags: Ragged, device: str) -> Known:
    """Return what the sources need, of captioned images that are not held out."""
    from fistful.training.model.load import load_encoder

    captioned = Captioned(tuple(keys), bags) if "knn" in labellers.sources else None
    if "prompts" not in labellers.sources:
        return Known(captioned)
    vocabulary, prompted = read_vocabulary(folder), []
    for i, name in enumerate(labellers.names):
        encoder = load_encoder(name, device)
        texts_VD = kept_texts(folder / WORDS, f"texts-{i}", encoder, vocabulary)
        share_V = np.bincount(bags.values, minlength=len(vocabulary))[: len(texts_VD)] / max(1, len(bags))
        prompted.append(prompted_by(texts_VD, encoder.logit_scale, keys[i].rows_MD, share_V))
    return Known(captioned, tuple(prompted))
