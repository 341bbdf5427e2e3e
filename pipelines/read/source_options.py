"""Where the captions and the pictures of a row stand.

>>> caption_names(SourceOptions(), ["id", "Text"], lambda name, n: name)
['Text']
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

from fistful.bow.store.identity import execution, semantic
from fistful.errors import UsageError

AUTO, NONE = "auto", "none"
CAPTIONS = ("caption", "captions", "text", "title", "alt", "alt_text", "sentence", "sentences", "description", "comment")
"""Names of columns that hold captions, the likeliest first; how they are spelt, in capitals or not, is all the same."""
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}
"""What a shell has trouble to say, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """Where a row's captions stand."""

    caption: str = semantic(AUTO)
    """TSV, CSV, JSONL, parquet: name of the caption column (a TSV or CSV file then has a header line) or its number, from 1;
    several with commas between; auto: caption, or else text, title, alt, sentence, description, comment: the first that is there.
    Tars: captions come from KEY.json's list "captions", else from KEY.txt."""
    image: str = semantic(AUTO)
    """TSV, CSV, JSONL, parquet: name or number of the column that names a picture's file, or holds its bytes;
    auto: found by its name and by what is in it; none: tables name no pictures."""
    images_root: str = execution("")
    """Folder that names of pictures start from; without it the table's own folder, or one beside it that has them."""
    split: str = semantic("")
    """Take only the pictures of this split, where a table or a JSON document says it (train, val, test)."""
    delimiter: str = semantic(AUTO)
    """CSV: what parts its columns: comma, tab, semicolon, bar, or a character; auto: as its first line says."""
    header: bool = semantic(False)
    """The first line is a header though columns are given by number."""
    columns: str = semantic("")
    """Names or numbers of columns that pass through to the index, with commas between; tars: all fields of KEY.json do."""

    def __post_init__(self) -> None:
        for name, value in (("caption", self.caption), ("columns", self.columns)):
            if "0" in (parts := split_names(value)):
                raise UsageError(f"--{name} {value}: columns are numbered from 1")
            if len(set(parts)) < len(parts) or (name == "caption" and not parts):
                raise UsageError(f"--{name} {value}: expected names or numbers of columns, each once")
        if len(self.separator) != 1 and self.delimiter != AUTO:
            raise UsageError(f"--delimiter {self.delimiter}: expected {', '.join(DELIMITERS)}, or one character")
        if self.images_root and not os.path.isdir(self.images_root) and "://" not in self.images_root:
            raise UsageError(f"--images-root {self.images_root}: no such folder")
        if self.names_images and self.image.isdecimal() != self.by_number and self.caption != AUTO:
            raise UsageError(f"--caption {self.caption} --image {self.image}: expected both by name or both by number")
        if self.columns and self.by_number != all(map(str.isdecimal, split_names(self.columns))):
            raise UsageError(f"--caption {self.caption} --columns {self.columns}: expected both by name or both by number")

    @property
    def names_images(self) -> bool:
        """Whether a column of pictures is given, rather than to be looked for."""
        return self.image not in (AUTO, NONE)

    @property
    def asks_columns(self) -> bool:
        """Whether anything is asked that only a table can have."""
        return self.caption != AUTO or self.names_images or self.delimiter != AUTO or self.header or bool(self.columns)

    @property
    def separator(self) -> str:
        """What parts the columns of a CSV, where that is given."""
        return "" if self.delimiter == AUTO else DELIMITERS.get(self.delimiter, self.delimiter)

    @property
    def by_number(self) -> bool:
        """Whether columns are given by their numbers."""
        return all(map(str.isdecimal, split_names(self.image if self.caption == AUTO and self.names_images else self.caption)))

    @property
    def has_header(self) -> bool:
        """Whether the first line of a table is a header."""
        return self.header or not self.by_number


def split_names(text: str) -> list[str]:
    """Split names at their commas.

    >>> split_names("caption, alt")
    ['caption', 'alt']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def pick_names(asked: str, names: Sequence[str], wrong: Callable[[str, int], str]) -> list[str]:
    """Return which names of columns are asked for: the whole text if there is such a name, else what its commas part.

    Args:
        asked: One name, or several with commas between.
        names: Those that are there.
        wrong: Says of a name that is there so many times, and not once, what is wrong.

    Raises:
        UsageError: If one is not there once.
    """
    parts = [asked] if asked in names else split_names(asked)
    for part in parts:
        if (n_times := list(names).count(part)) != 1:
            raise UsageError(wrong(part, n_times))
    return parts


def caption_names(options: SourceOptions, names: Sequence[str], wrong: Callable[[str, int], str], needed: bool = True) -> list[str]:
    """Return which columns hold captions; [] where there is none and none is needed.

    Raises:
        UsageError: If one that is asked for is not there once.
    """
    if options.caption != AUTO or AUTO in names:
        return pick_names(options.caption, names, wrong)
    found = usual_name(names)
    if found is None and needed:
        raise UsageError(wrong(CAPTIONS[0], 0))
    return [] if found is None else pick_names(found, names, wrong)


def usual_name(names: Iterable[str], usual: Sequence[str] = CAPTIONS) -> str | None:
    """Return the name that stands first among the usual ones; None where there is none of them."""
    lowered: dict[str, str] = {}
    for name in names:
        lowered.setdefault(name.strip().lower(), name)
    return next((lowered[name] for name in usual if name in lowered), None)
