"""Where the columns of a table stand that is an evaluation set.

>>> SetOptions(label="Klasse").asked()
['--label Klasse']
"""

from __future__ import annotations

import dataclasses

from fistful.bow.store.identity import semantic
from fistful.errors import UsageError
from fistful.pipelines.read.source_options import AUTO, SourceOptions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SetOptions(SourceOptions):
    """Where a row's picture stands, and its captions or its label."""

    label: str = semantic(AUTO)
    """Name of the label column, or its number where the others are given so; auto: by its name."""

    def __post_init__(self) -> None:
        SourceOptions.__post_init__(self)
        if self.label != AUTO and self.caption != AUTO:
            raise UsageError(f"--caption {self.caption} --label {self.label}: a table is asked for its captions or its labels; give one")

    def asked(self) -> list[str]:
        """Return what is asked of a table's columns, as it is typed."""
        given = (("caption", self.caption), ("label", self.label), ("image", self.image), ("delimiter", self.delimiter))
        return [f"--{name} {value}" for name, value in given if value != AUTO]


ALL = SetOptions()
"""All pictures of a table, wherever near it they lie; columns by their names."""
