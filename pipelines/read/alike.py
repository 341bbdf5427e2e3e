"""Files whose names differ from what was asked for by nothing that one sees, or by case only.

>>> same_letters("Ünder.JPG") == same_letters(unicodedata.normalize("NFD", "ünder.jpg"))
True
"""

from __future__ import annotations

import functools
import os
import unicodedata


def alike(path: str) -> str:
    """Return what to say of a file that is not there while one of nearly its name is; "" where there is none such."""
    found = _find(path)
    if found is None:
        return ""
    plain = [unicodedata.normalize("NFC", name) for name in (path, found)]
    how = [
        *(["case"] if plain[0] != plain[1] else []),
        *(["Unicode's normal form"] if unicodedata.normalize("NFC", path) != path or plain[1] != found else []),
    ]
    shown = os.path.relpath(found, os.path.commonpath([os.path.dirname(path), os.path.dirname(found)]))
    return f"differs from {shown} by {' and '.join(how)} only"


def _find(path: str) -> str | None:
    """Return the path that is there, each of its folders looked up as its file is."""
    if os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    there = _find(folder) if name else None
    if there is None or (found := _names_in(there).get(same_letters(name))) is None:
        return None
    return os.path.join(there, found)


@functools.lru_cache(maxsize=16)
def _names_in(folder: str) -> dict[str, str]:
    try:
        return {same_letters(name): name for name in sorted(os.listdir(folder), reverse=True)}
    except OSError:
        return {}


def same_letters(name: str) -> str:
    """Return what names have in common that differ by case and by Unicode's normal form only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
