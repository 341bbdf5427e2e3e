"""What a worker of an engine does with units, as Beam has it. Only beam.py imports this, late: Beam takes a second to import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from fistful.bow.store.folders import in_store
from fistful.bow.store.uploads import Uploads

from .work import Work, do_one


class DoUnits(beam.DoFn):
    """Does units; while a store takes the files of one, the next is begun. A bundle is done when all its files are there."""

    def start_bundle(self) -> None:
        """Begin a bundle of units."""
        self._uploads: Uploads | None = None

    def process(self, unit: Any, work: Work) -> Iterator[int]:
        """Do a unit."""
        if self._uploads is None and in_store(work.folder):
            self._uploads = Uploads()
        try:
            number = do_one(unit, work, self._uploads)
        except BaseException:
            self.finish_bundle()  # Beam does not; the units before are done, and what is done stays
            raise
        yield number

    def finish_bundle(self) -> None:
        """Wait for what is on its way."""
        if self._uploads is not None:
            self._uploads.close()
