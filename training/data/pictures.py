"""Pictures by row: decoded when first asked for, kept while memory lasts, broken ones replaced by other rows."""

from __future__ import annotations

import numpy as np

from fistful.bow.draw import mix_all
from fistful.bow.store.dead_letters import Refused
from fistful.errors import DataError

from .. import resize_and_crop
from ..resize_and_crop import Fit
from ..train_config import TrainConfig
from .order import Order
from .samples import TrainingSamples, read_picture

ATTEMPTS = 16
"""Samples tried in place of a broken one. 16 in a row are broken only where most of the data is."""
REPLACE_SALT = 4


class Pictures:
    """The pictures of a run, each as one epoch sees it."""

    def __init__(self, config: TrainConfig, samples: TrainingSamples, order: Order, how: Fit) -> None:
        self._config, self._samples, self._order, self._how = config, samples, order, how
        self._kept: dict[int, np.ndarray] = {}
        self._room = config.run.cache_mb << 20
        self.broken: dict[int, str] = {}
        """Why a row could not be used."""

    def get(self, row: int, draws: np.ndarray | None = None) -> tuple[int, np.ndarray]:
        """Return the row, or the one in its place, and its picture, uint8 (size, size, 3).

        Args:
            row: Which sample.
            draws: What its crop is made of (`resize_and_crop.crop_draws`); None where it is not used.

        Raises:
            DataError: If as many rows in its place are broken too.
        """
        place, members = row, (self._order.pseudo if self._samples.pseudo[row] else self._order.real).members
        for attempt in range(ATTEMPTS):
            picture = self._source(row)
            if picture is not None:
                return row, picture if draws is None else self._crop(picture, draws)
            row = int(members[int(mix_all(self._config.run.seed, REPLACE_SALT, place, attempt) % np.uint64(len(members)))])
        raise DataError(
            f"{self._samples.name(place)}: this picture and {ATTEMPTS - 1} in its place cannot be decoded "
            f"({self.broken[place]}); fistful verify {self._samples.folders[self._samples.folder[place]]} tells what changed"
        )

    def picture(self, row: int) -> np.ndarray | None:
        """Return a picture as evaluation sees it, None if it is broken."""
        try:
            return resize_and_crop.fit(self._decode(row, self._how.size), self._how)
        except Refused as refused:
            self.broken[row] = f"{refused.reason}: {refused.detail}"
            return None

    def plain(self, row: int) -> np.ndarray:
        """Return a picture, or the one in its place, as evaluation sees it."""
        found = self.picture(row)
        return resize_and_crop.fit(self._decode(self.get(row)[0], self._how.size), self._how) if found is None else found

    def _crop(self, picture: np.ndarray, draws: np.ndarray) -> np.ndarray:
        if self._config.data.augment == "crop":
            return resize_and_crop.random_window(picture, self._how, draws)
        return resize_and_crop.resized_box(picture, self._how, resize_and_crop.random_box(picture.shape[1], picture.shape[0], draws))

    def _source(self, row: int) -> np.ndarray | None:
        """Return what the picture of any epoch is cut from, None if it is broken."""
        if row in self.broken:
            return None
        if (picture := self._kept.get(row)) is not None:
            return picture
        kept = self._how.kept(self._config.data.augment)
        try:
            picture = self._decode(row, kept.size)
        except Refused as refused:
            self.broken[row] = f"{refused.reason}: {refused.detail}"
            return None
        if self._config.data.augment != "resized":
            picture = resize_and_crop.fit(picture, kept)
        if self._room >= picture.nbytes:
            self._room -= picture.nbytes  # two threads may both take the last of it: a picture more, no more
            self._kept[row] = picture
        return picture

    def _decode(self, row: int, side: int) -> np.ndarray:
        return resize_and_crop.decode(read_picture(self._samples, row), side if self._config.data.decode == "scaled" else 0)
