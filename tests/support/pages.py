"""What a page of the docs tells its reader to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's blocks of a language, in their order."""
    return [text for found, text in BLOCK.findall(page.read_text("utf-8")) if found == language]


def commands(page: Path, program: str = "fistful") -> list[list[str]]:
    """Return the arguments of each command of a program that a page shows."""
    lines = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))[0] == program]
