"""The folder of a student, and the encoder that it makes: of texts without torch, of pictures by its teacher.

model/fistful.json says what it is and whose student, student.safetensors has its weights (the table in float16), and
ngrams.parquet the n-grams that have an embedding of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fistful.bow import student
from fistful.bow.ngrams import FILE as NGRAMS
from fistful.bow.ngrams import NgramReader, NgramTable, read_ngrams, write_ngrams
from fistful.bow.ragged import Ragged
from fistful.bow.store.files import hash_file, read_json, write_bytes, write_json
from fistful.bow.store.identity import FORMAT, canonical_json, sha256_hex
from fistful.bow.store.model_folder import CARD_FILE, OWN_FILE, STUDENT_FILE, fingerprint_of
from fistful.bow.student import StudentWeights
from fistful.bow.words import WordOptions
from fistful.errors import DataError, UsageError
from fistful.wording import counted

from .encoder import Encoder, check_pictures

if TYPE_CHECKING:
    from PIL import Image

TEXTS_A_PASS = 4_096
LAYERS = {
    "table": "table_RE",
    "hidden.weight": "hidden_HE",
    "hidden.bias": "hidden_bias_H",
    "out.weight": "out_DH",
    "out.bias": "out_bias_D",
}
"""What the tensors are called in the file, and in StudentWeights."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudentLineage:
    """Where a student comes from, and how it reads."""

    config_id: str
    teacher: str
    """Fingerprint of the model that it learnt from."""
    logit_scale: float
    """What its teacher's cosines are multiplied by before a softmax."""
    word_options: dict[str, Any]
    ngrams: int
    hashed: int
    ngrams_sha256: str = ""
    """Of ngrams.parquet."""
    labels: list[str] = dataclasses.field(default_factory=list)
    """Of a classifier: what its outputs are logits of; none for one that embeds."""
    several: bool = False
    """Of a classifier: whether a text may have several labels."""


@dataclasses.dataclass(frozen=True, slots=True)
class Student:
    """A student read back from its folder."""

    weights: StudentWeights
    table: NgramTable
    lineage: StudentLineage


def write_student(run: Path, folder: str, made: Student, texts: list[str], stats: dict[str, Any]) -> None:
    """Write RUN/FOLDER/, fistful.json last.

    Args:
        run: The run folder.
        folder: Within it.
        made: The student.
        texts: The table's n-grams, written out.
        stats: What stands beside it in the card.
    """
    from safetensors.numpy import save

    digest = write_ngrams(run, f"{folder}/{NGRAMS}", made.table, texts)["sha256"]
    lineage = dataclasses.replace(made.lineage, ngrams_sha256=digest)
    tensors = {name: np.ascontiguousarray(getattr(made.weights, field)) for name, field in sorted(LAYERS.items())}
    tensors["table"] = tensors["table"].astype(np.float16)
    write_bytes(run, f"{folder}/{STUDENT_FILE}", save(tensors))
    write_bytes(run, f"{folder}/{CARD_FILE}", _card(made, lineage, stats).encode())
    write_json(run, f"{folder}/{OWN_FILE}", {"format": FORMAT, "student": True, "lineage": dataclasses.asdict(lineage)})


def read_student(folder: Path) -> Student:
    """Read a student's folder.

    Raises:
        UsageError: If it is of a newer version, or a file is missing.
        DataError: If its files do not fit each other.
    """
    about = read_json(folder / OWN_FILE)
    if about["format"] > FORMAT:
        raise UsageError(f"{folder}: has format {about['format']}, this version reads up to {FORMAT}; upgrade fistful")
    lineage = StudentLineage(**about["lineage"])
    if (folder / NGRAMS).exists() and hash_file(folder / NGRAMS)["sha256"] != lineage.ngrams_sha256:
        raise DataError(f"{folder / NGRAMS}: are not the n-grams that this student learnt; copy the whole folder of one student")
    table, weights = read_ngrams(folder / NGRAMS, lineage.hashed), _read_weights(folder / STUDENT_FILE)
    wrong = weights.check()
    if not wrong and len(weights.table_RE) != table.n_rows:
        wrong = f"the table has {len(weights.table_RE):,} rows, expected {table.n_rows:,}"
    if wrong:
        raise DataError(f"{folder}: weights do not fit {NGRAMS} ({wrong}); copy the whole folder of one student")
    return Student(weights, table, lineage)


def _read_weights(path: Path) -> StudentWeights:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
        return StudentWeights(**{field: found[name].astype(np.float32) for name, field in LAYERS.items()})
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path}: not the weights of a student ({error}); fistful distill writes them") from None


