"""`fistful label`: images without captions in, shards of pseudo-bags out.

The chain: embed the captioned images and the others, measure on held-out captioned images what a
score is worth, set thresholds, label. Each link writes files that the next one reads.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fistful.bow.contents import index_contents
from fistful.bow.draw import held_out, mix_all, number_of_key
from fistful.bow.embeddings import Embeddings, read_embeddings
from fistful.bow.pseudo import quota_thresholds
from fistful.bow.ragged import Ragged
from fistful.bow.store import manifest
from fistful.bow.store.files import atomic_file, local_out, read_json, write_bytes, write_json
from fistful.bow.store.identity import check_numbers, semantic, semantic_values
from fistful.bow.store.index import read_index, unit_name
from fistful.bow.store.kinds import PassedOver
from fistful.bow.vocabulary import FILE as VOCABULARY
from fistful.bow.vocabulary import Vocabulary, read_vocabulary
from fistful.errors import DataError, UsageError
from fistful.training.data.holdout import BY
from fistful.training.device import Device, choose_device, device_named

from ..engine.beam import Work
from ..engine.job import DataJob, open_job
from ..engine.stage import Running, close_folder, run_stage
from ..read.units import PlanOptions, Unit, plan_units
from .embed import EmbedJob
from .give import Captioned, LabelJob, Source, candidates_of, save_captioned

if TYPE_CHECKING:
    from fistful.training.model.encoder import Encoder

CAPTIONED, IMAGES, CALIBRATION = f"{manifest.STAGES}/captioned", f"{manifest.STAGES}/images", f"{manifest.STAGES}/calibration"
OTHER_HELD_OUT = 0.1
"""Share of the captioned images kept for calibration where the encoder was not trained on them."""
QUOTA_SAMPLE = 50_000
"""Images from which quotas are set: enough for words in one image of a thousand."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelOptions:
    """How words are given to images."""

    by: Source = semantic("head")
    """head: the model's word head, held to a quota for each word; knn: votes of the nearest captioned images."""
    k: int = semantic(50)
    """knn: neighbours that vote."""
    temperature: float = semantic(0.05)
    """knn: softmax temperature of the neighbours' cosines."""
    min_precision: float = semantic(0.1)
    """Smallest share of right words, measured on held-out captioned images: at a word's score for it to be given, and of all
    words given even at the lower end of the interval. 0 for any share, be it no better than chance."""
    seed: int = semantic(0)
    """Seed of the word numbers and of balancing in KEY.txt."""
    device: Device = semantic("auto")
    """Where images are embedded; auto: a GPU if there is one. Neighbours are looked for on the CPU."""

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.temperature < math.inf or self.seed < 0:
            raise UsageError(
                f"--k {self.k} --temperature {self.temperature} --seed {self.seed}: expected k from 1, a temperature above 0, a seed from 0"
            )
        if not 0 <= self.min_precision <= 1:
            raise UsageError(f"--min-precision {self.min_precision}: expected a share from 0 to 1")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """Options of `fistful label`."""

    plan: PlanOptions = PlanOptions()
    label: LabelOptions = LabelOptions()
    running: Running = Running()


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionedData:
    """The captioned data that labels shall be like."""

    embeddings: Embeddings
    bags: Ragged
    samples: np.ndarray
    held: np.ndarray
    """Which images are held out for calibration."""


def label(*images: str, model: str, like: str | Path, out: str | Path, config: LabelConfig | None = None) -> Path:
    """Write bags for images that have no caption, with a model that learnt from images that have one.

    Args:
        images: Tars or folders of images.
        model: Run folder or another encoder, as fistful.load_encoder takes it.
        like: Data folder that fistful bags wrote: the vocabulary, real bags, and the neighbours.
        out: Folder to write, a data folder like those of fistful bags.
        config: Options.

    Returns:
        The folder.

    Raises:
        UsageError: If the call is at fault, or the model has no word head though one is asked for.
        DataError: If model and data do not belong together, or too few images get a word.
    """
    config = config or LabelConfig()
    config = dataclasses.replace(config, label=dataclasses.replace(config.label, device=choose_device(config.label.device)))
    values = device_named(semantic_values(config))
    if config.running.units:
        raise UsageError("--units: label sets its thresholds on all images, so it cannot be run in parts; use --workers")
    folder, like_folder = local_out(out), Path(like)
    if (verb := manifest.read_config(like_folder)["verb"]) != "bags":
        raise UsageError(f"--like {like}: was written by fistful {verb}, expected a folder that fistful bags wrote")
    digest = manifest.fingerprint(like_folder)
    units, inputs = plan_units(images, config.plan, passed := PassedOver())
    encoder, fraction = _fitting(model, like_folder, config.label.by)
    words = manifest.read_config(like_folder)["inputs"].get("word_options", {})
    inputs |= {"like": digest, "encoder": encoder.fingerprint, "word_options": words, "held_out_by": BY}
    asked = DataJob(verb="label", folder=folder, values=values, inputs=inputs, units=units, running=config.running, passed=passed)
    if open_job(asked, write=False):
        return folder
    embedding = EmbedJob(model, config.label.device)
    if config.running.dry_run:
        print(_forecast(units, embedding, like_folder, folder, config.running))
        return folder
    held = held_pictures(like_folder, fraction)
    manifest.claim(folder, "label", values, inputs)
    _embed_both(units, inputs, embedding, encoder.fingerprint, like_folder, folder, config.running)
    write_bytes(folder, VOCABULARY, (like_folder / VOCABULARY).read_bytes())
    try:
        job = _calibrate(folder, like_folder, units, held, config.label)
    except DataError:
        _give_up(folder)
        raise
    _give_words(asked, job)
    return folder


