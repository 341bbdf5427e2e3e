"""Parquet as we write it: fixed schema, row groups and compression, so equal tables are equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fistful.errors import DataError, UsageError

from .files import atomic_file

ROW_GROUP = 1 << 16


def write_table(folder: Path, name: str, table: pa.Table) -> dict[str, Any]:
    """Write FOLDER/NAME atomically and return its size and hash."""
    writer = TableWriter(table.schema)
    writer.add(table)
    return writer.write(folder, name)


class TableWriter:
    """A parquet file that is put together in memory, compressed, part by part.

    Args:
        schema: The columns, and the file's metadata.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd", version="2.6", store_schema=False)

    def add(self, table: pa.Table) -> None:
        """Append rows: every part but the last must have a multiple of ROW_GROUP of them, for the bytes to depend on the rows alone."""
        for start in range(0, max(table.num_rows, 1), ROW_GROUP):  # the schema's offsets have 32 bits, a joined table's may need more
            part = table.slice(start, ROW_GROUP).combine_chunks().cast(self._schema)
            self._writer.write_table(part, row_group_size=ROW_GROUP)

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """Write FOLDER/NAME atomically and return its size and hash."""
        if self._schema.metadata:  # without Arrow's own schema it would be left out
            self._writer.add_key_value_metadata(self._schema.metadata)
        self._writer.close()
        with atomic_file(folder, name) as file:
            file.write(self._sink.getvalue())  # pyright: ignore[reportArgumentType]
        return file.record()


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read one of our tables.

    Raises:
        UsageError: If it is missing.
        DataError: If it is not parquet, or has other columns than the schema's.
    """
    try:
        file = pq.ParquetFile(path)
        # a group at a time: lists are not read in parts, and those of a whole file may hold more text than 32 bits count
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
        table, metadata = pa.concat_tables(groups) if groups else file.schema_arrow.empty_table(), file.metadata.metadata
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; is the folder one that fistful wrote?") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    if table.schema.names != schema.names:
        raise DataError(f"{path}: columns are {table.schema.names}, expected {schema.names}")
    return table.cast(schema.with_metadata(metadata))


def join_tables(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables of one schema as one, each column in one piece, with offsets of 64 bits.

    Offsets of 32 bits, as our files and schemas have them, end at 2 GiB of text: some 35 million captions.
    """
    large = pa.schema([field.with_type(_large(field.type)) for field in schema])
    return pa.concat_tables([table.cast(large) for table in tables] or [large.empty_table()]).combine_chunks()


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.large_list(_large(kind.value_type))
    return pa.large_string() if pa.types.is_string(kind) else pa.large_binary() if pa.types.is_binary(kind) else kind
