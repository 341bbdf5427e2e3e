r"""What strangers wrote, made harmless before it is shown: names and captions may hold orders to a terminal.

>>> show("red\x1b[2J \u202egpj.exe")
'red\\u001b[2J \\u202egpj.exe'
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Generator
from typing import Any, TextIO, cast

ORDERS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters (C0, DEL, C1; not the newline and the tab), ends of lines, directions, and halves of pairs, which no stream takes."""

_ORDERS = re.compile(f"[{ORDERS}]")
_ENDS = re.compile(f"[\t\n{ORDERS}]")


def show(text: str) -> str:
    r"""Spell out what is no letter but an order to what shows it: ESC as \u001b, which JSON reads back as it was."""
    return _ORDERS.sub(_spelt, text)


def show_in_line(text: str) -> str:
    """Do so with tabs and ends of lines too: a name in a line or a table starts no line of its own."""
    return _ENDS.sub(_spelt, text)


def _spelt(order: re.Match[str]) -> str:
    return f"\\u{ord(order[0]):04x}"


class Shown:
    """A text stream that does nothing but show what is written to it (`show`), in letters that its encoding has."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, spelt out."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(show(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def shown_output() -> Generator[None]:
    """Let nothing reach stdout and stderr but through `Shown`."""
    with contextlib.redirect_stdout(_shown(sys.stdout)), contextlib.redirect_stderr(_shown(sys.stderr)):
        yield


def own_stream(stream: TextIO) -> TextIO:
    """Return what lies behind a `Shown`: for orders of our own, such as those of a progress bar."""
    return stream.stream if isinstance(stream, Shown) else stream


def _shown(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, Shown) else cast("TextIO", Shown(stream))