def _give_words(asked: DataJob, job: LabelJob) -> None:
    """Write the shards, and close the folder with what was measured beside what was given."""
    folder, units = asked.folder, asked.units
    stats = run_stage(units, Work("fistful.pipelines.pseudo.give:label_unit", folder, job, "label"), asked.running)
    assert stats is not None, "a part of it is refused above"
    sizes = {f"{u.number:05d}.tar": read_json(folder / unit_name("stats", u.number, "json"))["kept"] for u in units}
    write_json(folder, "shards/sizes.json", sizes)
    close_folder(folder, len(units), {**stats, **read_json(folder / CALIBRATION / "measured.json")})


def _fitting(model: str, like: Path, by: Source) -> tuple[Encoder, float]:
    """Load the encoder, check that it and the captioned data belong together, and return the share held out too."""
    from fistful.training.model.load import load_encoder

    encoder = load_encoder(model, "cpu")  # what embeds is loaded by the workers
    if by == "head" and not encoder.word_scores:
        raise UsageError(f"{model}: has no word head; label with --by knn, or with a run of --objective joint")
    fraction = check_lineage(model, like)
    if by == "head" and encoder.words != read_vocabulary(like).words:
        raise DataError(
            f"{model}: its word head has other words than {like}/{VOCABULARY}; label with --by knn, or with a model trained on {like}"
        )
    return encoder, fraction


def _give_up(folder: Path) -> None:
    """Free a folder in which no image was labelled: other options may do better, and need not embed again."""
    if not (folder / "shards").exists():
        shutil.rmtree(folder / CALIBRATION, ignore_errors=True)
        (folder / VOCABULARY).unlink()
        manifest.release(folder)


def held_pictures(like: Path, fraction: float) -> np.ndarray:
    """Return which samples of a data folder have a picture that is held out, bool, in the order of its index.

    Raises:
        DataError: If they are too few different pictures to measure anything.
    """
    from .calibrate import check_held_out

    index = read_index(like)
    contents = index_contents(like, index)
    held = held_out(contents, fraction) & (index["image_size"].to_numpy() > 0)
    check_held_out(len(np.unique(contents[held])))
    return held


def check_lineage(model: str, like: Path) -> float:
    """Check that a model of ours was trained on this data, and return the share that it held out.

    Raises:
        DataError: If it was trained on other data or another vocabulary, or held samples out by KEY.
        UsageError: If it held nothing out.
    """
    from fistful.bow.store.model_folder import OWN_FILE, find_folder

    folder = find_folder(model)
    if folder is None or not (folder / OWN_FILE).exists():
        return OTHER_HELD_OUT
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
    return float(lineage["holdout"])


def _forecast(units: list[Unit], job: EmbedJob, like: Path, folder: Path, running: Running) -> str:
    """Return what embedding takes, which is nearly all of the work, and the disk for the copied images beside it."""
    from ..engine.forecast import forecast

    shards, _ = plan_units((str(like / "shards"),), PlanOptions())
    copied = sum(unit.size for unit in units)
    return forecast(
        [*units, *shards], lambda place: Work("fistful.pipelines.pseudo.embed:embed_unit", place, job, "embed"), running, folder, copied
    )


