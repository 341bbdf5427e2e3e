"""Writes docs/reference.md: the help of every verb, as the command line prints it.

Run it after changing an option: python docs/make_reference.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fistful.cli import VERBS

TARGET = Path(__file__).with_name("reference.md")


def reference() -> str:
    """Return the page's text."""
    parts = [
        "# Reference",
        "",
        "Every verb with its options, as `fistful VERB --help` prints them (made by `docs/make_reference.py`).",
        "Each verb is also a function of the package `fistful` with the same options.",
    ]
    for verb, summary in VERBS.items():
        parts += ["", f"## {verb}", "", summary, "", "```text", help_of(verb), "```"]
    return "\n".join(parts) + "\n"


def help_of(verb: str) -> str:
    """Return what `fistful VERB --help` prints, 100 columns wide."""
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-m", "fistful", verb, "--help"], env=environment, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
