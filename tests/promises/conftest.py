"""Fixtures of the promises: small real input, and what a run that nothing disturbed makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.folders import contents
from tests.support.job import make_inputs, run_job


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> list[Path]:
    """Input files."""
    return make_inputs(tmp_path_factory.mktemp("inputs") / "captions", data_root)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, inputs: list[Path]) -> dict[str, bytes]:
    """The bytes of both folders after a run with one worker in this process."""
    out = tmp_path_factory.mktemp("undisturbed")
    run_job(inputs, out)
    return contents(out)