def _embed_both(
    units: list[Unit], inputs: dict[str, Any], job: EmbedJob, fingerprint: str, like: Path, folder: Path, running: Running
) -> None:
    from .embed import embed

    shards, shard_inputs = plan_units((str(like / "shards"),), PlanOptions())
    lenient = dataclasses.replace(running, max_bad_fraction=1.0)  # refused images count in the last stage
    embed(shards, shard_inputs, job, fingerprint, folder / CAPTIONED, lenient)
    embed(units, {k: inputs[k] for k in ("files", "bytes", "sha256")}, job, fingerprint, folder / IMAGES, lenient)


def _calibrate(folder: Path, like_folder: Path, units: list[Unit], held: np.ndarray, options: LabelOptions) -> LabelJob:
    """Set thresholds and measure them; what was measured before is read back."""
    from fistful.bow.calibration import Calibration

    from .calibrate import measure

    vocabulary = read_vocabulary(folder)
    like = read_like(folder / CAPTIONED, like_folder, held)
    place = folder / CALIBRATION
    voters = np.flatnonzero(~like.held)
    captioned, quota = None, None
    if options.by == "knn":
        captioned = Captioned(like.embeddings.features[voters], like.bags.pick(voters))
        save_captioned(place, captioned)
    else:
        quota = set_quota(folder / IMAGES, units, vocabulary, like)
        with atomic_file(place, "quota.npy") as file:
            np.save(file, quota, allow_pickle=False)  # pyright: ignore[reportArgumentType]
    sizes = like.bags.lengths()[like.bags.lengths() > 0]
    nothing = Calibration((0.0,), (0.0,))
    job = LabelJob(options.by, options.k, options.temperature, 0.0, nothing, sizes, options.seed, folder / IMAGES, folder, place)
    aside = np.flatnonzero(like.held)
    embeddings = like.embeddings.take(aside)
    candidates = candidates_of(embeddings, job, captioned, quota)
    pictures = same_pictures(embeddings.features)
    found = measure(candidates, like.bags.pick(aside), like.samples[aside], sizes, options.min_precision, options.seed, pictures)
    write_json(
        place,
        "measured.json",
        {
            "held_out_images": found.n_images,
            "held_out_labelled": found.n_labelled,
            "held_out_precision": found.precision,
            "held_out_precision_low": found.precision_low,
            "held_out_precision_high": found.precision_high,
            "held_out_precision_by_chance": found.by_chance,
            "held_out_recall": found.recall,
            "accept_score": None if np.isinf(found.accept) else round(found.accept, 6),
            "steps": [list(found.calibration.scores), list(found.calibration.shares)],
        },
    )
    return dataclasses.replace(job, accept=found.accept, share_right=found.calibration)


def set_quota(images: Path, units: list[Unit], vocabulary: Vocabulary, like: CaptionedData) -> np.ndarray:
    """Return each word's threshold: what lets it have its share of a sample of the images."""
    parts = [images / unit_name("embeddings", unit.number, "parquet") for unit in units]
    stride = max(1, len(parts) * 1_000 // QUOTA_SAMPLE)  # units hold some thousands
    found = read_embeddings(parts[::stride])
    numbers = np.array([number_of_key(key) for key in found.keys], np.uint64)
    chosen = np.argsort(mix_all(0x51554F54, numbers), kind="stable")[:QUOTA_SAMPLE]
    share = np.bincount(like.bags.values, minlength=len(vocabulary)) / max(1, len(like.bags))
    return quota_thresholds(found.take(np.sort(chosen)).candidates, share)


def same_pictures(features: np.ndarray) -> np.ndarray:
    """Return for each image a number, the same for images of equal features: one picture in several rows, as a row a caption has it."""
    rows = np.ascontiguousarray(features)
    return np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel(), return_inverse=True)[1]


def read_like(embeddings_folder: Path, like: Path, held: np.ndarray) -> CaptionedData:
    """Read captioned embeddings beside their bags; `held` is what `held_pictures` gave.

    Raises:
        DataError: If the images of the data folder and its index do not fit.
    """
    paths = sorted((embeddings_folder / "embeddings").glob("*.parquet"), key=lambda p: int(p.stem))
    embeddings = read_embeddings(paths)
    index = read_index(like)
    place = {key: row for row, key in enumerate(index["key"].to_pylist())}
    rows = np.array([place.get(key, -1) for key in embeddings.source_keys])
    if len(rows) == 0 or (rows < 0).any():
        raise DataError(f"{like}: its shards and its index name different samples; fistful verify {like} tells what changed")
    words = index["words"].combine_chunks()
    bags = Ragged(words.offsets.to_numpy().astype(np.int64), words.flatten().to_numpy().astype(np.int64))
    samples = np.array([number_of_key(key) for key in embeddings.source_keys], np.uint64)
    return CaptionedData(embeddings, bags.pick(rows), samples, held[rows])
