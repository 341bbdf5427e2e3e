"""Parquet as we write it: fixed schema, row groups and compression, so equal tables are equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.store.files import atomic_file
from fistful.errors import DataError, UsageError

ROW_GROUP = 1 << 16


def write_table(folder: Path, name: str, table: pa.Table) -> dict[str, Any]:
    """Write FOLDER/NAME atomically and return its size and hash."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", version="2.6", store_schema=False) as writer:
        writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)
        if table.schema.metadata:  # without Arrow's own schema it would be left out
            writer.add_key_value_metadata(table.schema.metadata)
    with atomic_file(folder, name) as file:
        file.write(sink.getvalue())  # pyright: ignore[reportArgumentType]
    return file.record()


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read one of our tables.

    Raises:
        UsageError: If it is missing.
        DataError: If it is not parquet, or has other columns than the schema's.
    """
    try:
        file = pq.ParquetFile(path)
        table, metadata = file.read(), file.metadata.metadata
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; is the folder one that fistful wrote?") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    if table.schema.names != schema.names:
        raise DataError(f"{path}: columns are {table.schema.names}, expected {schema.names}")
    return table.cast(schema.with_metadata(metadata))
