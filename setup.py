"""Everything stands in pyproject.toml. Here a build ends where there are no symbolic links: its wheel would lack packages."""

import sys
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LACKING = [room for room in ("bow", "pipelines", "training", "eval") if not (HERE / "fistful" / room / "__init__.py").is_file()]
if LACKING:
    sys.exit(
        f"fistful/{LACKING[0]} is no folder: these sources have no symbolic links, and what is built from them would lack "
        f"{', '.join(LACKING)}; on a file system that has them: git clone -c core.symlinks=true, or unpack with tar or unzip"
    )
setup()
