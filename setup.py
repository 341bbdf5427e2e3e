"""Everything stands in pyproject.toml. Here a build ends where git made no symbolic links: its wheel would lack four packages."""

import sys
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LACKING = [room for room in ("bow", "pipelines", "training", "eval") if not (HERE / "fistful" / room / "__init__.py").is_file()]
if LACKING:
    sys.exit(
        f"fistful/{LACKING[0]} is no folder: this checkout has no symbolic links, and what is built from it would lack "
        f"{', '.join(LACKING)}; take a file system that has them, and: git clone -c core.symlinks=true"
    )
setup()
