r"""Text that others wrote, the one way to read it: UTF-8, with or without its mark, in lines.

>>> decode(b"\xef\xbb\xbfred dog")
'red dog'
>>> lines_of("red\r\nblue\u2028green\rgrey\n")
['red', 'blue\u2028green', 'grey']
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from fistful.errors import UsageError

MARK = codecs.BOM_UTF8
"""Byte order mark: what Excel's "CSV UTF-8" and Notepad put before UTF-8."""
OTHERS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
UNMARKED = ((re.compile(rb"(?:[^\0]\0){4}"), "UTF-16LE"), (re.compile(rb"(?:\0[^\0]){4}"), "UTF-16BE"))
"""How Latin letters begin a text of UTF-16 without a mark."""
MAX_TEXT = 1 << 24
"""Longest line, row or text of a sample, in bytes; past it it is not a caption."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of characters: how Python carries names that are not UTF-8. No table or tar can hold them."""


def printable(name: str) -> str:
    r"""Return a name that any table can hold: bytes that are not UTF-8 are spelt \udcff.

    >>> printable("caf\udce9")
    'caf\\udce9'
    """
    return name.encode("utf-8", "backslashreplace").decode()


class BadText(ValueError):
    """A text is not UTF-8: the message says what it is."""


def encoding_of(data: bytes) -> str:
    """Return the encoding that a text's first bytes tell of, by the name that iconv knows; "" where it may be UTF-8."""
    for mark, name in OTHERS:
        if data.startswith(mark):
            return name
    return next((name for form, name in UNMARKED if form.match(data)), "")


def decode(data: bytes) -> str:
    """Return a text without its mark.

    Raises:
        BadText: If it is not UTF-8.
    """
    if name := encoding_of(data):
        raise BadText(f"not UTF-8 but {name}")
    start = len(MARK) if data.startswith(MARK) else 0
    try:
        return data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadText(f"not UTF-8 ({error.reason} at byte {error.start + start})") from None


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text, without their ends: \n, \r\n or \r. What else Unicode takes for a line end is part of a line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_lines(path: str | Path, said: str, expected: str) -> list[str]:
    """Return the lines of a file that a user gives; arguments and errors are those of `read_text`."""
    return lines_of(read_text(path, said, expected))


def read_text(path: str | Path, said: str, expected: str) -> str:
    """Return the text of a file that a user gives.

    Args:
        path: The file.
        said: How the user named it, for errors: "--names FILE".
        expected: What should be in it, for errors.

    Raises:
        UsageError: If it cannot be read, or is not UTF-8.
    """
    try:
        return decode(Path(path).read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{said}: no such file; expected {expected}") from None
    except OSError as error:
        raise UsageError(f"{said}: {error.strerror}; expected {expected}") from None
    except BadText as error:
        raise UsageError(f"{said}: {error}; expected {expected}, in UTF-8{to_utf8(path, str(error))}") from None


def to_utf8(path: str | Path, problem: str) -> str:
    """Return the end of a message that says how a file becomes UTF-8; its encoding is a guess where only a byte is at fault."""
    name = problem.partition(" but ")[2]
    return f": iconv -f {name or 'cp1252'} -t utf-8 {path} > NEW{'' if name else ', if it is Windows-1252 or Latin-1'}"
