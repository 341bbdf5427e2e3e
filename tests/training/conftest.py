"""Data folders for tests of training."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.data_folder import make_data


@pytest.fixture
def write_data() -> Callable[..., str]:
    """`make_data`, for tests that need folders of their own."""
    return make_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder of 48 samples; tests do not change it."""
    return make_data(tmp_path_factory.mktemp("data") / "bags")
