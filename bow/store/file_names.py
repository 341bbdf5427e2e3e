"""Names as file names: unlike names give unlike files, whatever letters they are made of.

>>> file_name("tiny/rn50", "cifar10"), file_name("tiny_rn50", "cifar10")
('tiny_rn50~ed563e84bb9409d3--cifar10', 'tiny_rn50--cifar10')
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._]*(-[A-Za-z0-9._]+)*")
"""Names that stand as they are: nothing in them that a file system minds, nor the -- between parts, nor the ~ before a digest."""
MAX_BYTES = 60
"""Of a part: three of them, an extension and what a file is called until it is complete fit in the 255 that file systems allow."""
DIGITS = 16


def file_name(*parts: str) -> str:
    """Return a file name without extension for a name in several parts, one to one.

    What is not plain (other letters, marks, spaces, too many of them) is still to be read, and a digest of the whole
    part tells it from all others.
    """
    return "--".join(map(_part, parts))


def _part(name: str) -> str:
    if len(name) <= MAX_BYTES and PLAIN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    readable = re.sub(r"[^\w.-]+", "_", name).lstrip(".-").encode()[: MAX_BYTES - DIGITS - 1]
    return f"{readable.decode('utf-8', 'ignore')}~{digest}"


def alike(name: str) -> str:
    """Return what names have in common that some file systems, and some eyes, do not tell apart: letters but for their case."""
    return unicodedata.normalize("NFC", name).casefold()


def tell_apart(names: Sequence[str]) -> list[str]:
    """Return names of which no two are alike: one that was there before gets a number that no other has.

    >>> tell_apart(["a", "b", "a", "a-2"]), tell_apart(["Set", "set"])
    (['a', 'b', 'a-3', 'a-2'], ['Set', 'set-2'])
    """
    given, found, taken = {alike(name) for name in names}, [], set[str]()
    for name in names:
        own = name if alike(name) not in taken else _numbered(name, given | taken)
        taken.add(alike(own))
        found.append(own)
    return found


def _numbered(name: str, taken: Collection[str]) -> str:
    number = 2
    while alike(f"{name}-{number}") in taken:
        number += 1
    return f"{name}-{number}"
