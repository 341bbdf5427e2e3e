"""What a training run can be told, and how open choices become definite before the run gets its name."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal

from fistful.bow.balance import Balance
from fistful.bow.store.files import is_url
from fistful.bow.store.identity import check_numbers, execution, semantic
from fistful.errors import UsageError

from .device import check_compiler, choose_device, has_bf16
from .masking import check_fusion

MAX_STEPS = 1_000_000_000
"""More than any run takes; a number beyond is a slip of the hand."""
MAX_THREADS = 1_024
"""More than any machine has processors for; a number beyond is a slip of the hand."""


def _check(config: Any, name: str, good: bool, expected: str) -> None:
    if not good:
        raise UsageError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected {expected}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """The towers, and the weights that they start from."""

    model: str = semantic("auto")
    """tiny-resnet, tiny-vit, tiny-rn, an open_clip model name, timm:NAME, or a folder with open_clip_config.json; auto: what --init is."""
    image_size: int = semantic(0)
    """Side of the pictures, in pixels; 0: the model's own."""
    embed_dim: int = semantic(0)
    """Length of the vectors that images and texts become; 0: the model's own."""
    init: str = semantic("")
    """Weights to start from: an open_clip folder, a run, a timm checkpoint file (with --model), or module:function with JSON arguments."""
    init_towers: Literal["image", "both"] = semantic("image")
    """Which towers take their weights from --init."""
    tune: Literal["none", "gated", "lora", "adapter", "prefix"] = semantic("none")
    """Leave --init's transformers as they are and learn small modules beside them: adapters, LoRA, prefixes, or all three under gates.
    The run keeps these alone, and needs the model of --init wherever it is used."""
    merge: bool = semantic(False)
    """--tune lora: write an ordinary model, with what was learnt in its weights."""
    train_image: Literal["all", "last", "none"] = semantic("all")
    """Which part of the image tower learns; none: its features are computed once, and only what follows them is trained."""
    text_tower: Literal["transformer", "words"] = semantic("transformer")
    """transformer: open_clip's; words: the mean of the words' vectors, for bags."""
    word_vectors: str = semantic("")
    """words tower: folder that fistful vectors wrote; each word starts from its vector there. Its content counts, not its name."""
    context_length: int = semantic(0)
    """Text positions of the transformer; 0: as few, of 16 to 77, as hold 99 of 100 texts whole. Give it where runs are to be compared."""
    temperature: float = semantic(0.07)
    """Softmax temperature at the start; learnt from there, never below 0.01."""

    def __post_init__(self) -> None:
        _check(self, "image_size", self.image_size >= 0, "0 or more")
        _check(self, "embed_dim", self.embed_dim >= 0, "0 or more")
        _check(self, "context_length", self.context_length >= 0, "0 or more")
        _check(self, "context_length", self.context_length == 0 or self.context_length >= 4, "0, or 4 or more")
        _check(self, "temperature", 0.01 <= self.temperature <= 100, "0.01 to 100")
        check_numbers(self)
        if self.init_towers == "both" and not self.init:
            raise UsageError("--init-towers both: says what to take from --init, found none; give --init")
        if self.merge and self.tune != "lora":
            raise UsageError(f"--merge: puts what LoRA learns into the weights, found --tune {self.tune}; use --tune lora")
        if self.tune != "none" and self.init_towers != "both":
            raise UsageError(f"--tune {self.tune}: tunes a pretrained model's text tower too; give --init MODEL and --init-towers both")
        if self.tune != "none" and self.train_image == "last":
            raise UsageError(f"--tune {self.tune}: leaves the towers' own weights as they are, found --train-image last; leave it out")
        if self.train_image != "all" and not self.init:
            raise UsageError(f"--train-image {self.train_image}: would keep random weights; give --init")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """Which samples are shown, and how their pictures are read."""

    exclude: str = semantic("")
    """File of samples to leave out, a line each: KEYs, or keys of the source. Its content counts, not its name."""
    holdout: float = semantic(0.0)
    """Share of the captioned pictures that are not shown, copies neither, so that fistful label can measure on them; 0 to 0.5."""
    pseudo_share: float = semantic(0.5)
    """Largest share of pseudo-labelled samples in a batch, 0 to 1."""
    pseudo: Literal["drawn", "fixed"] = semantic("drawn")
    """Bag of a pseudo-labelled sample. drawn: another one each epoch, from the label's shares, which the word losses learn as they
    are; fixed: the one that fistful label wrote, as for labels without shares."""
    augment: Literal["none", "crop", "resized"] = semantic("none")
    """crop: a window of each picture's middle square; resized: open_clip's random resized crop. Another one each epoch."""
    decode: Literal["full", "scaled"] = semantic("full")
    """scaled: decode JPEGs at the smallest size that is still larger than needed: faster, pixels differ a little."""
    order: Literal["samples", "shards"] = semantic("samples")
    """samples: any sample may come next; shards: for slow disks, shard after shard is read, each epoch in another order, and 16,384
    samples at a time are shuffled."""

    def __post_init__(self) -> None:
        _check(self, "holdout", 0 <= self.holdout <= 0.5, "0 to 0.5")
        _check(self, "pseudo_share", 0 <= self.pseudo_share <= 1, "0 to 1")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TextOptions:
    """What a sample's text is."""

    text: Literal["caption", "bag", "balanced"] = semantic("balanced")
    """What is learnt from: one caption a sample and epoch, its full bag, or its bag thinned anew each epoch."""
    intact: float = semantic(0.0)
    """Share of the samples whose text stays the caption, beside --text bag or balanced; the same ones each epoch."""
    captions: Literal["union", "one"] = semantic("union")
    """Whose words are a sample's bag: those of all its captions, or of one caption, another one each epoch."""
    rule: Literal["data", "none", "top_k", "power", "w2v", "cap", "budget", "random", "auto"] = semantic("data")
    """How balanced bags are thinned; data: as the data folder's vocabulary says; else a rule of fistful bags."""
    threshold: float | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    kept: float | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    alpha: float | None = semantic(None)
    """As for fistful bags, with a rule of its own."""
    n_words: int | None = semantic(None)
    """As for fistful bags, with a rule of its own."""

    def __post_init__(self) -> None:
        _check(self, "intact", 0 <= self.intact <= 1, "0 to 1")
        check_numbers(self)
        self.balance()
        if self.rule != "data" and self.text != "balanced":
            raise UsageError(f"--rule {self.rule}: thins balanced bags, found --text {self.text}; use --text balanced")
        if self.intact and self.text == "caption":
            raise UsageError(f"--intact {self.intact}: all texts are captions already, found --text caption; use --text bag or balanced")
        if self.captions == "one" and self.text == "caption":
            raise UsageError("--captions one: says whose words make a bag, found --text caption, which takes one caption anyway")

    def balance(self) -> Balance | None:
        """Return the rule that thins bags; None for the data folder's own."""
        options = {name: getattr(self, name) for name in ("threshold", "kept", "alpha", "n_words")}
        if self.rule == "data":
            if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
                raise UsageError(f"--rule data: takes no {' and no '.join(given)}; name the rule that they belong to")
            return None
        return Balance(rule=self.rule, **options)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LossOptions:
    """What is minimised."""

    objective: Literal["contrastive", "joint", "words", "sigmoid", "joint-sigmoid"] = semantic("contrastive")
    """contrastive: image against text; sigmoid: pair by pair; words: predict the bag's words; joint: pairs and words."""
    word_weight: float = semantic(1.0)
    """joint: weight of the word loss beside the other one."""
    tower_word_weight: float = semantic(0.0)
    """words tower: weight of one more loss, that the image embedding tells the bag's words from all others. 0: none."""
    bank: int = semantic(0)
    """contrastive: earlier embeddings kept as further negatives."""
    confidence: bool = semantic(False)
    """Weigh pseudo-labelled samples, and with --pseudo fixed their words, by how likely fistful label found their bag to be right; with
    --pseudo drawn words are weighed by their shares anyway."""
    mask_rate: float = semantic(0.0)
    """Share of each text's tokens, with the words tower of its words, that are hidden and learnt to be found from the picture and the
    rest, by a head that is of use for fistful evaluate --rerank and fistful label --complete alone. 0: none."""
    mask_rule: Literal["uniform", "content"] = semantic("uniform")
    """Which are hidden: any, or only those of words that are no stop words, as many as with uniform where a text has enough."""
    match_weight: float = semantic(0.0)
    """Weight of one more loss: whether a text fits a picture, which the same head tells right pairs from the likest wrong ones. 0: none."""

    def __post_init__(self) -> None:
        _check(self, "word_weight", self.word_weight >= 0, "0 or more")
        _check(self, "tower_word_weight", self.tower_word_weight >= 0, "0 or more")
        _check(self, "bank", self.bank >= 0, "0 or more")
        _check(self, "mask_rate", 0 <= self.mask_rate <= 1, "0 to 1")
        _check(self, "match_weight", self.match_weight >= 0, "0 or more")
        check_numbers(self)
        if self.mask_rule != "uniform" and not self.mask_rate:
            raise UsageError(f"--mask-rule {self.mask_rule}: says which words are hidden, and none are; give --mask-rate too")
        if self.bank and self.objective not in ("contrastive", "joint"):
            raise UsageError(f"--bank {self.bank}: adds negatives to the contrastive loss, found --objective {self.objective}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserOptions:
    """How weights change."""

    steps: int = semantic(1_000)
    """Optimiser steps."""
    epochs: float = semantic(0.0)
    """Times that the samples are shown; above 0, it decides --steps."""
    batch_size: int = semantic(64)
    """Samples a step, of all processes together."""
    accumulation: int = semantic(1)
    """Parts in which a process computes its share of a batch: less memory, the same loss."""
    optimizer: Literal["adamw", "sgd"] = semantic("adamw")
    """adamw, with CLIP's betas; sgd, with momentum 0.9."""
    lr: float = semantic(1e-3)
    """Highest learning rate; cosine to zero."""
    warmup: int = semantic(50)
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = semantic(0.1)
    """Weight decay, for matrices only."""
    clip_norm: float = semantic(0.0)
    """Longest gradient, as one vector; longer ones are scaled down. 0: any."""
    ema: float = semantic(0.0)
    """Decay of a running mean of the weights, which then is the model; it rises to it over the first steps. 0: the last weights are."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation"):
            _check(self, name, getattr(self, name) >= 1, "1 or more")
        _check(self, "steps", self.steps <= MAX_STEPS, f"at most {MAX_STEPS:,}")
        for name in ("warmup", "weight_decay", "epochs", "clip_norm"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        _check(self, "lr", self.lr > 0, "a number above 0")
        _check(self, "ema", 0 <= self.ema < 1, "0, or a number below 1 such as 0.999")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where a run computes, and what it keeps."""

    precision: Literal["fp32", "bf16"] = semantic("fp32")
    """bf16 only where the machine has units for it."""
    compile: bool = semantic(False)
    """Let torch.compile make code of the towers: minutes at the start, faster steps on a GPU. Digits differ a little, also between a run
    that was stopped and one that was not."""
    grad_checkpointing: bool = execution(False)
    """Keep fewer activations and compute them again in the backward pass: less memory, more time, the same weights. Not for open_clip's
    ResNets, which cannot."""
    device: Literal["auto", "cpu", "cuda"] = semantic("auto")
    """Where to compute; auto: a GPU if there is one."""
    threads: int = semantic(0)
    """Threads of computation; 0: one for each core. Other threads, other rounding."""
    world_size: int = semantic(0)
    """Processes that train together, as torchrun starts them; 0: as many as there are. More of them, other rounding."""
    seed: int = semantic(0)
    """Decides initial weights, data order, draws and crops."""
    evaluate_every: int = semantic(0)
    """Steps between evaluations, whose best model is kept in RUN/best; 0: evaluate at the end only."""
    checkpoint_every: int = execution(200)
    """Steps between checkpoints."""
    keep_checkpoints: int = execution(2)
    """How many checkpoints to keep while the run goes on."""
    cache_mb: int = execution(1_024)
    """Memory for decoded pictures, in MB; what does not fit is decoded again each epoch."""
    cache_gb: float = execution(100.0)
    """Disk, in GB, for shards of data folders in a bucket: they lie in the run's logs/ until it ends."""
    decoders: int = execution(0)
    """Threads that decode pictures; 0: one for each core, shared out among the processes of a machine."""
    features: str = execution("")
    """Folder for a frozen tower's features, which other runs can share; else they lie in the run's logs/."""
    tensorboard: bool = execution(False)
    """Write RUN/logs/tensorboard too; needs the package tensorboard."""
    force: bool = execution(False)
    """Compute in bf16 even where the machine has no units for it."""
    progress: bool = execution(True)
    """Show a progress bar (a line every 10 s without a terminal)."""

    def __post_init__(self) -> None:
        for name in ("checkpoint_every", "keep_checkpoints"):
            _check(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("threads", "seed", "world_size", "evaluate_every", "cache_mb", "decoders"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        if is_url(self.features):
            raise UsageError(
                f"--features {self.features}: features lie on the disk, from where they are read at random; give a folder there"
            )
        _check(self, "cache_gb", self.cache_gb > 0, "a number above 0")
        for name in ("threads", "decoders"):
            _check(self, name, getattr(self, name) <= MAX_THREADS, f"at most {MAX_THREADS}")
        check_numbers(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Options of `fistful train`; `train_config` makes one of options by name."""

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    text: TextOptions = TextOptions()
    loss: LossOptions = LossOptions()
    optimiser: OptimiserOptions = OptimiserOptions()
    run: RunOptions = RunOptions()

    def __post_init__(self) -> None:
        model, text = self.model, self.text
        if model.text_tower == "words" and text.text == "caption" and self.has_text:
            raise UsageError("--text-tower words: reads words of the vocabulary, found --text caption; use --text bag or balanced")
        if text.rule != "data" and not self.has_text:
            raise UsageError(
                f"--rule {text.rule}: thins what the text tower reads, and --objective words has none: its loss weighs words by idf; "
                "leave --rule out, or use --objective joint"
            )
        if text.intact and model.text_tower == "words":
            raise UsageError(f"--intact {text.intact}: the words tower reads no captions; use --text-tower transformer")
        if (model.word_vectors or self.loss.tower_word_weight) and not (self.has_text and model.text_tower == "words"):
            asked = f"--word-vectors {model.word_vectors}" if model.word_vectors else f"--tower-word-weight {self.loss.tower_word_weight}"
            found = f"--text-tower {model.text_tower}" if self.has_text else f"--objective {self.loss.objective}, which has no text tower"
            raise UsageError(f"{asked}: is for the words tower, found {found}; use --text-tower words with another objective than words")
        if model.tune != "none" and not (self.has_text and model.text_tower == "transformer"):
            found = f"--text-tower {model.text_tower}" if self.has_text else f"--objective {self.loss.objective}"
            raise UsageError(f"--tune {model.tune}: tunes transformers, found {found}; use --text-tower transformer with a loss of pairs")
        others = {"--compile": self.run.compile, "--mask-rate and --match-weight": self.has_fusion}
        if model.tune != "none" and (given := [name for name, is_given in others.items() if is_given]):
            raise UsageError(f"--tune {model.tune}: does not go with {given[0]}; leave one out")
        if model.train_image == "none" and self.data.augment != "none":
            raise UsageError(
                f"--augment {self.data.augment}: a frozen tower sees each picture once; use --augment none or --train-image last"
            )
        if self.has_fusion:
            check_fusion(self.has_text, self.loss, self.optimiser, self.run)

    @property
    def has_fusion(self) -> bool:
        """Whether a head reads texts with their pictures."""
        return self.loss.mask_rate > 0 or self.loss.match_weight > 0

    @property
    def has_head(self) -> bool:
        """Whether words are predicted."""
        return self.loss.objective in ("words", "joint", "joint-sigmoid")

    @property
    def has_word_loss(self) -> bool:
        """Whether anything learns which words a bag has."""
        return self.has_head or self.loss.tower_word_weight > 0 or (self.loss.mask_rate > 0 and self.model.text_tower == "words")

    @property
    def has_text(self) -> bool:
        """Whether there is a text tower."""
        return self.loss.objective != "words"

    @property
    def has_bias(self) -> bool:
        """Whether pairs are told right from wrong one by one, which needs a learnt bias."""
        return self.loss.objective in ("sigmoid", "joint-sigmoid")

    @property
    def needs_words(self) -> bool:
        """Whether anything reads words of the vocabulary."""
        return self.has_head or self.model.text_tower == "words" or self.text.text != "caption"


def train_config(**options: Any) -> TrainConfig:
    """Return a configuration with some options given by name.

    >>> train_config(steps=5, text="bag").optimiser.steps
    5

    Raises:
        TypeError: If there is no such option.
        UsageError: If a value is not what the option expects.
    """
    return changed(TrainConfig(), **options)


def changed(config: TrainConfig, **options: Any) -> TrainConfig:
    """Return the configuration with some options, given by name, changed.

    Raises:
        TypeError: If there is no such option.
        UsageError: If a value is not what the option expects.
    """
    groups = {}
    for field in dataclasses.fields(config):
        group = getattr(config, field.name)
        own = {of_group.name for of_group in dataclasses.fields(group)} & options.keys()
        groups[field.name] = dataclasses.replace(group, **{name: options.pop(name) for name in own})
    if options:
        raise TypeError(f"{', '.join(sorted(options))}: no such option of fistful train")
    return TrainConfig(**groups)


def resolve(config: TrainConfig) -> TrainConfig:
    """Make open choices definite that the data does not decide: device, threads, decoders, processes.

    Raises:
        UsageError: If the machine lacks what is asked for.
    """
    device = choose_device(config.run.device)
    if config.run.precision == "bf16" and not config.run.force and not has_bf16(device):
        raise UsageError(
            "--precision bf16: this processor has no bf16 units (avx512_bf16, amx_bf16), where it is some 20 times slower; "
            "use fp32, or --force"
        )
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    asked = config.run.world_size
    if asked not in (0, world_size):
        raise UsageError(f"--world-size {asked}: found {world_size} processes; start as many with torchrun --nproc-per-node")
    if config.run.compile:
        check_compiler(device)
    n_cores = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return changed(
        config,
        model=config.model.model if config.model.model != "auto" or config.model.init else "tiny-resnet",
        device=device,
        threads=config.run.threads or n_cores,
        decoders=config.run.decoders or n_cores,
        world_size=world_size,
    )
