"""What a student is, and how it learns from its teacher. No torch here: the command line reads these options."""

from __future__ import annotations

import dataclasses

from fistful.bow.ngrams import MOST_NGRAMS
from fistful.bow.store.identity import check_numbers, execution, semantic
from fistful.errors import UsageError

from .device import Device
from .train_config import MAX_THREADS


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudentOptions:
    """What a student is, and how it learns."""

    ngrams: int = semantic(4)
    """Words of the longest n-grams."""
    table: int = semantic(200_000)
    """N-grams with an embedding of their own: the most frequent."""
    hashed: int = semantic(65_536)
    """Embeddings that all other n-grams share, by a hash; 0: these are left out."""
    dim: int = semantic(256)
    """Numbers of an n-gram's embedding, and of the hidden layer."""
    language: str = semantic("en")
    """spaCy language whose blank tokenizer finds the words; stop words and numbers are words too."""
    exclude: str = semantic("")
    """File of names of photos, a name a line, whose captions are left out: those of the photos that you evaluate on. Folders,
    endings and what follows "#" do not matter: photos/12.jpg#3 is 12."""
    photo: str = semantic("")
    """Name or number of the column (tars: field of KEY.json) that names a caption's photo, for --exclude; without it the sample's key."""
    labels: str = semantic("")
    """TSV of texts and labels ("|" between those of a text): the student is then a classifier of texts, which learns the
    probabilities that a linear head on the teacher's embeddings gives; without it the student embeds texts as its teacher does."""
    epochs: float = semantic(10.0)
    """How often each caption is shown."""
    batch_size: int = semantic(1_024)
    """Captions a step."""
    lr: float = semantic(1e-3)
    """Largest learning rate of the layers (AdamW); the table's (SparseAdam) is a hundred times that."""
    seed: int = semantic(0)
    """Seed of first weights and order."""
    threads: int = semantic(0)
    """Threads of training; 0: one for each core. Other threads, other rounding."""
    device: Device = semantic("auto")
    """Where the teacher embeds and the student learns; auto: a GPU if there is one."""
    embeddings: str = execution("")
    """Folder of the teacher's embeddings, which other students of the same captions can use again; without it OUT/logs/teacher."""
    checkpoint_every: int = execution(500)
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("table", "dim", "batch_size", "checkpoint_every"):
            _check(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("hashed", "seed", "threads"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        _check(self, "ngrams", 1 <= self.ngrams <= MOST_NGRAMS, f"1 to {MOST_NGRAMS}")
        _check(self, "threads", self.threads <= MAX_THREADS, f"at most {MAX_THREADS}")
        if self.photo and not self.exclude:
            raise UsageError(f"--photo {self.photo}: says which column --exclude FILE looks in; give both")
        _check(self, "epochs", self.epochs > 0, "a number above 0")
        _check(self, "lr", self.lr > 0, "a number above 0")
        check_numbers(self)


def _check(options: StudentOptions, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected {expected}")
