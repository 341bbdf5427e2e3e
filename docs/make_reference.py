"""Writes docs/reference.md: the help of every verb, as the command line prints it.

Run it after changing an option: python docs/make_reference.py
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from fistful.cli import VERBS, run

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
    before, printed = dict(os.environ), io.StringIO()
    os.environ |= {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    try:
        with contextlib.redirect_stdout(printed):
            run([verb, "--help"])
    finally:
        os.environ.clear()
        os.environ |= before
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
