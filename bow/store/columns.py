"""Columns of parquet files that others wrote: text in every form that pandas, polars and datasets give it.

>>> is_text(pa.large_list(pa.dictionary(pa.int32(), pa.large_string()))), is_text(pa.int64())
(True, False)
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

BROKEN_PARQUET = (pa.lib.ArrowException, OSError, IndexError, UnicodeError)
"""What a damaged parquet file raises; an OSError with a number is the disk's."""

TEXTS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
BYTES = ("binary", "large_binary", "binary_view", "fixed_size_binary")
LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
"""Types by the names of pyarrow.types' tests; those that this pyarrow does not know are none of its columns."""


def check_damage(error: Exception, path: Path | None = None) -> str:
    """Return what is wrong with a parquet file that raised one of BROKEN_PARQUET, in a line.

    Raises:
        OSError, MemoryError: If the error is the disk's or the memory's; it names the file, which Arrow has in its message only.
    """
    if isinstance(error, OSError) and error.errno is not None and path is not None:
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        raise error
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return what stands behind a dictionary (pandas' category, polars' Categorical) or an extension type."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    return stored_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column is of text, or of lists of texts; a column of nulls only is text that is not there."""
    kind = stored_type(kind)
    return is_text(kind.value_type) if is_list(kind) else _is(kind, TEXTS)


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a column is of bytes."""
    return _is(stored_type(kind), BYTES)


def is_list(kind: pa.DataType) -> bool:
    """Return whether a column is of lists, in any form."""
    return _is(stored_type(kind), LISTS)


def _is(kind: pa.DataType, names: tuple[str, ...]) -> bool:
    tests = (getattr(pa.types, f"is_{name}", None) for name in names)
    return any(test(kind) for test in tests if test is not None)
