"""Data folders for tests of training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import pytest

from fistful.training.data.loader import Batch, Loader
from tests.support.data_folder import make_data


@pytest.fixture
def write_data() -> Callable[..., str]:
    """`make_data`, for tests that need folders of their own."""
    return make_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder of 48 samples; tests do not change it."""
    return make_data(tmp_path_factory.mktemp("data") / "bags")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches of a run."""
    found, make = [], Loader.make

    def watch(self: Loader, step: int, decoders: Executor) -> Batch:
        found.append(make(self, step, decoders))
        return found[-1]

    monkeypatch.setattr(Loader, "make", watch)
    return found