class StudentTexts:
    """Texts to embeddings, in numpy."""

    def __init__(self, made: Student) -> None:
        self._weights, self._finder = made.weights, made.table.finder()
        self._reader = NgramReader(made.lineage.word_options["language"], made.lineage.ngrams)
        self.dim = len(made.weights.out_bias_D)
        self.labels, self._several = made.lineage.labels, made.lineage.several

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, D) of length 1; of length 0 for a text without an n-gram that is known."""
        return self._in_passes(lambda rows: student.embed(self._weights, rows), texts)

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """Return the probability of each label, float64 (n, labels)."""
        return self._in_passes(lambda rows: student.probabilities(self._weights, rows, self._several), texts)

    def _in_passes(self, function: Callable[[Ragged], np.ndarray], texts: list[str]) -> np.ndarray:
        parts = (texts[start : start + TEXTS_A_PASS] for start in range(0, max(1, len(texts)), TEXTS_A_PASS))
        return np.concatenate([function(self._finder.rows(self._reader.keys(pa.array(part, pa.string())))) for part in parts])

    def n_cut(self, texts: list[str]) -> int:
        """Return how many texts have more words than are read."""
        return self._reader.n_cut(pa.array(texts, pa.string()))


@dataclasses.dataclass(slots=True)
class StudentEncoder:
    """A student's texts; with its teacher beside it the teacher's pictures too."""

    name: str
    fingerprint: str
    texts: StudentTexts
    logit_scale: float
    teacher: str
    """Fingerprint of its teacher."""
    images: Encoder | None = None
    image_size: int = 0
    context_length: int | None = None
    saw_imagenet_labels: bool | None = None
    words: list[str] | None = None
    word_scores: Callable[[np.ndarray], np.ndarray] | None = None
    word_shares: Callable[[np.ndarray], np.ndarray] | None = None
    both: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    warnings: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    word_options: WordOptions | None = None
    preprocess: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return a picture as the teacher takes it."""
        return self._teacher().prepare(image)

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """Return what the teacher makes of pictures, float32 (n, d) of length 1."""
        return self._teacher().embed_images(images)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, d) of length 1; of length 0 for a text without an n-gram that is known.

        Raises:
            UsageError: If the student is a classifier.
        """
        if self.texts.labels:
            raise UsageError(
                f"{self.name}: is a classifier of {counted(len(self.texts.labels), 'label')}, which embeds no texts; "
                "fistful.load(STUDENT).label_texts(texts) asks it, and fistful distill without --labels makes one that embeds"
            )
        return self.texts(texts)

    def label_texts(self, texts: list[str]) -> list[dict[str, float]]:
        """Return the probability of each label for each text.

        Raises:
            UsageError: If the student embeds, and knows no labels.
        """
        if not self.texts.labels:
            raise UsageError(f"{self.name}: embeds texts and knows no labels; fistful distill --labels TSV makes a classifier")
        return [dict(zip(self.texts.labels, row, strict=True)) for row in self.texts.probabilities(texts).tolist()]

    def n_cut(self, texts: list[str]) -> int:
        """Return how many texts have more words than are read."""
        return self.texts.n_cut(texts)

    def _teacher(self) -> Encoder:
        check_pictures(self)
        assert self.images is not None
        return self.images


def student_encoder(folder: Path, name: str) -> StudentEncoder:
    """Load a student to embed texts; no torch is needed."""
    made = read_student(folder)
    return StudentEncoder(name, fingerprint_of(folder), StudentTexts(made), made.lineage.logit_scale, made.lineage.teacher)


def with_pictures(alone: StudentEncoder, teacher: Encoder, name: str) -> StudentEncoder:
    """Return a student beside its teacher, whose pictures it is compared with.

    Args:
        alone: The student.
        teacher: Its teacher.
        name: What the user called both.

    Raises:
        UsageError: If the teacher is a student itself.
        DataError: If it is not the student's teacher.
    """
    if not teacher.image_size:
        raise UsageError(f"{name}: {teacher.name} is a student itself, which embeds no pictures; distill its own teacher instead")
    if teacher.fingerprint != alone.teacher:
        raise DataError(
            f"{name}: {teacher.name} is not the model that {alone.name} learnt from (fingerprint {teacher.fingerprint[:16]}, "
            f"expected {alone.teacher[:16]}), so that its pictures lie elsewhere; give the teacher, or distill this model"
        )
    same = ("image_size", "saw_imagenet_labels", "words", "word_scores", "word_shares", "warnings", "trained_on", "word_options", "device")
    return dataclasses.replace(
        alone,
        name=name,
        fingerprint=sha256_hex(canonical_json([alone.fingerprint, teacher.fingerprint])),
        images=teacher,
        both=getattr(teacher, "both", None),
        preprocess=teacher.preprocess,
        **{field: getattr(teacher, field) for field in same},
    )


def _output(made: Student, lineage: StudentLineage) -> dict[str, str]:
    if not lineage.labels:
        return {"embedding": f"{len(made.weights.out_bias_D)} numbers, in the space of its teacher"}
    return {"labels": ", ".join(lineage.labels), "labels of a text": "several" if lineage.several else "one"}


def _card(made: Student, lineage: StudentLineage, stats: dict[str, Any]) -> str:
    """Return README.md in the hub's form."""
    language = str(lineage.word_options["language"])
    front = ["library_name: fistful", "pipeline_tag: feature-extraction"]
    front += ["language:", f"- {language}"] if len(language) == 2 and language != "xx" else []
    front += ["tags:", "- fistful", "- bag-of-ngrams", "- distillation"]
    facts = {
        "text tower": f"mean of the embeddings of n-grams of up to {lineage.ngrams} words, a hidden layer, a projection",
        "table": f"{len(made.table.keys):,} n-grams of {made.weights.table_RE.shape[1]} numbers; others share {lineage.hashed:,} rows",
        **_output(made, lineage),
        "teacher (fingerprint)": f"`{lineage.teacher}`",
        **{name: f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for name, value in stats.items()},
        "configuration": f"`{lineage.config_id}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    ask = "label_texts" if lineage.labels else "embed_texts"
    use = f'```python\nimport fistful\n\nmodel = fistful.load("FOLDER")  # numpy alone, no torch\nmodel.{ask}(["a red ball"])\n```\n'
    return "\n".join(
        ["---", *front, "---", "", f"# A student of fistful: texts without a transformer\n\n| | |\n|---|---|\n{table}\n\n{use}"]
    )
